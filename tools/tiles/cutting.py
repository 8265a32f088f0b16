"""Cuts pairs into tiles in parallel; each file is written whole or not at all, so a stopped run can resume."""

import hashlib
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.gdal import encode_tiff
from datasets.open_pair import OpenPair
from datasets.pairs import Pair
from datasets.raster import WindowedImage, all_bands
from datasets.reading import PixelFormat, label_pixels
from datasets.threads import threaded
from datasets.windows import Content, Edge, Grid, Window, bounding, group_windows, plan_windows
from utils.console import UserError
from utils.files import write_whole

log = logging.getLogger(__name__)
FOLDERS = {"before": "A", "after": "B", "label": "label"}  # of tiles, by role
IN_FLIGHT = 2**24  # pixels of large images that all threads together hold: 0.1 GB for two dates
Hashes = dict[str, str]  # SHA-256 of a tile's files, by role


@dataclass(frozen=True)
class Tiling:
    """Settings of the cutting."""

    tile_size: int = 256
    overlap: int = 0
    edge: Edge = "shift"


@dataclass(frozen=True)
class PlannedPair:
    """A pair and the tiles it is cut into."""

    split: str  # of its tiles
    pair: Pair
    size: tuple[int, int]  # (height, width) of the earlier image; all tiles lie on its grid
    windows: list[Window]  # of the tiles
    random_access: bool  # several threads may read it by windows
    reading: PixelFormat  # more than 8-bit RGB keeps all bands and values
    kinds: dict[str, tuple[str, float | None]]  # by role, the suffix of a tile and the nodata value, if it has one
    deep_label: bool  # the label has other values than colours and 8-bit grey

    @property
    def files(self) -> dict[str, Path]:
        """Its images by role: before, after and, if there is one, label."""
        images = {role: getattr(self.pair, role) for role in FOLDERS}
        return {role: path for role, path in images.items() if path}

    def tile_name(self, window: Window) -> str:
        """Name, row and column: test_2_0256_0512."""
        return f"{self.pair.name}_{window.top:04d}_{window.left:04d}"

    def tile_files(self, window: Window) -> dict[str, str]:
        """Paths of the tile's images in the output folder, by role."""
        name = self.tile_name(window)
        return {role: f"{self.split}/{FOLDERS[role]}/{name}.{suffix}" for role, (suffix, _) in self.kinds.items()}


@dataclass(frozen=True)
class Tile:
    """A tile that is on disk."""

    scene: PlannedPair
    window: Window
    hashes: Hashes


def plan_scenes(splits: Mapping[str, Sequence[Pair]], tiling: Tiling, workers: int = 4) -> list[PlannedPair]:
    """Plan every tile from the images' headers, in threads; UserError if a pair cannot be read or none holds a tile."""
    pairs = [(split, pair) for split, members in splits.items() for pair in members]
    scenes = list(threaded(lambda item: _plan_pair(*item, tiling), pairs, max(1, workers)))
    small = [scene for scene in scenes if not scene.windows]
    if len(small) == len(scenes):
        raise UserError(f"no image holds a tile of {tiling.tile_size}; use --edge pad, or a smaller --tile-size")
    if small:
        log.warning(
            "%d images hold no tile of %d and are left out, first %s; --edge pad keeps them",
            len(small), tiling.tile_size, small[0].pair.before,
        )  # fmt: skip
    return scenes


def _plan_pair(split: str, pair: Pair, tiling: Tiling) -> PlannedPair:
    reading = all_bands(pair.before)
    with OpenPair(pair, reading) as opened:
        images = {role: image for role in FOLDERS if (image := getattr(opened, role))}
        kinds = {role: _tile_kind(image, opened.grid is not None) for role, image in images.items()}
        size, random_access = opened.size, opened.random_access
        deep_label = opened.label is not None and opened.label.kind[1] != "uint8"
    try:
        windows = plan_windows(size[0], size[1], tiling.tile_size, tiling.overlap, tiling.edge)
    except ValueError as error:
        raise UserError(f"{pair.before}: {error}") from None
    return PlannedPair(split, pair, size, windows, random_access, reading, kinds, deep_label)


def _tile_kind(image: WindowedImage, placed: bool) -> tuple[str, float | None]:
    """Suffix of an image's tiles, and their nodata value; None: a mask or transparency marks pixels without data.

    Tiles are PNG if that keeps everything, else TIFF: for georeferenced images and for deeper values. They get the
    source's nodata value, or NaN, unless their data could have it too.
    """
    deep, floats = image.kind[1] != "uint8" or bool(image.reading.bands), "float" in image.kind[1]
    if not (placed or deep):
        return "png", None
    nodata = math.nan if floats and image.nodata is None else image.nodata
    masked = image.resampled or (image.label and (floats or image.palette))
    return "tif", None if masked else nodata


