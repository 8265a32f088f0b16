"""Metres per pixel: what a georeference gives, and how far an image is to be resampled for a network."""

import math

import numpy as np

from datasets.windows import Grid

SAME = 1.2  # ratio of two pixel sizes up to which nothing is resampled
LARGEST = 4.0  # an image whose pixels are larger than this many times the network's is not resampled


def metres_a_pixel(grid: Grid | None) -> float | None:
    """Side of a pixel in the middle of an image, in metres on the WGS84 ellipsoid; None where the grid does not tell.

    The side is the root of a pixel's area, so Web Mercator and longitudes are measured where the image lies.
    """
    if grid is None or not grid.crs:
        return None
    from rasterio.crs import CRS
    from rasterio.warp import transform

    crs = CRS.from_wkt(grid.crs)
    if not (crs.is_geographic or crs.is_projected):  # a local system
        return None
    row, column = grid.size[0] / 2, grid.size[1] / 2
    x, y = grid.place(column + np.array([0, 1, 0]), row + np.array([0, 0, 1]))
    try:
        longitudes, latitudes = np.array(transform(crs, "EPSG:4326", x, y))
    except Exception:  # GDAL's errors have no common base
        return None
    latitude = math.radians(latitudes[0])
    east, north = (
        111_412.84 * math.cos(latitude) - 93.5 * math.cos(3 * latitude),
        111_132.92 - 559.82 * math.cos(2 * latitude),
    )
    sides = np.stack([longitudes[1:] - longitudes[0], latitudes[1:] - latitudes[0]]) * [[east], [north]]
    area = abs(np.linalg.det(sides))
    return math.sqrt(area) if math.isfinite(area) and area > 0 else None


def zoom_for(found: float | None, expected: float | None) -> float:
    """Network pixels per image pixel; 1 where a size is unknown, or the two are alike or too unlike."""
    if not (found and expected) or max(found / expected, expected / found) <= SAME or found / expected > LARGEST:
        return 1.0
    return found / expected
