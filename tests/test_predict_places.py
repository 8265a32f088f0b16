"""predict_batch.py on scenes with a georeference, of other depths and codes, and larger than memory."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from datasets import raster
from datasets.pairs import find_pairs
from datasets.raster import read_image, read_label
from datasets.reading import MASKS
from tests.conftest import write_image, write_tiff
from tests.scripts import (
    add_network,
    altered,
    contents,
    metrics_of,
    pixels,
    predict_pair,
    predict_set,
    rows_of,
    save_network,
)
from tests.utils.prediction.test_predictor import steps_at_and_off_borders
from utils.change_map import NOT_COUNTED
from utils.console import UserError
from utils.prediction import maps, pipeline
from utils.prediction.predictor import ChangePredictor

rasterio = pytest.importorskip("rasterio")


def files_of(folder, before, after):
    """Both dates as GeoTIFFs."""
    return write_tiff(folder / "before.tif", before), write_tiff(folder / "after.tif", after)


@pytest.fixture(scope="module")
def dates(drawn_set):
    (pair, *_) = find_pairs(drawn_set, "test")
    return read_image(pair.before), read_image(pair.after)


@pytest.fixture
def town(dates, tmp_path):
    """The files of a georeferenced pair called "town"."""
    return files_of(tmp_path / "town", *dates)


def features_in(path):
    return json.loads(path.read_text())["features"]


def areas_in(path):
    return sum(feature["properties"]["area_m2"] for feature in features_in(path))


def trained_on(checkpoint, folder, **reading):
    """The checkpoint with another reading."""
    plain = {"bands": [], "limits": [], "change_value": None, "ignore_value": None}
    return altered(checkpoint, folder / "other.pt", reading=plain | reading)


def test_maps_lie_where_the_images_lie(checkpoint, dates, tmp_path):
    before, after = (date.clip(1) for date in dates)
    before[:20] = 0
    source = write_tiff(tmp_path / "before.tif", before, nodata=0)
    moved = write_tiff(tmp_path / "after.tif", after[:, 10:], left=20)
    save = "mask,geo,polygons,probability,geo-probability,geo-probability16"
    out, name = tmp_path / "out", tmp_path.name
    predict_pair(checkpoint, source, moved, out, "--save", save, "--no-report")
    known = np.ones((64, 64), bool)
    known[:20] = known[:, :10] = False
    with rasterio.open(source) as before_file:
        place = before_file.bounds, before_file.crs, before_file.transform
    shown = pixels(out / "probability" / f"{name}.png")
    assert not shown[~known].any()
    for kind, scale in (("geo", 1), ("geo-probability", 1 / 254), ("geo-probability16", 1 / 65534)):
        with rasterio.open(out / kind / f"{name}.tif") as drawn:
            assert ((drawn.bounds, drawn.crs, drawn.transform), drawn.scales) == (place, (scale,))
            read = drawn.read(1, masked=True)
        assert np.array_equal(read.mask, ~known)
        if kind == "geo":
            changed = read.filled(0) == 255
            assert np.array_equal(changed, pixels(out / "mask" / f"{name}.png") == 255)
        else:
            assert np.abs(read * scale - shown / 255)[known].max() < 0.51 / 255 + 0.51 * scale
    (row,) = rows_of(out)
    assert float(row["changed_share"]) == pytest.approx(changed.sum() / known.sum(), rel=1e-5)
    assert areas_in(out / "polygons" / f"{name}.geojson") == pytest.approx(4 * changed.sum(), rel=0.01)
    assert metrics_of(out)["protocol"]["on_another_grid"] == 1


def test_polygons_without_the_map_they_are_traced_on(checkpoint, town, tmp_path):
    predict_pair(checkpoint, *town, tmp_path / "out", "--save", "polygons", "--no-report")
    left = {path for path in contents(tmp_path / "out") if path.startswith("polygons/")}
    assert left == {"polygons/town.geojson"}


LOCAL = 'LOCAL_CS["Site", UNIT["metre", 1], AXIS["E", EAST], AXIS["N", NORTH]]'


@pytest.mark.parametrize(
    ("local", "why"),
    [(LOCAL, "the reference system has no way to longitude and"), (None, "there is no coordinate reference system")],
)  # fmt: skip
def test_without_a_way_to_longitude_there_are_maps_but_no_polygons(local, why, checkpoint, drawn_set, tmp_path, capsys):
    """As of a building site."""
    pairs, out = find_pairs(drawn_set, "test")[:2], tmp_path / "out"
    for pair in pairs:
        for role in ("before", "after"):
            write_tiff(tmp_path / role / f"{pair.name}.tif", read_image(getattr(pair, role)), crs=local)
    flags = (tmp_path / "before", tmp_path / "after", out, "--save", "mask,geo,polygons", "--no-report")
    for more in ((), ("--skip-existing",)):
        predict_pair(checkpoint, *flags, *more)
        assert capsys.readouterr().err.count(f"scene_0000 and 1 more pair: no polygons, since {why}") == 1
    assert {path.stem for path in (out / "mask").iterdir()} == {pair.name for pair in pairs}
    assert not (out / "polygons").exists()
    with rasterio.open(out / "geo" / "scene_0000.tif") as drawn:
        assert drawn.crs.to_wkt().startswith("LOCAL_CS") if local else drawn.crs is None
        assert np.array_equal(drawn.read(1), pixels(out / "mask" / "scene_0000.png"))


def test_where_polygons_cannot_be_placed_the_other_maps_are_kept(checkpoint, town, tmp_path, monkeypatch, capsys):
    def nowhere(files, *args):
        for path in files.values():
            path.write_text("half")
        raise UserError("they lie nowhere")

    monkeypatch.setattr(maps, "write_polygons", nowhere)
    out = tmp_path / "out"
    predict_pair(checkpoint, *town, out, "--save", "mask,polygons,geopackage", "--no-report")
    assert "town: no polygons, since they lie nowhere" in capsys.readouterr().err
    assert [path for path in contents(out) if path.startswith(("mask", "polygons", "geopackage"))] == ["mask/town.png"]
    assert json.loads((out / "records" / "town.json").read_text())["files"] == ["mask/town.png"]


def test_pixels_without_data_are_not_scored(checkpoint, drawn_set, dates, tmp_path):
    before = dates[0].clip(1)
    before[:, 50:] = 0
    (pair, *_), path = find_pairs(drawn_set, "test"), write_tiff(tmp_path / "in" / "before.tif", before, nodata=0)
    predict_pair(checkpoint, path, pair.after, tmp_path / "out", "--label", pair.label, "--no-report")
    assert sum(metrics_of(tmp_path / "out")["pixels"].values()) == 64 * 50
    assert (pixels(tmp_path / "out" / "error" / "in.png")[:, 50:] == NOT_COUNTED).all()


def test_images_of_other_depth_than_those_trained_on_are_told(checkpoint, drawn_set, tmp_path, capsys):
    deep = trained_on(checkpoint, tmp_path, bands=[1, 2, 3], limits=[[0.0, 4000.0]] * 3)
    predict_set(deep, drawn_set, tmp_path / "out", code=1)
    said = capsys.readouterr().err
    assert "scene_0000.png: has uint8 pixels of " in said
    assert "but 4000 is to become 255; pass --scale NUMBER" in said
    predict_set(deep, drawn_set, tmp_path / "out", "--scale", 255, "--overwrite", "--no-report")
    predict_set(checkpoint, drawn_set, tmp_path / "plain", "--no-report")
    assert contents(tmp_path / "out" / "mask") == contents(tmp_path / "plain" / "mask")


def test_bands_and_scale_override_only_themselves(checkpoint, dates, tmp_path, capsys):
    """A network of bands 3, 2, 1 up to 4000: --scale keeps the bands, --bands the values."""
    deep = trained_on(checkpoint, tmp_path, bands=[3, 2, 1], limits=[[0.0, 4000.0]] * 3)
    files = files_of(tmp_path, *(date.astype(np.uint16) * 10 for date in dates))
    for flags, bands, limit in ((("--scale", 2550), [3, 2, 1], 2550), (("--bands", "1,2,3"), [1, 2, 3], 4000)):
        predict_pair(deep, *files, tmp_path / "out", "--overwrite", "--no-report", *flags)
        used = metrics_of(tmp_path / "out")["protocol"]["reading"]
        assert (used["bands"], used["limits"]) == (bands, [[0, limit]] * 3)
    predict_pair(checkpoint, *files, tmp_path / "plain", code=1)
    said = "has 3 bands of uint16, but is to be read as 8-bit grey or RGB; pass --scale NUMBER"
    assert said in capsys.readouterr().err


def recoded(drawn_set, folder, codes):
    """The data set with its labels' 0 and 255 as other values."""
    for path in (shutil.copytree(drawn_set, folder) / "test" / "label").iterdir():
        write_image(path, np.where(pixels(path) > 127, *codes).astype(np.uint8))
    return folder


