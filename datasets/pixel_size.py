"""Metres per pixel: what a georeference gives, and how far an image is to be resampled for a network."""

import math

import numpy as np

from datasets.windows import Grid

SAME = 1.2  # ratio of two pixel sizes up to which nothing is resampled
LARGEST = 4.0  # an image whose pixels are larger than this many times the network's is not resampled


def metres_a_pixel(grid: Grid | None) -> float | None:
    """Side of a pixel in the middle of an image, in metres on the WGS84 ellipsoid; None where the grid does not tell.

    The side is the root of a pixel's area, so Web Mercator and longitudes are measured where the image lies: it is the
    median of five places, of which at most one is a pole.
    """
    if grid is None or not grid.crs:
        return None
    from rasterio.crs import CRS
    from rasterio.warp import transform

    crs = CRS.from_wkt(grid.crs)
    if not (crs.is_geographic or crs.is_projected):  # a local system
        return None
    shares = np.array([(0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)])
    rows, columns = (shares * grid.size).T[..., None]
    x, y = grid.place((columns + [0, 1, 0]).ravel(), (rows + [0, 0, 1]).ravel())
    try:
        longitudes, latitudes = np.array(transform(crs, "EPSG:4326", x, y)).reshape(2, len(shares), 3)
    except Exception:  # GDAL's errors have no common base
        return None
    latitude = np.radians(latitudes[:, :1])
    east = 111_412.84 * np.cos(latitude) - 93.5 * np.cos(3 * latitude)
    north = 111_132.92 - 559.82 * np.cos(2 * latitude)
    turned = (longitudes[:, 1:] - longitudes[:, :1] + 180) % 360 - 180  # the short way over 180 degrees
    sides = np.stack([turned * east, (latitudes[:, 1:] - latitudes[:, :1]) * north], 1)
    area = float(np.median(np.abs(np.linalg.det(sides))))
    return math.sqrt(area) if math.isfinite(area) and area > 0 else None


def alike(*sizes: float) -> bool:
    """Return True if pixel sizes differ so little that nothing is resampled."""
    return max(sizes) / min(sizes) <= SAME


def size_remarks(found: float | None, expected: float | None, later: float | None, given: float | None) -> list[str]:
    """Return what is doubtful about the pixel size of a pair, in metres; None: unknown.

    Args:
        found: as the pair is read.
        expected: of the network's training images.
        later: of the later image's own pixels.
        given: by --pixel-size, beside what the georeference has in `found`.
    """
    said = []
    if given and found and not alike(given, found):
        said.append(f"--pixel-size differs from the georeference: {given:g} m, not {found:.3g} m")
    if given and not expected:
        said.append(
            "images are not resampled, since the checkpoint does not store the pixel size of its training images"
        )
    used = given or found
    if used and expected and used / expected > LARGEST:
        ratio = f"{used / expected:.0f} times that of the training images"
        said.append(f"pixel size: {used:.3g} m, {ratio}; such objects are too small to be detected here")
    if found and later and later / found > LARGEST:
        said.append(f"pixels of the later image are much larger: {later:.3g} m, those of the earlier one {found:.3g} m")
    return said


def zoom_for(found: float | None, expected: float | None) -> float:
    """Network pixels per image pixel; 1 where a size is unknown, or the two are alike or too unlike."""
    if not (found and expected) or alike(found, expected) or found / expected > LARGEST:
        return 1.0
    return found / expected
