"""Cuts scenes into tiles: in parallel, each file whole or not there, so that a stopped run can go on."""

import hashlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.gdal import encode_tiff
from datasets.pairs import Pair
from datasets.raster import PLAIN, WindowedImage, all_bands
from datasets.reading import Reading
from datasets.threads import threaded
from utils.files import write_whole
from utils.tiling import Edge, Window, bounding, group_windows, plan_windows

log = logging.getLogger(__name__)
FOLDERS = {"before": "A", "after": "B", "label": "label"}  # of what is written
IN_FLIGHT = 2**24  # pixels of large images that all threads together hold: 0.1 GB for two dates
Hashes = dict[str, str]  # by role, SHA-256 of a tile's files


@dataclass(frozen=True)
class Tiling:
    """How images are cut."""

    tile_size: int = 256
    overlap: int = 0
    edge: Edge = "shift"


@dataclass(frozen=True)
class Scene:
    """A pair to be cut, and the plan for it."""

    split: str
    pair: Pair
    size: tuple[int, int]
    windows: list[Window]
    random_access: bool  # whether several threads may share the work on it
    readings: dict[str, Reading]  # by role: more than 8-bit RGB keeps all its bands and values

    @property
    def files(self) -> dict[str, Path]:
        """Its images by role: before, after and, if there is one, label."""
        pair = self.pair
        return {"before": pair.before, "after": pair.after} | ({"label": pair.label} if pair.label else {})

    def tile_name(self, window: Window) -> str:
        """Scene, row, column: test_2_0256_0512."""
        return f"{self.pair.name}_{window.top:04d}_{window.left:04d}"

    def tile_files(self, window: Window) -> dict[str, str]:
        """Where the tile's images belong, by role, under the output folder."""
        return {
            role: f"{self.split}/{FOLDERS[role]}/{self.tile_name(window)}.{'tif' if reading.bands else 'png'}"
            for role, reading in self.readings.items()
        }


@dataclass(frozen=True)
class Tile:
    """A tile that is on disk."""

    scene: Scene
    window: Window
    hashes: Hashes


def plan_scenes(splits: Mapping[str, Sequence[Pair]], tiling: Tiling, workers: int = 4) -> list[Scene]:
    """Plan every tile from the images' headers.

    Args:
        splits: the pairs of each split.
        tiling: how to cut.
        workers: threads.

    Raises:
        ValueError: an image cannot be read, the images of a pair differ in size, or there is nothing to cut.
    """
    pairs = [(split, pair) for split, members in splits.items() for pair in members]
    scenes = list(threaded(lambda item: _plan_scene(item[0], item[1], tiling), pairs, max(1, workers)))
    small = [scene for scene in scenes if not scene.windows]
    if len(small) == len(scenes):
        raise ValueError(f"no image holds a tile of {tiling.tile_size}; use --edge pad, or a smaller --tile-size")
    if small:
        log.warning(
            "%d images hold no tile of %d and are left out, first %s; --edge pad keeps them",
            len(small), tiling.tile_size, small[0].pair.before,
        )  # fmt: skip
    return scenes


def _plan_scene(split: str, pair: Pair, tiling: Tiling) -> Scene:
    sizes, random_access, readings = {}, [], {}
    for role, path in (("before", pair.before), ("after", pair.after), ("label", pair.label)):
        if path is not None:
            readings[role] = PLAIN if role == "label" else all_bands(path)
            with WindowedImage(path, readings[role], grey=role == "label") as image:
                sizes[path] = image.size
                random_access.append(image.random_access)
    height, width = sizes[pair.before]
    for path, size in sizes.items():
        if size != (height, width):
            raise ValueError(
                f"{path}: {size[0]} x {size[1]} pixels, but {pair.before} has {height} x {width}; "
                f"the images of a pair must show the same place at one size"
            )
    try:
        windows = plan_windows(height, width, tiling.tile_size, tiling.overlap, tiling.edge)
    except ValueError as error:
        raise ValueError(f"{pair.before}: {error}") from None
    return Scene(split, pair, (height, width), windows, all(random_access), readings)