@pytest.mark.parametrize(
    ("change_value", "codes", "says"),
    [
        (2, (255, 0), "no pixel has the value 2, which means changed"),
        (None, (3, 1), "none of them is 0, which means unchanged"),
    ],
)
def test_labels_of_other_codes(change_value, codes, says, checkpoint, drawn_set, tmp_path, capsys):
    """They are refused before anything is predicted; with the right code, they are scored."""
    data, out = recoded(drawn_set, tmp_path / "data", codes), tmp_path / "out"
    coded = trained_on(checkpoint, tmp_path, change_value=change_value)
    predict_set(coded, data, out, "--no-report", code=2)
    assert says in (said := capsys.readouterr().err)
    assert "pass --change-value N" in said
    assert not out.exists()
    predict_set(coded, data, out, "--no-report", "--change-value", codes[0])
    found = metrics_of(out)["pixels"]
    assert found["tp"] + found["fn"] == sum(
        (read_label(p.label, MASKS) == 1).sum() for p in find_pairs(drawn_set, "test")
    )


def test_labels_without_any_change_are_no_other_codes(checkpoint, drawn_set, tmp_path, capsys):
    data = recoded(drawn_set, tmp_path / "data", (0, 0))
    coded = trained_on(checkpoint, tmp_path, change_value=2, ignore_value=255)
    predict_set(coded, data, tmp_path / "out", "--no-report")
    said = capsys.readouterr().err
    assert "no label has a changed pixel (read by --change-value 2, --ignore-value 255)" in said


