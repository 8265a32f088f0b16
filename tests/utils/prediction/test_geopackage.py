"""A GeoPackage as other readers find it: the polygons of the GeoJSON, on the map's own grid, with a style."""

import json
import sqlite3
from pathlib import PureWindowsPath
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from datasets.windows import Grid
from tests.scripts import files_end_at
from tests.utils.prediction.test_polygons import PLACES, blobs, fiji, grid_at, write_map
from utils.prediction.geopackage import LAYER, address
from utils.prediction.polygons import write_polygons
from utils.prediction.regions import RegionTable, Strip

pytest.importorskip("pyogrio")
pytest.importorskip("rasterio")
pytest.importorskip("shapely")
import pyogrio
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize


def read(path):
    """The layer, as the library pyogrio reads it with a GDAL of its own."""
    info = pyogrio.read_info(path, layer=LAYER)
    _, ids, shapes, columns = pyogrio.raw.read(path, layer=LAYER, return_fids=True)
    fields = dict(zip(info["fields"].tolist(), columns, strict=True))
    return SimpleNamespace(info=info, ids=ids.tolist(), shapes=shapely.from_wkb(shapes), fields=fields)


def written(folder, grid, changed, probability=None):
    """The layer of a map, and the features of its GeoJSON."""
    table = RegionTable()
    table.add(Strip(0, np.full(changed.shape, 0.75, np.float32) if probability is None else probability, changed))
    write_map(folder / "map.tif", grid, changed.astype(np.uint8) * 255)
    files = {"polygons": folder / "map.geojson", "geopackage": folder / "map.gpkg"}
    write_polygons(files, folder / "map.tif", grid, table)
    return read(files["geopackage"]), json.loads(files["polygons"].read_text())["features"]


def squares():
    """Two squares, one with a hole; bool and float32 (40, 50)."""
    changed = np.zeros((40, 50), bool)
    changed[5:15, 5:15] = changed[20:30, 30:40] = True
    changed[8:12, 8:12] = False
    return changed, np.where(np.arange(50) < 20, np.float32(0.625), np.float32(0.875)) * np.ones_like(changed)


def test_known_squares(tmp_path):
    """Place, reference system, fields with their names, types and values."""
    layer, _ = written(tmp_path, grid_at("UTM", (40, 50)), *squares())
    assert layer.info["crs"] == "EPSG:32636"
    assert (layer.info["fid_column"], layer.info["geometry_type"], layer.info["features"]) == ("id", "Polygon", 2)
    types = dict(zip(layer.info["fields"].tolist(), layer.info["ogr_types"], strict=True))
    assert types == {"area_m2": "OFTReal", "mean_probability": "OFTReal", "pixels": "OFTInteger64"}
    assert layer.ids == [1, 2]
    assert shapely.bounds(layer.shapes).tolist() == [
        [500010, 3999970, 500030, 3999990], [500060, 3999940, 500080, 3999960],
    ]  # fmt: skip
    assert shapely.area(layer.shapes).tolist() == [84 * 4, 100 * 4]
    assert layer.fields["pixels"].tolist() == [84, 100]
    assert layer.fields["mean_probability"].tolist() == [0.625, 0.875]
    assert layer.fields["area_m2"] == pytest.approx(np.array([84, 100]) * PLACES["UTM"][2], rel=1e-4)
    assert layer.info["total_bounds"] == (500010, 3999940, 500080, 3999990)


@pytest.mark.parametrize("place", PLACES)
def test_polygons_are_those_of_the_geojson(tmp_path, place):
    """Valid, on the pixels of the map, with the same fields."""
    grid, changed = grid_at(place, (200, 160)), blobs(200, 160)
    layer, features = written(tmp_path, grid, changed)
    assert len(features) > 10
    for name in ("area_m2", "mean_probability", "pixels"):
        assert layer.fields[name].tolist() == [feature["properties"][name] for feature in features]
    assert layer.ids == [feature["properties"]["id"] for feature in features]
    assert shapely.is_valid(layer.shapes).all()
    assert shapely.is_ccw(shapely.get_exterior_ring(layer.shapes)).all()
    assert np.array_equal(rasterize(layer.shapes, grid.size, transform=rasterio.Affine(*grid.transform)) == 1, changed)


