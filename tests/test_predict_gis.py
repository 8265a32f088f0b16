"""predict_batch.py for a GIS: GeoPackages of georeferenced pairs, world files for the maps of plain images."""

import json
import sqlite3

import pytest

from datasets import gdal
from datasets.pairs import find_pairs
from datasets.raster import read_image
from tests.conftest import write_tiff
from tests.scripts import contents, fails, predict_pair
from utils.prediction.config import parse_predict_config

PLACE = ("--pixel-size", 0.5, "--origin", -500000.25, 4e6)


@pytest.fixture(scope="module")
def pair(drawn_set):
    return find_pairs(drawn_set, "test")[0]


@pytest.fixture
def placed(pair, tmp_path):
    """Both dates as GeoTIFFs."""
    pytest.importorskip("rasterio")
    return [write_tiff(tmp_path / f"{role}.tif", read_image(getattr(pair, role))) for role in ("before", "after")]


def kinds(folder):
    """Names of the maps by folder."""
    paths = [path.split("/") for path in contents(folder) if path.count("/") == 1 and "records" not in path]
    return {kind: sorted(name for folder, name in paths if folder == kind) for kind, _ in paths}


@pytest.mark.parametrize("save", ["geopackage", "mask,geo,polygons,geopackage"])
def test_a_geopackage_beside_the_other_maps_of_a_place(checkpoint, placed, tmp_path, save):
    out, name = tmp_path / "out", tmp_path.name
    predict_pair(checkpoint, *placed, out, "--save", save, "--no-report")
    suffixes = {"mask": "png", "geo": "tif", "polygons": "geojson", "geopackage": "gpkg"}
    assert kinds(out) == {kind: [f"{name}.{suffixes[kind]}"] for kind in save.split(",")}
    with sqlite3.connect(out / "geopackage" / f"{name}.gpkg") as database:
        rows = database.execute("SELECT id, area_m2, mean_probability, pixels FROM changes").fetchall()
    assert len(rows) > 0
    if "polygons" in save:
        features = json.loads((out / "polygons" / f"{name}.geojson").read_text())["features"]
        assert rows == [tuple(feature["properties"].values()) for feature in features]


def test_world_files_place_the_maps_of_plain_images(checkpoint, pair, tmp_path, monkeypatch, capsys):
    """Without rasterio, too; the report reads these maps."""
    plain, out = (checkpoint, pair.before, pair.after, tmp_path / "out"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(gdal, "installed", lambda: None)
        for more in ((), ("--skip-existing",)):
            predict_pair(*plain, *PLACE, "--save", "all", *more)
    assert (out / "report.html").is_file()
    names = [f"{pair.name}.pgw", f"{pair.name}.png"]
    assert kinds(out) == dict.fromkeys(("mask", "overlay", "probability", "probability16"), names)
    assert (out / "mask" / names[0]).read_text().split() == ["0.5", "0.0", "0.0", "-0.5", "-500000.0", "3999999.75"]
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(out / "mask" / names[1]) as placed:
        assert placed.transform == rasterio.Affine(0.5, 0, -500000.25, 0, -0.5, 4e6)
    said = "origin: [-500000.25, 4000000.0] there, None here"
    fails(lambda: predict_pair(*plain, "--skip-existing"), capsys, said)
    predict_pair(*plain, "--overwrite", "--no-report")
    assert kinds(out) == {"mask": names[1:]}


def test_an_image_with_a_georeference_takes_no_origin(checkpoint, placed, tmp_path, capsys):
    predict_pair(checkpoint, *placed, tmp_path / "out", *PLACE, code=1)
    assert f"{placed[0]}: has a georeference of its own; leave out --origin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--origin", "1", "--pixel-size", "2"), "takes two numbers"),
        (("--origin", "1", "nan", "--pixel-size", "2"), "takes two numbers"),
        (("--origin", "1", "2"), "--pixel-size"),
        (("--origin", "1", "2", "--pixel-size", "2", "--data-root", "x"), "two files"),
        (("--origin", "1", "2", "--pixel-size", "2", "--before", ".", "--after", "."), "two files"),
    ],
)
def test_an_origin_that_places_nothing_is_refused(words, said):
    with pytest.raises(ValueError, match=said):
        parse_predict_config(words)
