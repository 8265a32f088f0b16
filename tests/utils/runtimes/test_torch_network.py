"""Half precision and compiling: what they give, what they log, and what happens where they fail."""

import pytest
import torch
from torch import nn

from tests.scripts import fails, metrics_of, predict_set
from utils.prediction import predictor as predictor_module
from utils.prediction.predictor import ChangePredictor
from utils.runtimes.torch_network import Bfloat16, Compiled


def batch(count, height=32, width=32, seed=0):
    """Both dates of random images, uint8 (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, count, 3, height, width), dtype=torch.uint8, generator=generator).unbind()


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


def test_flipped_pixels_are_counted_on_the_first_batches(checkpoint, monkeypatch):
    plain, half = ChangePredictor(checkpoint, "cpu"), ChangePredictor(checkpoint, "cpu", precision="bf16")
    assert (plain.flipped, plain.turned_out()) == ((0, 0), {"backend": "torch"})
    monkeypatch.setattr(predictor_module, "SAMPLE", 3 * 64 * 64)
    flipped = 0
    for seed in range(3):
        dates = batch(2, 64, 64, seed)
        exact = plain.probability(*dates)
        half.threshold = float(exact.median())
        found = half.probability(*dates)
        assert 1e-5 < (found - exact).abs().mean() < 0.05
        if seed < 2:  # four images, as the sample is not full before
            flipped += int(((found > half.threshold) != (exact > half.threshold)).sum())
        assert half.flipped == (flipped, (2 + 2 * min(seed, 1)) * 64 * 64)
    assert flipped > 0
    expected = {"share": flipped / (4 * 64 * 64), "pixels": 4 * 64 * 64}
    assert half.turned_out() == {"backend": "torch", "moved_by_bf16": expected}


def broken_by(error):
    """torch.compile of a network that raises an error, or gives other logits."""

    def compiled(network, **options):
        def run(*dates):
            if error:
                raise error
            return [1.2 * network(*dates)[0]]

        return run

    return compiled


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("no C++ compiler\nbut a long trace"), "no C++ compiler"),
        (NotImplementedError(), "NotImplementedError"),
        (None, "its logits differ from PyTorch's"),
    ],
)
def test_where_compiling_fails_pytorch_predicts(error, why, checkpoint, monkeypatch, caplog):
    monkeypatch.setattr(torch, "compile", broken_by(error))
    predictor, plain = ChangePredictor(checkpoint, "cpu", backend="compile"), ChangePredictor(checkpoint, "cpu")
    assert predictor.turned_out() == {"backend": "compile"}
    for _ in range(2):
        assert torch.equal(predictor.probability(*batch(2)), plain.probability(*batch(2)))
    assert caplog.messages == [f"--backend compile: not possible here, so PyTorch predicts ({why})"]
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
        found, expected = (each.probability(*batch(count, side, side)) for each in (predictor, plain))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert sizes == [3, 4, 4, 2, 8, 4, 4, 4]
    assert predictor.model.backend == "compile"


class Small(nn.Module):
    """What compiling meets in a network: convolutions, frozen weights, two dates, a list."""

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


def test_prediction_keeps_precision_in_its_protocol(checkpoint, drawn_set, tmp_path, capsys):
    flags = (checkpoint, drawn_set, tmp_path, "--no-report", "--threshold", 0.4)
    predict_set(*flags, "--precision", "bf16")
    protocol = metrics_of(tmp_path)["protocol"]
    assert (protocol["precision"], protocol["backend"]) == ("bf16", "torch")
    assert protocol["moved_by_bf16"]["pixels"] == 4 * 64 * 64
    share, said = protocol["moved_by_bf16"]["share"], capsys.readouterr().err
    assert f"bf16: {100 * share:.4f} % of the first 16384 pixels are on the other side of the threshold" in said
    fails(lambda: predict_set(*flags, "--skip-existing"), capsys, "other settings (precision: bf16 there, fp32 here)")
