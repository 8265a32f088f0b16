"""What a run does beyond training: it repeats itself from its file, marks what flatters, keeps what it can."""

import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import warnings
from pathlib import Path

import pytest
import torch

import train_aux
from datasets.change_pairs import ChangePairs
from tests.scripts import (
    HANET,
    SMALL,
    before_steps,
    diverge,
    fails,
    loaded,
    log_of,
    metrics_of,
    predict_pair,
    predict_set,
    python,
    rows_of,
    same_weights,
    stop_after,
    train,
)
from utils import checkpoint
from utils.training import session, trainer
from utils.training.config import RECIPES, parse_train_config
from utils.training.curves import draw_precision_recall
from utils.training.engine import Learner


@pytest.fixture
def run(tmp_path):
    """The folder of the run of this test, which is not there yet."""
    return tmp_path / "run"


def test_config_toml_alone_repeats_a_run(drawn_set, tmp_path):
    train(drawn_set, tmp_path / "one", "--lr", 0.003, "--loss", "dice", "--ema", 0.9, epochs=1)
    settings = (tmp_path / "one" / "config.toml").read_text()
    assert "\n[model_options]\nwidth = 8\n" in settings
    for word in ("torch_version", "numpy_version", "python_version", "commit", "data = "):
        assert word in settings
    train_aux.main(["--config", str(tmp_path / "one" / "config.toml"), "--output", str(tmp_path / "two")])
    one, two = (loaded(tmp_path / name) for name in ("one", "two"))
    assert same_weights(one, two)
    assert {**one["config"], "output": 0, "config": 0} == {**two["config"], "output": 0, "config": 0}


def stored(content):
    """Bytes of all tensors of a checkpoint, with what lies around a view."""
    if isinstance(content, torch.Tensor):
        return content.untyped_storage().nbytes()
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(stored, parts))


def test_an_average_of_the_weights(drawn_set, tmp_path, monkeypatch, capsys):
    """best.pt holds it; last.pt has weights, average and two moments of the optimizer once each, and resumes all."""
    flags = ("--ema", 0.9)
    train(drawn_set, tmp_path / "whole", *flags, epochs=1)
    (row,), last, best = log_of(tmp_path / "whole"), loaded(tmp_path / "whole"), loaded(tmp_path / "whole", "best")
    assert row["val_loss"] != row["val_raw_loss"]
    assert same_weights(best, last["ema"])
    assert not torch.equal(last["weights"]["head.weight"], last["ema"]["weights"]["head.weight"])
    assert stored(last) == pytest.approx(4 * stored(last["weights"]), rel=0.02)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run folder: ")]
    total, *parts = (float(word) for word in re.findall(r"[\d.]+(?= MB)", line))
    sizes = {path.name: path.stat().st_size / 1e6 for path in (tmp_path / "whole").iterdir() if path.is_file()}
    assert parts == [pytest.approx(sizes[name], abs=0.1) for name in ("last.pt", "best.pt")]
    assert sum(parts) - 0.1 <= total < sum(parts) + 0.5 < sum(sizes.values())
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stop_after(patch, 2)
        train(drawn_set, tmp_path / "run", *flags, epochs=1)
    train(drawn_set, tmp_path / "run", *flags, "--resume", epochs=1)
    resumed = loaded(tmp_path / "run")
    assert last["ema"]["steps"] == resumed["ema"]["steps"] == 3
    assert same_weights(resumed["ema"], last["ema"])