@pytest.mark.slow
def test_beirut_from_end_to_end(checkpoint, real_data, tmp_path):
    """16 bits, a label in odd codes and without a place: the map on the input's grid, polygons within its bounds."""
    before, after, label = (real_data / "oscd_beirut" / f"{role}.tif" for role in ("before", "after", "label"))
    flags = ("--scale", 4000, "--change-value", 2, "--tile-size", 256, "--min-area", 4, "--no-report")
    predict_pair(checkpoint, before, after, tmp_path / "out", "--label", label, *flags)
    with rasterio.open(before) as source, rasterio.open(tmp_path / "out" / "geo" / "oscd_beirut.tif") as drawn:
        assert (drawn.bounds, drawn.crs, drawn.transform) == (source.bounds, source.crs, source.transform)
        assert drawn.overviews(1)
        changed, bounds = (drawn.read(1) == 255).sum(), source.bounds
    polygons = tmp_path / "out" / "polygons" / "oscd_beirut.geojson"
    corners = np.array([c for f in features_in(polygons) for ring in f["geometry"]["coordinates"] for c in ring])
    assert (corners.min(0) >= np.array(bounds[:2]) - 1e-7).all()
    assert (corners.max(0) <= np.array(bounds[2:]) + 1e-7).all()
    metres = 110923.5 * 92509 * 9.89860463365216e-05 * 9.893810454005515e-05  # of a pixel at 33.9 degrees north
    assert areas_in(polygons) == pytest.approx(changed * metres, rel=0.01)
    assert sum(metrics_of(tmp_path / "out")["pixels"].values()) == 1180 * 1070
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    package = tmp_path / "out" / "geopackage" / "oscd_beirut.gpkg"
    _, _, shapes, fields = pyogrio.raw.read(package, layer="changes")
    shapes = shapely.from_wkb(shapes)
    assert pyogrio.read_info(package, layer="changes")["crs"] == "EPSG:4326"
    assert shapely.is_valid(shapes).all()
    assert shapely.within(shapes, shapely.box(*bounds)).all()
    assert fields[0].tolist() == [feature["properties"]["area_m2"] for feature in features_in(polygons)]


