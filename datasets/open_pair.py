"""A pair that is open to be read window by window, both dates and the label on the grid of the earlier image."""

from contextlib import ExitStack
from functools import cached_property
from threading import Lock

import numpy as np

from datasets.pairs import Pair
from datasets.raster import PLAIN, WindowedImage
from datasets.reading import IGNORE, Reading, as_rgb
from utils.tiling import Window, plan_windows

SCAN = 2048  # side of the windows in which a whole label is looked through


class OpenPair:
    """A pair that may be larger than memory; threads may share it, a `with` block or `close` closes it.

    An image that says where on earth it lies is seen on the grid of the earlier one; one that does not must have its
    size. What either date does not cover, or calls no data, is unknown.

    Attributes:
        size: (height, width), of the earlier image.
        grid: where it lies, if that is said.
        aligned: whether the later image or the label had to be resampled.
        labelled: whether there is a label.
    """

    def __init__(self, pair: Pair, reading: Reading = PLAIN) -> None:
        """Read the headers.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file is not to be read in this way, or sizes differ.
        """
        self._files, self._lock, self._reading = ExitStack(), Lock(), reading
        with ExitStack() as opened:
            self._before = opened.enter_context(WindowedImage(pair.before, reading))
            self.size, self.grid = self._before.size, self._before.grid
            self._after = opened.enter_context(WindowedImage(pair.after, reading, onto=self.grid))
            self._label: WindowedImage | None = None
            if pair.label is not None:
                self._label = opened.enter_context(WindowedImage(pair.label, reading, grey=True, onto=self.grid))
            others = [image for image in (self._after, self._label) if image]
            for image in others:
                if image.size != self.size:
                    found, wanted = ("{} x {}".format(*size) for size in (image.size, self.size))
                    raise ValueError(
                        f"{image.path}: {found} pixels, but {pair.before} has {wanted}; cut them alike, or use files "
                        f"that say where on earth they lie"
                    )
            self._files = opened.pop_all()
        self.aligned, self.labelled = any(image.aligned for image in others), self._label is not None

    def __enter__(self) -> "OpenPair":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._files.close()

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Both dates, uint8 (h, w, channels) each."""
        with self._lock:
            return self._before.read(window), self._after.read(window)

    def picture(self, window: Window) -> np.ndarray:
        """The later date to be looked at, uint8 (h, w, 3)."""
        with self._lock:
            return as_rgb(self._after.read(window))

    def known(self, window: Window) -> np.ndarray | None:
        """Where both dates hold data, bool (h, w); None: everywhere."""
        with self._lock:
            dates = [known for image in (self._before, self._after) if (known := image.known(window)) is not None]
        return np.logical_and.reduce(dates) if dates else None

    def mask(self, window: Window) -> np.ndarray | None:
        """The truth, uint8 (h, w): 0 unchanged, 1 changed, 255 where label or dates are unknown; None: no label."""
        if self._label is None:
            return None
        with self._lock:
            values, known = self._label.read(window), self._label.known(window)
            # coded 0/1, or what compression left of the dark parts of a label coded 0/255? the whole label tells
            if self._reading.change_value is None and self._brightest(values) == 1 and self._brightest_of_all > 1:
                values = np.where(values == 1, np.uint8(0), values)
        mask = self._reading.mask(values)
        for seen in (known, self.known(window)):
            if seen is not None:
                mask[~seen] = IGNORE
        return mask

    def _brightest(self, values: np.ndarray) -> int:
        ignored = self._reading.ignore_value
        return int((values if ignored is None else values[values != ignored]).max(initial=0))

    @cached_property
    def _brightest_of_all(self) -> int:
        assert self._label is not None
        windows = plan_windows(*self.size, tile=SCAN, edge="pad")
        return max(self._brightest(self._label.read(window)) for window in windows)
