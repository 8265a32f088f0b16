"""Pairs as jobs of the pipeline: what is read, written and kept on record of each."""

import logging
from collections.abc import Callable

import numpy as np

from datasets.windows import Window
from utils.prediction.blending import Cover
from utils.prediction.maps import MapSettings, PairMaps, Scene
from utils.prediction.predictor import Dates
from utils.prediction.records import Records, image_row, sparse

log = logging.getLogger(__name__)
FEW = np.s_[::16, ::16]  # pixels of a window, which mostly tell enough


class DateCheck:
    """Sees the windows of a pair as they are read, and tells afterwards what is wrong with its dates.

    Threads may share it. As soon as a date is seen to be an image like any other, no more of it is looked at.
    """

    def __init__(self) -> None:
        self._equal = self._different = False
        self._values: dict[str, set[int] | None] = {"before": set(), "after": set()}  # None: no label

    def see(self, dates: Dates) -> None:
        """Look at both dates of a window."""
        before, after = dates
        if not self._different:
            if not (np.array_equal(before[FEW], after[FEW]) and np.array_equal(before, after)):
                self._different = True
            elif before.min() < before.max():  # not only the border of a mosaic
                self._equal = True
        for role, image in zip(self._values, dates, strict=True):
            seen = self._values[role]
            if seen is not None:
                found = _grey_values(image) if _grey_values(image[FEW]) else set()
                self._values[role] = seen | found if found and len(seen | found) <= 2 else None

    def remarks(self) -> list[str]:
        """What is wrong, in words; nothing if the dates look like two images."""
        said = []
        if self._equal and not self._different:
            said.append("both dates are the same image, so nothing can change; check --before and --after")
        for role, values in self._values.items():
            if values and len(values) == 2:
                low, high = sorted(values)
                said.append(f"the {role} image has only the values {low} and {high}, as a label has; check the files")
        return said


def _grey_values(image: np.ndarray) -> set[int]:
    """The values of an image whose channels are equal and that has one or two of them; none of any other image."""
    low, high = image.min(), image.max()
    grey = image[..., :1]
    if ((grey != low) & (grey != high)).any() or (image != grey).any():
        return set()
    return {int(low), int(high)}


class MapJob:
    """A pair of which maps are drawn (a `Job` of utils.prediction.pipeline)."""

    def __init__(
        self, name: str, open_scene: Callable[[], Scene], settings: MapSettings, done: bool = False, stamp: str = ""
    ) -> None:
        """Open nothing yet.

        Args:
            name: of the pair, and of its files.
            open_scene: opens it.
            settings: what is written.
            done: whether that was done before; it is then opened to take its place among the others, and no more.
            stamp: tells, in its record, which files it was made of.
        """
        self.name, self.settings, self.done, self.stamp = name, settings, done, stamp
        self.records = Records(settings.output)
        self.open_scene = open_scene
        self._scene: Scene | None = None
        self._maps: PairMaps | None = None
        self._windows = ""
        self._check = DateCheck()

    @property
    def scene(self) -> Scene:
        """The pair, while it is open."""
        assert self._scene is not None
        return self._scene

    def open(self) -> tuple[int, int]:
        """Read the headers."""
        self._scene = self.open_scene()
        return self._scene.size

    def rows(self, cover: Cover) -> range:
        """All rows of windows, or none."""
        self._windows = "whole image" if len(cover.windows) == 1 else "{} x {}".format(*cover.shape)
        return range(0 if self.done else len(cover.tops))

    def read(self, window: Window) -> Dates:
        """Both dates of a window."""
        dates = self.scene.read(window)
        self._check.see(dates)
        return dates

    def write(self, top: int, probability: np.ndarray) -> None:
        """Draw the next rows."""
        if self._maps is None:
            first_row = Window(0, 0, 1, self.scene.size[1])
            self._maps = PairMaps(self.name, self.scene, self.settings, gaps=self.scene.known(first_row) is not None)
        self._maps.write(top, probability)

    def finish(self) -> None:
        """Name the files, and keep the record that says so."""
        assert self._maps is not None
        maps = self._maps
        maps.finish()
        self._maps = None
        row = image_row(self.name, maps.changed, maps.known, maps.counts if self.scene.labelled else None)
        facts: dict[str, object] = {"size": self.scene.size, "windows": self._windows, "aligned": self.scene.aligned}
        facts["stamp"] = self.stamp
        remarks = self._check.remarks()
        if maps.no_polygons:
            remarks.append(f"no polygons, since {maps.no_polygons}")
        if remarks:
            facts["remarks"] = remarks
        if self.scene.labelled:
            facts["levels"] = sparse(maps.levels)
        self.records.write(self.name, {"row": row, **facts, "files": list(maps.files.values())})

    def fail(self, error: Exception) -> None:
        """Say what is wrong with the pair, and keep that on record."""
        log.error("%s: %s", self.name, error)
        self.records.write(self.name, {"error": str(error)})

    def close(self) -> None:
        """Close the files, and remove those that are not finished."""
        if self._maps is not None:
            self._maps.abandon()
            self._maps = None
        if self._scene is not None:
            self._scene.close()
