"""predict_batch.py as a user runs it: any size, what is saved, and pairs that cannot be done."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.pairs import find_pairs
from datasets.raster import read_image, read_label
from tests.scripts import contents, pixels, predict
from utils.change_map import PALETTES, error_map, overlay
from utils.checkpoint import save_checkpoint
from utils.prediction.predictor import ChangePredictor

ROOT = Path(__file__).parents[1]


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
    assert "--save geo: no pair has the label or the georeference for that" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict("--checkpoint", checkpoint, "--save", "masks")
    assert "'masks' is not known; choose of mask, error" in capsys.readouterr().err


def test_sizes_and_windows_in_one_run(checkpoint, data, tmp_path):
    """Whole, filled up, by windows, smaller than a window: each map is what the predictor says of its pair alone."""
    for number, size in enumerate([(100, 70), (64, 64), (33, 150), (9, 20)]):
        for folder in ("A", "B", "label"):
            path = data / "test" / folder / f"scene_000{number}.png"
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
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


@pytest.mark.skipif(os.name == "nt", reason="Windows limits whole paths to 260 characters")
def test_names_and_links_end_no_run(checkpoint, data, tmp_path, capsys):
    """A name of 255 bytes gets its maps, and a broken link fails alone."""
    names = {"scene_0001.png": "x" * 251 + ".png", "scene_0002.png": "y" * 251 + ".bmp", "scene_0003.png": "z.png"}
    for folder in ("A", "B", "label"):
        for old, new in names.items():
            (data / "test" / folder / old).rename(data / "test" / folder / new)
    link, out = data / "test" / "B" / "z.png", tmp_path / "out"
    link.unlink()
    link.symlink_to(tmp_path / "gone.png")
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--output", out)
    predict(*flags, code=1)
    said = capsys.readouterr().err
    assert f"z: {link}: broken link to {tmp_path / 'gone.png'}; mend the link" in said
    assert "error: 1 of 4 pairs could not be predicted, first z: " in said
    assert {path.name for path in (out / "mask").iterdir()} == {
        "scene_0000.png",
        "x" * 251 + ".png",
        "y" * 251 + ".png",
    }
    assert not list(out.rglob(".*"))
    before = contents(out / "mask")
    shutil.rmtree(out / "mask")
    predict(*flags, "--skip-existing", code=1)  # the records of long names are found again
    assert contents(out / "mask") == before


def test_names_that_are_no_text_get_their_maps(checkpoint, data, tmp_path):
    """Archives from Windows hold names in other encodings than UTF-8."""
    name = b"\xb3\xc7\xca\xd0".decode("utf-8", "surrogateescape")
    try:
        for folder in ("A", "B", "label"):
            (data / "test" / folder / "scene_0001.png").rename(data / "test" / folder / f"{name}.png")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    predict("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out")
    assert (tmp_path / "out" / "mask" / f"{name}.png").is_file()
    rows = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open(encoding="utf-8")))
    assert [row["name"] for row in rows][-1] == name.encode("ascii", "backslashreplace").decode()


def test_a_map_whose_name_is_too_long_fails_alone(tmp_path, checkpoint, drawn_set, capsys):
    (first, second, *_) = find_pairs(drawn_set, "test")
    lines = []
    for pair, folder in ((first, "a" * 130), (second, "b")):  # of one stem, so that folders are part of the names
        (tmp_path / folder / ("c" * 130)).mkdir(parents=True)
        for role in ("before", "after"):
            shutil.copy(getattr(pair, role), tmp_path / folder / ("c" * 130) / f"{role}.png")
        lines.append(f"{folder}/{'c' * 130}/before.png {folder}/{'c' * 130}/after.png\n")
    (tmp_path / "pairs.txt").write_text("".join(lines))
    predict("--checkpoint", checkpoint, "--data-root", tmp_path / "pairs.txt", "--output", tmp_path / "out", code=1)
    assert "error: 1 of 2 pairs could not be predicted, first aaa" in (said := capsys.readouterr().err)
    assert "the name is too long for this file system; rename the source" in said
    assert [path.name for path in (tmp_path / "out" / "mask").iterdir()] == [f"b_{'c' * 130}_before.png"]


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


def run_of(checkpoint, folder, **about):
    """A checkpoint with more in it."""
    save_checkpoint(folder / "best.pt", {**torch.load(checkpoint, weights_only=True), **about})
    return folder / "best.pt"


def test_a_demo_checkpoint_on_other_images_is_told(checkpoint, data, tmp_path, capsys):
    """Of drawn scenes nothing is said, and nothing of a checkpoint that does not know what it was trained on."""
    real = Path(shutil.copytree(data, tmp_path / "real"))
    for path in real.rglob("*.png"):
        Image.open(path).save(path)  # without the mark
    demo, said = run_of(checkpoint, tmp_path, drawn_scenes=True), "trained on the demo's drawn scenes"
    for number, (path, images, told) in enumerate([(demo, real, 1), (demo, data, 0), (checkpoint, real, 0)]):
        predict("--checkpoint", path, "--data-root", images, "--output", tmp_path / str(number), "--no-report")
        assert capsys.readouterr().err.count(said) == told


def test_identical_dates_are_told_once(checkpoint, data, tmp_path, capsys):
    """Not of a pair that only has no content, as at the border of a mosaic."""
    test = data / "test"
    for number in (1, 3):
        shutil.copy(test / "A" / f"scene_000{number}.png", test / "B" / f"scene_000{number}.png")
    for folder in ("A", "B"):
        Image.new("RGB", (64, 64)).save(test / folder / "scene_0002.png")
    flags = ("--checkpoint", checkpoint, "--data-root", data, "--tile-size", 32, "--output", tmp_path / "out")
    for more in ((), ("--skip-existing",)):
        predict(*flags, "--no-report", *more)
        said = capsys.readouterr().err
        assert said.count("both dates are the same image") == 1
        assert "scene_0001 and 1 more pairs: both dates are the same image" in said


def test_a_label_in_place_of_a_date_is_told(checkpoint, data, tmp_path, capsys):
    test = data / "test"
    flags = ("--checkpoint", checkpoint, "--before", test / "A", "--tile-size", 32, "--no-report")
    predict(*flags, "--after", test / "label", "--output", tmp_path / "out")
    said = capsys.readouterr().err
    assert said.count("the after image has only the values 0 and 255, as a label has; check the files") == 1
    assert "the before image" not in said
    assert "also given as" not in said
    predict(*flags, "--after", test / "B", "--output", tmp_path / "right")
    assert "as a label has" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        (("A", "A", "label"), "--after {A}: also given as --before"),
        (("A", "B", "B"), "--label {B}: also given as --after"),
    ],
)
def test_one_file_in_two_roles_is_told(roles, says, checkpoint, drawn_set, tmp_path, capsys):
    paths = {role: drawn_set / "test" / role / "scene_0000.png" for role in ("A", "B", "label")}
    before, after, label = (paths[role] for role in roles)
    files = ("--before", before, "--after", after, "--label", label, "--change-value", 1)
    predict("--checkpoint", checkpoint, *files, "--output", tmp_path / "out", "--no-report")
    assert capsys.readouterr().err.count(says.format(**paths)) == 1
