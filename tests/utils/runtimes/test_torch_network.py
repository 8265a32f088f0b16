"""Half precision and compiling: what they give, what they tell, and what happens where they fail."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import predict_batch
from utils.prediction import predictor as predictor_module
from utils.prediction.predictor import ChangePredictor
from utils.runtimes.torch_network import Bfloat16, Compiled


def images(side=32, count=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 2, side, side, 3), np.uint8)


def batch(count, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, count, 3, side, side), dtype=torch.uint8, generator=generator).unbind()


@torch.inference_mode()
def test_bfloat16_is_autocast_with_weights_cast_once(checkpoint):
    network = ChangePredictor(checkpoint, "cpu").model.network
    half, dates = Bfloat16(network), [x.float() / 255 for x in batch(2)]
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(*dates)[0].float()
    found = half(*dates)[0]
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert not torch.equal(found, network(*dates)[0])
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_moved_pixels_are_counted_on_the_first_batches(checkpoint, monkeypatch):
    plain, half = ChangePredictor(checkpoint, "cpu"), ChangePredictor(checkpoint, "cpu", precision="bf16")
    assert (plain.flipped, plain.turned_out()) == ((0, 0), {"backend": "torch"})
    monkeypatch.setattr(predictor_module, "SAMPLE", 3 * 64 * 64)
    moved = 0
    for seed in range(4):
        dates = batch(2, 64, seed)
        exact = plain.probability(*dates)
        half.threshold = float(exact.median())
        found = half.probability(*dates)
        assert 1e-5 < (found - exact).abs().mean() < 0.05
        if seed < 2:  # four images, as the sample is not full before
            moved += int(((found > half.threshold) != (exact > half.threshold)).sum())
        assert half.flipped == (moved, (2 + 2 * min(seed, 1)) * 64 * 64)
    assert moved > 0
    expected = {"share": moved / (4 * 64 * 64), "pixels": 4 * 64 * 64}
    assert half.turned_out() == {"backend": "torch", "moved_by_bf16": expected}


@pytest.mark.parametrize("error", [RuntimeError("no C++ compiler\nbut a long trace"), NotImplementedError()])
def test_where_compiling_fails_pytorch_goes_on(error, checkpoint, monkeypatch, caplog):
    def broken(*dates):
        raise error

    monkeypatch.setattr(torch, "compile", lambda network, **options: broken)
    predictor, plain = ChangePredictor(checkpoint, "cpu", backend="compile"), ChangePredictor(checkpoint, "cpu")
    assert predictor.turned_out() == {"backend": "compile"}
    for _ in range(2):
        assert torch.equal(predictor.probability(*batch(2)), plain.probability(*batch(2)))
    why = "no C++ compiler" if str(error) else "NotImplementedError"
    said = f"--backend compile: not possible here, so PyTorch predicts ({why})"
    assert [record.getMessage() for record in caplog.records] == [said]
    assert predictor.turned_out() == {"backend": "torch"}


def test_smaller_batches_are_filled_up_and_memory_may_run_out(checkpoint, monkeypatch):
    sizes = []

    def compiled(network, **options):
        def run(before, after):
            sizes.append(len(before))
            if len(before) > 4:
                raise torch.OutOfMemoryError
            return network(before, after)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    predictor, plain = ChangePredictor(checkpoint, "cpu", backend="compile"), ChangePredictor(checkpoint, "cpu")
    for count, side in ((3, 32), (4, 32), (1, 32), (2, 64), (8, 32), (3, 32)):
        found, expected = (each.probability(*batch(count, side)) for each in (predictor, plain))
        assert found.shape == (count, side, side)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert sizes == [3, 4, 4, 2, 8, 4, 4, 4]
    assert predictor.model.backend == "compile"


def test_what_is_compiled_to_something_else_is_left_out(checkpoint, monkeypatch, caplog):
    monkeypatch.setattr(torch, "compile", lambda network, **options: lambda *dates: [1.2 * network(*dates)[0]])
    predictor, plain = ChangePredictor(checkpoint, "cpu", backend="compile"), ChangePredictor(checkpoint, "cpu")
    assert torch.equal(predictor.probability(*batch(2)), plain.probability(*batch(2)))
    (said,) = caplog.messages
    assert "so PyTorch predicts (its logits differ from PyTorch's)" in said
    assert predictor.turned_out() == {"backend": "torch"}


class Small(nn.Module):
    """What compiling has to do with in a network: convolutions, frozen weights, two dates, a list."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, before, after):
        return [self.conv(before) - self.conv(after)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("half", [False, True])
@torch.inference_mode()
def test_what_is_compiled_gives_the_same(half, caplog):
    network = Small().eval().requires_grad_(False)
    network = Bfloat16(network) if half else network
    compiled = Compiled(network, torch.device("cpu"))
    for count in (2, 1):
        dates = torch.rand(2, count, 3, 16, 24).unbind()
        found, expected = compiled(*dates)[0], network(*dates)[0]
        if compiled.compiled is None:
            pytest.skip(f"nothing compiles here: {caplog.text}")
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-2 if half else 1e-5)


@pytest.mark.parametrize(
    ("path", "flags", "says"),
    [
        ("best.pt", {"precision": "fp16"}, "--precision fp16: not known; choose one of fp32, bf16"),
        ("best.pt", {"backend": "tvm"}, "--backend tvm: not known; choose one of torch, compile"),
        ("best.onnx", {"precision": "bf16"}, r"--precision bf16: not for best\.onnx; predict with the \.pt"),
        ("best.onnx", {"backend": "compile"}, r"--backend compile: not for best\.onnx; predict with"),
        ("best.pt", {"precision": "bf16", "backend": "onnxruntime"}, "--precision bf16: onnxruntime has none on a CPU"),
    ],
)
def test_what_cannot_be_asked_for(path, flags, says):
    with pytest.raises(ValueError, match=says):
        ChangePredictor(path, "cpu", **flags)


def test_prediction_keeps_precision_in_its_protocol(checkpoint, drawn_set, tmp_path, capsys):
    words = ["--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out", "--device", "cpu"]
    words = [str(word) for word in [*words, "--no-report"]]
    predict_batch.main([*words, "--precision", "bf16", "--threshold", "0.4"])
    protocol = json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"]
    assert (protocol["precision"], protocol["backend"]) == ("bf16", "torch")
    assert protocol["moved_by_bf16"]["pixels"] == 4 * 64 * 64
    share, said = protocol["moved_by_bf16"]["share"], capsys.readouterr().err
    assert f"bf16: {100 * share:.4f} % of the first 16384 pixels are on the other side of the threshold" in said
    with pytest.raises(SystemExit):
        predict_batch.main([*words, "--threshold", "0.4", "--skip-existing"])
    assert "other settings (precision: bf16 there, fp32 here)" in capsys.readouterr().err
