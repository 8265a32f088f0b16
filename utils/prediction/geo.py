"""Writes georeferenced change maps: GeoTIFFs row by row, and polygons as GeoJSON.

Only scenes that were read with rasterio (requirements-geo.txt) have a grid, so it is imported when needed.
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

BLOCK = 256  # pixels, side of a GeoTIFF's tile
AT_ONCE = 1000  # polygons whose corners are transformed together
LOW = 2**30  # free bytes of a disk below which a finished GeoTIFF is read again as a check
CACHE = 64 * 2**20  # bytes of GDAL's cache; its default is 5 % of the machine's memory
WGS84 = "EPSG:4326"
NOWHERE = "its reference system gives no longitude and latitude for a part of the scene"
STEPS = 8  # per longest edge of a scene at 180 degrees, so that no step goes half round the globe


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """GDAL with little memory, whose write errors become an OSError that names the file."""
    from rasterio import Env
    from rasterio.errors import RasterioIOError

    with naming(path), Env(GDAL_CACHEMAX=CACHE):
        try:
            yield
        except RasterioIOError as error:  # it has no reason
            raise OSError(errno.ENOSPC, "could not be written; the disk may be full") from error


class GeoTiff:
    """A georeferenced TIFF of one band that is being written: tiled, compressed, with overviews once it is closed.

    The file declares the value of no data and, so that other programs show probabilities, the value that means 1.
    """

    def __init__(
        self, path: Path, grid: Grid, nodata: int | None = None, dtype: str = "uint8", full_scale: int | None = None
    ) -> None:
        import rasterio

        height, width = grid.size
        self._path, self._size, self._row = path, grid.size, 0
        self._waiting = np.empty((0, width), dtype)  # rows that do not fill a row of tiles yet
        with _writing(path):
            self._dataset = rasterio.open(
                path, "w", driver="GTiff", dtype=dtype, count=1, height=height, width=width, crs=grid.crs or None,
                transform=rasterio.Affine(*grid.transform), nodata=nodata, tiled=True, blockxsize=BLOCK,
                blockysize=BLOCK, compress="deflate", bigtiff="if_safer",
            )  # fmt: skip
            if full_scale:
                self._dataset.scales = (1 / full_scale,)

    def write(self, rows: np.ndarray) -> None:
        """Add the next rows, (n, width)."""
        self._waiting = np.concatenate([self._waiting, rows])
        self._put(len(self._waiting) // BLOCK * BLOCK)  # a tile is compressed once, when it is full

    def _put(self, count: int) -> None:
        from rasterio.windows import Window

        rows, self._waiting = self._waiting[:count], self._waiting[count:]
        if count:
            with _writing(self._path):
                self._dataset.write(rows, 1, window=Window(0, self._row, rows.shape[1], count))
        self._row += count

    def close(self) -> None:
        """Complete the file and add overviews, halved until one tile holds them.

        Raises:
            OSError: the file is incomplete, because the disk is full; the error names it.
        """
        import rasterio
        from rasterio.enums import Resampling

        self._put(len(self._waiting))
        factors = [2**n for n in range(1, 16) if max(self._size) > BLOCK * 2 ** (n - 1)]
        with _writing(self._path):
            self._dataset.close()
            if factors:
                with rasterio.open(self._path, "r+") as dataset:
                    dataset.build_overviews(factors, Resampling.nearest)
            if shutil.disk_usage(self._path.parent).free < LOW and not _all_there(self._path, len(factors)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def abandon(self) -> None:
        """Close the incomplete file."""
        self._dataset.close()


def _all_there(path: Path, overviews: int) -> bool:
    """Return True if every tile of a GeoTIFF and of its overviews can be read.

    On closing, GDAL does not report tiles that it could not write: they are damaged, or have no offset.
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
            return False  # before GDAL logs an error
        _middle(grid)
    except ValueError:  # UserError; rasterio's, if the text is no reference system
        return False
    return True


