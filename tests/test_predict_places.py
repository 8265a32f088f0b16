"""predict_batch.py on scenes with a place on earth, of other depths and codes, and larger than memory."""

import csv
import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import avg_pool2d

from datasets import raster
from datasets.pairs import find_pairs
from datasets.raster import read_image, read_label
from tests.scripts import add_network, contents, pixels, predict
from tests.utils.prediction.test_predictor import steps_at_and_off_borders
from utils.change_map import NOT_COUNTED
from utils.checkpoint import save_checkpoint
from utils.console import UserError
from utils.prediction import maps, pipeline
from utils.prediction.predictor import ChangePredictor


def geotiff(path, pixels_of, left=0.0, nodata=None, size_of_a_pixel=2.0, crs="EPSG:32636"):
    import rasterio
    from rasterio.transform import Affine

    bands = pixels_of.transpose(2, 0, 1)
    place = Affine(size_of_a_pixel, 0, 500000 + left, 0, -size_of_a_pixel, 4000000)
    profile = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=place, nodata=nodata, **profile) as dataset:
        dataset.write(bands)


def test_maps_lie_where_the_images_lie(checkpoint, drawn_set, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    (pair, *_) = find_pairs(drawn_set, "test")
    before, after = read_image(pair.before).clip(1), read_image(pair.after).clip(1)
    before[:20] = 0
    geotiff(tmp_path / "before.tif", before, nodata=0)
    geotiff(tmp_path / "after.tif", after[:, 10:], left=20)
    files = ("--before", tmp_path / "before.tif", "--after", tmp_path / "after.tif")
    save = "mask,geo,polygons,probability,geo-probability,geo-probability16"
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out", "--save", save)
    name = tmp_path.name
    with rasterio.open(tmp_path / "out" / "geo" / f"{name}.tif") as drawn, rasterio.open(files[1]) as source:
        assert (drawn.bounds, drawn.crs, drawn.transform) == (source.bounds, source.crs, source.transform)
        values, nodata = drawn.read(1), drawn.nodata
    known = np.ones((64, 64), bool)
    known[:20] = known[:, :10] = False
    assert np.array_equal(values == nodata, ~known)
    assert np.array_equal(values == 255, pixels(tmp_path / "out" / "mask" / f"{name}.png") == 255)
    shown = pixels(tmp_path / "out" / "probability" / f"{name}.png")
    assert not shown[~known].any()
    for kind, step in (("geo-probability", 1 / 254), ("geo-probability16", 1 / 65534)):
        with rasterio.open(tmp_path / "out" / kind / f"{name}.tif") as drawn:
            assert (drawn.bounds, drawn.crs, drawn.scales) == (source.bounds, source.crs, (step,))
            read = drawn.read(1, masked=True)
        assert np.array_equal(read.mask, ~known)
        assert np.abs(read * step - shown / 255)[known].max() < 0.51 / 255 + 0.51 * step
    (row,) = csv.DictReader((tmp_path / "out" / "per_image.csv").open())
    assert float(row["changed_share"]) == pytest.approx((values == 255).sum() / known.sum(), rel=1e-5)
    features = json.loads((tmp_path / "out" / "polygons" / f"{name}.geojson").read_text())["features"]
    assert sum(f["properties"]["area_m2"] for f in features) == pytest.approx(4 * (values == 255).sum(), rel=0.01)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["protocol"]["on_another_grid"] == 1


def test_polygons_without_the_map_they_are_taken_from(checkpoint, drawn_set, tmp_path):
    pytest.importorskip("rasterio")
    (pair, *_) = find_pairs(drawn_set, "test")
    for role in ("before", "after"):
        (tmp_path / "town").mkdir(exist_ok=True)
        geotiff(tmp_path / "town" / f"{role}.tif", read_image(getattr(pair, role)))
    files = ("--before", tmp_path / "town" / "before.tif", "--after", tmp_path / "town" / "after.tif")
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out", "--save", "polygons")
    left = {path for path in contents(tmp_path / "out") if path.startswith("polygons/")}
    assert left == {"polygons/town.geojson"}


def test_a_local_reference_system_has_maps_but_no_polygons(checkpoint, drawn_set, tmp_path, capsys):
    """As of a building site: nothing leads from there to longitude and latitude."""
    rasterio = pytest.importorskip("rasterio")
    local = 'LOCAL_CS["Site", UNIT["metre", 1], AXIS["E", EAST], AXIS["N", NORTH]]'
    pairs = find_pairs(drawn_set, "test")[:2]
    for pair in pairs:
        for role in ("before", "after"):
            (tmp_path / role).mkdir(exist_ok=True)
            geotiff(tmp_path / role / f"{pair.name}.tif", read_image(getattr(pair, role)), crs=local)
    files = ("--before", tmp_path / "before", "--after", tmp_path / "after", "--output", tmp_path / "out")
    predict("--checkpoint", checkpoint, *files, "--save", "mask,geo,polygons", "--no-report")
    said = "scene_0000 and 1 more pairs: no polygons, since the reference system has no way to longitude and latitude"
    assert capsys.readouterr().err.count(said) == 1
    out = tmp_path / "out"
    assert {path.stem for path in (out / "mask").iterdir()} == {pair.name for pair in pairs}
    assert not (out / "polygons").exists()
    with rasterio.open(out / "geo" / "scene_0000.tif") as drawn:
        assert drawn.crs.to_wkt().startswith("LOCAL_CS")
        assert np.array_equal(drawn.read(1), pixels(out / "mask" / "scene_0000.png"))
    predict("--checkpoint", checkpoint, *files, "--save", "mask,geo,polygons", "--no-report", "--skip-existing")


def test_where_polygons_cannot_be_placed_the_other_maps_are_kept(checkpoint, drawn_set, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rasterio")

    def nowhere(path, *args):
        path.write_text("half")
        raise UserError("they lie nowhere")

    monkeypatch.setattr(maps, "write_polygons", nowhere)
    (pair, *_) = find_pairs(drawn_set, "test")
    (tmp_path / "town").mkdir()
    for role in ("before", "after"):
        geotiff(tmp_path / "town" / f"{role}.tif", read_image(getattr(pair, role)))
    files = ("--before", tmp_path / "town" / "before.tif", "--after", tmp_path / "town" / "after.tif")
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out", "--save", "mask,polygons")
    assert "town: no polygons, since they lie nowhere" in capsys.readouterr().err
    assert [path for path in contents(tmp_path / "out") if path.split("/")[0] in ("mask", "polygons")] == [
        "mask/town.png"
    ]
    assert json.loads((tmp_path / "out" / "records" / "town.json").read_text())["files"] == ["mask/town.png"]


def test_pixels_without_data_are_not_scored(checkpoint, drawn_set, tmp_path):
    pytest.importorskip("rasterio")
    (pair, *_) = find_pairs(drawn_set, "test")
    before = read_image(pair.before).clip(1)
    before[:, 50:] = 0
    geotiff(tmp_path / "before.tif", before, nodata=0)
    geotiff(tmp_path / "after.tif", read_image(pair.after))
    files = ("--before", tmp_path / "before.tif", "--after", tmp_path / "after.tif", "--label", pair.label)
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert sum(metrics["pixels"].values()) == 64 * 50
    drawn = pixels(tmp_path / "out" / "error" / f"{tmp_path.name}.png")
    assert (drawn[:, 50:] == NOT_COUNTED).all()


def test_images_of_other_depth_than_those_trained_on_are_told(checkpoint, drawn_set, tmp_path, capsys):
    pytest.importorskip("rasterio")
    content = torch.load(checkpoint, weights_only=True)
    reading = {"bands": [1, 2, 3], "limits": [[0.0, 4000.0]] * 3, "change_value": None, "ignore_value": None}
    save_checkpoint(tmp_path / "deep.pt", {**content, "reading": reading})
    flags = ("--checkpoint", tmp_path / "deep.pt", "--data-root", drawn_set, "--output", tmp_path / "out")
    predict(*flags, code=1)
    said = capsys.readouterr().err
    assert "scene_0000.png: has uint8 pixels of " in said
    assert "but 4000 is to become 255; pass --scale NUMBER" in said
    predict(*flags, "--scale", 255, "--overwrite")
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "plain", "--no-report")
    assert contents(tmp_path / "out" / "mask") == contents(tmp_path / "plain" / "mask")


def test_bands_and_scale_overrule_no_more_than_themselves(checkpoint, drawn_set, tmp_path, capsys):
    """A network of bands 3, 2, 1 up to 4000: --scale keeps the bands, --bands the values."""
    pytest.importorskip("rasterio")
    content = torch.load(checkpoint, weights_only=True)
    reading = {"bands": [3, 2, 1], "limits": [[0.0, 4000.0]] * 3, "change_value": None, "ignore_value": None}
    save_checkpoint(tmp_path / "deep.pt", {**content, "reading": reading})
    (pair, *_) = find_pairs(drawn_set, "test")
    for role in ("before", "after"):
        geotiff(tmp_path / f"{role}.tif", read_image(getattr(pair, role)).astype(np.uint16) * 10)
    files = ("--before", tmp_path / "before.tif", "--after", tmp_path / "after.tif", "--no-report")
    for flags, bands, limit in ((("--scale", 2550), [3, 2, 1], 2550), (("--bands", "1,2,3"), [1, 2, 3], 4000)):
        predict("--checkpoint", tmp_path / "deep.pt", *files, "--output", tmp_path / "out", "--overwrite", *flags)
        used = json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"]["reading"]
        assert (used["bands"], used["limits"]) == (bands, [[0, limit]] * 3)
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "plain", code=1)
    assert (
        "has 3 bands of uint16, but is to be read as 8-bit grey or RGB; pass --scale NUMBER" in capsys.readouterr().err
    )


