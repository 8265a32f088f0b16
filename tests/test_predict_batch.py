"""predict_batch.py as a user runs it: any size, any place, what is saved, interruptions, and masks of others."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import avg_pool2d

import predict_batch
from datasets import raster
from datasets.pairs import find_pairs
from datasets.raster import read_image, read_label
from models import MODELS
from tests.utils.test_predictor import steps_at_and_off_borders
from tests.utils.test_report import read_report
from utils import pipeline
from utils.change_map import NOT_COUNTED, PALETTES, error_map, overlay
from utils.checkpoint import save_checkpoint
from utils.predictor import ChangePredictor
from utils.records import Records
from utils.sharing import Share

ROOT = Path(__file__).parents[1]


def predict(*flags, code=None):
    """Run the script; with a code, it must leave with it."""
    argv = [str(word) for word in (*flags, "--num-workers", 2, "--device", "cpu")]
    if code is None:
        return predict_batch.main(argv)
    with pytest.raises(SystemExit) as left:
        predict_batch.main(argv)
    assert left.value.code == code
    return None


def contents(folder):
    """Every file under a folder, hidden ones too, as bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def test_everything_that_can_be_saved(checkpoint, drawn_set, tmp_path):
    """Mask, error map, overlay and probabilities are those of the predictor; nothing is geographic here."""
    out = tmp_path / "out"
    predict(
        "--checkpoint", checkpoint, "--data-root", drawn_set, "--output", out, "--save", "all", "--palette", "hanet"
    )
    folders = {path.name for path in out.iterdir() if path.is_dir()}
    assert folders == {"mask", "error", "overlay", "probability", "probability16", "records"}
    predictor = ChangePredictor(checkpoint, "cpu")
    for pair in find_pairs(drawn_set, "test"):
        before, after, truth = read_image(pair.before), read_image(pair.after), read_label(pair.label)
        probability, name = predictor(before, after), f"{pair.name}.png"
        changed = pixels(out / "mask" / name) == 255
        assert (changed != (probability > 0.5)).mean() < 1e-3  # batches of another size round otherwise
        assert np.array_equal(pixels(out / "error" / name), error_map(changed, truth, PALETTES["hanet"]))
        assert np.array_equal(pixels(out / "overlay" / name), overlay(after, changed))
        for folder, most in (("probability", 255), ("probability16", 65535)):
            assert np.abs(pixels(out / folder / name) / most - probability).max() < 0.51 / most + 1e-4
    assert pixels(out / "legend.png").shape[2] == 3


def test_only_what_is_asked_for_is_saved(checkpoint, drawn_set, tmp_path, capsys):
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out", "--save", "probability")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "probability", "records", "per_image.csv", "metrics.json", "protocol.json"
    }  # fmt: skip
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "none", "--save", "geo")
    assert "--save geo: no pair has the label or the place on earth for that" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict("--checkpoint", checkpoint, "--save", "masks")
    assert "'masks' is not known; choose of mask, error" in capsys.readouterr().err


def test_sizes_and_windows_in_one_run(checkpoint, data, tmp_path):
    """Whole, filled up, by windows, smaller than a window: each map is what the predictor says of its pair alone."""
    for number, size in enumerate([(100, 70), (64, 64), (33, 150), (9, 20)]):
        for folder in ("A", "B", "label"):
            path = data / "test" / folder / f"scene_000{number}.png"
            Image.open(path).resize(size).save(path)
    out = tmp_path / "out"
    flags = ("--tile-size", 64, "--overlap", 16, "--save", "probability16", "--min-area", 5)
    predict("--checkpoint", checkpoint, "--data-root", data, "--output", out, *flags)
    predictor = ChangePredictor(checkpoint, "cpu", tile_size=64, overlap=16)
    for pair in find_pairs(data, "test"):
        probability = predictor(read_image(pair.before), read_image(pair.after))
        found = pixels(out / "probability16" / f"{pair.name}.png")
        assert found.shape == probability.shape
        assert np.abs(found / 65535 - probability).max() < 1e-4
    protocol = json.loads((out / "metrics.json").read_text())["protocol"]
    assert protocol["windows"] == ["64 x 33", "64 x 64", "whole image"]
    assert (protocol["tile_size"], protocol["overlap"], protocol["min_area"]) == (64, 16, 5)


