"""Predicts one pair: opens it, reads windows, writes maps, and keeps its record."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from datasets.image_check import NO_DATA, ImageCheck, Ranges
from datasets.pixel_size import metres_a_pixel, size_remarks
from datasets.windows import Window
from utils.console import UserError
from utils.prediction.blending import Cover
from utils.prediction.maps import MapSettings, PairMaps
from utils.prediction.predictor import Dates
from utils.prediction.records import Records, Row, image_row, sparse

if TYPE_CHECKING:
    from datasets.open_pair import OpenPair
    from datasets.raster import WindowedImage

log = logging.getLogger(__name__)


def remove_recorded_shift(image: "WindowedImage", row: Row) -> None:
    """Read a later image without its shift from now on, if its pair's row says that its maps were drawn so."""
    if row.get("shift_corrected"):
        image.remove_shift(row["shift_rows"], row["shift_columns"])


class MapJob:
    """A pair whose maps are drawn.

    The methods run in several threads, one after the other; only `read` runs beside them. A UserError, in `open` and
    `read` also an OSError, ends this job; other jobs continue.

    A pair that is `done` is opened only to take its place in the batches. The record keeps `stamp`, which identifies
    the pair's files. `seen` is how the training images look.
    """

    opened: "OpenPair"  # once it is open

    def __init__(
        self, name: str, open_pair: Callable[[], "OpenPair"], settings: MapSettings, done: bool, stamp: str,
        seen: Ranges | None = None,
    ) -> None:  # fmt: skip
        self.name, self.settings, self.done, self.stamp = name, settings, done, stamp
        self.records, self.open_pair = Records(settings.output), open_pair
        self._maps: PairMaps | None = None
        self._files, self._check, self._windows = ExitStack(), ImageCheck(seen), ""

    def open(self) -> tuple[int, int]:
        """Read the headers, measure the shift if it is asked for; return (height, width)."""
        self.opened = self._files.enter_context(self.open_pair())
        if self.settings.origin and self.opened.grid:
            raise UserError(f"{self.opened.before.path}: has a georeference of its own; leave out --origin")
        if self.settings.register != "off" and not self.done:
            self.opened.measure_shift(correct=self.settings.register == "auto")
        return self.opened.size

    @property
    def pixel_size(self) -> float | None:
        """Metres per pixel, once it is open; None: unknown."""
        return self.settings.pixel_size or metres_a_pixel(self.opened.grid)

    def rows(self, cover: Cover) -> range:
        """Return the rows of windows whose finished pixels are needed: all, or none if the maps exist."""
        self._windows = "whole image" if len(cover.windows) == 1 else "{} x {}".format(*cover.shape)
        if cover.zoom != 1:
            self._windows += f", resampled by {cover.zoom:.3g}"
        return range(0 if self.done else len(cover.tops))

    def read(self, window: Window) -> Dates:
        """Return both dates of a window."""
        dates = self.opened.read(window)
        self._check.see(dates)
        return dates

    def write(self, top: int, probability: np.ndarray) -> None:
        """Draw the next finished rows, from row `top` on: probabilities in [0, 1], float32 (n, width)."""
        if self._maps is None:
            self._maps = PairMaps(self.name, self.opened, self.settings)
        self._maps.write(top, probability)

    def finish(self) -> None:
        """Give the files their names, and write the record."""
        maps = self._maps
        assert maps is not None
        maps.finish()
        self._maps = None
        own, later = metres_a_pixel(self.opened.grid), metres_a_pixel(self.opened.after.grid)
        remarks = size_remarks(own, self.settings.network_pixel_size, later, self.settings.pixel_size)
        remarks += self._check.remarks()
        if not maps.known:
            remarks.append(NO_DATA)
        if maps.no_polygons:
            remarks.append(f"no polygons, since {maps.no_polygons}")
        row = image_row(self.name, maps.changed, maps.known, maps.counts if self.opened.labelled else None)
        content = {
            "row": row | self._shift(), "size": self.opened.size, "windows": self._windows,
            "aligned": self.opened.aligned, "stamp": self.stamp, **({"remarks": remarks} if remarks else {}),
            **({"levels": sparse(maps.levels)} if self.opened.labelled else {}), "files": list(maps.files.values()),
        }  # fmt: skip
        self.records.write(self.name, content)

    def _shift(self) -> dict[str, object]:
        """Return the columns of per_image.csv about a shift of the later image; empty if it is not measured."""
        if self.settings.register == "off":
            return {}
        shift, metres = self.opened.shift, self.pixel_size
        return {
            "shift_rows": round(shift.rows, 2) if shift else "",
            "shift_columns": round(shift.columns, 2) if shift else "",
            "shift_metres": round(shift.length * metres, 3) if shift and metres else "",
            "shift_corrected": self.opened.corrected,
        }

    def fail(self, error: Exception) -> None:
        """Log the error, and write it as the record."""
        log.error("%s: %s", self.name, error)
        self.records.write(self.name, {"error": str(error)})

    def close(self) -> None:
        """Close the files, and remove those that are not finished; the last call, also of an interrupted run."""
        if self._maps is not None:
            self._maps.abandon()
            self._maps = None
        self._files.close()
