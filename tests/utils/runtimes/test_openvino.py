"""Other runtimes give the probabilities that PyTorch gives, whatever the batch, and fail as PyTorch does."""

import pytest
import torch
from torch import nn

from tests.scripts import fails, metrics_of, predict_set, python
from tests.utils.runtimes.test_torch_network import batch
from utils.prediction.predictor import ChangePredictor
from utils.runtimes import openvino
from utils.runtimes.openvino import OpenVino
from utils.runtimes.torch_network import InRuntime


@pytest.fixture(scope="module")
def by(checkpoint):
    """Predictors by backend, opened once: an export takes 15 seconds of one core."""
    opened = {"torch": ChangePredictor(checkpoint, "cpu")}

    def predictor_of(backend):
        if backend not in opened:
            pytest.importorskip(backend, reason="needs requirements-export.txt")
            opened[backend] = ChangePredictor(checkpoint, "cpu", backend=backend)
        return opened[backend]

    return predictor_of


NEAR = {"openvino": 1e-4, "onnxruntime": 2e-3}  # random attention magnifies rounding
onnxruntime = pytest.param("onnxruntime", marks=[pytest.mark.slow, pytest.mark.timeout(600)])
every_runtime = pytest.mark.parametrize("backend", ["openvino", onnxruntime])


@every_runtime
@torch.inference_mode()
def test_same_probabilities_at_any_size_and_in_any_order(backend, by):
    ours, theirs = by("torch"), by(backend)
    for size in ((1, 32, 32), (3, 32, 48), (2, 8, 8)):
        expected, found = ours.probability(*batch(*size)), theirs.probability(*batch(*size))
        assert (found.dtype, found.shape) == (torch.float32, expected.shape)
        assert expected.std() > 0.02  # or agreement would say nothing
        assert (found - expected).abs().max() < NEAR[backend]
    assert theirs.turned_out() == {"backend": backend}
    assert (theirs.device.type, theirs.cover(1024, 1024).shape) == ("cpu", (1024, 1024))  # windows are PyTorch's
    expected, found = ours.model(*batch(1), swapped=True), theirs.model(*batch(1), swapped=True)
    assert (found - expected).abs().max() < NEAR[backend]
    assert (expected - ours.model(*batch(1)[::-1])).abs().max() > 0.01  # each date has statistics of its own


@every_runtime
def test_out_of_memory_halves_the_batch(backend, by, monkeypatch):
    theirs, sizes = by(backend), []
    expected, run = theirs.probability(*batch(4)), type(theirs.model.network.run).__call__

    def little_memory(self, before, after):
        with openvino.memory_errors():
            sizes.append(len(before))
            if sizes[-1] > 2:
                raise RuntimeError("Check failed: std::bad_alloc")
            return run(self, before, after)

    monkeypatch.setattr(type(theirs.model.network.run), "__call__", little_memory)
    assert torch.allclose(theirs.probability(*batch(4)), expected, atol=1e-5)
    assert sizes == [4, 2, 2]


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError, match="shape"), openvino.memory_errors():
        raise KeyError("shape")


def test_bf16_of_openvino_is_held_against_fp32(by, checkpoint):
    pytest.importorskip("openvino")
    exact = by("torch").probability(*batch(2))
    half = ChangePredictor(checkpoint, "cpu", precision="bf16", backend="openvino")
    half.threshold = float(exact.median())
    found = half.probability(*batch(2))
    share = ((found > half.threshold) != (exact > half.threshold)).double().mean().item()
    flipped = {"share": pytest.approx(share), "pixels": found.numel()}
    assert half.turned_out() == {"backend": "openvino", "moved_by_bf16": flipped}
    assert (found - exact).abs().mean() < 0.05
    assert half.model.network.run._settings["INFERENCE_PRECISION_HINT"] == "bf16"


