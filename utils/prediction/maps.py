"""Everything that is written of one pair while its probabilities come in, a few rows at a time."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from datasets.windows import Grid, Window
from utils.change_map import PALETTES, change_map, error_map, overlay
from utils.files import partial_of, written_whole
from utils.metrics import LEVELS, count_levels, count_pixels
from utils.prediction.config import PLACED, PNGS, TIFFS
from utils.prediction.geo import GeoTiff, leads_to_wgs84, write_polygons
from utils.prediction.png_stream import PngStream
from utils.prediction.predictor import Dates
from utils.prediction.regions import AreaFilter, RegionTable, Strip


class Scene(Protocol):
    """A pair that is open to be read by windows, from several threads."""

    size: tuple[int, int]
    grid: Grid | None
    aligned: bool
    labelled: bool

    def read(self, window: Window) -> Dates:
        """Both dates, uint8 (h, w, channels)."""

    def picture(self, window: Window) -> np.ndarray:
        """The later date to be looked at, uint8 (h, w, 3)."""

    def known(self, window: Window) -> np.ndarray | None:
        """Where both dates hold data, bool (h, w); None: everywhere."""

    def mask(self, window: Window) -> np.ndarray | None:
        """The truth, uint8 (h, w): 0, 1, and 255 where it is unknown; None without a label."""

    def close(self) -> None:
        """Close the files."""


@dataclass(frozen=True)
class MapSettings:
    """What is written of every pair.

    Attributes:
        output: the folder, with one in it for each kind.
        save: of PNGS and PLACED; what a pair cannot have, for want of a label or a place on earth, is left out.
        threshold: probability over which a pixel is changed.
        min_area: regions of fewer pixels are called unchanged.
        palette: of error maps.
    """

    output: Path
    save: tuple[str, ...] = ("mask",)
    threshold: float = 0.5
    min_area: int = 0
    palette: str = "amfnet"


class PairMaps:
    """The files of one pair; they get their names together, when `finish` is called.

    Attributes:
        files: kind to path under the output folder.
        counts: pixels by truth and prediction, int64 (2, 2); see `count_pixels`.
        changed: number of changed pixels.
        known: number of pixels with data.
        levels: pixels by truth and probability, int64 (2, LEVELS), for a precision-recall curve.
        no_polygons: why there are none though they were asked for; empty otherwise.
    """

    def __init__(self, name: str, scene: Scene, settings: MapSettings, gaps: bool) -> None:
        """Begin every file under a temporary name.

        Args:
            name: of the pair.
            scene: the pair.
            settings: what is written.
            gaps: whether there may be pixels without data.

        Raises:
            UserError: the file system does not take so long a name.
            OSError: a file cannot be written.
        """
        self._scene, self._settings, self._stack = scene, settings, ExitStack()
        self.counts, self.changed, self.known = torch.zeros(2, 2, dtype=torch.int64), 0, 0
        self.levels = torch.zeros(2, LEVELS, dtype=torch.int64)
        kinds = [k for k in settings.save if (scene.labelled or k != "error") and (scene.grid or k not in PLACED)]
        self.no_polygons = ""
        if scene.grid and "polygons" in kinds and not leads_to_wgs84(scene.grid):
            self.no_polygons = "the reference system has no way to longitude and latitude"
            kinds.remove("polygons")
        self.files = {kind: f"{kind}/{name}.{PLACED.get(kind, 'png')}" for kind in kinds}
        self._filter = AreaFilter(settings.min_area)
        self._pngs: dict[str, PngStream] = {}
        self._tiffs: dict[str, GeoTiff] = {}
        self._regions = RegionTable() if "polygons" in kinds else None
        for kind in kinds:
            (settings.output / kind).mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            whole = {kind: path for kind, path in self.files.items() if kind != "polygons"}
            self._partial = {k: stack.enter_context(written_whole(settings.output / p)) for k, p in whole.items()}
            for kind in kinds:
                if kind in PNGS:
                    self._pngs[kind] = PngStream(self._partial[kind], scene.size, *PNGS[kind])
            if "polygons" in kinds and "geo" not in kinds:  # they are taken from a map in its place
                self._partial["geo"] = partial_of(settings.output / "polygons" / f"{name}.tif")
                stack.callback(self._partial["geo"].unlink, missing_ok=True)
            for kind, (one, nodata, dtype) in TIFFS.items():
                if scene.grid and kind in self._partial:
                    scale = one if kind != "geo" else 1
                    self._tiffs[kind] = GeoTiff(self._partial[kind], scene.grid, nodata if gaps else None, dtype, scale)
            self._stack = stack.pop_all()

    def write(self, top: int, probability: np.ndarray) -> None:
        """Take the next rows, float32 (n, width)."""
        height, width = self._scene.size
        known = self._scene.known(Window(top, 0, len(probability), width))
        changed = probability > self._settings.threshold
        strip = Strip(top, probability, changed if known is None else changed & known, known)
        for decided in self._filter.add(strip, last=strip.end == height):
            self._put(decided)

    def _put(self, strip: Strip) -> None:
        """Write and count rows that will not change any more."""
        window = Window(strip.top, 0, len(strip.changed), self._scene.size[1])
        mask = self._scene.mask(window)
        for kind, png in self._pngs.items():
            png.write(self._drawn(kind, strip, mask, window))
        for kind, tiff in self._tiffs.items():
            one, nodata, dtype = TIFFS[kind]
            drawn = change_map(strip.changed) if kind == "geo" else levels(strip.probability, one, dtype)
            if strip.known is not None:
                drawn[~strip.known] = nodata
            tiff.write(drawn)
        if self._regions:
            self._regions.add(strip)
        if mask is not None:
            truth = torch.from_numpy(mask)
            self.counts += count_pixels(torch.from_numpy(strip.changed), truth)
            self.levels += count_levels(torch.from_numpy(strip.probability), truth)
        self.changed += int(strip.changed.sum())
        self.known += strip.changed.size if strip.known is None else int(strip.known.sum())

    def _drawn(self, kind: str, strip: Strip, mask: np.ndarray | None, window: Window) -> np.ndarray:
        """Rows of one kind of image."""
        if kind == "mask":
            return change_map(strip.changed)
        if kind == "error":
            assert mask is not None
            return error_map(strip.changed, mask, PALETTES[self._settings.palette])
        if kind == "overlay":
            return overlay(self._scene.picture(window), strip.changed)
        probability = strip.probability if strip.known is None else strip.probability * strip.known
        return levels(probability, *((255, "uint8") if kind == "probability" else (65535, "uint16")))

    def finish(self) -> None:
        """End all files and give them their names.

        Raises:
            OSError: a file cannot be written.
        """
        for png in self._pngs.values():
            png.close()
        for tiff in self._tiffs.values():
            tiff.close()
        if self._regions and self._scene.grid:
            try:
                with written_whole(self._settings.output / self.files["polygons"]) as partial:
                    write_polygons(partial, self._partial["geo"], self._scene.grid, self._regions.regions())
            except ValueError as error:  # no reason to go without the other maps
                self.no_polygons = str(error)
                del self.files["polygons"]
        self._stack.close()

    def abandon(self) -> None:
        """Remove what is not finished."""
        files: list[PngStream | GeoTiff] = [*self._pngs.values(), *self._tiffs.values()]
        for file in files:
            with suppress(OSError):  # closing writes what waits, which a full disk does not take
                file.abandon()
        self._stack.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def levels(probability: np.ndarray, one: int, dtype: str) -> np.ndarray:
    """Probabilities in [0, 1] as integers, of which `one` means 1."""
    return (probability * one).round().astype(dtype)
