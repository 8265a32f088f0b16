"""The benchmark: who takes turns with whom, what is compared with what, and that the suites run."""

import json
import sys
from functools import partial
from mmap import mmap

import pytest
import torch

from models import build_model
from tools import benchmark, network_suites, suites
from tools.benchmark import Case, Timing, interleaved, main, peaks, summary
from tools.costs import count_macs
from utils import machine as memory
from utils.runtimes.input_scaling import scaling_from


def test_cases_take_turns_and_the_first_round_does_not_count():
    order = []
    cases = [Case(name, lambda name=name: order.append(name), 1, "a") for name in "abc"]
    timings = interleaved(cases, 2)
    assert order == list("abcabcabc")
    assert {name: len(rounds) for name, rounds in timings.items()} == {"a": 2, "b": 2, "c": 2}


def test_ratios_are_taken_within_a_round():
    """A round in which everything takes ten times as long changes no ratio; speeds are by pair."""
    cases = [Case("base", print, 100, "base"), Case("half", print, 50, "base")]
    timings = {"base": [Timing(1, 0.5), Timing(10, 0.5)], "half": [Timing(1, 1.0), Timing(10, 1.0)]}
    base, half = summary(cases, timings)
    assert base["values"] == [100, 10]
    assert half["ratio"] == [0.5, 0.5]
    assert (half["cpu_ms_per_pair"], half["cpu_ratio"]) == ([20, 20], [0.25, 0.25])
    assert "share_of_peak" not in half


def test_the_share_of_the_peak_is_taken_within_a_round():
    """2 GFLOP in 1 s, of 10 that the machine does in 1 s; then everything at half the speed."""
    cases = [
        Case("mm", print, 1, "mm", operations=10e9, peak="mm"),
        Case("net", print, 4, "net", "", "pairs/s", 5e8, "mm"),
    ]
    peak, net = summary(cases, {"mm": [Timing(1, 1), Timing(2, 2)], "net": [Timing(1, 1), Timing(2, 2)]})
    assert (peak["gflops"], net["gflops"]) == ([10, 5], [2, 1])
    assert (peak["share_of_peak"], net["share_of_peak"]) == ([1, 1], [0.2, 0.2])


def test_a_start_is_told_in_seconds():
    case = Case("help", print, 1, "help", unit="s")
    (row,) = summary([case], {"help": [Timing(0.25, 0.2), Timing(0.5, 0.3)]})
    assert (row["unit"], row["values"], row["cpu_ms_per_pair"]) == ("s", [0.25, 0.5], [200, 300])


def test_operations_are_those_of_the_counts():
    """A product of matrices of 2048: two operations a multiply-add; of a network as tools.costs counts."""
    case = network_suites.machine_peak(torch.device("cpu"), torch.float32)
    assert (case.operations, case.name, case.peak) == (2 * 2048**3, "torch.mm, float32", case.name)
    network = build_model("hanet", width=4)
    total = sum(each.total for each in count_macs(network, 256, 256))
    assert network_suites.operations(network) == 2 * total


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_scaled_does_what_a_prediction_does(layout):
    """The plain form's scaling and softmax are those of the product, so the base does the same work."""
    scaling = scaling_from({"mean": [[0.4, 0.5, 0.6], [0.3, 0.2, 0.1]], "std": [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]})
    seen = []
    scaled = network_suites.Scaled(lambda *dates: seen.extend(dates) or [dates[0][:, :2]], scaling, layout)
    before, after = torch.randint(256, (2, 2, 3, 8, 8), dtype=torch.uint8)
    found = network_suites.predicted(scaled, [before, after])
    assert all(torch.equal(x, y) for x, y in zip(seen, scaling(before, after), strict=True))
    assert all(x.is_contiguous(memory_format=layout) for x in seen)
    assert torch.equal(found, seen[0][:, :2].softmax(1)[:, 1])


def test_a_script_that_fails_says_why():
    with pytest.raises(ValueError, match=r"exit code 2 and said: .*--nonsense"):
        suites.script("--nonsense")
    suites.script("--help")


def test_the_busiest_process_is_timed(monkeypatch):
    clocks = iter([{1: 0.0, 2: 5.0}, {1: 0.5, 2: 5.1, 3: 0.25}] * 2)
    monkeypatch.setattr(benchmark, "cpu_seconds", lambda: next(clocks))
    assert interleaved([Case("a", dict, 1, "a")], 1)["a"][0].cpu == 0.5


def test_memory_is_compared_and_not_timed():
    values = {"plain": 300.0, "exact": 100.0}
    rows = peaks([Case(name, partial(values.get, name), 1, "plain", unit="MB") for name in values])
    assert [(row["values"], row["ratio"]) for row in rows] == [([300], [1]), ([100], [3])]