def recoded(drawn_set, folder, codes):
    """The data set with its labels' 0 and 255 as other values."""
    data = Path(shutil.copytree(drawn_set, folder))
    for path in (data / "test" / "label").iterdir():
        Image.fromarray(np.where(pixels(path) > 127, *codes).astype(np.uint8)).save(path)
    return data


@pytest.mark.parametrize(
    ("trained", "codes", "says"),
    [
        ((2, None), (255, 0), "no pixel has the value 2, which means changed"),
        ((None, None), (3, 1), "none of them is 0, which means unchanged"),
    ],
)
def test_labels_of_other_codes_than_those_trained_on(trained, codes, says, checkpoint, drawn_set, tmp_path, capsys):
    """They are refused before anything is predicted; said how they are coded, they are scored."""
    data, content = recoded(drawn_set, tmp_path / "data", codes), torch.load(checkpoint, weights_only=True)
    reading = {"bands": [], "limits": [], "change_value": trained[0], "ignore_value": trained[1]}
    save_checkpoint(tmp_path / "coded.pt", {**content, "reading": reading})
    flags = ("--checkpoint", tmp_path / "coded.pt", "--data-root", data, "--output", tmp_path / "out", "--no-report")
    predict(*flags, code=2)
    assert says in (said := capsys.readouterr().err)
    assert "pass --change-value N" in said
    assert not (tmp_path / "out").exists()
    predict(*flags, "--change-value", codes[0])
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["pixels"]
    assert found["tp"] + found["fn"] == sum((read_label(p.label) == 1).sum() for p in find_pairs(drawn_set, "test"))


