"""What `auto` chooses and why, what it leaves in the protocol, and what cannot be opened."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import predict_batch
from tests.scripts import fails, predict
from utils.prediction import predictor as predictor_module
from utils.prediction.predictor import ChangePredictor
from utils.prediction.records import Records
from utils.prediction.sharing import Share
from utils.runtimes import opening as backends
from utils.runtimes import torch_network
from utils.runtimes.opening import candidates, fastest

CPU = torch.device("cpu")
BEST = Path("best.pt")


class Fake:
    """A network whose probabilities and time are as they are told."""

    device = CPU

    def __init__(self, backend, found, seconds, clock):
        self.backend, self.found, self.seconds, self.clock = backend, found, seconds, clock

    def __call__(self, before, after):
        self.clock[0] += self.seconds
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def opener(fakes):
    """Opens fakes; `broken` cannot be."""

    def open_network(path, device, precision, name):
        if name == "broken":
            raise ValueError
        return fakes[name]

    return open_network


@pytest.fixture
def chosen(monkeypatch):
    """Have `auto` choose among fakes: name -> (probabilities, seconds); gives the name."""

    def choose(told, threshold=0.5, usual="torch"):
        clock = [0.0]
        fakes = {name: Fake(name, *each, clock) for name, each in told.items()}
        monkeypatch.setattr(backends, "candidates", lambda *asked: list(fakes))
        monkeypatch.setattr(backends, "open_network", opener(fakes))
        monkeypatch.setattr(backends.time, "perf_counter", lambda: clock[0])
        dates = torch.zeros(2, 2, 3, 8, 8, dtype=torch.uint8).unbind()
        return fastest(BEST, fakes[usual], CPU, "fp32", threshold, dates).backend

    return choose


def test_the_fastest_that_agrees_is_taken_and_the_times_are_told(chosen, caplog):
    exact = torch.linspace(0, 1, 128).view(2, 8, 8)
    moved, apart = exact.clone(), exact.clone()
    moved[exact > 0.5] = moved[exact > 0.5].where(exact[exact > 0.5] > 0.504, 0.4999)  # one pixel, by very little
    apart[0, 0, 0] += 0.01
    with caplog.at_level("INFO"):
        assert chosen({"torch": (exact, 0.4), "b": (exact + 1e-4, 0.2), "c": (exact, 0.3)}) == "b"
        assert caplog.messages == [
            "--backend auto: b (ms a pair: torch 200.0, b 100.0, c 150.0; compile takes minutes and was not tried)"
        ]
        caplog.clear()
        assert chosen({"torch": (exact, 0.4), "b": (moved, 0.1), "c": (apart, 0.1), "d": (exact, 0.3)}) == "d"
    assert [message.split(", and")[0] for message in caplog.messages[:2]] == [
        "--backend auto: b is left out (moves 1 pixels",
        "--backend auto: c is left out (moves 0 pixels",
    ]
    assert chosen({"torch": (exact, 0.1), "b": (exact, 0.2)}) == "torch"


def test_what_fails_is_left_out(chosen, caplog):
    def warnings():
        return [record.message for record in caplog.records if record.levelname == "WARNING"]

    exact = torch.rand(2, 8, 8)
    assert chosen({"torch": (exact, 0.2), "b": (RuntimeError("no kernel\nat line 7"), 0.1)}) == "torch"
    assert warnings() == ["--backend auto: b is left out (no kernel)"]
    assert chosen({"torch": (exact, 0.2), "broken": (exact, 0.1)}) == "torch"
    assert warnings()[1:] == ["--backend auto: broken is left out (ValueError)"]
    assert (
        chosen({"torch": (exact.log() * 0, 0.2), "b": (exact * torch.nan, 0.1)}) == "torch"
    )  # of a network that diverged
    # who then predicts will halve the batch
    assert chosen({"torch": (MemoryError(), 0.2), "b": (exact, 0.1)}) == "torch"


def test_what_cannot_be_timed_is_not_taken(chosen, monkeypatch, caplog):
    def no_memory(networks, dates):
        raise MemoryError

    monkeypatch.setattr(backends, "_milliseconds", no_memory)
    exact = torch.rand(2, 8, 8)
    assert chosen({"torch": (exact, 0.2), "b": (exact, 0.1)}) == "torch"
    assert caplog.messages == ["--backend auto: torch, as the others could not be timed (MemoryError)"]


def test_onnxruntime_is_not_tried_on_what_it_would_leave_to_pytorch(monkeypatch, checkpoint, caplog):
    monkeypatch.setattr(backends, "candidates", lambda *asked: ["torch", "onnxruntime"])
    usual, dates = ChangePredictor(checkpoint, "cpu").model, [torch.zeros(1, 3, 520, 512, dtype=torch.uint8)] * 2
    with caplog.at_level("INFO"):
        assert fastest(checkpoint, usual, CPU, "fp32", 0.5, dates) is usual
    assert caplog.messages == ["--backend auto: torch, as nothing else is here that can run this"]


def test_bf16_may_move_twice_what_pytorch_moves(chosen, monkeypatch):
    exact = torch.linspace(0, 1, 128).view(2, 8, 8)

    def shifted(by):
        return (exact + by).clamp(0, 1)

    monkeypatch.setattr(
        backends, "_probability", lambda network, dates, exact=False: network(*dates) if not exact else truth
    )
    truth = exact
    monkeypatch.setattr(backends, "TorchNetwork", Fake)
    monkeypatch.setattr(Fake, "exact", "fp32", raising=False)
    assert chosen({"torch": (shifted(0.02), 0.4), "b": (shifted(-0.03), 0.1), "c": (shifted(0.06), 0.05)}) == "b"


def test_what_is_tried(monkeypatch):
    here = {"onnxruntime", "onnx", "onnxscript", "openvino"}
    monkeypatch.setattr(backends, "_installed", lambda package: package in here)
    assert candidates(BEST, CPU, "fp32") == ["torch", "onnxruntime", "openvino"]
    assert candidates(BEST, CPU, "bf16") == ["torch", "openvino"]
    assert candidates(BEST, torch.device("cuda"), "fp32") == ["torch"]
    here -= {"onnxscript"}  # the file of a checkpoint cannot be written, while one that is there runs
    assert candidates(BEST, CPU, "fp32") == ["torch", "openvino"]
    assert candidates(Path("best.onnx"), CPU, "fp32") == ["onnxruntime", "openvino"]
    here.clear()
    assert candidates(BEST, CPU, "fp32") == ["torch"]


def test_auto_is_decided_by_the_first_prediction(checkpoint, monkeypatch):
    asked = []

    def recorded(path, usual, device, precision, threshold, dates):
        asked.append((path, usual.backend, device, precision, threshold, [date.shape for date in dates]))
        return usual

    monkeypatch.setattr(predictor_module, "fastest", recorded)
    predictor, plain = (ChangePredictor(checkpoint, "cpu", backend=each, batch_size=2) for each in ("auto", "torch"))
    before, after = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    for _ in range(2):
        assert np.array_equal(predictor(before, after), plain(before, after))
    assert asked == [(checkpoint, "torch", CPU, "fp32", 0.5, 2 * [(1, 3, 40, 40)])]


@pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
def test_missing_package(package, checkpoint, drawn_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    words = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "out")
    fails(
        lambda: predict(*words, "--backend", package), capsys,
        f"--backend {package}: the package {package} cannot be imported", "pip install -r requirements-export.txt",
    )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.fixture
def as_it_is(monkeypatch):
    """torch.compile that compiles nothing: a backend of another name that takes no time."""
    monkeypatch.setattr(torch_network.torch, "compile", lambda network, **options: network)


def backend_in(file):
    content = json.loads(file.read_text())
    return content.get("protocol", content)["backend"]


def test_auto_measures_a_batch_as_it_comes_and_goes_on_with_what_it_chose(
    checkpoint, drawn_set, tmp_path, monkeypatch, as_it_is
):
    words = (
        "--checkpoint",
        checkpoint,
        "--data-root",
        drawn_set,
        "--output",
        tmp_path,
        "--no-report",
        "--tile-size",
        32,
    )
    seen = []

    def compiled(path, usual, device, precision, threshold, dates):
        seen.append(dates[0].shape)
        return backends.open_network(path, device, precision, "compile")

    monkeypatch.setattr(predictor_module, "fastest", compiled)
    predict(*words, "--backend", "auto", "--batch-size", 8)
    assert seen == [(8, 3, 32, 32)]  # of the 9 windows of the first pair
    assert backend_in(tmp_path / "protocol.json") == backend_in(tmp_path / "metrics.json") == "compile"
    (tmp_path / "mask" / "scene_0001.png").unlink()
    monkeypatch.setattr(predictor_module, "fastest", None)  # it need not choose again
    predict(*words, "--backend", "auto", "--batch-size", 8, "--skip-existing")
    assert (tmp_path / "mask" / "scene_0001.png").is_file()
    assert backend_in(tmp_path / "metrics.json") == "compile"


def test_maps_of_before_one_could_choose_are_gone_on_with(checkpoint, drawn_set, tmp_path, capsys, as_it_is):
    words = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path, "--no-report")
    predict(*words)
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    older = {name: value for name, value in protocol.items() if name not in ("backend", "precision")}
    (tmp_path / "protocol.json").write_text(json.dumps(older))
    fails(
        lambda: predict(*words, "--skip-existing", "--backend", "compile"), capsys,
        "other settings (backend: torch there, compile here)",
    )  # fmt: skip
    fails(
        lambda: predict(*words, "--skip-existing", "--precision", "bf16"), capsys,
        "other settings (precision: fp32 there, bf16 here)",
    )  # fmt: skip
    predict(*words, "--skip-existing")
    assert json.loads((tmp_path / "protocol.json").read_text()) == protocol


def test_what_ran_an_onnx_file_before_one_could_choose(tmp_path):
    assert Records(tmp_path).backend() is None
    for said in ({}, {"backend": "torch"}, {"backend": "onnxruntime"}):
        (tmp_path / "protocol.json").write_text(json.dumps({"checkpoint": "net.onnx", **said}))
        assert Records(tmp_path).backend() == "onnxruntime"


def test_with_nothing_to_read_auto_is_the_usual_one(checkpoint, data, tmp_path, capsys):
    for path in (data / "test" / "A").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(SystemExit):
        predict("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out", "--backend", "auto")
    assert backend_in(tmp_path / "out" / "protocol.json") == "torch"
    assert "4 of 4 pairs could not be predicted" in capsys.readouterr().err


def test_all_of_a_folder_is_by_one_backend(checkpoint, data, tmp_path, monkeypatch):
    """Where the first batch cannot be read, what comes after it must not choose another than the protocol says."""
    next((data / "test" / "A").glob("*_0000.png")).write_bytes(b"no image")
    monkeypatch.setattr(predictor_module, "fastest", None)
    words = ("--checkpoint", checkpoint, "--data-root", data, "--output", tmp_path / "out", "--no-report")
    predict(*words, "--backend", "auto", "--batch-size", 1, code=1)
    assert backend_in(tmp_path / "out" / "protocol.json") == "torch"
    assert backend_in(tmp_path / "out" / "metrics.json") == "torch"


def test_processes_use_what_the_first_one_chose(checkpoint, drawn_set, tmp_path, monkeypatch, as_it_is):
    """The second waits for the first one's protocol, and then does its share."""
    words = ("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path, "--no-report")
    predict(*words, "--backend", "compile")
    used = []
    monkeypatch.setattr(Share, "meet", lambda self: None)
    monkeypatch.setattr(
        predict_batch,
        "predict_jobs",
        lambda predictor, *rest: used.append((predictor.model.backend, predictor.undecided)),
    )
    monkeypatch.setattr(predictor_module, "fastest", None)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    predict(*words, "--backend", "auto")
    assert used == [("compile", False)]
