"""Maps in their place: what is written lies where the images lay, and polygons are the mask."""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from datasets.windows import Grid
from tests.scripts import files_end_at, forkserver
from utils.prediction import geotiff, polygons
from utils.prediction.config import NO_DATA
from utils.prediction.geotiff import GeoTiff
from utils.prediction.polygons import leads_to_wgs84, write_polygons
from utils.prediction.regions import RegionTable, Strip

pytest.importorskip("rasterio")
import rasterio
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform, transform_geom

CLEAR = Path("/proc/self/clear_refs")  # 5 written to it sets VmHWM, the most memory held, to that of now
PLACES = {  # reference system, transform and square metres of a pixel on the ellipsoid, as told by others
    # scale 0.9996 at the central meridian; a pixel of 2 m x 2 m in the projection is larger on the ground
    "UTM": ("EPSG:32636", (2.0, 0.0, 500000.0, 0.0, -2.0, 4000000.0), 4 / 0.9996**2),
    # at 33.9 degrees north one degree is 110923.5 m of meridian and 92509 m of parallel
    "degrees": ("EPSG:4326", (1e-4, 0.0, 35.0, 0.0, -1e-4, 33.9), 110923.5 * 92509 * 1e-8),
    "turned": ("EPSG:32636", (1.2, 1.6, 500000.0, 1.6, -1.2, 4000000.0), 4 / 0.9996**2),
}


def grid_at(place, size):
    crs, transform, _ = PLACES[place]
    return Grid(size, CRS.from_string(crs).to_wkt(), transform)


def blobs(height, width, seed=0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), 3)
    return noise > np.quantile(noise, 0.8)


def write_map(path, grid, values, portions=(60, 1, 200), nodata=NO_DATA):
    tiff, row, turn = GeoTiff(path, grid, nodata), 0, 0
    while row < len(values):
        count = portions[turn % len(portions)]
        tiff.write(values[row : row + count])
        row, turn = row + count, turn + 1
    tiff.close()