class Stub(nn.Module):
    """A fast network whose output depends on all of its window, as those of the papers do."""

    size_divisor = 8

    def __init__(self, width: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 100.0))

    def forward(self, before, after, auxiliary=None):
        difference = avg_pool2d((before - after).abs().mean(1, keepdim=True), 9, 1, 4)
        logits = self.weight * (difference - difference.mean((2, 3), keepdim=True))
        return [torch.cat([-logits, logits], 1)]


@pytest.mark.parametrize("metres", [2, 1, 4], ids=["as it is", "enlarged", "reduced"])
def test_a_large_scene_takes_no_more_memory_than_a_small_one_of_its_width(metres, tmp_path, monkeypatch):
    """Four times the rows, the same memory; no seam, the georeference of the input, polygons of the mask's area."""
    add_network(monkeypatch, "stub", Stub)
    monkeypatch.setattr(raster, "AT_ONCE", 1)  # else Pillow decodes TIFFs up to 4 million pixels at once
    monkeypatch.setattr(pipeline, "BACKLOG", 2**19)  # else all of these small maps may wait for the writer
    save_network(tmp_path / "best.pt", "stub", Stub(), pixel_size=metres)  # images have 2 m
    save, peaks = "mask,overlay,probability16,geo,polygons,geopackage", {}
    flags = ("--tile-size", 128, "--min-area", 9, "--save", save, "--no-report")
    for height in (1000, 4000):
        folder = tmp_path / str(height)
        rows, columns = np.mgrid[0:height, 0:300]
        ground = np.stack([(np.sin(rows / (30 + c)) + np.cos(columns / 23)) * 50 + 120 for c in range(3)], -1)
        later = ground + rows[..., None] / height * 60  # the light differs more and more
        for top, left in np.random.default_rng(0).integers(0, (height - 40, 260), (height // 40, 2)):
            later[top : top + 40, left : left + 25] += 90
        files = files_of(folder, *(date.clip(0, 255).astype(np.uint8) for date in (ground, later)))
        tracemalloc.start()
        predict_pair(tmp_path / "best.pt", *files, folder / "out", *flags)
        peaks[height] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[4000] < 1.5 * peaks[1000]  # on a busy machine more rows wait for the writer
    with rasterio.open(files[0]) as source, rasterio.open(folder / "out" / "geo" / "4000.tif") as drawn:
        assert (drawn.bounds, drawn.crs, drawn.transform) == (source.bounds, source.crs, source.transform)
        changed = (drawn.read(1) == 255).sum()
    assert areas_in(folder / "out" / "polygons" / "4000.geojson") == pytest.approx(4 * changed, rel=0.01)
    cover = ChangePredictor(tmp_path / "best.pt", "cpu", tile_size=128).cover(4000, 300, 2)
    probability = pixels(folder / "out" / "probability16" / "4000.png") / 65535
    assert np.divide(*steps_at_and_off_borders(probability, cover)) <= 1.2
