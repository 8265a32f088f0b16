"""Many scenes through one network: the same bytes whatever is left out, and one bad scene harms no other."""

import threading

import numpy as np
import pytest
import torch

from models import build_model
from tests.scripts import save_network
from utils.console import UserError
from utils.prediction.pipeline import Pipeline
from utils.prediction.predictor import ChangePredictor

SIZES = [(40, 40), (100, 70), (40, 40), (33, 40), (150, 64), (40, 40), (64, 64), (20, 90), (40, 40)]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    torch.manual_seed(1)
    network = build_model("amfnet", backbone="resnet18")  # its rounding depends on the size of a batch
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    save_network(path, "amfnet", network, {"backbone": "resnet18"})
    return ChangePredictor(path, "cpu", tile_size=64, overlap=16, batch_size=3)


class ArrayJob:
    """A scene of noise that keeps what is made of it, and fails where it is told to."""

    pixel_size = None

    def __init__(self, number, wanted=lambda cover: range(len(cover.tops)), fails=None, error=None):
        self.dates = np.random.default_rng(number).integers(0, 256, (2, *SIZES[number], 3), np.uint8)
        self.wanted, self.fails, self.error = wanted, fails, error or UserError(f"{fails} of {number}")
        self.calls, self.reads, self.rows_written, self.threads = [], [], [], set()
        self.result = np.full(SIZES[number], np.nan, np.float32)

    def _call(self, name):
        self.threads.add(threading.get_ident())
        self.calls.append(name)
        if name == self.fails:
            raise self.error

    def open(self):
        self._call("open")
        return self.result.shape

    def rows(self, cover):
        return self.wanted(cover)

    def read(self, window):
        self.reads.append(window)
        if self.fails == "read" and len(self.reads) == 2:
            raise self.error
        return self.dates[0][window.slices], self.dates[1][window.slices]

    def write(self, top, probability):
        self._call("write")
        self.rows_written.append((top, top + len(probability)))
        self.result[top : top + len(probability)] = probability

    def finish(self):
        self._call("finish")

    def fail(self, error):
        self.calls.append(("fail", error))

    def close(self):
        self.calls.append("close")


def predict(predictor, jobs, group=4, **settings):
    Pipeline(predictor, **settings).run(jobs[i : i + group] for i in range(0, len(jobs), group))
    return jobs


@pytest.fixture(scope="module")
def unbroken(predictor):
    return predict(predictor, [ArrayJob(number) for number in range(len(SIZES))])


def test_scenes_are_what_the_predictor_says_of_them_alone(predictor, unbroken):
    for job in unbroken:
        assert np.abs(job.result - predictor(*job.dates)).max() < 1e-6
        assert (job.calls[0], *job.calls[-2:]) == ("open", "finish", "close")
        ends = [0, *(end for _, end in job.rows_written)]
        assert [top for top, _ in job.rows_written] == ends[:-1]
        assert ends[-1] == len(job.result)
        assert threading.get_ident() not in job.threads


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_left_out_changes_no_byte_of_the_rest(predictor, unbroken, threads):
    """Every second scene is there already: it is not read, and the batches stay as they were."""
    done = [ArrayJob(n, *([lambda cover: range(0)] if n % 2 else [])) for n in range(len(SIZES))]
    predict(predictor, done, threads=threads)
    for number, (job, whole) in enumerate(zip(done, unbroken, strict=True)):
        if number % 2:
            assert (job.reads, job.calls) == ([], ["open", "close"])
        else:
            assert np.array_equal(job.result, whole.result)


@pytest.mark.parametrize("call", ["open", "read", "write", "finish"])
def test_a_bad_scene_is_told_and_the_rest_is_done(predictor, unbroken, call):
    jobs = predict(predictor, [ArrayJob(n, fails=call if n in (1, 4) else None) for n in range(len(SIZES))])
    for number, (job, whole) in enumerate(zip(jobs, unbroken, strict=True)):
        if number in (1, 4):
            assert job.calls[-2:] == [("fail", job.error), "close"]
            assert call == "finish" or "finish" not in job.calls
            assert len([c for c in job.calls if c[0] == "fail"]) == 1
            assert job.calls.count("write") <= (1 if call == "write" else len(whole.rows_written))
        elif call != "open":  # a scene that cannot be opened leaves the plan, and others take its place in the batch
            assert np.array_equal(job.result, whole.result)
        else:
            assert np.abs(job.result - whole.result).max() < 1e-6


def test_a_missing_file_fails_one_scene_but_a_full_disk_stops_all(predictor):
    gone, full = FileNotFoundError("gone"), OSError(28, "No space left")
    jobs = predict(predictor, [ArrayJob(n, fails="read" if n == 1 else None, error=gone) for n in range(4)])
    assert jobs[1].calls[-2:] == [("fail", gone), "close"]
    jobs = [ArrayJob(n, fails="write" if n == 0 else None, error=full) for n in range(len(SIZES))]
    with pytest.raises(OSError, match="No space left"):
        predict(predictor, jobs, threads=1)
    for job in jobs:
        assert job.calls.count("close") == 1 or job.calls in ([], ["open"])
        assert "finish" not in job.calls or job.calls[-2:] == ["finish", "close"]
    assert "finish" not in jobs[0].calls


def test_progress_is_told_in_shares(predictor):
    shares = []
    jobs = [ArrayJob(n, fails={1: "open", 4: "read"}.get(n)) for n in range(len(SIZES))]
    predict(predictor, jobs, advance=shares.append)
    assert sum(shares) == pytest.approx(len(SIZES))
    assert len(shares) > len(SIZES)


def test_little_is_read_before_it_is_needed(predictor, monkeypatch):
    """PixelFormat ahead is bounded: the network never is more than a few batches behind."""
    jobs, predicted, ahead = [ArrayJob(4) for _ in range(12)], [0], []
    genuine = predictor.probability

    def counted(before, after):
        ahead.append(sum(len(job.reads) for job in jobs) - predicted[0])
        predicted[0] += len(before)
        return genuine(before, after)

    monkeypatch.setattr(predictor, "probability", counted)
    predict(predictor, jobs, threads=2)
    assert predicted[0] == 36
    assert max(ahead) <= 3 * (1 + 2)  # a batch at work, and one a thread
