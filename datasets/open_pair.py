"""Opens a pair to be read by windows, both dates and the label on the grid of the earlier image.

Training, prediction, tiling and the check of a data set all read pairs here.
"""

from contextlib import ExitStack
from functools import partial
from threading import Lock

import numpy as np

from datasets.file_errors import refuse_huge
from datasets.pairs import Pair
from datasets.raster import WindowedImage
from datasets.reading import IGNORE, PLAIN, PixelFormat, as_rgb, code_of, scale_advice
from datasets.registration import Shift, estimate_shift
from datasets.windows import Content, Window, nine_places
from utils.console import UserError

SAMPLED = 4096  # pixels of a window that `check_scale` takes
# shares of the value that becomes 255; an image with all values below the one, or a median above the other, has another
# scale
DARK, BRIGHT = 0.01, 10.0


class OpenPair:
    """A pair that may be larger than memory; threads may share it, a `with` block or `close` closes it.

    An image with a georeference is seen on the grid of the earlier image; one without must have that image's size.
    Pixels that either date does not cover, or that are no data in it, are unknown.

    Attributes:
        size: (height, width), of the earlier image.
        grid: where it lies, if the file holds that.
        aligned: True if the later image or the label had to be brought to that grid.
        random_access: True if windows can be read in any order at the same cost.
        before, after, label: the open files; label is None without one.
        shift: of the later image, if `measure_shift` found one that can be trusted.
        corrected: True if the later image is read without its shift.
    """

    def __init__(self, pair: Pair, reading: PixelFormat = PLAIN) -> None:
        """Read the headers.

        Raises:
            FileNotFoundError: a file does not exist.
            UserError: a file cannot be read in this format, sizes differ, or the dates differ in type or scale.
        """
        self._files, self._lock, self._reading, self._checked = ExitStack(), Lock(), reading, False
        self.shift: Shift | None = None
        self.corrected = False
        with ExitStack() as opened:
            self.before = opened.enter_context(WindowedImage(pair.before, reading))
            self.size, self.grid = self.before.size, self.before.grid
            self.after = opened.enter_context(WindowedImage(pair.after, reading, onto=self.grid))
            self.label: WindowedImage | None = None
            if pair.label is not None:
                self.label = opened.enter_context(WindowedImage(pair.label, reading, label=True, onto=self.grid))
            others = [image for image in (self.after, self.label) if image]
            for image in others:
                if image.size != self.size:
                    found, wanted = ("{} x {}".format(*size) for size in (image.size, self.size))
                    raise UserError(
                        f"{image.path}: {found} pixels, but {pair.before} has {wanted}: a pair differs in size; cut "
                        f"its images alike, or use files with a georeference"
                    )
            if reading.bands and self.before.kind[1] != self.after.kind[1]:
                raise UserError(
                    f"{pair.after}: has {self.after.kind[1]} pixels, but {pair.before} has {self.before.kind[1]}; "
                    f"convert one of them, so that both have one type and scale"
                )
            self._files = opened.pop_all()
        self.aligned, self.labelled = any(image.aligned for image in others), self.label is not None
        self.random_access = all(image.random_access for image in (self.before, *others))

    def __enter__(self) -> "OpenPair":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._files.close()

    def check_scale(self) -> None:
        """Compare some values of both dates with the limits of the format, once; another scale is a UserError."""
        top = 0 if self._checked else max((high for _, high in self._reading.limits), default=0)
        self._checked = True
        for image in (self.before, self.after) if top > 0 else ():
            values = _some_values(image)
            most = values.max(initial=0)
            byte = image.kind[1] == "uint8" and top > 255
            if most > 0 and (byte or most <= DARK * top or np.median(values) > BRIGHT * top):
                raise UserError(
                    f"{image.path}: has {image.kind[1]} pixels of {values.min():g} to {most:g}, but {top:g} is to "
                    f"become 255; {scale_advice(image.kind[1])}"
                )

    def measure_shift(self, correct: bool) -> None:
        """Estimate the shift of the later image; `correct`: read it without, where the shift is relevant.

        The label stays as it is, since it lies on the grid of the earlier image.
        """

        def content(image: WindowedImage, window: Window) -> Content:
            return image.read(window), image.known(window)

        with self._lock:
            self.check_scale()
            found = estimate_shift(self.size, partial(content, self.before), partial(content, self.after))
            self.shift = found if found and found.confident else None
            self.corrected = correct and self.shift is not None and self.shift.relevant
            if self.shift and self.corrected:
                self.after.remove_shift(self.shift.rows, self.shift.columns)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read both dates, uint8 (h, w, channels) each; 0 where either is unknown, or one alone would look changed."""
        with self._lock:
            self.check_scale()
            before, after = self.before.read(window), self.after.read(window)
        known = self.known(window)
        return (before, after) if known is None else (before * known[..., None], after * known[..., None])

    def picture(self, window: Window) -> np.ndarray:
        """Read the later date for display, uint8 (h, w, 3)."""
        with self._lock:
            return as_rgb(self.after.read(window))

    def known(self, window: Window) -> np.ndarray | None:
        """Return where both dates hold data, bool (h, w); None: everywhere."""
        with self._lock:
            return _both(self.before.known(window), self.after.known(window))

    def contents(self, window: Window) -> dict[str, Content]:
        """Read for tiles: by role the values in the files' own types, and where they are data."""
        images = {"before": self.before, "after": self.after} | ({"label": self.label} if self.label else {})
        with self._lock:
            return {role: image.content(window) for role, image in images.items()}

    def codes(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the label's codes, integers (h, w), and where it holds data, bool (h, w); None: everywhere."""
        assert self.label is not None
        with self._lock:
            return self.label.content(window)

    def mask(self, window: Window) -> np.ndarray | None:
        """Read the mask, uint8 (h, w): 0 unchanged, 1 changed, 255 if label or dates are unknown; None: no label."""
        if self.label is None:
            return None
        codes, known = self.codes(window)
        return self._reading.mask(codes, _both(known, self.known(window)))

    def counted(self, window: Window) -> np.ndarray | None:
        """Return where dates and label are known, the pixels that count, bool (h, w); None: everywhere."""
        ignored, known = self._reading.ignore_value, self.known(window)
        if self.label is None or not (self.label.gaps or ignored is not None):
            return known
        codes, in_label = self.codes(window)
        return _both(_both(in_label, known), None if ignored is None else codes != code_of(ignored))


def _both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    """Return where both hold, bool (h, w); None: everywhere."""
    return second if first is None else first if second is None else first & second


def _some_values(image: WindowedImage) -> np.ndarray:
    """Return the values of a few thousand pixels that are known, float64 (n,)."""
    height, width = image.size
    windows = [Window(0, 0, height, width)] if height * width <= 2**20 else nine_places(image.size)
    found = []
    for window in windows:
        values, known = image.content(window)
        step = max(1, values.shape[0] * values.shape[1] // SAMPLED)
        data = values.reshape(-1, values.shape[-1])[::step]
        found.append(data if known is None else data[known.reshape(-1)[::step]])
    return np.concatenate(found).astype(np.float64).ravel()


def read_pair(pair: Pair, reading: PixelFormat = PLAIN) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read before and after, uint8 (H, W, channels), and the mask, uint8 (H, W); without a label it is all IGNORE."""
    with OpenPair(pair, reading) as opened:
        refuse_huge(pair.before, *opened.size)
        whole = Window(0, 0, *opened.size)
        before, after = opened.read(whole)  # reading the mask first takes 7 % longer
        mask = opened.mask(whole)
    return before, after, np.full(before.shape[:2], IGNORE, np.uint8) if mask is None else mask
