"""predict_batch.py as a user runs it: any size, what is saved, and pairs that cannot be done."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.pairs import find_pairs
from datasets.raster import read_image, read_label
from datasets.reading import MASKS
from tests.conftest import ROLES, write_image
from tests.scripts import (
    ROOT,
    altered,
    contents,
    metrics_of,
    pixels,
    predict,
    predict_pair,
    predict_set,
    rows_of,
)
from utils.change_map import PALETTES, error_map, overlay
from utils.prediction.predictor import ChangePredictor


def damage(path, length=3000):
    path.write_bytes(path.read_bytes()[:length])


def stems(folder):
    return {path.stem for path in folder.iterdir()}


def test_everything_that_can_be_saved(checkpoint, drawn_set, tmp_path):
    """Maps are those of the predictor, scores those of the masks on disk; nothing is georeferenced here."""
    predict_set(checkpoint, drawn_set, tmp_path, "--save", "all", "--palette", "hanet", "--batch-size", 3)
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"mask", "error", "overlay", "probability", "probability16", "records"}
    predictor, counts = ChangePredictor(checkpoint, "cpu"), dict.fromkeys(("tn", "fp", "fn", "tp"), 0)
    for pair, row in zip(find_pairs(drawn_set, "test"), rows_of(tmp_path), strict=True):
        before, after, truth = read_image(pair.before), read_image(pair.after), read_label(pair.label, MASKS)
        probability = predictor(before, after)
        drawn = {folder: pixels(tmp_path / folder / f"{pair.name}.png") for folder in folders - {"records"}}
        changed = drawn["mask"] == 255
        assert (changed != (probability > 0.5)).mean() < 1e-3  # batches of another size round otherwise
        assert np.array_equal(drawn["error"], error_map(changed, truth, PALETTES["hanet"]))
        assert np.array_equal(drawn["overlay"], overlay(after, changed))
        for folder, most in (("probability", 255), ("probability16", 65535)):
            assert np.abs(drawn[folder] / most - probability).max() < 0.51 / most + 1e-4
        for name in counts:
            here = int(((changed == (name[1] == "p")) & ((changed == truth) == (name[0] == "t"))).sum())
            assert int(row[name]) == here
            counts[name] += here
        assert (row["name"], float(row["changed_share"])) == (pair.name, pytest.approx(changed.mean(), rel=1e-5))
    assert pixels(tmp_path / "legend.png").shape[2] == 3
    metrics = metrics_of(tmp_path)
    assert metrics["pixels"] == counts
    f1 = 2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"])
    assert metrics["scores"]["f1"] == pytest.approx(f1)
    assert (metrics["protocol"]["recipe"], metrics["protocol"]["sizes"]) == ("hanet", ["64 x 64"])
    assert not list(tmp_path.rglob(".*"))


def test_report_of_a_prediction(checkpoint, drawn_set, tmp_path):
    """report.html holds the rows, scores and settings of the other files, and a curve that goes through the scores."""
    predict_set(checkpoint, drawn_set, tmp_path)
    page = (tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    metrics, rows = metrics_of(tmp_path), rows_of(tmp_path)
    assert data["protocol"] == metrics["protocol"]
    assert data["scores"]["f1"] == pytest.approx(metrics["scores"]["f1"], rel=1e-5)
    assert [(pair["name"], pair["fp"]) for pair in data["pairs"]] == [(row["name"], int(row["fp"])) for row in rows]
    assert page.count('<script type="text/plain" id="pixels-') == len(rows) == 4
    assert data["curve"]["recall"] == sorted(data["curve"]["recall"], reverse=True)
    predict_set(checkpoint, drawn_set, tmp_path, "--no-report", "--overwrite")
    assert not (tmp_path / "report.html").exists()  # that of an earlier prediction


def test_prediction_without_labels(checkpoint, drawn_set, tmp_path):
    """Two folders and no label: masks, and neither scores nor error maps; the run's folder names the earlier one."""
    run = Path(shutil.copytree(checkpoint.parent, tmp_path / "run"))
    predict("--checkpoint", run, "--before", drawn_set / "test" / "A", "--after", drawn_set / "test" / "B")
    out = run / "predict-A"
    assert len(list((out / "mask").iterdir())) == 4
    assert not (out / "error").exists()
    assert metrics_of(out)["scores"] == {}
    assert '"title":"Changes from A to B"' in (out / "report.html").read_text()
    assert (out / "per_image.csv").read_text().startswith("name,changed_share\n")
    predict("--checkpoint", run, "--data-root", drawn_set / "test", "--no-report")
    assert metrics_of(run / "predict-all")["protocol"]["split"] == "all"
    assert not (run / "predict-test").exists()


