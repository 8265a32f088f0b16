"""Metres per pixel from a georeference, and when images are resampled."""

import math

import pytest

from datasets.pixel_size import metres_a_pixel, size_remarks, zoom_for
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
        ("EPSG:32601", (0.5, 0, 166_040, 0, -0.5, 5_000), 0.5),  # over 180 degrees
        ("EPSG:3413", (0.5, 0, -25, 0, -0.5, 25), 0.5),  # around the pole, scale 0.97
        ("EPSG:2229", (1.0, 0, 6_500_000, 0, -1.0, 1_850_000), 0.3048),  # US survey feet
    ],
)
def test_metres_a_pixel(crs, transform, metres):
    assert metres_a_pixel(grid(crs, transform)) == pytest.approx(metres, rel=0.003 if crs != "EPSG:3413" else 0.04)


def test_remarks_on_sizes():
    assert (
        size_remarks(0.5, 0.5, 0.6, None) == size_remarks(None, 0.5, None, 0.3) == size_remarks(9, None, 9, None) == []
    )
    (large,) = size_remarks(10, 0.5, 10, None)
    assert large.startswith("pixel size: 10 m, 20 times that of the training images")
    assert size_remarks(None, 0.5, None, 10) == [large]
    (unused,) = size_remarks(None, None, None, 0.3)
    assert unused.startswith("images are not resampled")
    (other,) = size_remarks(10, 0.5, 10, 0.4)
    assert other == "--pixel-size differs from the georeference: 0.4 m, not 10 m"
    (coarse,) = size_remarks(0.5, 0.5, 10, None)
    assert coarse == "pixels of the later image are much larger: 10 m, those of the earlier one 0.5 m"


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