def test_an_f1_of_0_is_warned_of_once(drawn_set, run, capsys):
    train(drawn_set, run, "--lr", 1e-300, "--zero-heads")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("val F1 is 0 ")]
    assert line.startswith("val F1 is 0 after epoch 1, although training saw ")
    assert f"python -m tools.check_dataset --data-root {drawn_set}" in line
    assert [float(row["val_f1"]) for row in log_of(run)] == [0, 0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_epochs(drawn_set, run):
    """The peak of a process of its own: the first epochs fill what is kept for good, the other three add nothing."""
    python("train_aux.py", "--data-root", drawn_set, "--output", run, *HANET, *SMALL, "--epochs", 5, "--ema", 0.9)
    peaks = [float(row["peak_memory_mb"]) for row in log_of(run)]
    assert len(peaks) == 5
    assert peaks[4] - peaks[1] < 0.02 * peaks[1], f"MB at the end of each epoch: {peaks}"


@pytest.mark.slow
def test_several_seeds(drawn_set, run, capsys):
    train(drawn_set, run, "--seeds", 2, "--seed", 5, epochs=1)
    summary = json.loads((run / "seeds.json").read_text())
    one, two = (summary[f"seed {seed}"]["f1"] for seed in (5, 6))
    assert summary["mean"]["f1"] == pytest.approx((one + two) / 2)
    assert summary["deviation"]["f1"] == pytest.approx(abs(one - two) / 2**0.5)
    assert (run / "seed-6" / "best.pt").is_file()
    assert "deviation" in capsys.readouterr().err


def test_choosing_on_test_marks_every_output(drawn_set, run, tmp_path, capsys):
    train(drawn_set, run, "--select-on", "test", epochs=1)
    assert "its scores there flatter" in capsys.readouterr().err
    assert metrics_of(run)["selected_on"] == "test"
    assert (run / "log.csv").read_text().splitlines()[1].endswith(",test")
    predict_set(run, drawn_set, tmp_path / "out", "--no-report")
    assert metrics_of(tmp_path / "out")["protocol"]["selected_on"] == "test"
    assert "chosen on the test split" in capsys.readouterr().err


def test_pairs_that_were_trained_on_are_told(drawn_set, tmp_path, capsys):
    """Also without labels, or under another name; not the test split. The next command can be typed as it is."""
    run = tmp_path / "my run"
    shutil.copytree(drawn_set, data := tmp_path / "data", ignore=shutil.ignore_patterns("val", "test"))
    train(data, run, epochs=1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    words = ["--checkpoint", str(run / "best.pt"), "--data-root", str(data), "--split", "train"]
    assert shlex.split(line)[-6:] == words
    out = tmp_path / "out"
    images = [sorted((data / "train" / date).iterdir()) for date in "AB"]
    count, mixed = len(images[0]), tmp_path / "mixed"
    shutil.copytree(drawn_set / "test", mixed)
    for date, (path, *_) in zip("AB", images, strict=True):
        shutil.copy2(path, mixed / date / "other.png")
    others, held_out = len(list((drawn_set / "test" / "A").iterdir())), len(loaded(run, "best")["chosen_on"])
    assert held_out == 1
    for call, seen in (
        (lambda: predict_set(run, data, out, "--split", "train", "--no-report"), (count - 1, count)),
        (lambda: predict_pair(run, data / "train" / "A", data / "train" / "B", out, "--overwrite"), (count - 1, count)),
        (lambda: predict_pair(run, mixed / "A", mixed / "B", out, "--overwrite"), (1, others + 1)),
        (lambda: predict_set(run, drawn_set, out, "--no-report", "--overwrite"), (0, others)),
    ):
        call()
        said = "was trained on {} of these {} pairs".format(*seen)
        assert (said in capsys.readouterr().err) == bool(seen[0])
        assert metrics_of(out)["protocol"]["trained_on_these"] == seen[0]
        assert metrics_of(out)["protocol"]["selected_on_these"] == (seen[0] > 1)


def test_the_tuned_threshold_is_reported_beside_the_plain_one(drawn_set, run, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "draw_precision_recall", draw_precision_recall)
    train(drawn_set, run, epochs=1)
    metrics, best = metrics_of(run), loaded(run, "best")
    assert best["tuned_threshold"] == metrics["tuned_threshold"]
    assert best["drawn_scenes"] is True
    assert 20 < best["seen"]["brightness"][0] < best["seen"]["brightness"][1] < 220
    assert best["threshold"] == 0.5
    assert metrics["at_tuned"]["f1"] >= metrics["at_0.5"]["f1"] == pytest.approx(best["scores"]["val_f1"])
    assert (run / "precision_recall.png").is_file()
    points = {row["threshold"]: float(row["f1"]) for row in rows_of(run, "precision_recall.csv")}
    assert len(points) == 999
    assert max(points.values()) == points[f"{metrics['tuned_threshold']:g}"]
    assert points["0.5"] == pytest.approx(metrics["at_0.5"]["f1"], abs=1e-5)
    predict_set(run, drawn_set, tmp_path / "out", "--split", "val", "--threshold", "tuned", "--no-report")
    found = metrics_of(tmp_path / "out")
    assert found["protocol"]["threshold"] == best["tuned_threshold"]
    assert found["scores"]["f1"] == pytest.approx(metrics["at_tuned"]["f1"], abs=1e-9)


def test_a_call_leaves_the_process_as_it_was(checkpoint, drawn_set, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before, words = list(warnings.filters), "12 training pairs in the first epoch make no batch of 13"
    fails(lambda: train(drawn_set, run, "--batch-size", 13), capsys, words)
    predict_set(checkpoint, drawn_set, tmp_path / "out", "--no-report")
    assert not torch.backends.cudnn.benchmark
    assert warnings.filters == before


def test_list_of_recipes(capsys):
    train_aux.main(["--list-recipes"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(RECIPES)
    assert all(parse_train_config(["--recipe", name, "--model", "hanet"]).recipe == name for name in RECIPES)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_batch_that_diverged_is_kept(workers, drawn_set, run, monkeypatch, capsys):
    """It is read again, augmented alike; what was saved before holds no weight that is not finite."""
    step, made = Learner.step, []

    def poisoned(self, parts):
        made.append([{**part, "before": part["before"].clone()} for part in parts])
        if len(made) == 3:
            diverge(self)
        return step(self, parts)

    monkeypatch.setattr(Learner, "step", poisoned)
    flags = ("--accumulate", 2, "--batch-size", 2, "--save-minutes", 1e-9, "--num-workers", workers)
    line = fails(lambda: train(drawn_set, run, *flags), capsys, "no finite number from step 3", "--lr")
    kept = loaded(run, "diverged")
    assert [part["name"] for part in kept] == [part["name"] for part in made[2]]
    assert all(name in line for part in kept for name in part["name"])
    assert all(torch.equal(one["before"], two["before"]) for one, two in zip(kept, made[2], strict=True))
    last = loaded(run)
    assert last["unfinished"]["step"] == 2
    assert all(value.isfinite().all() for value in last["weights"].values())


def fill_disk(patch, saves=0):
    """After so many files torch.save fails, as when the disk is full."""
    save, saved = checkpoint.torch.save, []

    def full(content, path):
        saved.append(1)
        if len(saved) > saves:
            path.write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        save(content, path)

    patch.setattr(checkpoint.torch, "save", full)


def test_a_loss_that_is_no_number_is_told_though_the_disk_is_full(drawn_set, run, monkeypatch, capsys):
    before_steps(monkeypatch, diverge)
    fill_disk(monkeypatch)
    words = ("no finite number from step 1", f"could not be kept in {run / 'diverged.pt'}")
    fails(lambda: train(drawn_set, run), capsys, *words)


def test_a_full_disk_leaves_the_last_whole_file(drawn_set, run, monkeypatch, capsys):
    fill_disk(monkeypatch, saves=2)
    fails(lambda: train(drawn_set, run), capsys, "could not be written", "disk")
    assert loaded(run)["epoch"] == 1
    assert not list(run.glob(".*"))


def test_nothing_is_written_before_the_first_step_is_done(drawn_set, run, monkeypatch):
    step = Learner.step

    def seen(self, parts):
        assert not run.exists()
        found = step(self, parts)
        assert not run.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(Learner, "step", seen)
    with pytest.raises(SystemExit):
        train(drawn_set, run)
    assert {path.name for path in run.iterdir()} == {"config.toml", "label_counts.json", "last.pt"}


def test_a_signal_before_the_first_step(drawn_set, run, monkeypatch, capsys):
    def early(*settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return progress_bar(*settings)

    progress_bar = session.progress_bar
    monkeypatch.setattr(session, "progress_bar", early)
    with pytest.raises(SystemExit) as left:
        train(drawn_set, run)
    assert left.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM before the first step was done; nothing is written" in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize(("victim", "lost_in"), [("train/A/scene_0003.png", 2), ("val/B/scene_0002.png", 1)])
def test_a_file_that_vanishes_loses_no_step(victim, lost_in, data, run, tmp_path, monkeypatch, capsys):
    """The steps before it are in last.pt, and the run goes on once it is back."""
    away = tmp_path / "away.png"
    with monkeypatch.context() as patch:
        made = before_steps(patch, lambda learner, step: step == lost_in and (data / victim).rename(away))
        fails(lambda: train(data, run), capsys, Path(victim).name)
    last = loaded(run)
    assert 3 * last["epoch"] + last["unfinished"]["step"] == len(made) >= lost_in
    away.rename(data / victim)
    rest = before_steps(monkeypatch, lambda learner, step: None)
    train(data, run, "--resume")
    assert len(made) + len(rest) == 6


def fails_to_load(patch, number, error, before=lambda: None):
    """Reading the training batch of this number, and any later one, raises an error."""
    get, read = ChangePairs.__getitem__, []

    def counted(self, key):
        if isinstance(key, list) and isinstance(key[0], tuple):  # a batch to train on
            read.append(1)
            if len(read) >= number:
                before()
                raise error
        return get(self, key)

    patch.setattr(ChangePairs, "__getitem__", counted)


WORKER = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
MEMORY = RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>")


@pytest.mark.parametrize(
    ("error", "words"), [(WORKER, "a process that loads images ended"), (MEMORY, "--num-workers 0")]
)
def test_lost_loader_processes_lose_no_step(error, words, drawn_set, run, monkeypatch, capsys):
    """One line, and last.pt in the middle of the second epoch, after its first step."""
    fails_to_load(monkeypatch, 5, error)
    fails(lambda: train(drawn_set, run), capsys, words, "what was trained is kept, --resume goes on")
    last = loaded(run)
    assert (last["epoch"], last["unfinished"]["step"]) == (1, 1)


def test_a_loader_that_ends_with_a_signal_is_a_stop(drawn_set, run, monkeypatch, capsys):
    """As when a scheduler signals all processes of a job: the workers die of it."""
    fails_to_load(monkeypatch, 2, WORKER, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        train(drawn_set, run)
    assert left.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; all that was trained is kept" in capsys.readouterr().err
    assert loaded(run)["unfinished"]["step"] == 1


def test_an_error_of_ours_in_a_loader_keeps_its_traceback_and_the_steps(drawn_set, run, monkeypatch):
    fails_to_load(monkeypatch, 3, RuntimeError("bug"))
    with pytest.raises(RuntimeError, match="bug"):
        train(drawn_set, run)
    assert loaded(run)["unfinished"]["step"] == 2


def test_a_killed_worker_loses_no_step(drawn_set, run, monkeypatch, capsys):
    def kill(learner, step):
        for worker in multiprocessing.active_children() if step == 2 else ():
            worker.kill()

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else PyTorch's stays, if another test has set it
    made = before_steps(monkeypatch, kill)
    call = lambda: train(drawn_set, run, "--num-workers", 1, epochs=9)  # noqa: E731
    fails(call, capsys, "a process that loads images ended", "what was trained is kept, --resume goes on")
    last = loaded(run)
    assert last["epoch"] * 3 + last["unfinished"]["step"] == len(made) >= 2


def test_no_memory_names_the_next_smaller_batch(drawn_set, run, monkeypatch, capsys):
    def greedy(learner, step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    before_steps(monkeypatch, greedy)
    fails(lambda: train(drawn_set, run), capsys, "--batch-size 4: use --accumulate 2", "or --batch-size 2")
