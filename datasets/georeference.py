"""Where on earth a raster lies, and one raster seen on the grid of another. Takes datasets that rasterio has opened."""

from typing import Any

import numpy as np

from utils.tiling import Grid, Window

SAME = 0.01  # pixels by which the corners of two grids may differ and still be called one


def grid_of(dataset: Any) -> Grid | None:
    """Where a dataset lies; None of one without a coordinate reference system."""
    if dataset.crs is None:
        return None
    return Grid((dataset.height, dataset.width), dataset.crs.to_wkt(), tuple(dataset.transform)[:6])


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether pixels of two grids are the same places."""
    from rasterio.crs import CRS

    if one.size != other.size or CRS.from_wkt(one.crs) != CRS.from_wkt(other.crs):
        return False
    height, width = one.size
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    places = np.array([[grid.place(*corner) for corner in corners] for grid in (one, other)])
    a, b, _, d, e, _ = one.transform
    pixel = min(np.hypot(a, d), np.hypot(b, e))
    return bool(np.abs(places[0] - places[1]).max() <= SAME * pixel)


def seen_on(dataset: Any, grid: Grid, smooth: bool) -> Any:
    """A dataset on another grid, read and resampled window by window; what it does not reach is transparent.

    Args:
        dataset: what to read.
        grid: where pixels are wanted.
        smooth: whether to interpolate, as images want it; labels take the nearest value.

    Raises:
        ValueError: the two do not touch, or their reference systems do not lead to each other.
    """
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.transform import Affine, array_bounds
    from rasterio.vrt import WarpedVRT
    from rasterio.warp import transform_bounds

    crs, transform, (height, width) = CRS.from_wkt(grid.crs), Affine(*grid.transform), grid.size
    if crs != dataset.crs and not all(each.is_geographic or each.is_projected for each in (crs, dataset.crs)):
        raise ValueError(f"{dataset.name}: its reference system and that of the image it belongs to do not meet")
    west, south, east, north = transform_bounds(crs, dataset.crs, *array_bounds(height, width, transform))
    left, low, right, high = array_bounds(dataset.height, dataset.width, dataset.transform)
    if east <= left or west >= right or north <= low or south >= high:
        raise ValueError(f"{dataset.name}: lies elsewhere than the image it belongs to")
    return WarpedVRT(
        dataset,
        crs=crs,
        transform=transform,
        height=height,
        width=width,
        resampling=Resampling.bilinear if smooth else Resampling.nearest,
        add_alpha=not _alpha(dataset),
        warp_extras={"UNIFIED_SRC_NODATA": "YES"},  # no data is where no band has any
    )


def has_gaps(dataset: Any, bands: tuple[int, ...]) -> bool:
    """Whether a dataset can say of pixels that they hold no data; a transparency band that is read as data cannot."""
    if set(_alpha(dataset)) & set(bands):
        return False
    return any("all_valid" not in {flag.name for flag in flags} for flags in dataset.mask_flag_enums[:3])


def known_pixels(dataset: Any, window: Window) -> np.ndarray:
    """Where a window holds data, bool (h, w)."""
    from rasterio.windows import Window as Part

    return dataset.dataset_mask(window=Part(window.left, window.top, window.width, window.height)) > 0


def _alpha(dataset: Any) -> list[int]:
    """Numbers of the bands that hold transparency."""
    return [number for number, colour in enumerate(dataset.colorinterp, 1) if colour.name == "alpha"]
