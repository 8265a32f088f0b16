"""Writes all files of one pair while its probabilities arrive, a few rows at a time."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from datasets.windows import Window
from utils.change_map import PALETTES, change_map, error_map, overlay
from utils.console import UserError
from utils.files import partial_of, write_text, written_whole
from utils.metrics import LEVELS, count_levels, count_pixels
from utils.prediction.config import PLACED, PNGS, POLYGONS, REGISTER, TIFFS
from utils.prediction.geotiff import GeoTiff
from utils.prediction.png_stream import PngStream
from utils.prediction.polygons import leads_to_wgs84, write_polygons
from utils.prediction.regions import AreaFilter, RegionTable, Strip

if TYPE_CHECKING:
    from datasets.open_pair import OpenPair


@dataclass(frozen=True)
class MapSettings:
    """What is written of every pair."""

    output: Path  # has a folder for each kind
    save: tuple[str, ...] = ("mask",)  # kinds; those that need a missing label or georeference are left out
    threshold: float = 0.5  # a pixel is changed if its probability exceeds it
    min_area: int = 0  # regions of fewer pixels become unchanged
    palette: str = "amfnet"  # of error maps
    pixel_size: float | None = None  # metres; None: as the georeference has it
    register: str = REGISTER[0]  # what is done about a shift of the later image
    origin: Sequence[float] | None = None  # X and Y of the upper left corner, for world files; None: without them
    network_pixel_size: float | None = None  # metres, of the training images; None: unknown


class PairMaps:
    """The files of one pair; `finish` gives them their names together.

    Attributes:
        files: kind to path under the output folder.
        counts: pixels by truth and prediction, int64 (2, 2); see `count_pixels`.
        changed, known: numbers of changed pixels, and of pixels with data.
        levels: pixels by truth and probability, int64 (2, LEVELS), for a precision-recall curve.
        no_polygons: why there are none though they were asked for; else empty.

    Raises:
        UserError: the pair's name is too long for the file system.
        OSError: a file cannot be written.
    """

    def __init__(self, name: str, opened: "OpenPair", settings: MapSettings) -> None:
        self._opened, self._settings = opened, settings
        gaps = opened.known(Window(0, 0, 1, opened.size[1])) is not None  # whether pixels may be without data
        self.counts, self.changed, self.known = torch.zeros(2, 2, dtype=torch.int64), 0, 0
        self.levels = torch.zeros(2, LEVELS, dtype=torch.int64)
        kinds = [k for k in settings.save if (opened.labelled or k != "error") and (opened.grid or k not in PLACED)]
        self.no_polygons = ""
        if opened.grid and POLYGONS.keys() & kinds and not leads_to_wgs84(opened.grid):
            self.no_polygons = "the reference system has no way to longitude and latitude"
            if not opened.grid.crs:
                self.no_polygons = "there is no coordinate reference system; add it: gdal_edit.py -a_srs EPSG:CODE FILE"
            kinds = [kind for kind in kinds if kind not in POLYGONS]
        self.files = {kind: f"{kind}/{name}.{PLACED.get(kind, 'png')}" for kind in kinds}
        self._filter = AreaFilter(settings.min_area)
        self._regions = RegionTable() if POLYGONS.keys() & kinds else None
        self._partial: dict[str, Path] = {}
        self._streams: dict[str, PngStream | GeoTiff] = {}
        with ExitStack() as stack:
            for kind, path in self.files.items():
                (settings.output / kind).mkdir(parents=True, exist_ok=True)
                if kind not in POLYGONS:
                    self._partial[kind] = stack.enter_context(written_whole(settings.output / path))
            if self._regions and "geo" not in kinds:  # polygons are traced on a temporary map
                self._partial["geo"] = partial_of(settings.output / kinds[-1] / f"{name}.tif")
                stack.callback(self._partial["geo"].unlink, missing_ok=True)
            for kind, partial in self._partial.items():
                if kind in PNGS:
                    self._streams[kind] = PngStream(partial, opened.size, *PNGS[kind])
                elif opened.grid:
                    full_scale, nodata = TIFFS[kind]
                    dtype = np.min_scalar_type(nodata).name
                    self._streams[kind] = GeoTiff(partial, opened.grid, nodata if gaps else None, dtype, full_scale)
            self._stack = stack.pop_all()

    def write(self, top: int, probability: np.ndarray) -> None:
        """Take the next rows, from row `top` on: probabilities in [0, 1], float32 (n, width)."""
        height, width = self._opened.size
        known = self._opened.known(Window(top, 0, len(probability), width))
        changed = probability > self._settings.threshold
        strip = Strip(top, probability, changed if known is None else changed & known, known)
        for decided in self._filter.add(strip, last=top + len(changed) == height):
            self._put(decided)

    def _put(self, strip: Strip) -> None:
        """Write and count final rows."""
        window = Window(strip.top, 0, len(strip.changed), self._opened.size[1])
        mask = self._opened.mask(window)
        for kind, stream in self._streams.items():
            stream.write(self._drawn(kind, strip, mask, window))
        if self._regions:
            self._regions.add(strip)
        if mask is not None:
            truth = torch.from_numpy(mask)
            self.counts += count_pixels(torch.from_numpy(strip.changed), truth)
            self.levels += count_levels(torch.from_numpy(strip.probability), truth)
        self.changed += int(strip.changed.sum())
        self.known += strip.changed.size if strip.known is None else int(strip.known.sum())

    def _drawn(self, kind: str, strip: Strip, mask: np.ndarray | None, window: Window) -> np.ndarray:
        """Rows of one kind of file."""
        if kind == "mask":
            return change_map(strip.changed)
        if kind == "error":
            assert mask is not None
            return error_map(strip.changed, mask, PALETTES[self._settings.palette])
        if kind == "overlay":
            return overlay(self._opened.picture(window), strip.changed)
        full_scale, nodata = TIFFS.get(kind) or (2 ** PNGS[kind][1] - 1, 0)
        if full_scale:
            drawn = (strip.probability * full_scale).round().astype(np.min_scalar_type(full_scale))
        else:
            drawn = change_map(strip.changed)
        if strip.known is not None:
            drawn[~strip.known] = nodata
        return drawn

    def finish(self) -> None:
        """Complete all files and give them their names.

        Raises:
            OSError: a file cannot be written.
        """
        for stream in self._streams.values():
            stream.close()
        if self._regions and self._opened.grid:
            files = {kind: self._settings.output / path for kind, path in self.files.items() if kind in POLYGONS}
            try:
                with ExitStack() as stack:
                    partial = {kind: stack.enter_context(written_whole(path)) for kind, path in files.items()}
                    write_polygons(partial, self._partial["geo"], self._opened.grid, self._regions)
            except UserError as error:  # the other maps are kept
                self.no_polygons = str(error)
                self.files = {kind: path for kind, path in self.files.items() if kind not in POLYGONS}
        self._stack.close()
        if self._settings.origin and self._settings.pixel_size:
            text = world_file(self._settings.pixel_size, *self._settings.origin)
            for kind in [kind for kind in self.files if kind in PNGS]:
                self.files[f"place of {kind}"] = path = self.files[kind].removesuffix("png") + "pgw"
                write_text(self._settings.output / path, text)

    def abandon(self) -> None:
        """Remove the files that are not finished."""
        for stream in self._streams.values():
            with suppress(OSError):  # closing flushes, which fails on a full disk
                stream.abandon()
        self._stack.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def world_file(pixel_size: float, x: float, y: float) -> str:
    """Return the text of a world file, from metres per pixel and the coordinates of the upper left corner."""
    half = pixel_size / 2  # a world file has the middle of the first pixel
    return "".join(f"{number}\n" for number in (pixel_size, 0.0, 0.0, -pixel_size, x + half, y - half))
