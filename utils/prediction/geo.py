"""Change maps that know where on earth they lie: GeoTIFFs written row by row, and polygons as GeoJSON.

Needs rasterio (requirements-geo.txt), imported when something is written; only scenes read with it have a grid.
"""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from datasets.windows import Grid
from utils.console import UserError
from utils.files import naming
from utils.prediction.antimeridian import Ring, cut, signed_area

NO_DATA = 127  # in a map of 0 and 255
BLOCK = 256  # pixels, side of a GeoTIFF's tile
AT_ONCE = 1000  # polygons whose corners are transformed together
LOW = 2**30  # free bytes of a disk below which a finished GeoTIFF is read again to see that it is whole
CACHE = 64 * 2**20  # bytes of blocks on their way to the file; GDAL would take 5 % of the machine's memory
NOWHERE = "its reference system gives no longitude and latitude for a part of the scene"
STEPS = 8  # into which the longest edge of a scene at 180 degrees is divided, so that no step goes half round the globe


def _gdal() -> Any:
    """GDAL with little memory, for the length of a block."""
    import rasterio

    return rasterio.Env(GDAL_CACHEMAX=CACHE)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """GDAL with little memory; what it cannot write there is an OSError that names the file."""
    from rasterio.errors import RasterioIOError

    with naming(path), _gdal():
        try:
            yield
        except RasterioIOError as error:  # it does not tell why
            raise OSError(errno.ENOSPC, "could not be written; the disk may be full") from error