def test_two_files(checkpoint, drawn_set, tmp_path):
    (pair, *_) = find_pairs(drawn_set, "test")
    shutil.copytree(checkpoint.parent, tmp_path / "run")
    predict("--checkpoint", tmp_path / "run", "--before", pair.before, "--after", pair.after)
    assert (tmp_path / "run" / f"predict-{pair.name}" / "mask" / f"{pair.name}.png").is_file()
    for role in ("before", "after", "label"):
        (tmp_path / "town").mkdir(exist_ok=True)
        shutil.copy(getattr(pair, role), tmp_path / "town" / f"{role}.png")
    files = [word for role in ("before", "after", "label") for word in (f"--{role}", tmp_path / "town" / f"{role}.png")]
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "error").iterdir()} == {"town.png"}


def test_a_list_of_pairs(checkpoint, drawn_set, tmp_path):
    pairs = find_pairs(drawn_set, "test")[:2]
    lines = [f"{p.before.relative_to(drawn_set)}\t{p.after.relative_to(drawn_set)}\n" for p in pairs]
    (drawn_set / "pairs.txt").write_text("".join(lines))
    predict("--checkpoint", checkpoint, "--data-root", drawn_set / "pairs.txt", "--output", tmp_path / "out")
    (drawn_set / "pairs.txt").unlink()
    assert {path.stem for path in (tmp_path / "out" / "mask").iterdir()} == {pair.name for pair in pairs}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--before", "nowhere.png", "--after", "nowhere.png"), "nowhere.png: no such file or folder"),
        (("--before", ROOT, "--after", ROOT / "README.md"), "either one image each or one folder each"),
        (("--before", ROOT / "docs/demo.png", "--after", ROOT / "docs/demo.png", "--output", ROOT), "holds the images"),
    ],
)
def test_files_that_are_no_pair(checkpoint, flags, says, tmp_path, capsys):
    predict("--checkpoint", checkpoint, "--output", tmp_path / "out", *flags, code=2)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bad_pair_is_reported_and_the_rest_is_done(checkpoint, data, tmp_path, capsys):
    broken, gone = data / "test" / "B" / "scene_0001.png", data / "test" / "A" / "scene_0003.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    Image.open(gone).resize((32, 32)).save(gone)
    predict("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out", code=1)
    said = capsys.readouterr().err
    assert f"scene_0001: {broken}: damaged or unreadable" in said
    assert "error: 2 of 4 pairs could not be predicted, first scene_0001: " in said
    assert {path.stem for path in (tmp_path / "out" / "mask").iterdir()} == {"scene_0000", "scene_0002"}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics["failed"]) == {"scene_0001", "scene_0003"}
    assert "differ" in metrics["failed"]["scene_0003"] or "64 x 64" in metrics["failed"]["scene_0003"]
    rows = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open()))
    assert [row["name"] for row in rows] == ["scene_0000", "scene_0002"]
    assert sum(metrics["pixels"].values()) == 2 * 64 * 64
    assert not list((tmp_path / "out").rglob(".*"))


def test_when_no_pair_can_be_done_there_is_no_summary(checkpoint, data, tmp_path, capsys):
    for path in (data / "test" / "B").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    predict("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out", code=1)
    assert "error: 4 of 4 pairs could not be predicted" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_small_regions_are_left_out(checkpoint, drawn_set, tmp_path):
    from scipy import ndimage

    masks = {}
    for least in (0, 40):
        out = tmp_path / str(least)
        predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", out, "--min-area", least)
        masks[least] = np.stack([pixels(path) == 255 for path in sorted((out / "mask").iterdir())])
    for every, large in zip(masks[0], masks[40], strict=True):
        labels, count = ndimage.label(every)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        assert np.array_equal(large, every & (sizes >= 40)[labels])
    assert masks[40].sum() < masks[0].sum()


# going on


FLAGS = ("--save", "all", "--batch-size", 3, "--tile-size", 32, "--overlap", 8)