def features_on(folder, grid, changed, probability=None):
    """The features of a map, by way of its two files."""
    table = RegionTable()
    table.add(Strip(0, np.full(changed.shape, 0.75, np.float32) if probability is None else probability, changed))
    write_map(folder / "map.tif", grid, changed.astype(np.uint8) * 255)
    write_polygons({"polygons": folder / "map.geojson"}, folder / "map.tif", grid, table)
    content = json.loads((folder / "map.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert len(content["features"]) == ndimage.label(changed)[1]
    return content["features"]


def memory(field):
    """Return a line of the process's memory, in kB."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(field))


def total(features, name):
    return sum(feature["properties"][name] for feature in features)


def table_of(changed, rows):
    """The regions of a map that arrives in strips of some rows."""
    table, probability = RegionTable(), np.random.default_rng(0).random(changed.shape, np.float32)
    for top in range(0, len(changed), rows):
        table.add(Strip(top, probability[top : top + rows], changed[top : top + rows]))
    return table


@pytest.mark.parametrize("seed", [0, 1])
def test_strips_and_portions_give_the_file_of_a_whole_map(tmp_path, seed, monkeypatch):
    changed, files = blobs(200, 160, seed) ^ (seed == 1), []
    grid = grid_at("UTM", changed.shape)
    write_map(tmp_path / "map.tif", grid, changed.astype(np.uint8) * 255)
    for rows in (200, 64, 7, 1):
        monkeypatch.setattr(polygons, "POINTS_TOGETHER", rows)
        files.append(tmp_path / f"{rows}.geojson")
        write_polygons({"polygons": files[-1]}, tmp_path / "map.tif", grid, table_of(changed, rows))
    assert len({path.read_bytes() for path in files}) == 1


def grown_by(path, changed):
    """Kilobytes by which tracing combs in strips, and at once, makes this process grow; it should be a new one."""
    grown = []
    for rows in (100, 100, len(changed)):  # the first time also imports what it needs
        table = table_of(changed, rows)
        assert len(table.regions[1]) == 500
        CLEAR.write_text("5")
        before = memory("VmRSS")
        assert sum(len(ring) for (ring,) in polygons._outlines(path, table)) == 500 * 2403
        grown.append(memory("VmHWM") - before)
    return grown[1:]


@pytest.mark.skipif(not CLEAR.exists(), reason="the system does not tell the most memory a process held")
def test_outlines_take_the_memory_of_those_that_end_in_a_strip(tmp_path):
    """GDAL, whose memory Python does not see, holds the outlines that it traces in one call."""
    changed = np.zeros((2000, 1200), bool)
    changed[::4] = changed[1::4, ::2] = True  # 500 combs, one below another
    write_map(tmp_path / "map.tif", grid_at("UTM", changed.shape), changed.astype(np.uint8) * 255)
    with ProcessPoolExecutor(1, forkserver()) as pool:
        grown = pool.submit(grown_by, tmp_path / "map.tif", changed).result()
    assert grown[0] < grown[1] / 2, grown


SIDES = st.integers(2, 600)


@settings(max_examples=40)
@given(SIDES, SIDES, st.lists(st.integers(1, 300), min_size=1, max_size=4), st.booleans())
def test_rows_in_any_portions_give_the_map(tmp_path_factory, height, width, portions, gaps):
    path = tmp_path_factory.mktemp("tiff") / "map.tif"
    values = np.random.default_rng(height).choice(np.array([0, NO_DATA, 255], np.uint8), (height, width))
    grid = grid_at("turned", (height, width))
    write_map(path, grid, values, portions, NO_DATA if gaps else None)
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(1), values)
        assert dataset.crs == CRS.from_wkt(grid.crs)
        assert tuple(dataset.transform)[:6] == grid.transform
        assert dataset.nodata == (NO_DATA if gaps else None)
        assert dataset.block_shapes == [(256, 256)]
        assert dataset.profile["compress"] == "deflate"
        if min(height, width) > 8:  # GDAL halves no side below one pixel
            assert max(height, width) / max([1, *dataset.overviews(1)]) <= 256


@pytest.mark.parametrize("place", PLACES)
def test_polygons_are_the_mask(tmp_path, place):
    """Drawn back onto the grid they give every pixel; areas are those of the pixels on the ground."""
    changed = blobs(300, 260)
    features = features_on(tmp_path, grid_at(place, changed.shape), changed)
    assert len(features) > 20
    with rasterio.open(tmp_path / "map.tif") as dataset:
        shapes = [transform_geom("EPSG:4326", dataset.crs, feature["geometry"]) for feature in features]
        assert np.array_equal(rasterize(shapes, dataset.shape, transform=dataset.transform) == 1, changed)
    pixel = PLACES[place][2]
    for feature in features:
        said = feature["properties"]
        assert said["area_m2"] == pytest.approx(said["pixels"] * pixel, rel=2e-3)
    assert total(features, "pixels") == changed.sum()
    assert total(features, "area_m2") == pytest.approx(changed.sum() * pixel, rel=1e-3)
    assert [feature["properties"]["id"] for feature in features] == list(range(1, len(features) + 1))


def test_probabilities_are_those_of_the_polygon(tmp_path):
    changed = np.zeros((40, 50), bool)
    changed[5:15, 5:15] = changed[20:30, 30:45] = True
    changed[8:12, 8:12] = False  # a hole
    changed[9, 9] = True  # an island in it
    probability = np.full(changed.shape, 0.6, np.float32)
    probability[20:30, 30:45] = 0.9
    probability[9, 9] = 0.55
    features = features_on(tmp_path, grid_at("UTM", changed.shape), changed, probability)
    said = {f["properties"]["pixels"]: f["properties"]["mean_probability"] for f in features}
    assert said == {84: 0.6, 150: 0.9, 1: 0.55}
    rings = {f["properties"]["pixels"]: [len(ring) for ring in f["geometry"]["coordinates"]] for f in features}
    assert rings == {84: [5, 5], 150: [5], 1: [5]}  # points only where an outline turns


def test_outlines_turn_as_geojson_wants_it(tmp_path):
    """Counterclockwise, holes clockwise, first point last, all of it within the scene."""
    features = features_on(tmp_path, grid_at("degrees", (120, 120)), ~blobs(120, 120, seed=3))
    holes = 0
    for feature in features:
        for order, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            assert (signed_degrees(ring) > 0) == (order == 0)
            x, y = np.array(ring).T
            assert ((x >= 35 - 1e-7) & (x <= 35.012 + 1e-7) & (y <= 33.9 + 1e-7) & (y >= 33.888 - 1e-7)).all()
            holes += order > 0
    assert holes


@pytest.mark.parametrize(("changed", "count"), [(np.eye(5, dtype=bool), 5), (np.zeros((30, 30), bool), 0)])
def test_diagonal_neighbours_are_two_polygons_and_no_change_is_none(changed, count, tmp_path):
    assert len(features_on(tmp_path, grid_at("UTM", changed.shape), changed)) == count


def test_no_data_is_no_polygon(tmp_path):
    grid = grid_at("UTM", (30, 30))
    write_map(tmp_path / "map.tif", grid, np.full((30, 30), NO_DATA, np.uint8))
    write_polygons({"polygons": tmp_path / "map.geojson"}, tmp_path / "map.tif", grid, RegionTable())
    assert json.loads((tmp_path / "map.geojson").read_text())["features"] == []


def fiji(shift):
    """64 x 64 pixels of 10 m, `shift` pixels of them west of 180 degrees, in Fiji's own projection."""
    (x,), (y,) = transform("EPSG:4326", "EPSG:3460", [180.0], [-17.0])
    return Grid((64, 64), CRS.from_epsg(3460).to_wkt(), (10.0, 0.0, x - 10 * shift, 0.0, -10.0, y + 320))


def polygons_in(feature):
    geometry = feature["geometry"]
    return geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]


def signed_degrees(ring):
    x, y = (np.array(ring) - ring[0]).T
    return ((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def test_a_polygon_across_180_degrees_is_cut_there(tmp_path):
    """RFC 7946, 3.1.9; the parts meet at the line, and have the area of the whole."""
    changed = np.zeros((64, 64), bool)
    changed[20:40, 20:44] = True
    changed[25:30, 30:34] = False  # a hole across the line
    changed[22:24, 40:42] = False  # a hole east of it
    changed[50:54, 2:6] = changed[50:54, 58:62] = True  # one region on either side
    features = features_on(tmp_path, fiji(32), changed)
    assert [f["geometry"]["type"] for f in features] == ["MultiPolygon", "Polygon", "Polygon"]
    (west, east) = sorted(polygons_in(features[0]), key=lambda polygon: -polygon[0][0][0])
    for polygon, low, high, rings in ((west, 179.9, 180, 1), (east, -180, -179.9, 2)):
        assert len(polygon) == rings
        x, _ = np.array(polygon[0]).T
        assert low <= x.min() < x.max() <= high
        assert np.isin([180.0, -180.0], x).sum() == 1
        assert all(ring[0] == ring[-1] for ring in polygon)
        assert [signed_degrees(ring) > 0 for ring in polygon] == [True, False][:rings]
    pixels = 20 * 24 - 5 * 4 - 2 * 2
    assert features[0]["properties"]["pixels"] == pixels
    assert features[0]["properties"]["area_m2"] == pytest.approx(100 * pixels, rel=1e-3)
    degrees = sum(abs(signed_degrees(polygon[0])) for polygon in (west, east)) - abs(signed_degrees(east[1]))
    metres = 110659 * 111320 * np.cos(np.radians(17))  # of a degree each way at 17 degrees south
    assert degrees * metres == pytest.approx(100 * pixels, rel=5e-3)


@pytest.mark.parametrize("shift", [0, 13, 32, 64])
def test_cut_polygons_cover_the_map(tmp_path, shift):
    """Moved to continuous longitudes and drawn onto the grid, they give every pixel."""
    grid, changed = fiji(shift), blobs(64, 64, seed=shift)
    features = features_on(tmp_path, grid, changed)
    shapes = []
    for feature in features:
        for polygon in polygons_in(feature):
            assert np.abs([x for ring in polygon for x, _ in ring]).max() <= 180
            assert signed_degrees(polygon[0]) > 0
            moved = [[(x + 360 * (x < 0), y) for x, y in ring] for ring in polygon]
            places = [np.stack(transform("EPSG:4326", "EPSG:3460", *np.array(ring).T), 1).tolist() for ring in moved]
            shapes.append({"type": "Polygon", "coordinates": places})
    drawn = rasterize(shapes, grid.size, transform=rasterio.Affine(*grid.transform)) == 1
    assert np.array_equal(drawn, changed)
    assert total(features, "area_m2") == pytest.approx(100 * changed.sum(), rel=1e-3)


def test_a_grid_of_degrees_beyond_180(tmp_path):
    """As of 0 to 360 degrees; an edge may be longer than half round the globe."""
    changed = np.zeros((18, 36), bool)
    changed[2:4, 5:30] = changed[10, 20:22] = True
    grid = Grid((18, 36), CRS.from_epsg(4326).to_wkt(), (10.0, 0.0, 0.0, 0.0, -10.0, 90.0))
    across, beyond = features_on(tmp_path, grid, changed)
    boxes = sorted((*np.min(polygon[0], 0), *np.max(polygon[0], 0)) for polygon in polygons_in(across))
    assert boxes == [(-180, 50, -60, 70), (50, 50, 180, 70)]
    (polygon,) = polygons_in(beyond)
    assert (*np.min(polygon[0], 0), *np.max(polygon[0], 0)) == (-160, -20, -140, -10)


@pytest.mark.parametrize("west", [0, 1, 13, 32])
def test_pixel_edges_on_180_degrees(west, tmp_path):
    """`west` columns of noise lie west of the line; the parts are valid, and have the area of their pixels."""
    shapely = pytest.importorskip("shapely")
    side = 2.0**-10  # a whole number of pixels makes 180 exactly
    changed = np.random.default_rng(west).random((64, 32)) < 0.55
    grid = Grid((64, 32), CRS.from_epsg(4326).to_wkt(), (side, 0.0, 180 - west * side, 0.0, -side, 10.0))
    for feature in features_on(tmp_path, grid, changed):
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area / side**2 == pytest.approx(feature["properties"]["pixels"], abs=0.01)
        assert all(part.exterior.is_ccw for part in getattr(shape, "geoms", [shape]))


def test_polygons_around_a_pole(tmp_path):
    """One that holds the pole reaches 90 degrees on both sides of the line; a ring around it is cut once."""
    grid = Grid((40, 40), CRS.from_epsg(3413).to_wkt(), (1e4, 0.0, -203e3, 0.0, -1e4, 203e3))
    changed = np.zeros((40, 40), bool)
    changed[4:36, 4:36] = True
    changed[10:30, 10:30] = False
    changed[16:25, 17:26] = True
    around, at_pole = sorted(features_on(tmp_path, grid, changed), key=lambda f: -f["properties"]["pixels"])
    for feature in (around, at_pole):
        (polygon,) = polygons_in(feature)
        x, y = np.array(polygon[0]).T
        assert len(polygon) == 1
        assert (x.min(), x.max()) == (-180, 180)
        assert signed_degrees(polygon[0]) > 0
        assert (y.max() == 90) == (feature is at_pole)


def test_what_only_touches_180_degrees_stays_whole(tmp_path):
    changed = np.zeros((4, 8), bool)
    changed[1:3, 2:4] = changed[1:3, 6:8] = True
    grid = Grid((4, 8), CRS.from_epsg(4326).to_wkt(), (1.0, 0.0, 176.0, 0.0, -1.0, 2.0))
    touching, beyond = features_on(tmp_path, grid, changed)
    for feature, west, east in ((touching, 178, 180), (beyond, -178, -176)):
        assert feature["geometry"]["type"] == "Polygon"
        x = np.array(feature["geometry"]["coordinates"][0])[:, 0]
        assert (x.min(), x.max()) == (west, east)


@pytest.mark.parametrize("crs", ['LOCAL_CS["site", UNIT["metre", 1]]', "", "no reference system"])
def test_a_place_that_is_nowhere_on_earth(crs):
    assert not leads_to_wgs84(Grid((8, 8), crs, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)))
    assert all(leads_to_wgs84(grid_at(place, (8, 8))) for place in PLACES)
    mercator = Grid((8, 8), CRS.from_epsg(3857).to_wkt(), (1e9, 0.0, 0.0, 0.0, -1.0, 0.0))
    assert leads_to_wgs84(mercator)


def test_a_map_of_the_whole_earth(tmp_path):
    """Its corners belong to no place: a region there is refused, others are as ever."""
    grid = Grid((8, 16), CRS.from_user_input("ESRI:54009").to_wkt(), (2.3e6, 0.0, -18.4e6, 0.0, -2.3e6, 9.2e6))
    changed = np.zeros((8, 16), bool)
    changed[3, 9:11] = True
    (feature,) = features_on(tmp_path, grid, changed)
    assert feature["geometry"]["type"] == "Polygon"
    changed[0, 0] = True
    assert leads_to_wgs84(grid)
    with pytest.raises(ValueError, match="gives no longitude and latitude for a part of the scene"):
        features_on(tmp_path, grid, changed)


@pytest.mark.parametrize("size", [100_000, 460_000, 500_000, 600_000])
def test_a_map_that_a_full_disk_cuts_is_refused(size, tmp_path, monkeypatch):
    """When it is written, closed, or given its overviews; 700 kB hold all of it."""
    monkeypatch.setattr(geotiff, "LOW", 2**63)
    path, values = tmp_path / "map.tif", np.random.default_rng(0).integers(0, 256, (700, 700), np.uint8)
    with files_end_at(700_000):
        write_map(path, grid_at("UTM", values.shape), values)
    with files_end_at(size), pytest.raises(OSError, match="disk|No space") as raised:
        write_map(path, grid_at("UTM", values.shape), values)
    assert raised.value.filename == str(path)