class TileCutter:
    """Cuts planned pairs into SPLIT/{A,B,label}/NAME_ROW_COL.png of an output folder.

    Windows smaller than a tile are padded with zeros, which are unknown. A tile with another hash than the `known` one
    of an earlier run, by split and name, is cut again.
    """

    def __init__(self, output: Path, tile_size: int, known: Mapping[tuple[str, str], Hashes] | None = None) -> None:
        self.output, self.tile_size, self.known = output, tile_size, known or {}

    def cut(self, scenes: Sequence[PlannedPair], workers: int = 4) -> Iterator[list[Tile]]:
        """Cut missing tiles; yield all tiles of a pair, or of a part of it, in the order of the plan."""
        for folder in {Path(f).parent for s in scenes for w in s.windows[:1] for f in s.tile_files(w).values()}:
            (self.output / folder).mkdir(parents=True, exist_ok=True)
        yield from threaded(lambda job: self._cut_groups(*job), _jobs(scenes, max(1, workers)), max(1, workers))

    def _cut_groups(self, scene: PlannedPair, groups: Sequence[Sequence[Window]]) -> list[Tile]:
        """Cut groups of neighbouring windows; the pair is opened only if a tile is missing."""
        kept = {window: self._kept(scene, window) for group in groups for window in group}
        if None not in kept.values():
            return [Tile(scene, window, hashes) for window, hashes in kept.items() if hashes]
        tiles: list[Tile] = []
        with OpenPair(scene.pair, scene.reading) as opened:
            for group in groups:
                if missing := [window for window in group if kept[window] is None]:
                    area = bounding(missing)
                    contents = opened.contents(area)
                for window in group:
                    hashes = kept[window]
                    if hashes is None:
                        part = window.seen_from(area).slices
                        parts = {role: (values[part], None if known is None else known[part])
                                 for role, (values, known) in contents.items()}  # fmt: skip
                        hashes = self._write(scene, window, parts, opened.grid)
                    tiles.append(Tile(scene, window, hashes))
        return tiles

    def _kept(self, scene: PlannedPair, window: Window) -> Hashes | None:
        """The hashes of a tile whose files all exist, whole and unchanged since an earlier run; else None."""
        hashes: Hashes = {}
        for role, name in scene.tile_files(window).items():
            try:
                content = (self.output / name).read_bytes()
            except FileNotFoundError:
                return None
            if name.endswith("png") and content[-8:-4] != b"IEND":  # cut off, for example by a power failure
                return None
            hashes[role] = hashlib.sha256(content).hexdigest()
        return hashes if self.known.get((scene.split, scene.tile_name(window)), hashes) == hashes else None

    def _write(self, scene: PlannedPair, window: Window, parts: Mapping[str, Content], grid: Grid | None) -> Hashes:
        hashes, files = {}, scene.tile_files(window)
        for role, (values, known) in parts.items():
            suffix, nodata = scene.kinds[role]
            rows, columns = self.tile_size - window.height, self.tile_size - window.width
            pixels = label_pixels(values, scene.deep_label) if role == "label" else values
            if rows or columns:
                pixels = np.pad(pixels, [(0, rows), (0, columns), (0, 0)][: pixels.ndim])
                known = np.ones(values.shape[:2], bool) if known is None else known
                known = np.pad(known, [(0, rows), (0, columns)])
            place = grid and grid.part(window)
            encoded = encode_tiff(pixels, known, place, nodata) if suffix == "tif" else _encode_png(pixels, known)
            write_whole(self.output / files[role], encoded)
            hashes[role] = hashlib.sha256(encoded).hexdigest()
        return hashes


def _encode_png(pixels: np.ndarray, known: np.ndarray | None) -> bytes:
    """A grey or RGB image, transparent where there is no data, as PNG."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if known is not None and not known.all():
        image.putalpha(Image.fromarray(known.astype(np.uint8) * 255))
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def _jobs(scenes: Sequence[PlannedPair], workers: int) -> Iterator[tuple[PlannedPair, list[list[Window]]]]:
    """Jobs of the threads: a pair, or a group of neighbouring windows of a pair with random access."""
    for scene in scenes:
        groups = group_windows(scene.windows, IN_FLIGHT // workers)
        if scene.random_access:
            yield from ((scene, [group]) for group in groups)
        else:
            yield scene, groups