def test_a_run_that_goes_on_gives_the_same_bytes(checkpoint, drawn_set, tmp_path):
    """Whatever is missing: maps of two pairs, a record, the summary."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    flags = ("--checkpoint", checkpoint, "--data-root", drawn_set, *FLAGS)
    predict(*flags, "--output", whole)
    shutil.copytree(whole, again)
    for name in ("mask/scene_0001.png", "records/scene_0002.json", "metrics.json"):
        (again / name).unlink()
    kept = (again / "mask" / "scene_0000.png").stat().st_mtime_ns
    predict(*flags, "--output", again, "--skip-existing")
    assert contents(again) == contents(whole)
    assert (again / "mask" / "scene_0000.png").stat().st_mtime_ns == kept


def test_going_on_with_other_settings_is_refused(checkpoint, drawn_set, tmp_path, capsys):
    flags = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out")
    predict(*flags)
    before = contents(tmp_path / "out")
    predict(*flags, "--skip-existing", "--threshold", 0.7, code=2)
    assert "holds maps predicted with other settings (threshold: 0.5 there, 0.7 here)" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before
    predict(*flags, "--threshold", 0.7)
    assert contents(tmp_path / "out") != before


def test_a_pair_that_failed_is_tried_again(checkpoint, data, tmp_path):
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out", "--skip-existing")
    path = data / "test" / "B" / "scene_0001.png"
    content = path.read_bytes()
    path.write_bytes(content[:3000])
    predict(*flags, code=1)
    path.write_bytes(content)
    predict(*flags)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["failed"] == {}
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 4


def test_going_on_sees_that_a_pair_has_changed(checkpoint, data, tmp_path):
    """Another image, or a label that was not there, under the same name: drawn anew, and nothing else is."""
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--no-report", "--save", "probability16")
    hidden = (data / "test" / "label").rename(tmp_path / "label")
    predict(*flags, "--output", tmp_path / "out")
    kept = (tmp_path / "out" / "probability16" / "scene_0000.png").stat().st_mtime_ns
    shutil.copy(data / "test" / "B" / "scene_0003.png", data / "test" / "B" / "scene_0002.png")
    predict(*flags, "--output", tmp_path / "out", "--skip-existing")
    predict(*flags, "--output", tmp_path / "anew")
    assert contents(tmp_path / "out" / "probability16") == contents(tmp_path / "anew" / "probability16")
    assert (tmp_path / "out" / "probability16" / "scene_0000.png").stat().st_mtime_ns == kept
    hidden.rename(data / "test" / "label")
    predict(*flags, "--output", tmp_path / "out", "--skip-existing")
    assert sum(json.loads((tmp_path / "out" / "metrics.json").read_text())["pixels"].values()) == 4 * 64 * 64


def test_a_report_that_was_left_out_has_its_curve_later(checkpoint, drawn_set, tmp_path):
    flags = ("--checkpoint", checkpoint, "--data-root", drawn_set)
    predict(*flags, "--output", tmp_path / "at-once")
    predict(*flags, "--output", tmp_path / "later", "--no-report")
    predict(*flags, "--output", tmp_path / "later", "--skip-existing")
    assert read_report(tmp_path / "later" / "report.html")[0]["curve"]["recall"]
    assert contents(tmp_path / "later")["report.html"] == contents(tmp_path / "at-once")["report.html"]


@pytest.mark.parametrize("theirs", ["metrics.json", "records/of-sales.txt"])
def test_what_no_prediction_made_is_left_alone(theirs, checkpoint, drawn_set, tmp_path, capsys):
    """Such as the metrics.json of the run itself."""
    (tmp_path / "records").mkdir()
    (tmp_path / theirs).write_text("mine")
    before = contents(tmp_path)
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path, code=2)
    assert f"{tmp_path / theirs}: not of a prediction" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_new_run_forgets_the_old_summary(checkpoint, data, tmp_path, monkeypatch):
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out")
    predict(*flags)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ChangePredictor, "probability", interrupted)
    predict(*flags, code=130)
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert not (tmp_path / "out" / "per_image.csv").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_at_any_moment_and_gone_on(checkpoint, drawn_set, tmp_path):
    """The files are those of an unbroken run, byte for byte, with nothing beside them."""
    flags = ["--checkpoint", checkpoint, "--data-root", drawn_set, "--split", "train", "--device", "cpu", *FLAGS]
    flags = [str(word) for word in flags]
    predict_batch.main([*flags, "--output", str(tmp_path / "whole")])
    out, kills = tmp_path / "out", 0
    start = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import torch, predict_batch as p; "
             "torch.set_num_threads(1); print('ready', flush=True); p.main(sys.argv[1:])"]  # fmt: skip
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    for _ in range(3):
        process = subprocess.Popen(
            [*start, *flags, "--output", str(out), "--skip-existing"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        process.stdout.readline()
        time.sleep(rng.uniform(0.1, 1.5))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    predict_batch.main([*flags, "--output", str(out), "--skip-existing"])
    assert contents(out) == contents(tmp_path / "whole")
    assert kills


# many processes


def predict_as(rank, ranks, monkeypatch, *flags, **options):
    """One of several processes, after which the others may run; they would meet at the start."""
    (flags[flags.index("--output") + 1] / "records").mkdir(parents=True, exist_ok=True)  # as the first one does
    with monkeypatch.context() as patch:
        patch.setenv("RANK", str(rank))
        patch.setenv("WORLD_SIZE", str(ranks))
        patch.setattr(Share, "meet", lambda share: None)
        patch.setattr(Records, "_refuse_others", lambda records: None)  # which the first one does before all others
        predict(*flags, "--skip-existing", **options)


@pytest.mark.parametrize("ranks", [2, 4])
def test_shared_pairs_and_rows_give_the_bytes_of_one_process(ranks, checkpoint, data, tmp_path, monkeypatch):
    """Four pairs: two processes share them by groups of 2, four by rows of windows."""
    path = data / "test"
    for folder in ("A", "B", "label"):
        Image.open(path / folder / "scene_0002.png").resize((90, 200)).save(path / folder / "scene_0002.png")
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--save", "all", "--tile-size", 32, "--batch-size", 2)
    predict(*flags, "--output", tmp_path / "one")
    for rank in reversed(range(ranks)):
        predict_as(rank, ranks, monkeypatch, *flags, "--output", tmp_path / "many")
        assert (tmp_path / "many" / "metrics.json").exists() == (rank == 0)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_what_a_dead_process_did_is_not_done_again(checkpoint, drawn_set, tmp_path, monkeypatch):
    """Of three processes that share rows of windows one died before its last part: it does that part, and no more."""
    flags = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--tile-size", 16, "--overlap", 4, "--save", "all")
    predict(*flags, "--output", tmp_path / "one")
    predicted, genuine = [], ChangePredictor.probability
    monkeypatch.setattr(ChangePredictor, "probability", lambda *args: predicted.append(1) or genuine(*args))
    counts = []
    for _ in range(3):
        predict_as(2, 3, monkeypatch, *flags, "--output", tmp_path / "many")
        counts.append(len(predicted))
        predicted.clear()
        parts = sorted((tmp_path / "many" / ".parts").rglob("*.npy"))
        assert len(parts) == 8  # of 4 pairs, each with 5 rows of windows: 2 of each are its own
        if len(counts) == 1:
            parts[-1].unlink()
    assert counts[0] > counts[1] > counts[2] == 0
    predict_as(1, 3, monkeypatch, *flags, "--output", tmp_path / "many")
    predict_as(0, 3, monkeypatch, *flags, "--output", tmp_path / "many")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_parts_of_images_that_changed_since_are_left_aside(checkpoint, data, tmp_path, monkeypatch):
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--tile-size", 16, "--overlap", 4)
    predict_as(1, 3, monkeypatch, *flags, "--output", tmp_path / "many")
    shutil.copy(data / "test" / "B" / "scene_0003.png", data / "test" / "B" / "scene_0001.png")
    predict(*flags, "--output", tmp_path / "one")
    for rank in (2, 1, 0):
        predict_as(rank, 3, monkeypatch, *flags, "--output", tmp_path / "many")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


@pytest.mark.parametrize(("ranks", "bad"), [(2, "scene_0003"), (4, "scene_0000")])
def test_a_bad_pair_of_a_later_process_is_told_by_the_first(
    ranks, bad, checkpoint, data, tmp_path, monkeypatch, capsys
):  # fmt: skip
    broken = data / "test" / "B" / f"{bad}.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:3000])
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--batch-size", 2, "--output", tmp_path / "out")
    for rank in reversed(range(1, ranks)):
        predict_as(rank, ranks, monkeypatch, *flags)
    broken.write_bytes(content)  # whoever was responsible has found it broken by now
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Records, "begin", lambda *args: None)  # it ran first; the others would not have begun before it
        predict_as(0, ranks, patch, *flags, code=1)
    assert f"error: 1 of 4 pairs could not be predicted, first {bad}" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "mask").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_torchrun(checkpoint, drawn_set, tmp_path):
    """Two real processes: groups of pairs, and the rows of one large scene."""
    scene = tmp_path / "large"
    scene.mkdir()
    for name in ("before", "after"):
        noise = np.random.default_rng(len(name)).integers(0, 256, (700, 90, 3), np.uint8)
        Image.fromarray(noise).save(scene / f"{name}.png")
    files = ["--before", scene / "before.png", "--after", scene / "after.png"]
    tiles = ["--data-root", drawn_set, "--split", "train", "--batch-size", 3]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    shared = ["--checkpoint", checkpoint, "--tile-size", 64, "--save", "mask,probability16"]
    for name, flags in (("tiles", tiles), ("large", files)):
        predict(*shared, *flags, "--output", tmp_path / f"{name}1")
        command = [
            *start,
            ROOT / "predict_batch.py",
            *shared,
            *flags,
            "--output",
            tmp_path / f"{name}2",
            "--device",
            "cpu",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process: rounding may depend on it
        subprocess.run([str(word) for word in command], env=environment, check=True)
        assert contents(tmp_path / f"{name}2") == contents(tmp_path / f"{name}1")
        assert len(list((tmp_path / f"{name}2" / "mask").iterdir())) == (12 if name == "tiles" else 1)


# places on earth


def geotiff(path, pixels_of, left=0.0, nodata=None, size_of_a_pixel=2.0):
    import rasterio
    from rasterio.transform import Affine

    bands = pixels_of.transpose(2, 0, 1)
    place = Affine(size_of_a_pixel, 0, 500000 + left, 0, -size_of_a_pixel, 4000000)
    profile = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:32636", transform=place, nodata=nodata, **profile
    ) as dataset:
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
    predict(*flags)
    assert "scene_0000.png has 8 bits, but this network was trained on values up to 4000" in capsys.readouterr().err
    predict(*flags, "--scale", 255)
    assert "has 8 bits, but" not in capsys.readouterr().err
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
        predict("--checkpoint", tmp_path / "deep.pt", *files, "--output", tmp_path / "out", *flags)
        used = json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"]["reading"]
        assert (used["bands"], used["limits"]) == (bands, [[0, limit]] * 3)
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out", code=1)
    assert "3 bands of uint16 are not 8-bit grey or RGB; say --bands and --scale" in capsys.readouterr().err


def recoded(drawn_set, folder, codes):
    """The data set with its labels' 0 and 255 as other values."""
    data = Path(shutil.copytree(drawn_set, folder))
    for path in (data / "test" / "label").iterdir():
        Image.fromarray(np.where(pixels(path) > 127, *codes).astype(np.uint8)).save(path)
    return data