def test_labels_without_any_change_are_no_other_codes(checkpoint, drawn_set, tmp_path, capsys):
    data, content = recoded(drawn_set, tmp_path / "data", (0, 0)), torch.load(checkpoint, weights_only=True)
    reading = {"bands": [], "limits": [], "change_value": 2, "ignore_value": 255}
    save_checkpoint(tmp_path / "coded.pt", {**content, "reading": reading})
    predict("--checkpoint", tmp_path / "coded.pt", "--data-root", data, "--output", tmp_path / "out", "--no-report")
    said = capsys.readouterr().err
    assert "no label has a changed pixel" in said
    assert "(read by --change-value 2, --ignore-value 255)" in said


@pytest.mark.slow
def test_beirut_from_end_to_end(checkpoint, real_data, tmp_path):
    """16 bits, a label in odd codes and without a place: the map on the input's grid, polygons within its bounds."""
    rasterio = pytest.importorskip("rasterio")
    files = {role: real_data / "oscd_beirut" / f"{role}.tif" for role in ("before", "after", "label")}
    flags = [word for role, path in files.items() for word in (f"--{role}", path)]
    more = ("--scale", 4000, "--change-value", 2, "--tile-size", 256, "--min-area", 4)
    predict("--checkpoint", checkpoint, *flags, *more, "--output", tmp_path / "out")
    with (
        rasterio.open(files["before"]) as source,
        rasterio.open(tmp_path / "out" / "geo" / "oscd_beirut.tif") as drawn,
    ):
        assert (drawn.bounds, drawn.crs, drawn.transform) == (source.bounds, source.crs, source.transform)
        assert drawn.overviews(1)
        changed, bounds = (drawn.read(1) == 255).sum(), source.bounds
    features = json.loads((tmp_path / "out" / "polygons" / "oscd_beirut.geojson").read_text())["features"]
    corners = np.array([point for f in features for ring in f["geometry"]["coordinates"] for point in ring])
    assert (corners.min(0) >= np.array(bounds[:2]) - 1e-7).all()
    assert (corners.max(0) <= np.array(bounds[2:]) + 1e-7).all()
    metres = 110923.5 * 92509 * 9.89860463365216e-05 * 9.893810454005515e-05  # of a pixel at 33.9 degrees north
    assert sum(f["properties"]["area_m2"] for f in features) == pytest.approx(changed * metres, rel=0.01)
    assert sum(json.loads((tmp_path / "out" / "metrics.json").read_text())["pixels"].values()) == 1180 * 1070