def write_polygons(
    path: Path, change_map: Path, grid: Grid, regions: Mapping[tuple[int, int], tuple[int, float]]
) -> None:
    """Write the changed regions of a map as GeoJSON (RFC 7946), longitude and latitude in WGS84.

    Outlines follow the pixels, with a point only where they turn. A region across 180 degrees of longitude is cut there
    into a MultiPolygon. Areas are on the WGS84 ellipsoid, by a Lambert azimuthal equal-area projection around the
    scene's middle.

    Args:
        path: the file.
        change_map: a GeoTIFF of 0, 255 and a value of no data.
        grid: of the map; `leads_to_wgs84` is true.
        regions: see `RegionTable.regions`.

    Raises:
        UserError: a region has no longitude and latitude.
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

    longitude, latitude = _middle(grid)
    equal_area = CRS.from_proj4(f"+proj=laea +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m")
    crosses, outlines = _crosses(grid), _outlines(change_map, grid)
    while polygons := list(islice(outlines, AT_ONCE)):
        first = [min((int(row), int(column)) for column, row in polygon[0]) for polygon in polygons]  # top, then left
        if crosses:
            polygons = [[_in_steps(ring, max(grid.size) / STEPS) for ring in polygon] for polygon in polygons]
        corners = np.concatenate([ring for polygon in polygons for ring in polygon])
        ends = np.cumsum([len(ring) for polygon in polygons for ring in polygon])[:-1]
        places = (np.split(_transformed(grid, corners, crs), ends) for crs in (WGS84, equal_area))
        rings = zip(*places, strict=True)
        for pixel, polygon in zip(first, polygons, strict=True):
            degrees, metres = zip(*islice(rings, len(polygon)), strict=True)
            areas = [signed_area(ring) for ring in metres]
            area = abs(areas[0]) - sum(map(abs, areas[1:]))  # without the holes
            # the outline counterclockwise, holes clockwise
            turned = [
                r if (a > 0) == (n == 0) else r[::-1] for n, (r, a) in enumerate(zip(degrees, areas, strict=True))
            ]
            pixels, mean = regions[pixel]
            properties = {"area_m2": round(area, 2), "mean_probability": round(mean, 4), "pixels": pixels}
            parts = [[ring.round(8).tolist() for ring in part] for part in (cut(turned) if crosses else [turned])]
            kind, coordinates = ("Polygon", parts[0]) if len(parts) == 1 else ("MultiPolygon", parts)
            yield {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


def _middle(grid: Grid) -> np.ndarray:
    """Longitude and latitude of the scene's middle."""
    return _transformed(grid, np.array([grid.size[::-1]]) / 2, WGS84)[0]


def _transformed(grid: Grid, corners: np.ndarray, crs: Any) -> np.ndarray:
    """Columns and rows (n, 2) -> coordinates in another reference system, (n, 2).

    Raises:
        UserError: some have none, as beyond the edge of a world map.
    """
    from rasterio.crs import CRS
    from rasterio.warp import transform

    try:
        found = np.stack(transform(CRS.from_wkt(grid.crs), crs, *grid.place(*corners.T)), -1)
    except Exception as error:  # GDAL's errors have no common base
        raise UserError(NOWHERE) from error
    if not np.isfinite(found).all():
        raise UserError(NOWHERE)
    return found


def _crosses(grid: Grid) -> bool:
    """Whether a scene may cross 180 degrees of longitude, as one that contains a pole does."""
    height, width = grid.size
    border = np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)], float)
    try:
        longitude = _transformed(grid, _in_steps(border, max(grid.size) / 64), WGS84)[:, 0]
    except UserError:  # the border lies beyond the edge of a world map
        return True
    around = np.unwrap(longitude, period=360)
    return bool(around.min() < -180 or around.max() > 180)


def _in_steps(ring: Ring, most: float) -> Ring:
    """A ring with points inserted, so that no step is longer than `most`."""
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
    with rasterio.Env(GDAL_CACHEMAX=CACHE), rasterio.open(change_map) as dataset:
        band = rasterio.band(dataset, 1)
        found: Iterable[tuple[Any, float]] = shapes(band, mask=band, connectivity=4)
        for shape, value in found:
            if value == 255:
                yield [(steps @ (np.array(ring) - corner).T).T.round() for ring in shape["coordinates"]]
