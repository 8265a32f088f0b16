"""Both scripts as tests call them: small networks, on the CPU; what a mistake looks like, and a run that is stopped."""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import predict_batch
import train_aux
from models import MODELS
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.training.engine import Learner

ROOT = Path(__file__).parents[1]
AMFNET = ["--recipe", "amfnet", "--model-options", "backbone=resnet18", "--backbone-weights", "none"]
HANET = ["--recipe", "hanet", "--model-options", "width=8", "--linear-epochs", "2"]
SMALL = ["--batch-size", "4", "--num-workers", "0", "--device", "cpu"]
RECIPES = {"amfnet": AMFNET, "hanet": HANET}


def add_network(patch, name, network):
    """A network of this test alone, as if models/NAME.py held its class."""
    patch.setitem(MODELS, name, network.__name__)
    patch.setitem(sys.modules, f"models.{name}", SimpleNamespace(**{network.__name__: network}))


def save_network(path, name, network, options=None, **more):
    """A checkpoint that divides images by 255 and no more."""
    statistics = {"mean": [[0.0] * 3] * 2, "std": [[1.0] * 3] * 2}
    about = {"model": name, "options": options or {}, "weights": network.state_dict(), "statistics": statistics}
    save_checkpoint(path, {**about, **more})
    return path


def altered(checkpoint, path, **changes):
    """A copy of a checkpoint with other entries."""
    save_checkpoint(path, {**load_checkpoint(checkpoint), **changes})
    return path


def python(*words, cwd=ROOT, code=0, **environment):
    """Run Python in a process of its own, with one thread; it must leave with the code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def forkserver():
    """Starts processes in which PyTorch is imported already, with one thread as here."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.conftest"])
    return processes


def train(data, output, *flags, recipe="hanet", epochs=2):
    argv = ["--data-root", data, "--output", output, "--epochs", epochs, *RECIPES[recipe], *SMALL, *flags]
    train_aux.main([str(word) for word in argv])


def predict(*flags, code=None):
    """Run the script; with a code, it must leave with it."""
    argv = [str(word) for word in (*flags, "--num-workers", 2, "--device", "cpu")]
    if code is None:
        return predict_batch.main(argv)
    with pytest.raises(SystemExit) as left:
        predict_batch.main(argv)
    assert left.value.code == code
    return None


def predict_set(checkpoint, data, output, *flags, code=None):
    predict("--checkpoint", checkpoint, "--data-root", data, "--output", output, *flags, code=code)


def predict_pair(checkpoint, before, after, output, *flags, code=None):
    predict("--checkpoint", checkpoint, "--before", before, "--after", after, "--output", output, *flags, code=code)


def contents(folder):
    """Every file under a folder, hidden ones too, as bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def fails(call, capsys, *words):
    """The call leaves with code 2 and one line on stderr that says all these words; returns the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        call()
    assert left.value.code == 2
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert err.rstrip().endswith(line)
    assert "Traceback" not in err
    for word in words:
        assert word in line, (word, line)
    return line


@contextmanager
def files_end_at(size):
    """No file can grow beyond so many bytes: writing fails as on a full disk, with another number."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def before_steps(patch, act):
    """Call act(learner, number) before each step of training, numbered from 1; returns the numbers so far."""
    step, made = Learner.step, []

    def acting(self, parts):
        made.append(len(made) + 1)
        act(self, made[-1])
        return step(self, parts)

    patch.setattr(Learner, "step", acting)
    return made


def stop_after(patch, steps, number=signal.SIGTERM):
    """The process gets a signal while it makes the step of this number."""
    before_steps(patch, lambda learner, step: step == steps and os.kill(os.getpid(), number))


def diverge(learner, *_):
    """One weight is not a number any more."""
    next(learner.network.parameters()).data.fill_(float("nan"))


def loaded(folder, name="last"):
    return torch.load(folder / f"{name}.pt", weights_only=True)


def same_weights(one, two, key="weights"):
    """Whether two checkpoints hold equal tensors, bit by bit."""
    return one[key].keys() == two[key].keys() and all(torch.equal(one[key][k], value) for k, value in two[key].items())


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def rows_of(folder, name="per_image.csv"):
    with (folder / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def log_of(folder):
    return rows_of(folder, "log.csv")
