"""Reads where on earth a raster lies, and one raster on the grid of another."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from datasets.file_errors import Unsuitable
from datasets.windows import Content, Grid, Window, read_over

SAME = 0.01  # pixels by which the corners of two grids may differ and still count as equal
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# EXIF orientation, TIFF tag 274: (rows are columns, stored rows are reversed, stored columns are reversed)
ORIENTATIONS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip


def placement(dataset: Any, path: Path) -> Grid | None:
    """Return the grid of an open rasterio dataset; its crs is "" if only the transform is known; None: no grid.

    Raises:
        UserError: it is placed by ground control points or rational polynomials, which fit no grid.
    """
    transform = tuple(dataset.transform)[:6]
    if transform == IDENTITY:
        how = "ground control points" if dataset.gcps[0] else "rational polynomials (RPC)" if dataset.rpcs else ""
        if how:
            raise Unsuitable(f"{path}: has {how} instead of a grid; warp it first: gdalwarp IN.tif OUT.tif")
        return None
    return Grid((dataset.height, dataset.width), dataset.crs.to_wkt() if dataset.crs else "", transform)


@lru_cache(64)
def same_system(one: str, other: str) -> bool:
    """Return True if two coordinate reference systems, as WKT, are equal."""
    if one == other or not (one and other):
        return one == other
    from rasterio.crs import CRS

    return CRS.from_wkt(one) == CRS.from_wkt(other)


@dataclass(frozen=True)
class Turned:
    """A raster on another grid with the same pixels: shifted, mirrored, or turned by quarter turns.

    Its pixel (r, c) is stored pixel (row_sign * u + row, column_sign * v + column), where (u, v) is (c, r) if `swap`
    and (r, c) otherwise.
    """

    stored: tuple[int, int]  # (height, width) of the raster
    size: tuple[int, int]  # (height, width) of the grid
    swap: bool
    row_sign: int
    row: int
    column_sign: int
    column: int

    def _stored_window(self, window: Window) -> Window:
        """Return where the pixels of a window are stored; it may reach over the raster."""
        spans = (window.top, window.height), (window.left, window.width)
        (row, height), (column, width) = spans[::-1] if self.swap else spans
        top = min(self.row_sign * (row + end) + self.row for end in (0, height - 1))
        left = min(self.column_sign * (column + end) + self.column for end in (0, width - 1))
        return Window(top, left, height, width)

    @property
    def covered(self) -> bool:
        """True if the raster covers the whole grid."""
        whole = self._stored_window(Window(0, 0, *self.size))
        return whole.clipped(self.stored) == whole

    def reaches(self, window: Window) -> bool:
        """Return True if the raster covers any pixel of a window."""
        part = self._stored_window(window).clipped(self.stored)
        return part.height > 0 and part.width > 0

    def read(self, window: Window, stored: Callable[[Window], Content]) -> Content:
        """Read a window of the grid; pixels outside the raster are 0 and unknown."""
        turns = slice(None, None, self.row_sign), slice(None, None, self.column_sign)
        values, known = read_over(self._stored_window(window), self.stored, stored)
        values, known = values[turns], None if known is None else known[turns]
        return (values.swapaxes(0, 1), None if known is None else known.T) if self.swap else (values, known)


def upright(stored: tuple[int, int], orientation: int) -> Turned | None:
    """Return the upright view of a raster with an EXIF orientation or TIFF tag 274; None if it is stored upright."""
    swap, rows, columns = ORIENTATIONS.get(orientation, ORIENTATIONS[1])
    if not (swap or rows or columns):
        return None
    height, width = stored
    signs = (-1 if rows else 1, (height - 1) * rows, -1 if columns else 1, (width - 1) * columns)
    return Turned(stored, stored[::-1] if swap else stored, swap, *signs)


class Resampled:
    """A raster on another grid whose pixels lie between its own: images are interpolated, labels are not.

    Each window is warped with margins, so pixels do not depend on how a scene is cut into windows.
    """

    covered = False

    def __init__(self, source: Grid, target: Grid, smooth: bool) -> None:
        """Take the grid of the raster and the grid to see it on; `smooth`: interpolate bilinearly, else nearest."""
        self.source, self.target, self.size, self.smooth = source, target, target.size, smooth
        middle = np.array(target.size[::-1]) / 2
        steps = self._stored_places(middle[0] + np.array([0.0, 1, 0]), middle[1] + np.array([0.0, 0, 1]))
        # stored pixels per target pixel, along the stored axes
        self._scale = np.abs(steps[:, 1:] - steps[:, :1]).max(1).clip(min=1e-9)

    def _stored_places(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Convert positions in pixels of the target to (columns, rows) in pixels of the source, (2, n)."""
        x, y = self.target.place(columns, rows)
        if not same_system(self.source.crs, self.target.crs):
            from rasterio.warp import transform

            x, y = (np.array(values) for values in transform(self.target.crs, self.source.crs, x.ravel(), y.ravel()))
        a, b, c, d, e, f = self.source.transform
        return np.linalg.solve([[a, b], [d, e]], np.stack([x - c, y - f]))

    def stored_window(self, window: Window) -> Window | None:
        """Return the stored pixels that a window needs; None if the raster does not reach it."""
        edge = np.linspace(0, 1, 21)
        columns, rows = np.meshgrid(window.left + window.width * edge, window.top + window.height * edge)
        places = self._stored_places(columns.ravel(), rows.ravel())
        places = places[:, np.isfinite(places).all(0)]
        if not places.size:
            return None
        margin = np.ceil(2 * self._scale) + 3
        left, top = (np.floor(places.min(1)) - margin).clip(0).astype(int)
        right, bottom = np.minimum(np.ceil(places.max(1)) + margin, self.source.size[::-1]).astype(int)
        return Window(top, left, bottom - top, right - left) if right > left and bottom > top else None

    def reaches(self, window: Window) -> bool:
        """Return True if the raster may cover any pixel of a window."""
        return self.stored_window(window) is not None

    def read(self, window: Window, stored: Callable[[Window], Content]) -> Content:
        """Read a window of the grid; pixels without data in the raster are 0 and unknown."""
        from rasterio.enums import Resampling
        from rasterio.transform import Affine
        from rasterio.warp import reproject

        part = self.stored_window(window)
        values, known = stored(part or Window(0, 0, 1, 1))
        bands = values[..., None] if values.ndim == 2 else values
        shape, kind = (bands.shape[2], window.height, window.width), np.promote_types(values.dtype, np.float32)
        seen = np.full(shape, np.nan, kind)
        if part:
            source = np.where(True if known is None else known[..., None], bands, np.nan).astype(kind)
            crs = "EPSG:3857" if same_system(self.source.crs, self.target.crs) else None  # any plane serves
            reproject(
                np.ascontiguousarray(source.transpose(2, 0, 1)), seen,
                src_transform=Affine(*self.source.part(part).transform),
                src_crs=crs or self.source.crs, src_nodata=np.nan,
                dst_transform=Affine(*self.target.part(window).transform),
                dst_crs=crs or self.target.crs, dst_nodata=np.nan,
                resampling=Resampling.bilinear if self.smooth else Resampling.nearest, tolerance=0,
                XSCALE=str(1 / self._scale[0]), YSCALE=str(1 / self._scale[1]), UNIFIED_SRC_NODATA="YES",
            )  # fmt: skip
        found = np.asarray(np.isfinite(seen).all(0))
        whole = np.where(found, seen, 0)
        if np.issubdtype(values.dtype, np.integer):
            whole = whole.round()
        whole = whole.transpose(1, 2, 0).astype(values.dtype)
        return (whole[..., 0] if values.ndim == 2 else whole), found


