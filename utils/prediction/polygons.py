"""Traces the outlines of changed regions, and writes them for a GIS: as GeoJSON, as a GeoPackage, or as both.

Only scenes that were read with rasterio (requirements-geo.txt) have a grid, so it is imported when needed.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from datasets.windows import Grid
from utils.console import UserError
from utils.files import naming
from utils.machine import return_freed_memory
from utils.prediction.antimeridian import Ring, cut, signed_area
from utils.prediction.geopackage import geopackage
from utils.prediction.geotiff import CACHE
from utils.prediction.regions import RegionTable

REGIONS_TOGETHER = 100  # polygons whose corners are transformed together
LARGE_TRACE = 2**26  # pixels traced in one call, of which GDAL may leave much memory
POINTS_TOGETHER = 10_000  # points that are Python's numbers at a time, which take ten times the memory of an array
WGS84 = "EPSG:4326"
Fields = dict[str, float]  # of a region: id, from 1 on, area_m2, mean_probability, pixels
NOWHERE = "its reference system gives no longitude and latitude for a part of the scene"
STEPS = 8  # per longest edge of a scene at 180 degrees, so that no step goes half round the globe


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


def write_polygons(files: Mapping[str, Path], change_map: Path, grid: Grid, regions: RegionTable) -> None:
    """Write the changed regions of a map.

    Outlines follow the pixels, with a point only where they turn. GeoJSON (RFC 7946) has longitude and latitude in
    WGS84, and a region across 180 degrees of longitude is cut there into a MultiPolygon. A GeoPackage has the grid's
    own coordinates, where such a region is whole. Areas are on the WGS84 ellipsoid, by a Lambert azimuthal equal-area
    projection around the scene's middle.

    Args:
        files: kind, of POLYGONS, to file.
        change_map: a GeoTIFF of 0, 255 and a value of no data.
        grid: of the map; `leads_to_wgs84` is true.
        regions: of the map.

    Raises:
        UserError: a region has no longitude and latitude.
        OSError: a file cannot be written.
    """
    with ExitStack() as opened:
        add_json = opened.enter_context(_geojson(files["polygons"])) if "polygons" in files else None
        add_row = opened.enter_context(geopackage(files["geopackage"], grid.crs)) if "geopackage" in files else None
        for fields, degrees, placed in _traced(change_map, grid, regions):
            if add_json:
                add_json(fields, degrees)
            if add_row:
                add_row(fields, placed)


@contextmanager
def _geojson(path: Path) -> Iterator[Callable[[Fields, list[list[Ring]]], None]]:
    """Open a GeoJSON file; yields a function that adds a region."""
    with naming(path), path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')

        def add(fields: Fields, polygons: list[list[Ring]]) -> None:
            kind, coordinates = ("Polygon", polygons[0]) if len(polygons) == 1 else ("MultiPolygon", polygons)
            file.write(",\n" if fields["id"] > 1 else "\n")
            file.write(f'{{"type": "Feature", "properties": {json.dumps(fields)}, ')
            file.write(f'"geometry": {{"type": "{kind}", "coordinates": ')
            file.writelines(_json(coordinates))
            file.write("}}")

        yield add
        file.write("\n]}\n")


def _json(coordinates: Any) -> Iterator[str]:
    """A ring, or nested lists of rings, as JSON, a portion of points at a time."""
    nested = isinstance(coordinates, list)
    for number, part in enumerate(coordinates if nested else _portions(coordinates)):
        yield ", " if number else "["
        yield from _json(part) if nested else [json.dumps(part.round(8).tolist())[1:-1]]
    yield "]"


def _portions(points: np.ndarray) -> list[np.ndarray]:
    return [points[start : start + POINTS_TOGETHER] for start in range(0, len(points), POINTS_TOGETHER)]


def _traced(
    change_map: Path, grid: Grid, regions: RegionTable
) -> Iterator[tuple[Fields, list[list[Ring]], list[Ring]]]:
    """Every region: its fields, its polygons in degrees, and its polygon in the grid's coordinates.

    Outlines run counterclockwise, holes clockwise.
    """
    from rasterio.crs import CRS

    longitude, latitude = _middle(grid)
    equal_area = CRS.from_proj4(f"+proj=laea +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m")
    crosses, outlines, number = _crosses(grid), _outlines(change_map, regions), 0
    while polygons := list(islice(outlines, REGIONS_TOGETHER)):
        stepped = [[_in_steps(r, max(grid.size) / STEPS) if crosses else r for r in polygon] for polygon in polygons]
        corners = np.concatenate([ring for polygon in stepped for ring in polygon])
        ends = np.cumsum([len(ring) for polygon in stepped for ring in polygon])[:-1]
        places = (np.split(_transformed(grid, corners, crs), ends) for crs in (WGS84, equal_area))
        rings = zip(*places, strict=True)
        for polygon in polygons:
            number += 1
            degrees, metres = zip(*islice(rings, len(polygon)), strict=True)
            areas = [signed_area(ring) for ring in metres]
            area = abs(areas[0]) - sum(map(abs, areas[1:]))  # without the holes
            ways = [1 if (a > 0) == (n == 0) else -1 for n, a in enumerate(areas)]
            turned = [ring[::way] for ring, way in zip(degrees, ways, strict=True)]
            placed = [np.stack(grid.place(*ring[::way].T), -1) for ring, way in zip(polygon, ways, strict=True)]
            column, row = polygon[0][np.lexsort(polygon[0].T)[0]]  # of its first pixel: the upmost row, there the left
            pixels, mean = regions.at(int(row), int(column))
            fields = {"id": number, "area_m2": round(area, 2), "mean_probability": round(mean, 4), "pixels": pixels}
            yield fields, cut(turned) if crosses else [turned], placed


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
        own = CRS.from_wkt(grid.crs)
        portions = (transform(own, crs, *grid.place(*some.T)) for some in _portions(corners))
        found = np.concatenate([np.stack(portion, -1) for portion in portions])
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


def _outlines(change_map: Path, regions: RegionTable) -> Iterator[list[Ring]]:
    """Every changed region: its outline, then its holes, as columns and rows of pixel corners.

    GDAL holds all outlines that it traces in one call, so it gets those that end in one strip after another.
    """
    import rasterio
    from rasterio.features import shapes

    with rasterio.Env(GDAL_CACHEMAX=CACHE), rasterio.open(change_map) as dataset:
        ending = regions.ending(lambda top, bottom: dataset.read(1, window=((top, bottom), (0, dataset.width))) == 255)
        for top, drawn in ending:
            found: Iterable[tuple[Any, float]] = shapes(drawn, drawn, transform=rasterio.Affine.translation(0, top))
            for number, (shape, _) in enumerate(found):
                if number == 0 and drawn.size > LARGE_TRACE:
                    return_freed_memory()  # of GDAL's tracing; Python's lists do not reuse it
                yield [np.array(ring) for ring in shape.pop("coordinates")]  # whose lists are freed