def test_what_geojson_cuts_at_180_degrees_stays_whole_on_the_grid(tmp_path):
    """In Fiji's projection, and in degrees from 179 to 181."""
    changed = np.zeros((64, 64), bool)
    changed[20:40, 20:44] = True
    degrees = Grid((64, 64), CRS.from_epsg(4326).to_wkt(), (1 / 32, 0.0, 179.0, 0.0, -1 / 32, 1.0))
    for grid in (fiji(32), degrees):
        layer, features = written(tmp_path, grid, changed)
        assert [feature["geometry"]["type"] for feature in features] == ["MultiPolygon"]
        assert layer.fields["area_m2"].tolist() == [features[0]["properties"]["area_m2"]]
        west, north = grid.place(20, 20)
        east, south = grid.place(44, 40)
        assert shapely.bounds(layer.shapes).tolist() == [[west, south, east, north]]
        assert shapely.get_num_coordinates(layer.shapes).tolist() == [5]


def test_systems_without_a_code_keep_their_definition(tmp_path):
    """For the second, PROJ proposes EPSG:7805, which is another system."""
    for own in ("+proj=laea +lat_0=34 +lon_0=36 +datum=WGS84", "+proj=utm +zone=36 +ellps=GRS80 +towgs84=1,2,3"):
        crs = CRS.from_proj4(own)
        grid = Grid((40, 50), crs.to_wkt(), (2.0, 0.0, 500000.0, 0.0, -2.0, 4000000.0))
        layer, _ = written(tmp_path, grid, *squares())
        assert CRS.from_user_input(layer.info["crs"]) == crs


def test_a_style_lies_in_it(tmp_path):
    """The row that QGIS looks up when it opens the layer; red, the area mostly transparent."""
    written(tmp_path, grid_at("UTM", (40, 50)), *squares())
    with sqlite3.connect(tmp_path / "map.gpkg") as database:
        (row,) = database.execute(
            "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault, styleQML "
            "FROM layer_styles"
        )
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        listed = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert row[:5] == ("", "", LAYER, "geom", 1)
    assert listed == {LAYER: "features", "layer_styles": "attributes"}
    assert listed.keys() < names
    style = {each.get("k"): each.get("v") for each in ElementTree.fromstring(row[5]).iter("prop")}
    assert style["outline_color"].startswith("227,26,28,255")
    assert int(style["color"].split(",")[3]) < 128


def test_no_change_is_an_empty_layer(tmp_path):
    layer, _ = written(tmp_path, grid_at("degrees", (30, 30)), np.zeros((30, 30), bool))
    assert (layer.info["crs"], layer.info["features"], len(layer.shapes)) == ("EPSG:4326", 0, 0)


def test_equal_maps_are_equal_files_whatever_lay_there(tmp_path):
    """In folders of any name."""
    contents = []
    for name in ("a", "100 % sure? #1 überall"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "map.gpkg").write_bytes(b"half a file" * 1000)
        written(tmp_path / name, grid_at("UTM", (40, 50)), *squares())
        contents.append((tmp_path / name / "map.gpkg").read_bytes())
        assert {path.name for path in (tmp_path / name).iterdir()} == {"map.tif", "map.geojson", "map.gpkg"}
    assert contents[0] == contents[1]


def test_a_full_disk_is_told_with_the_file(tmp_path):
    changed = blobs(300, 300)
    table = RegionTable()
    table.add(Strip(0, np.full(changed.shape, 0.75, np.float32), changed))
    grid, path = grid_at("UTM", changed.shape), tmp_path / "map.gpkg"
    write_map(tmp_path / "map.tif", grid, changed.astype(np.uint8) * 255)
    for size in (0, 10_000, 60_000):
        with files_end_at(size), pytest.raises(OSError, match="could not be written") as raised:
            write_polygons({"geopackage": path}, tmp_path / "map.tif", grid, table)
        assert raised.value.filename == str(path)


@pytest.mark.parametrize(("path", "uri"), [
    ("Z:/maps/a #1.gpkg", "file:///Z:/maps/a%20%231.gpkg"),
    ("//server/share/a.gpkg", "file:////server/share/a.gpkg"),  # file://server is an error in SQLite
])  # fmt: skip
def test_drives_and_shares_of_windows(path, uri):
    assert address(PureWindowsPath(path)) == uri