class GeoTiff:
    """A georeferenced TIFF of one band under way: tiled, compressed, and with overviews when it is closed."""

    def __init__(self, path: Path, grid: Grid, nodata: int | None = None, dtype: str = "uint8", one: int = 1) -> None:
        """Begin the file.

        Args:
            path: the file.
            grid: where its pixels lie.
            nodata: the value that means so; None: all pixels are data.
            dtype: of the values.
            one: the value that means 1, which the file says, so that other programs show it as 1.
        """
        import rasterio

        height, width = grid.size
        self._path, self._shape, self._row = path, grid.size, 0
        self._waiting: list[np.ndarray] = []  # rows that do not fill a row of tiles yet
        with _writing(path):
            self._dataset = rasterio.open(
                path, "w", driver="GTiff", dtype=dtype, count=1, height=height, width=width, crs=grid.crs or None,
                transform=rasterio.Affine(*grid.transform), nodata=nodata, tiled=True, blockxsize=BLOCK,
                blockysize=BLOCK, compress="deflate", bigtiff="if_safer",
            )  # fmt: skip
            if one > 1:
                self._dataset.scales = (1 / one,)

    def write(self, rows: np.ndarray) -> None:
        """Add the next rows, (n, width)."""
        self._waiting.append(rows)
        count = sum(map(len, self._waiting))
        if count >= BLOCK:  # a tile is compressed once, when it is full
            joined = np.concatenate(self._waiting)
            full = count // BLOCK * BLOCK
            self._put(joined[:full])
            self._waiting = [joined[full:]]

    def _put(self, rows: np.ndarray) -> None:
        from rasterio.windows import Window

        with _writing(self._path):
            self._dataset.write(rows, 1, window=Window(0, self._row, rows.shape[1], len(rows)))
        self._row += len(rows)

    def close(self) -> None:
        """End the file and add overviews, halved until one tile holds them.

        Raises:
            OSError: the file is not whole, because the disk is full; the error names it.
        """
        import rasterio
        from rasterio.enums import Resampling

        if rest := sum(map(len, self._waiting)):
            self._put(np.concatenate(self._waiting)[:rest])
        factors = [2**n for n in range(1, 16) if max(self._shape) > BLOCK * 2 ** (n - 1)]
        with _writing(self._path):
            self._dataset.close()
            if factors:
                with rasterio.open(self._path, "r+") as dataset:
                    dataset.build_overviews(factors, Resampling.nearest)
            if shutil.disk_usage(self._path.parent).free < LOW and not _all_there(self._path, len(factors)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def abandon(self) -> None:
        """Leave it as it is."""
        with _gdal():
            self._dataset.close()


def _all_there(path: Path, overviews: int) -> bool:
    """Return True if every tile of a GeoTIFF and of its overviews can be read.

    When GDAL closes a file, it does not report what it cannot write: such tiles are damaged, or have no place in the
    file.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    try:
        for level in (None, *range(overviews)):
            with rasterio.open(path, **({} if level is None else {"overview_level": level})) as dataset:
                for (row, column), window in dataset.block_windows(1):
                    if dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1) is None:
                        return False
                    dataset.read(1, window=window)
    except (RasterioIOError, ValueError):
        return False
    return True


def leads_to_wgs84(grid: Grid) -> bool:
    """Return True if the scene's middle has a longitude and latitude in WGS84; local reference systems have none."""
    from rasterio.crs import CRS

    try:
        crs = CRS.from_wkt(grid.crs)
        if not (crs.is_geographic or crs.is_projected):
            return False  # without the line that GDAL would log
        _degrees(grid, np.array([grid.size[::-1]]) / 2)
    except ValueError:  # also of text that is no reference system
        return False
    return True


def write_polygons(
    path: Path, change_map: Path, grid: Grid, regions: Mapping[tuple[int, int], tuple[int, float]]
) -> None:
    """Write the changed regions of a map as GeoJSON (RFC 7946), longitude and latitude in WGS84.

    Outlines follow the pixels, with a point only where they turn. A region across 180 degrees of longitude is cut there
    into a MultiPolygon. Areas are those on the WGS84 ellipsoid, measured in a Lambert azimuthal equal-area projection
    around the scene's middle.

    Args:
        path: the file.
        change_map: a GeoTIFF of 0, 255 and perhaps NO_DATA.
        grid: where it lies; it leads to WGS84.
        regions: first pixel (row, column) of each region to its number of pixels and mean probability.

    Raises:
        UserError: a region has no place in WGS84.
    """
    with naming(path), path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(_features(change_map, grid, regions), 1):
            file.write(",\n" if number > 1 else "\n")
            feature["properties"] = {"id": number, **feature["properties"]}
            file.write(json.dumps(feature))
        file.write("\n]}\n")


def _features(
    change_map: Path, grid: Grid, regions: Mapping[tuple[int, int], tuple[int, float]]
) -> Iterator[dict[str, Any]]:
    from rasterio.crs import CRS

    ((longitude, latitude),) = _degrees(grid, np.array([grid.size[::-1]]) / 2)
    equal_area = CRS.from_proj4(f"+proj=laea +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m")
    crosses, outlines = _crosses(grid), _outlines(change_map, grid)
    while polygons := list(islice(outlines, AT_ONCE)):
        first = [_first_pixel(polygon[0]) for polygon in polygons]
        if crosses:
            polygons = [[_in_steps(ring, max(grid.size) / STEPS) for ring in polygon] for polygon in polygons]
        corners = np.concatenate([ring for polygon in polygons for ring in polygon])
        degrees, metres = _degrees(grid, corners), _transformed(grid, corners, equal_area)
        end = 0
        for pixel, polygon in zip(first, polygons, strict=True):
            rings, area = [], 0.0
            for order, ring in enumerate(polygon):
                part = slice(end, end := end + len(ring))
                signed = signed_area(metres[part])
                area += abs(signed) if order == 0 else -abs(signed)
                # the outline counterclockwise, holes clockwise
                rings.append(degrees[part] if (signed > 0) == (order == 0) else degrees[part][::-1])
            pixels, mean = regions[pixel]
            properties = {"area_m2": round(area, 2), "mean_probability": round(mean, 4), "pixels": pixels}
            geometry = _geometry(cut(rings) if crosses else [rings])
            yield {"type": "Feature", "properties": properties, "geometry": geometry}


def _geometry(polygons: list[list[Ring]]) -> dict[str, Any]:
    """One polygon, or several, as GeoJSON."""
    coordinates = [[ring.round(8).tolist() for ring in polygon] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _transformed(grid: Grid, corners: np.ndarray, crs: Any) -> np.ndarray:
    """Columns and rows (n, 2) -> coordinates in another reference system, (n, 2).

    Raises:
        UserError: there are none for some of them, as beyond the edge of a map of the whole earth.
    """
    from rasterio.crs import CRS
    from rasterio.warp import transform

    try:
        found = np.stack(transform(CRS.from_wkt(grid.crs), crs, *grid.place(*corners.T)), -1)
    except Exception as error:  # GDAL's errors have no base of their own
        raise UserError(NOWHERE) from error
    if not np.isfinite(found).all():
        raise UserError(NOWHERE)
    return found


def _degrees(grid: Grid, corners: np.ndarray) -> np.ndarray:
    """Columns and rows (n, 2) -> longitude and latitude in WGS84, (n, 2)."""
    return _transformed(grid, corners, "EPSG:4326")


def _crosses(grid: Grid) -> bool:
    """Whether a scene may reach across 180 degrees of longitude, as one with a pole in it does."""
    height, width = grid.size
    border = np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)], float)
    try:
        longitude = _degrees(grid, _in_steps(border, max(grid.size) / 64))[:, 0]
    except ValueError:  # the border lies beyond the edge of a map of the whole earth
        return True
    around = np.unwrap(longitude, period=360)
    return bool(around.min() < -180 or around.max() > 180)


def _in_steps(ring: Ring, most: float) -> Ring:
    """A ring with points added, so that no step is longer than `most`."""
    lengths = np.abs(np.diff(ring, axis=0)).max(1)
    parts = [
        np.linspace(one, other, math.ceil(length / most), endpoint=False)
        for one, other, length in zip(ring, ring[1:], lengths, strict=False)
    ]
    return np.concatenate([*parts, ring[-1:]])


def _outlines(change_map: Path, grid: Grid) -> Iterator[list[Ring]]:
    """Every changed region: its outline, then its holes, as columns and rows of pixel corners."""
    import rasterio
    from rasterio.features import shapes

    a, b, c, d, e, f = grid.transform
    steps, corner = np.linalg.inv([[a, b], [d, e]]), np.array([c, f])  # back from coordinates to pixels
    with _gdal(), rasterio.open(change_map) as dataset:
        band = rasterio.band(dataset, 1)
        found: Iterable[tuple[Any, float]] = shapes(band, mask=band, connectivity=4)  # of a band, in its coordinates
        for shape, value in found:
            if value == 255:
                yield [(steps @ (np.array(ring) - corner).T).T.round() for ring in shape["coordinates"]]


def _first_pixel(outline: Ring) -> tuple[int, int]:
    """Row and column of the leftmost pixel in the top row."""
    row = outline[:, 1].min()
    return int(row), int(outline[outline[:, 1] == row, 0].min())
