"""Metres per pixel from a georeference, and when images are resampled."""

import math

import pytest

from datasets.pixel_size import metres_a_pixel, zoom_for
from datasets.windows import Grid

rasterio = pytest.importorskip("rasterio")


def grid(crs, transform):
    return Grid((100, 100), rasterio.crs.CRS.from_user_input(crs).to_wkt() if crs else "", transform)


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32633", (0.5, 0, 500_000, 0, -0.5, 5_000_000), 0.5),  # near the central meridian, scale 0.9996
        ("EPSG:32633", (0, 0.3, 500_000, 0.3, 0, 5_000_000), 0.3),  # turned by a quarter
        ("EPSG:4326", (1e-5, 0, 10, 0, -1e-5, 60), 1e-5 * math.sqrt(111_412 * 55_800)),  # 1 degree at 60 N
        ("EPSG:3857", (1.0, 0, 0, 0, -1.0, 8_399_738), math.cos(math.radians(60))),  # Web Mercator at 60 N
        ("EPSG:2229", (1.0, 0, 6_500_000, 0, -1.0, 1_850_000), 0.3048),  # US survey feet
    ],
)
def test_metres_a_pixel(crs, transform, metres):
    assert metres_a_pixel(grid(crs, transform)) == pytest.approx(metres, rel=0.003)


def test_unknown_sizes():
    assert metres_a_pixel(None) is None
    assert metres_a_pixel(grid(None, (0.5, 0, 0, 0, -0.5, 0))) is None
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert metres_a_pixel(Grid((10, 10), local, (0.5, 0, 0, 0, -0.5, 0))) is None


@pytest.mark.parametrize(
    ("found", "expected", "zoom"),
    [(0.2, 0.5, 0.4), (1.0, 0.5, 2.0), (0.55, 0.5, 1), (0.42, 0.5, 1), (0.41, 0.5, 0.82), (10, 0.5, 1), (None, 0.5, 1),
     (0.5, None, 1)],
)  # fmt: skip
def test_zoom(found, expected, zoom):
    assert zoom_for(found, expected) == pytest.approx(zoom)