class Small(nn.Module):
    """A network of one convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 2, 3, padding=1).requires_grad_(False)

    def forward(self, before, after):
        return [self.conv(torch.cat([before, after], 1))]


def test_openvino_keeps_few_batches_and_rounds_alike_whatever_came_before():
    """As a resumed prediction must, byte for byte."""
    pytest.importorskip("openvino")
    network = Small()
    one, other = OpenVino(network), OpenVino(network)
    dates = torch.rand(2, 3, 3, 16, 16).unbind()
    for count in (5, 1, 2):
        one(*torch.rand(2, count, 3, 16, 16).unbind())
    assert len(one._compiled) == openvino.KEPT
    assert torch.equal(one(*dates), other(*dates))
    assert list(one._compiled) == [(2, 3, 16, 16), (3, 3, 16, 16)]
    assert one._settings["INFERENCE_NUM_THREADS"] == torch.get_num_threads()


def test_openvino_leaves_the_process_as_it_was():
    """As for data loaders, which listen for the end of their workers, while predictors come and go."""
    pytest.importorskip("openvino")
    code = """
import faulthandler, signal, subprocess, sys, torch
from tests.utils.runtimes.test_openvino import OpenVino, Small
faulthandler.enable(file=sys.__stderr__)  # gives this thread a stack for signals, as pytest does
signal.signal(signal.SIGCHLD, lambda *told: None)
networks = [OpenVino(Small()) for _ in range(3)]
for network in networks:
    network(torch.ones(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
while networks:
    del network
    network = networks.pop(0)
del network
subprocess.run([sys.executable, "-c", ""], check=True)
"""
    python("-c", code)


def test_onnxruntime_tells_nobody(tmp_path):
    pytest.importorskip("onnxruntime")
    code = "from utils.runtimes.openvino import imported; imported('onnxruntime')"
    python("-c", code, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert not list(tmp_path.rglob("*")), "a database of what it was used for"


class Limited:
    """A runtime for two images of 16 x 16 at once; it returns the difference of the dates, times a factor."""

    at_once = 2 * 16 * 16

    def __init__(self, factor=1.0):
        self.factor, self.seen = factor, []

    def __call__(self, before, after):
        self.seen.append(len(before))
        return self.factor * (before - after)


def test_what_is_too_large_for_a_runtime_comes_in_parts_or_to_pytorch():
    by_pytorch = []

    def plain(before, after):
        by_pytorch.append(tuple(before.shape))
        return [before - after]

    network = InRuntime(plain, limited := Limited())
    for count, side in ((5, 16), (5, 16), (1, 32)):
        dates = torch.rand(2, count, 3, side, side).unbind()
        assert torch.equal(network(*dates)[0], dates[0] - dates[1])
    assert limited.seen == 2 * [2, 2, 1]
    assert by_pytorch == [(1, 3, 16, 16), (1, 3, 32, 32)]  # to compare the first image, once; and the large one


@pytest.mark.parametrize("wrong", [1.2, torch.nan])
def test_a_runtime_that_computes_something_else_is_left_out(wrong, caplog):
    network = InRuntime(lambda before, after: [before - after], limited := Limited(wrong))
    for _ in range(2):
        dates = torch.rand(2, 3, 3, 16, 16).unbind()
        assert torch.equal(network(*dates)[0], dates[0] - dates[1])
    assert limited.seen == [2, 1]
    assert caplog.messages == ["Limited: its logits differ from PyTorch's; PyTorch predicts"]
    assert network.agrees is False


def test_prediction_by_openvino_is_recorded_and_resumed_by_it_alone(checkpoint, drawn_set, tmp_path, capsys):
    pytest.importorskip("openvino")
    for backend in ("openvino", "torch"):
        predict_set(checkpoint, drawn_set, tmp_path / backend, "--no-report", "--backend", backend)
    found, expected = (metrics_of(tmp_path / backend) for backend in ("openvino", "torch"))
    assert found["protocol"]["backend"] == "openvino"
    assert found["scores"]["f1"] == pytest.approx(expected["scores"]["f1"], abs=2e-3)
    said = "other settings (backend: openvino there, torch here)"
    fails(lambda: predict_set(checkpoint, drawn_set, tmp_path / "openvino", "--skip-existing"), capsys, said)