def seen_on(source: Grid, target: Grid, smooth: bool, path: Path) -> Turned | Resampled | None:
    """Return the view of a raster at `path` on another grid; None if the two are equal; `smooth`: as of `Resampled`.

    Raises:
        UserError: the two do not touch, or their reference systems cannot be converted into each other.
    """
    alike, turned = same_system(source.crs, target.crs), None
    if alike or not (source.crs and target.crs):
        turned = _turned(source, target)
        if turned == Turned(source.size, target.size, False, 1, 0, 1, 0) and source.size == target.size:
            return None
    if not alike:
        _check_systems(source, target, path)
        turned = None
    view = turned or Resampled(source, target, smooth)
    if not view.reaches(Window(0, 0, *target.size)):
        raise Unsuitable(f"{path}: does not overlap the earlier image; check their coordinates, or pair other files")
    return view


def _check_systems(source: Grid, target: Grid, path: Path) -> None:
    if not (source.crs and target.crs):
        raise Unsuitable(
            f"{path}: this image or the earlier one has a transform without a coordinate reference system, and their "
            f"grids differ; write the system into the file: gdal_edit.py -a_srs EPSG:CODE FILE"
        )
    from rasterio.crs import CRS

    for crs in (CRS.from_wkt(source.crs), CRS.from_wkt(target.crs)):
        if not (crs.is_geographic or crs.is_projected):
            raise Unsuitable(
                f"{path}: its coordinate reference system and that of the earlier image cannot be converted into each "
                f"other; warp one of them with gdalwarp"
            )


def _turned(source: Grid, target: Grid) -> Turned | None:
    """Return how the pixels of two grids of one system coincide; None if they do not."""
    height, width = target.size
    columns, rows = np.array([0.0, width, 0, width]), np.array([0.0, 0, height, height])
    a, b, c, d, e, f = source.transform
    x, y = target.place(columns, rows)
    with np.errstate(all="ignore"):
        stored = np.linalg.solve([[a, b], [d, e]], np.stack([x - c, y - f]))  # (columns, rows)
    nearest = stored.round()
    if np.abs(stored - nearest).max() > SAME:
        return None
    across = (nearest[:, 1] - nearest[:, 0]) / width  # (columns, rows) of one step to the right
    down = (nearest[:, 2] - nearest[:, 0]) / height
    swap = bool(across[0] == 0)
    steps = (across[1], down[0]) if swap else (across[0], down[1])
    if not (set(map(abs, steps)) == {1.0} and sum(map(abs, (*across, *down))) == 2):
        return None
    column_sign, row_sign = (int(down[0]), int(across[1])) if swap else (int(across[0]), int(down[1]))
    corner_column, corner_row = (int(value) for value in nearest[:, 0])  # of the first pixel's corner
    column, row = corner_column - (column_sign < 0), corner_row - (row_sign < 0)
    return Turned(source.size, target.size, swap, row_sign, row, column_sign, column)