@pytest.mark.parametrize(
    ("trained", "codes", "says"),
    [
        ((2, None), (255, 0), "labels of values 0, 255: no pixel has --change-value 2, as the checkpoint has it"),
        ((None, None), (3, 1), "labels of values 1, 3: no changed pixel to be seen"),
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
    assert "say --change-value" in said
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
    monkeypatch.setitem(MODELS, "stub", Stub)
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


# masks of others


KNOWN = {
    "FC-EF": 92.43, "FC-Siam-conc": 92.48, "FC-Siam-diff": 91.64, "DTCDSCN": 91.50, "STANet": 91.90, "BIT": 93.87,
    "ChangeFormer": 90.83, "HANet": 59.89, "CGNet": 93.25,
}  # fmt: skip


def test_masks_of_nine_methods(real_data, tmp_path, capsys):
    root = real_data / "levir_methods"
    folders = [f"{name}={root / 'masks' / name}" for name in KNOWN]
    predict("--label", root / "label", "--output", tmp_path / "out", "--masks", *folders)
    said = capsys.readouterr().err
    assert "STANet: masks of 6 of 7 labels; only these are scored" in said
    rows = {row["masks"]: row for row in csv.DictReader((tmp_path / "out" / "scores.csv").open())}
    assert {name: round(100 * float(row["f1"]), 2) for name, row in rows.items()} == KNOWN
    for name, f1 in KNOWN.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name} ")]
        assert f" {f1:.2f} " in line


def test_masks_are_scored_as_they_were_predicted(checkpoint, drawn_set, tmp_path, capsys):
    """Our own masks, by the folder's name."""
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out")
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["scores"]
    capsys.readouterr()
    predict("--masks", tmp_path / "out" / "mask", "--label", drawn_set / "test" / "label")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mask ")]
    assert [float(word) for word in line.split()[1:]] == [round(100 * value, 2) for value in scores.values()]


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (["A={label}", "A={label}"], "--masks: two folders of one name"),
        (["{root}"], "no mask is called like a label of"),
        (["{wrong}"], "mask and label differ in size, 32 x 64 and 64 x 64"),
    ],
)
def test_masks_that_cannot_be_scored(masks, says, data, tmp_path, capsys):
    label, wrong = data / "test" / "label", tmp_path / "wrong"
    shutil.copytree(label, wrong)
    for path in wrong.iterdir():
        Image.open(path).resize((64, 32)).save(path)
    predict(
        "--masks",
        *(word.format(label=label, root=ROOT / "docs", wrong=wrong) for word in masks),
        "--label",
        label,
        code=2,
    )
    assert says in capsys.readouterr().err
