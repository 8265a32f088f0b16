"""Rows from folders as train_aux.py and predict_batch.py leave them."""

import hashlib
import json

import pytest
import torch

from models import build_model
from tools.tables.results import Result, averaged, read_folder
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.metrics import scores
from utils.prediction.records import ImageSet, image_row, image_set
from utils.prediction.summary import write_summary

COUNTS = torch.tensor([[700, 100], [50, 150]])  # precision 60, recall 75


@pytest.fixture
def best(tmp_path):
    """best.pt of a HANet without rows, trained with Fixed-5."""
    options = {"width": 4, "row": False}
    weights = build_model("hanet", **options).state_dict()
    config = {"data_root": "sets/LEVIR-CD-256", "loss": "focal", "fixed_epochs": 5, "linear_epochs": 0}
    path = tmp_path / "run" / "best.pt"
    path.parent.mkdir()
    save_checkpoint(
        path, {"model": "hanet", "options": options, "weights": weights, "statistics": [], "config": config}
    )
    return path


def predicted(folder, checkpoint, counts=COUNTS, **changes):
    """A folder that predict_batch.py's own summary was written into."""
    protocol = {
        "checkpoint": str(checkpoint), "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "selected_on": "val", "images": "sets/LEVIR-CD-256", "split": "test", "pairs": 1, "trained_on_these": 0,
        "selected_on_these": False,
        "reading": {"change_value": None, "ignore_value": None}, "tile_size": None, "overlap": 0, "tta": [],
        "threshold": 0.5, "min_area": 0, "save": ["mask"], **changes,
    }  # fmt: skip
    content = {"row": image_row("a", 250, 1000, counts), "size": (256, 256), "windows": "whole image", "aligned": False}
    folder.mkdir(parents=True)
    write_summary(folder, {"a": {**content, "files": []}}, changes.get("failed", {}), protocol)
    return folder


def test_a_prediction(best, tmp_path):
    found = read_folder("ours", "", predicted(tmp_path / "out", best))
    assert found.scores == pytest.approx({"f1": 200 / 3, "precision": 60, "recall": 75, "oa": 85, "iou": 50})
    assert found.data == "LEVIR-CD-256"
    assert found.protocol == {"split": "test", "window": "256 x 256", "threshold": "0.5", "selection": "val"}
    assert (found.settings["row"], found.settings["column"], found.settings["width"]) == ("false", "true", "4")
    assert (found.settings["loss"], found.settings["fixed_epochs"]) == ("focal", "5")
    parameters = sum(p.numel() for p in build_model("hanet", width=4, row=False).parameters())
    assert found.parameters == parameters / 1e6
    assert 0.1 < found.flops < 1
    assert (found.published, found.notes) == ("", {})
    assert found.images == image_set([("a", 800, 200)]) == (1, found.images.digest)


def test_what_flatters_is_noted(best, tmp_path):
    changes = {"trained_on_these": 1, "tta": ["flips"], "min_area": 9, "failed": {"b": "torn"}, "threshold": 0.372}
    found = read_folder("ours", "GZ-CD", predicted(tmp_path / "out", best, **changes))
    assert found.data == "GZ-CD"
    assert found.protocol["threshold"] == "0.372"
    assert found.notes[""] == (
        "trained on 1 of these pairs: optimistic; test-time augmentation: flips; changes under 9 pixels left out; "
        "pairs that could not be predicted: 1"
    )


def test_a_checkpoint_that_is_another_by_now(best, tmp_path):
    """Its numbers must not stand beside scores that another one gave."""
    out = predicted(tmp_path / "out", best)
    best.write_bytes(best.read_bytes() + b"0")
    found = read_folder("ours", "", out)
    assert (found.parameters, found.flops, found.settings) == (None, None, {})


def test_a_checkpoint_that_moved_with_its_predictions(best, tmp_path):
    predicted(best.parent / "predict-test", best)
    moved = best.parent.rename(tmp_path / "moved")
    assert read_folder("ours", "", moved / "predict-test").settings["loss"] == "focal"


def test_a_run(best):
    """Its own scores are those of the split that chose the epoch, at 0.5."""
    told = {"selected_on": "val", "recipe": "hanet", "best": {}, "at_0.5": scores(COUNTS), "at_tuned": {}}
    (best.parent / "metrics.json").write_text(json.dumps({**told, "tuned_threshold": 0.3}))
    found = read_folder("ours", "", best.parent)
    assert found.scores["precision"] == pytest.approx(60)
    assert found.data == "LEVIR-CD-256"
    assert found.protocol["split"] == found.protocol["selection"] == "val"
    save_checkpoint(best, {**load_checkpoint(best), "reading": {"change_value": 1}})
    assert read_folder("ours", "", best.parent).images not in (found.images, ImageSet()), "of labels read otherwise"
    best.unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.pt: no such checkpoint"):
        read_folder("ours", "", best.parent)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, FileNotFoundError, r"no metrics\.json; train_aux\.py writes it at the end of a run"),
        ("{", ValueError, r"metrics\.json: damaged"),
        ("{}", ValueError, "not of a run or prediction of this version"),
        ('{"protocol": {}}', ValueError, "'windows' is missing"),
    ],
)
def test_folders_that_lack_a_file(content, error, says, tmp_path):
    if content:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(error, match=says):
        read_folder("ours", "", tmp_path)


def test_a_prediction_without_labels(best, tmp_path):
    with pytest.raises(ValueError, match="no scores, since the prediction had no labels"):
        read_folder("ours", "", predicted(tmp_path / "out", best, counts=None))


def test_runs_are_averaged():
    runs = [
        Result("a", "s", {"f1": f1, "iou": f1 / 2}, protocol={"threshold": t}) for f1, t in ((80, "0.5"), (84, "0.4"))
    ]
    mean = averaged(runs)
    assert mean.scores == {"f1": 82, "iou": 41}
    assert mean.deviations == pytest.approx({"f1": 8**0.5, "iou": 2**0.5})
    assert mean.notes == {"": "mean ± standard deviation of 2 runs"}
    assert mean.protocol == {"threshold": "0.5 or 0.4"}
    assert averaged(runs[:1]) is runs[0]


def test_runs_of_other_images_keep_a_set_of_their_own():
    sets = (ImageSet(3, "a"), ImageSet(3, "b"))
    one, other = (Result("a", "s", {"f1": 80}, images=images) for images in sets)
    mixed = averaged([one, other]).images
    assert mixed == averaged([other, one]).images not in sets
    assert averaged([one, one]).images == sets[0]
    assert averaged([one, one, other]).images != averaged([one, other, other]).images, "weighted otherwise"


def test_runs_of_other_settings_have_no_mean():
    """But for the seed, and what changes nothing."""
    first, second = {"loss": "focal", "seed": "0", "output": "a"}, {"loss": "focal", "seed": "1", "output": "b"}
    averaged([Result("a", "s", {"f1": 80}, settings=each) for each in (first, second)])
    with pytest.raises(ValueError, match="a: runs that differ in loss have no mean"):
        averaged([Result("a", "s", {"f1": 80}, settings=each) for each in (first, {**second, "loss": "bce"})])