class TileCutter:
    """Cuts scenes into an output folder.

    Args:
        output: the folder that gets SPLIT/{A,B,label}/NAME_ROW_COL.png.
        tile_size: side of a tile; what a window lacks to it is filled with zeros.
        known: hashes of tiles from an earlier run, by split and name; a file that differs from them is cut again.
    """

    def __init__(self, output: Path, tile_size: int, known: Mapping[tuple[str, str], Hashes] | None = None) -> None:
        self.output, self.tile_size, self.known = output, tile_size, known or {}
        self._compressed: dict[Path, bool] = {}

    def cut(self, scenes: Sequence[Scene], workers: int = 4) -> Iterator[list[Tile]]:
        """Cut what is not there yet; the tiles of a scene, or of a part of it, at a time, in the order of the plan.

        Raises:
            ValueError: an image turns out to be damaged.
            OSError: a tile cannot be written.
        """
        for folder in {Path(f).parent for s in scenes for w in s.windows[:1] for f in s.tile_files(w).values()}:
            (self.output / folder).mkdir(parents=True, exist_ok=True)
        yield from threaded(lambda job: self._cut_groups(*job), _jobs(scenes, max(1, workers)), max(1, workers))

    def _cut_groups(self, scene: Scene, groups: Sequence[Sequence[Window]]) -> list[Tile]:
        tiles: list[Tile] = []
        images: dict[str, WindowedImage] = {}
        with ExitStack() as opened:
            for group in groups:
                kept = {window: self._kept(scene, window) for window in group}
                missing = [window for window, hashes in kept.items() if hashes is None]
                if missing and not images:
                    images = {
                        role: opened.enter_context(WindowedImage(path, scene.readings[role], grey=role == "label"))
                        for role, path in scene.files.items()
                    }
                if missing:
                    area = bounding(missing)
                    pixels = {role: image.read(area) for role, image in images.items()}
                for window, hashes in kept.items():
                    if hashes is None:
                        parts = {role: array[window.seen_from(area).slices] for role, array in pixels.items()}
                        if "label" in parts:
                            parts["label"] = self._without_noise(parts["label"], images["label"])
                        hashes = self._write(scene.tile_files(window), parts)
                    tiles.append(Tile(scene, window, hashes))
        return tiles

    def _kept(self, scene: Scene, window: Window) -> Hashes | None:
        """The hashes of a tile whose files are all there, whole, and as an earlier run left them."""
        hashes: Hashes = {}
        for role, name in scene.tile_files(window).items():
            try:
                content = (self.output / name).read_bytes()
            except FileNotFoundError:
                return None
            if name.endswith("png") and content[-8:-4] != b"IEND":  # its end; may be lost with the power
                return None
            hashes[role] = hashlib.sha256(content).hexdigest()
        return hashes if self.known.get((scene.split, scene.tile_name(window)), hashes) == hashes else None

    def _without_noise(self, part: np.ndarray, label: WindowedImage) -> np.ndarray:
        """A part of a 0/255 label in which compression left nothing above 1: alone, it would read as coded 0/1.

        Compression leaves values between 1 and 255 as well; codes 0, 1 and 255 are no noise.
        """
        if part.max(initial=0) != 1:
            return part
        if label.path not in self._compressed:
            areas = plan_windows(*label.size, tile=2048, edge="pad")
            found = set().union(*(np.unique(label.read(area)).tolist() for area in areas))
            self._compressed[label.path] = max(found) > 127 and not found <= {0, 1, 255}
        return np.zeros_like(part) if self._compressed[label.path] else part

    def _write(self, files: Mapping[str, str], parts: Mapping[str, np.ndarray]) -> Hashes:
        """Fill up, encode and write a tile's images."""
        hashes = {}
        for role, part in parts.items():
            rows, columns = (self.tile_size - length for length in part.shape[:2])
            full = np.pad(part, [(0, rows), (0, columns), (0, 0)][: part.ndim]) if rows or columns else part
            encoded = encode_tiff(full) if files[role].endswith("tif") else _encode_png(full)
            write_whole(self.output / files[role], encoded)
            hashes[role] = hashlib.sha256(encoded).hexdigest()
        return hashes


def _encode_png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, "PNG")
    return encoded.getvalue()


def _jobs(scenes: Sequence[Scene], workers: int) -> Iterator[tuple[Scene, list[list[Window]]]]:
    """What a thread does at a time: a scene, or a few neighbouring windows where several may share the work on it."""
    for scene in scenes:
        groups = group_windows(scene.windows, IN_FLIGHT // workers)
        if scene.random_access:
            yield from ((scene, [group]) for group in groups)
        else:
            yield scene, groups