def test_only_what_is_asked_for_is_saved(checkpoint, drawn_set, tmp_path, capsys):
    predict_set(checkpoint, drawn_set, tmp_path / "out", "--save", "probability")
    names = {"probability", "records", "per_image.csv", "metrics.json", "protocol.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    predict_set(checkpoint, drawn_set, tmp_path / "none", "--save", "geo", "--no-report")
    assert "--save geo: no pair has the label or the georeference for that" in capsys.readouterr().err
    predict("--save", "masks", code=2)
    assert "'masks' is not known; choose of mask, error" in capsys.readouterr().err


def test_sizes_and_windows_in_one_run(checkpoint, data, tmp_path):
    """Whole, filled up, by windows, smaller than a window: each map is what the predictor says of its pair alone."""
    for number, size in enumerate([(100, 70), (64, 64), (33, 150), (9, 20)]):
        for folder in ROLES:
            path = data / "test" / folder / f"scene_000{number}.png"
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    flags = ("--tile-size", 64, "--overlap", 16, "--save", "probability16", "--min-area", 5)
    predict_set(checkpoint, data, tmp_path / "out", *flags)
    predictor = ChangePredictor(checkpoint, "cpu", tile_size=64, overlap=16)
    for pair in find_pairs(data, "test"):
        probability = predictor(read_image(pair.before), read_image(pair.after))
        found = pixels(tmp_path / "out" / "probability16" / f"{pair.name}.png")
        assert found.shape == probability.shape
        assert np.abs(found / 65535 - probability).max() < 1e-4
    protocol = metrics_of(tmp_path / "out")["protocol"]
    assert protocol["windows"] == ["64 x 33", "64 x 64", "whole image"]
    assert (protocol["tile_size"], protocol["overlap"], protocol["min_area"]) == (64, 16, 5)


def test_two_files(checkpoint, drawn_set, tmp_path):
    """Maps have the name of the file, or of the folder if the file is only called before."""
    (pair, *_) = find_pairs(drawn_set, "test")
    shutil.copytree(checkpoint.parent, tmp_path / "run")
    predict("--checkpoint", tmp_path / "run", "--before", pair.before, "--after", pair.after, "--no-report")
    assert (tmp_path / "run" / f"predict-{pair.name}" / "mask" / f"{pair.name}.png").is_file()
    (tmp_path / "town").mkdir()
    files = []
    for role in ("before", "after", "label"):
        files += [f"--{role}", shutil.copy(getattr(pair, role), tmp_path / "town" / f"{role}.png")]
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out")
    assert stems(tmp_path / "out" / "error") == {"town"}


def test_a_list_of_pairs(checkpoint, data, tmp_path):
    pairs = find_pairs(data, "test")[:2]
    lines = [f"{pair.before.relative_to(data)}\t{pair.after.relative_to(data)}\n" for pair in pairs]
    (data / "pairs.txt").write_text("".join(lines))
    predict_set(checkpoint, data / "pairs.txt", tmp_path / "out")
    assert stems(tmp_path / "out" / "mask") == {pair.name for pair in pairs}


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
    out, broken, small = tmp_path / "out", *(data / "test" / f"{n}.png" for n in ("B/scene_0001", "A/scene_0003"))
    damage(broken)
    Image.open(small).resize((32, 32)).save(small)
    predict_set(checkpoint, data, out, code=1)
    said = capsys.readouterr().err
    assert f"scene_0001: {broken}: damaged or unreadable" in said
    assert "error: 2 of 4 pairs could not be predicted, first scene_0001: " in said
    assert stems(out / "mask") == {"scene_0000", "scene_0002"}
    assert set(metrics_of(out)["failed"]) == {"scene_0001", "scene_0003"}
    assert "64 x 64" in metrics_of(out)["failed"]["scene_0003"]
    assert [row["name"] for row in rows_of(out)] == ["scene_0000", "scene_0002"]
    assert sum(metrics_of(out)["pixels"].values()) == 2 * 64 * 64
    assert not list(out.rglob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="Windows limits whole paths to 260 characters")
def test_names_and_links_end_no_run(checkpoint, data, tmp_path, capsys):
    """A name of 255 bytes gets its maps, and a broken link fails alone."""
    names = {"scene_0001.png": "x" * 251 + ".png", "scene_0002.png": "y" * 251 + ".bmp", "scene_0003.png": "z.png"}
    for folder in ROLES:
        for old, new in names.items():
            (data / "test" / folder / old).rename(data / "test" / folder / new)
    link, out = data / "test" / "B" / "z.png", tmp_path / "out"
    link.unlink()
    link.symlink_to(tmp_path / "gone.png")
    predict_set(checkpoint, data, out, code=1)
    said = capsys.readouterr().err
    assert f"z: {link}: broken link to {tmp_path / 'gone.png'}; mend the link" in said
    assert "error: 1 of 4 pairs could not be predicted, first z: " in said
    assert stems(out / "mask") == {"scene_0000", "x" * 251, "y" * 251}
    assert not list(out.rglob(".*"))
    before = contents(out / "mask")
    shutil.rmtree(out / "mask")
    predict_set(checkpoint, data, out, "--skip-existing", code=1)  # the records of long names are found again
    assert contents(out / "mask") == before


def test_names_that_are_no_text_get_their_maps(checkpoint, data, tmp_path):
    """Archives from Windows hold names in other encodings than UTF-8."""
    name = b"\xb3\xc7\xca\xd0".decode("utf-8", "surrogateescape")
    try:
        for folder in ROLES:
            (data / "test" / folder / "scene_0001.png").rename(data / "test" / folder / f"{name}.png")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    predict_set(checkpoint, data, tmp_path / "out")
    assert (tmp_path / "out" / "mask" / f"{name}.png").is_file()
    assert rows_of(tmp_path / "out")[-1]["name"] == name.encode("ascii", "backslashreplace").decode()


def test_a_map_whose_name_is_too_long_fails_alone(tmp_path, checkpoint, drawn_set, capsys):
    lines, inner = [], "c" * 130
    for pair, folder in zip(find_pairs(drawn_set, "test"), ("a" * 130, "b"), strict=False):
        for role in ("before", "after"):  # of one stem, so that folders are part of the names
            write_image(tmp_path / folder / inner / f"{role}.png", read_image(getattr(pair, role)))
        lines.append(f"{folder}/{inner}/before.png {folder}/{inner}/after.png\n")
    (tmp_path / "pairs.txt").write_text("".join(lines))
    predict_set(checkpoint, tmp_path / "pairs.txt", tmp_path / "out", code=1)
    assert "error: 1 of 2 pairs could not be predicted, first aaa" in (said := capsys.readouterr().err)
    assert "the name is too long for this file system; rename the source" in said
    assert stems(tmp_path / "out" / "mask") == {f"b_{inner}_before"}


def test_when_no_pair_can_be_done_there_is_no_summary(checkpoint, data, tmp_path, capsys):
    for path in (data / "test" / "B").iterdir():
        damage(path, 1000)
    predict_set(checkpoint, data, tmp_path / "out", code=1)
    assert "error: 4 of 4 pairs could not be predicted" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_small_regions_are_left_out(checkpoint, drawn_set, tmp_path):
    from scipy import ndimage

    masks = {}
    for least in (0, 40):
        predict_set(checkpoint, drawn_set, tmp_path / str(least), "--min-area", least)
        masks[least] = np.stack([pixels(path) == 255 for path in sorted((tmp_path / str(least) / "mask").iterdir())])
    for every, large in zip(masks[0], masks[40], strict=True):
        labels, count = ndimage.label(every)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        assert np.array_equal(large, every & (sizes >= 40)[labels])
    assert masks[40].sum() < masks[0].sum()


def test_a_demo_checkpoint_on_other_images_is_told(checkpoint, data, tmp_path, capsys):
    """Of drawn scenes nothing is said, and nothing of a checkpoint that does not know what it was trained on."""
    real, demo = tmp_path / "real", altered(checkpoint, tmp_path / "demo.pt", drawn_scenes=True)
    for path in shutil.copytree(data, real).rglob("*.png"):
        Image.open(path).save(path)  # without the mark
    for number, (path, images, told) in enumerate([(demo, real, 1), (demo, data, 0), (checkpoint, real, 0)]):
        predict_set(path, images, tmp_path / str(number), "--no-report")
        assert capsys.readouterr().err.count("trained on the demo's drawn scenes") == told


def test_identical_dates_are_told_once(checkpoint, data, tmp_path, capsys):
    """Not of a pair that only has no content, as at the border of a mosaic."""
    test = data / "test"
    for number in (1, 3):
        shutil.copy(test / "A" / f"scene_000{number}.png", test / "B" / f"scene_000{number}.png")
    for folder in ("A", "B"):
        write_image(test / folder / "scene_0002.png", np.zeros((64, 64, 3), np.uint8))
    for more in ((), ("--skip-existing",)):
        predict_set(checkpoint, data, tmp_path / "out", "--tile-size", 32, "--no-report", *more)
        said = capsys.readouterr().err
        assert said.count("both dates are the same image") == 1
        assert "scene_0001 and 1 more pair: both dates are the same image" in said


@pytest.mark.parametrize(
    ("roles", "flags", "says"),
    [
        (("A", "A", "label"), (), "--after {A}: also given as --before"),
        (("A", "B", "B"), ("--change-value", 1), "--label {B}: also given as --after"),
    ],
)
def test_one_file_in_two_roles_is_told(roles, flags, says, checkpoint, drawn_set, tmp_path, capsys):
    paths = {role: drawn_set / "test" / role / "scene_0000.png" for role in ROLES}
    before, after, label = (paths[role] for role in roles)
    predict_pair(checkpoint, before, after, tmp_path / "out", "--label", label, *flags, "--no-report")
    assert capsys.readouterr().err.count(says.format(**paths)) == 1