@pytest.mark.skipif(not memory.STATUS.exists(), reason="the peak starts anew on Linux alone")
def test_the_peak_is_that_since_it_was_forgotten():
    large = bytearray(64 << 20)
    del large
    memory.forget_peak()
    before = memory.resident()
    assert 0 <= memory.peak_resident() - before < 16
    with mmap(-1, 32 << 20) as large:  # of the system, and not of what this process holds unused
        large.write(b"1" * (32 << 20))
    assert 31 <= memory.peak_resident() - before < 80, "a page or two of the rest may have gone meanwhile"


def test_suites_of_plain_forms_say_where_these_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "tests.plain", None)
    monkeypatch.delattr("tests.plain", raising=False)
    with pytest.raises(FileNotFoundError, match="tests/plain.* whole checkout"):
        network_suites.memory(suites.Setting(None, torch.device("cpu")))


@pytest.fixture
def tiny(monkeypatch):
    """Suites of few and small pairs."""
    for name, value in {
        "DRAWN": 8,
        "COPIES": 1,
        "PREDICTED": 2,
        "SCENE": 128,
        "WINDOW": 64,
        "TOGETHER": (1, 2),
    }.items():
        monkeypatch.setattr(suites, name, value)
    small = {"TRAINED": (2, 1), "SIDE": 64, "PAIRS": (2,), "SIDES": (128,), "PRODUCT": {"cpu": 128}}
    for name, value in small.items():
        monkeypatch.setattr(network_suites, name, value)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_suites_run(tmp_path, tiny, monkeypatch, capsys):
    slow = ("compile", "onnxruntime")  # to prepare
    monkeypatch.setattr(network_suites, "BACKENDS", [name for name in network_suites.BACKENDS if name not in slow])
    main(["--rounds", "1", "--device", "cpu", "--json", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["suites"]) == set(benchmark.SUITES)
    assert isinstance(found["freed_memory_kept"], bool)
    out = capsys.readouterr().out
    for name, rows in found["suites"].items():
        assert all(len(row["ratio"]) == 1 and row["values"][0] > 0 for row in rows)
        assert f"{name}\n" in out
    ratio = {row["case"]: row["ratio"][0] for row in found["suites"]["memory"]}
    assert ratio["hanet, 128 x 128, exact"] > 1.5
    inference = {row["case"]: row for row in found["suites"]["inference"]}
    for name in ("amfnet", "hanet"):
        assert inference[f"{name}, batch 2, torch"]["base"] == f"{name}, batch 2, plain"
        assert inference[f"{name}, batch 2, torch"]["note"] == "0.000% of the pixels move"
        moved = float(inference[f"{name}, batch 2, torch bf16"]["note"].partition("%")[0])
        assert 0 < moved < 2, "bfloat16 moves a few pixels that lie on the edge"
        assert inference[f"{name}, batch 2, plain"]["share_of_peak"][0] > 0
    against = {row["case"]: row["base"] for row in found["suites"]["training"]}
    assert against["step, hanet, batch 2, exact"] == "step, hanet, batch 2, plain"
    assert against["training, amfnet"] == "step, amfnet, batch 2, exact"
    loading = {row["case"]: row for row in found["suites"]["loading"]}
    assert loading["cache, amfnet"]["base"] == "files, amfnet"
    bases = {row["base"] for row in found["suites"]["tiling"]}
    assert bases == {f"{name}, windows of 64, one by one" for name in ("amfnet", "hanet")}
    assert {row["base"] for row in found["suites"]["prediction"]} == {"network, amfnet", "network, hanet"}
    help_text, first_map = found["suites"]["startup"]
    assert 0 < help_text["values"][0] < first_map["values"][0]


@pytest.mark.parametrize("argv", [["speed"], ["--rounds", "0"]])
def test_wrong_words(argv, capsys):
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    known = "inference, training, loading, doctor, prediction, tiling, startup, memory"
    expected = {"speed": f"no suite 'speed'; there are {known}", "0": "at least 1"}[argv[-1]]
    assert expected in capsys.readouterr().err


def test_the_short_choice_leaves_out_what_takes_minutes(tmp_path, tiny, monkeypatch):
    """In brief: no compiled form, no training loop, HANet's largest memory alone, two augmentations."""
    asked = []
    small = {form: torch.nn.Conv2d(3, 2, 1) for form in network_suites.LAYOUTS}
    monkeypatch.setattr(network_suites, "twins", lambda name, device: small)
    monkeypatch.setattr(network_suites, "operations", lambda network: 1.0)
    monkeypatch.setattr(
        network_suites, "probabilities", lambda name, setting: asked.append(setting.brief) or {"plain": (still, 0.0)}
    )
    setting = suites.Setting(tmp_path, torch.device("cpu"), brief=True)
    assert [case.name for case in network_suites.memory(setting)] == [
        "hanet, 128 x 128, plain",
        "hanet, 128 x 128, exact",
    ]
    assert [case.name.split(", ")[0] for case in network_suites.training(setting)] == ["torch.mm"] + 4 * ["step"]
    assert len(network_suites.inference(setting)) == 4
    assert asked == [True, True]
    assert benchmark.parse(["--short"]).suites == list(benchmark.BRIEF)
    assert benchmark.parse(["--short", "tiling", "--rounds", "3"]).suites == ["tiling"]


def still(before, after):
    """Nothing changes anywhere."""
    return torch.zeros(len(before), *before.shape[2:])


def test_backends_are_those_that_are_here(tmp_path, tiny, monkeypatch, capsys):
    """One that cannot be had is left out, and said so; one that falls back to another is not counted as itself."""

    class Predictor:
        def __init__(self, path, device, precision, backend):
            if backend == "absent":
                raise ValueError("--backend absent: pip install it")
            self.model = Model()
            self.model.backend = "torch" if backend == "broken" else backend

    class Model:
        device = torch.device("cpu")

        def __call__(self, before, after):
            return still(before, after)

    monkeypatch.setattr(network_suites, "ChangePredictor", Predictor)
    monkeypatch.setattr(network_suites, "BACKENDS", ("torch", "compile", "absent", "broken", "fast"))
    monkeypatch.setattr(network_suites, "operations", lambda network: 1e9)
    setting = suites.Setting(tmp_path, torch.device("cpu"), brief=True)
    found = network_suites.probabilities("hanet", setting)
    assert list(found) == ["plain", "modules", "torch", "fast", "torch bf16", "fast bf16"]
    assert "hanet, absent: left out (--backend absent: pip install it)" in capsys.readouterr().err
    images = [torch.zeros(1, 3, 64, 64, dtype=torch.uint8)] * 2
    assert network_suites.predicted(found["plain"][0], images).shape == (1, 64, 64)


def test_every_size_of_a_batch_has_models_of_its_own(tmp_path, monkeypatch):
    """One that was compiled for 8 pairs fills a batch of 1 up to as many, and would be timed so."""
    opened = []

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.sizes = set()
            opened.append(self)

        def forward(self, before, after):
            self.sizes.add(len(before))
            return torch.zeros(len(before), 8, 8)

    monkeypatch.setattr(network_suites, "probabilities", lambda *asked: {"plain": (Model(), 1.0)})
    for case in network_suites.inference(suites.Setting(tmp_path, torch.device("cpu"))):
        case.run()
    assert [model.sizes for model in opened] == [{1}, {8}] * 2


def test_what_was_written_is_read_compared_and_drawn(tmp_path, monkeypatch, capsys):
    """--json of one run is another's --against; --read measures nothing."""
    cases = [Case("base", dict, 2, "base"), Case("other", dict, 2, "base", unit="pairs/s")]
    monkeypatch.setattr(benchmark, "SUITES", {"mine": lambda setting: cases})
    written, page, picture = (tmp_path / name for name in ("a.json", "table.md", "bars.svg"))
    main(["mine", "--rounds", "2", "--device", "cpu", "--json", str(written)])
    first = json.loads(written.read_text())
    assert [len(row["values"]) for row in first["suites"]["mine"]] == [2, 2]
    assert first["command"] == "python -m tools.benchmark mine --rounds 2 --device cpu"
    capsys.readouterr()
    cases.clear()
    main(["--read", str(written), "--against", str(written), "--markdown", str(page), "--picture", str(picture)])
    out = capsys.readouterr().out
    assert [line.split()[-3:] for line in out.splitlines() if line.startswith("mine: other")][0][0] == "1.00"
    assert picture.read_text().count("bar mine: other") == 1
    assert first["machine"] in page.read_text()


def test_files_of_others_are_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "measure", lambda *args: pytest.fail("measured"))
    (tmp_path / "other.json").write_text('{"suites": {"a": [{"case": "b"}]}}')
    for flags, words in (
        (
            ["--against", str(tmp_path / "other.json")],
            "other.json: not a file that python -m tools.benchmark --json wrote",
        ),
        (["--read", str(tmp_path / "none.json")], "none.json: No such file"),
        (["--picture", "bars.bmp"], "bars.bmp: figures are written as .png"),
    ):
        with pytest.raises(SystemExit) as left:
            main(flags)
        assert left.value.code == 2
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
