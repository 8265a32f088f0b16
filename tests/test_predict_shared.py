"""predict_batch.py in several processes: together they write what one would."""

import shutil

import numpy as np
import pytest
from PIL import Image

from datasets.scenes import draw_scene
from tests.conftest import ROLES, write_pairs
from tests.scripts import contents, predict, python
from utils.prediction.predictor import ChangePredictor
from utils.prediction.records import Records
from utils.prediction.sharing import Process


def predict_as(rank, ranks, monkeypatch, *flags, **options):
    """One of several processes, after which the others may run; they would meet at the start."""
    (flags[flags.index("--output") + 1] / "records").mkdir(parents=True, exist_ok=True)  # as the first one does
    with monkeypatch.context() as patch:
        patch.setenv("RANK", str(rank))
        patch.setenv("WORLD_SIZE", str(ranks))
        patch.setattr(Process, "meet", lambda process: None)
        patch.setattr(Records, "_refuse_others", lambda records: None)  # which the first one does before all others
        predict(*flags, "--skip-existing", **options)


@pytest.mark.parametrize("ranks", [2, 4])
def test_shared_pairs_and_rows_give_the_bytes_of_one_process(ranks, checkpoint, data, tmp_path, monkeypatch):
    """Four pairs: two processes share them by groups of 2, four by rows of windows."""
    for folder in ROLES:
        scene = data / "test" / folder / "scene_0002.png"
        Image.open(scene).resize((90, 200), Image.Resampling.NEAREST).save(scene)
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


@pytest.fixture
def moved(tmp_path):
    """A set of four pairs whose later image is moved by 5 rows up and 3 columns to the right."""
    scene, mask = draw_scene(1, 202)[0], np.zeros((192, 192), np.uint8)
    write_pairs(tmp_path / "moved" / "test", dict.fromkeys("abcd", (scene[:192, 10:], scene[5:197, 7:-3], mask)))
    return tmp_path / "moved"


def test_a_shift_is_corrected_alike_by_all_processes(checkpoint, moved, tmp_path, monkeypatch):
    """Two processes share pairs; each of them measures the shift. See below for rows."""
    flags = ("--checkpoint", checkpoint, "--data-root", moved, "--register", "auto", "--tile-size", 64)
    flags += ("--batch-size", 2, "--save", "mask,probability16")
    predict(*flags, "--output", tmp_path / "one")
    for rank in (1, 0):
        predict_as(rank, 2, monkeypatch, *flags, "--output", tmp_path / "many")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert (tmp_path / "one" / "per_image.csv").read_text().count("True") == 4  # of shift_corrected


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_torchrun(checkpoint, drawn_set, moved, tmp_path):
    """Two real processes: groups of pairs, and the rows of one scene whose dates are shifted."""
    tiles = ("--data-root", drawn_set, "--split", "train", "--batch-size", 3)
    rows = ("--before", moved / "test/A/a.png", "--after", moved / "test/B/a.png", "--register", "auto")
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "predict_batch.py")
    shared = ("--checkpoint", checkpoint, "--tile-size", 64, "--save", "mask,probability16", "--device", "cpu")
    for flags, maps in ((tiles, 12), (rows, 1)):
        one, two = tmp_path / f"one{maps}", tmp_path / f"two{maps}"
        predict(*shared, *flags, "--output", one)
        python(*start, *shared, *flags, "--output", two)
        assert contents(two) == contents(one)
        assert len(list((two / "mask").iterdir())) == maps