@pytest.mark.slow
def test_952_by_640_without_a_flag(checkpoint, real_data, tmp_path):
    images = [real_data / "sztaki" / folder / "Szada_1.bmp" for folder in ("A", "B")]
    predict("--checkpoint", checkpoint, "--before", images[0], "--after", images[1], "--output", tmp_path / "out")
    assert pixels(tmp_path / "out" / "mask" / "Szada_1.png").shape == (640, 952)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"]["windows"] == ["whole image"]


class Stub(nn.Module):
    """A network that is quick, and whose answer depends on all of its window, as those of the papers do."""

    size_divisor = 8

    def __init__(self, width: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 20.0))

    def forward(self, before, after, auxiliary=None):
        difference = avg_pool2d((before - after).abs().mean(1, keepdim=True), 9, 1, 4)
        logits = self.weight * (difference - difference.mean((2, 3), keepdim=True))
        return [torch.cat([-logits, logits], 1)]


def test_a_large_scene_takes_no_more_memory_than_a_small_one_of_its_width(tmp_path, monkeypatch):
    """Four times the rows, the same memory; no seam, the georeference of the input, polygons of the mask's area."""
    rasterio = pytest.importorskip("rasterio")
    add_network(monkeypatch, "stub", Stub)
    monkeypatch.setattr(raster, "AT_ONCE", 1)  # else Pillow decodes TIFFs up to 4 million pixels at once
    monkeypatch.setattr(pipeline, "BACKLOG", 2**19)  # else all of these small maps may wait for the writer
    statistics = {"mean": [[0.4] * 3] * 2, "std": [[0.2] * 3] * 2}
    about = {"model": "stub", "options": {}, "weights": Stub().state_dict(), "statistics": statistics}
    save_checkpoint(tmp_path / "best.pt", about)
    peaks = {}
    for height in (1000, 4000):
        folder = tmp_path / str(height)
        folder.mkdir()
        rows, columns = np.mgrid[0:height, 0:300]
        ground = np.stack([(np.sin(rows / (30 + c)) + np.cos(columns / 23)) * 50 + 120 for c in range(3)], -1)
        later = ground + rows[..., None] / height * 60  # the light differs more and more
        for top, left in np.random.default_rng(0).integers(0, (height - 40, 260), (height // 40, 2)):
            later[top : top + 40, left : left + 25] += 90
        for name, pixels_of in (("before", ground), ("after", later)):
            geotiff(folder / f"{name}.tif", pixels_of.clip(0, 255).astype(np.uint8))
        files = ("--before", folder / "before.tif", "--after", folder / "after.tif")
        save = ("--save", "mask,overlay,probability16,geo,polygons", "--no-report", "--output", folder / "out")
        tracemalloc.start()
        predict("--checkpoint", tmp_path / "best.pt", *files, "--tile-size", 128, "--min-area", 9, *save)
        peaks[height] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[4000] < 1.5 * peaks[1000]  # on a busy machine more rows wait for the writer
    out, name = folder / "out", "4000"
    with rasterio.open(folder / "before.tif") as source, rasterio.open(out / "geo" / f"{name}.tif") as drawn:
        assert (drawn.bounds, drawn.crs, drawn.transform) == (source.bounds, source.crs, source.transform)
        changed = (drawn.read(1) == 255).sum()
    features = json.loads((out / "polygons" / f"{name}.geojson").read_text())["features"]
    assert sum(f["properties"]["area_m2"] for f in features) == pytest.approx(4 * changed, rel=0.01)
    cover = ChangePredictor(tmp_path / "best.pt", "cpu", tile_size=128).cover(4000, 300)
    probability = pixels(out / "probability16" / f"{name}.png") / 65535
    assert np.divide(*steps_at_and_off_borders(probability, cover)) <= 1.2
