"""The benchmark: turns, medians and ratios from known times; and tiny suites, each with its numbers."""

import sys
from functools import partial
from itertools import count

import pytest
from torch import device, nn, ones

from models import build_model
from tests import plain
from tests.scripts import add_network, fails
from tools.benchmarks import suites
from tools.benchmarks.__main__ import SUITES, main
from tools.benchmarks.measuring import Case, Measured, compared, interleaved, read_measured, spread, table
from tools.benchmarks.suites import LAYOUTS


def cells(text):
    """Of a table: a case's cells by its name."""
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith("|")]
    return {name: rest for name, *rest in rows[2:]}


def test_cases_take_turns_and_ratios_are_taken_within_a_round():
    now, order, seconds = [0.0], [], {"plain": [99, 2, 20, 8], "exact": [99, 1, 5, 2]}  # the first is the warm-up

    def run(name):
        order.append(name)
        now[0] += seconds[name].pop(0)

    cases = [Case("plain", lambda: run("plain"), 4, "plain"), Case("exact", lambda: run("exact"), 2, "plain", "same")]
    plain, exact = interleaved(cases, 3, lambda: now[0])
    assert order == ["plain", "exact"] * 4
    assert (plain.values, plain.ratio) == ([2, 0.2, 0.5], [])
    assert (exact.values, exact.ratio) == ([2, 0.4, 1], [1, 2, 2])
    found = cells(table({"a": [plain, exact]}))
    assert found["plain"] == ["0.500 pairs/s (0.350 to 1.25)", "", "", ""]
    assert found["exact"] == ["1.00 pairs/s (0.700 to 1.50)", "2.00 (1.50 to 2.00)", "plain", "same"]
    assert [spread([x]) for x in (0.6221, 6.221, 62.21, 622.1)] == ["0.622", "6.22", "62.2", "622"]


def test_less_time_and_less_memory_are_better(tmp_path):
    """What --markdown wrote is read back; a case that is not there, or had another unit, is not compared."""
    old = [Measured("net", "", "pairs/s", "", [50.0, 60, 70], []), Measured("start", "", "s", "", [3.0], [])]
    old += [Measured("peak", "", "MB", "", [250.0], []), Measured("other", "", "s", "", [1.0], [])]
    (tmp_path / "old.md").write_text(f"# Speed\n\n{table({'a': old})}\n(somewhere)\n")
    new = [Measured("net", "", "pairs/s", "", [90.0], []), Measured("start", "", "s", "", [2.0], [])]
    new += [Measured(case, "", "MB", "", [100.0], []) for case in ("peak", "other", "new")]
    found = cells(compared({"a": new}, read_measured(tmp_path / "old.md")))
    assert found["net"] == ["90.0 pairs/s", "60.0 pairs/s (55.0 to 65.0)", "1.50"]
    assert [found[name][-1] for name in ("start", "peak", "other")] == ["1.50", "2.50", ""]
    assert found["new"] == ["100 MB", "not measured", ""]


def test_which_suites_run_and_how_often(monkeypatch):
    ran = []
    for name in SUITES:
        monkeypatch.setattr(suites, name, lambda *given, name=name: [Case(name, partial(ran.append, name))])
    main(["--device", "cpu"], count().__next__)
    main(["startup", "training", "--short", "--device", "cpu"], count().__next__)
    assert ran == [name for name in SUITES for _ in range(10)] + ["startup"] * 4 + ["training"] * 3


@pytest.mark.parametrize("text", ["", "\x00", "| a | b |\n", "| suite | case | measured |\n| - | - | - |\n"])
def test_other_files_are_refused_before_anything_runs(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setattr(suites, "memory", pytest.fail)
    (tmp_path / "a.md").write_text(text)
    fails(lambda: main(["memory", "--against", str(tmp_path / "a.md")]), capsys, "a.md: has no table that")


def measured(monkeypatch, folder, model, *names):
    """The cells of tiny suites, by a clock on which every run takes a second."""
    small = {"SIDE": 64, "PAIRS": (2,), "TRAINED": 2, "STEPS": 1, "DRAWN": 2, "REPEATS": 2, "MODELS": (model,)}
    for name, value in {**small, "BACKENDS": ("torch", "absent"), "BATCHES": {"none": 2, "amfnet": 2}}.items():
        monkeypatch.setattr(suites, name, value)
    monkeypatch.setattr("tools.benchmarks.__main__.ROUNDS", 1)
    main([*names, "--device", "cpu", "--markdown", str(folder / "a.md")], count().__next__)
    return cells((folder / "a.md").read_text())


def test_tiny_suites_of_inference_loading_and_prediction(tmp_path, monkeypatch, capsys):
    found = measured(monkeypatch, tmp_path, "hanet", "inference", "loading", "prediction")
    assert found["hanet, batch 2, torch"][1:] == ["1.00", "hanet, batch 2, plain", "0.000% of pixels flipped"]
    assert 0 < float(found["hanet, batch 2, torch bf16"][-1].partition("%")[0]) < 2, "a few are near the threshold"
    assert "hanet, absent: left out (--backend absent: not known" in capsys.readouterr().err
    assert found["files, amfnet"] == [found["decoding"][0], "1.00", "decoding", ""]
    assert found["cache, amfnet"] == ["4.00 pairs/s", "1.00", "files, amfnet", ""]
    assert found["files, hanet"] == ["2.00 pairs/s", "1.00", "network, hanet", ""]


def test_a_network_without_a_plain_form_is_measured_alone(tmp_path, monkeypatch):
    class Nearly(nn.Module):
        size_divisor = 1

        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, before, after):
            return [self.head(after - before)]

    add_network(monkeypatch, "nearly", Nearly)
    found = measured(monkeypatch, tmp_path, "nearly", "inference", "training")
    assert found["nearly, batch 2, torch"] == ["2.00 pairs/s", "", "", "0.000% of pixels flipped"]
    assert found["nearly, batch 2, torch bf16"][1:3] == ["1.00", "nearly, batch 2, torch"]
    assert found["step, nearly, batch 2, exact"] == ["2.00 pairs/s", "", "", ""]
    monkeypatch.setattr(suites, "in_own_process", lambda *case: 60)
    assert [case.name for case in suites.memory(None, device("cpu"), short=False)] == [
        f"nearly, {side} x {side}, exact" for side in suites.SIDES
    ]


def test_a_tiny_suite_of_training(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "twins", partial(plain.twins, backbone="resnet18"))
    monkeypatch.setattr(suites, "build_model", partial(build_model, backbone="resnet18"))
    found = measured(monkeypatch, tmp_path, "amfnet", "training")
    names = [*(f"step, amfnet, batch 2, {form}" for form in LAYOUTS), "training, amfnet", "training, amfnet, bf16"]
    assert [found[name] for name in names[1:]] == [["2.00 pairs/s", "1.00", base, ""] for base in names[:-1]]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak does not start anew")
def test_memory_is_that_of_one_prediction_and_taken_once(monkeypatch):
    network = nn.Module()
    network.forward = lambda before, after: ones(4 if before.shape[-1] == 64 else 8, 2**21)  # 32 or 64 MB
    monkeypatch.setattr(suites, "forms_of", lambda name, device: {"exact": network})
    assert 31 <= suites.peak("any", "exact", 64, device("cpu")) < 60
    monkeypatch.setattr(suites, "in_own_process", lambda peak, name, form, *rest: {"plain": 300, "exact": 60}[form])
    rows = interleaved(suites.memory(None, device("cpu"), short=True), 2, None)
    assert [row[4:] for row in rows] == [([300], []), ([60], [5])]
    assert rows[1][:3] == ("hanet, 1024 x 1024, exact", "hanet, 1024 x 1024, plain", "MB")


def test_what_is_wrong_is_said(monkeypatch, capsys):
    with pytest.raises(ValueError, match="exit code 2: predict_batch.py: error: --nonsense"):
        suites.in_python("--nonsense")
    monkeypatch.setitem(sys.modules, "tests.plain", None)
    with pytest.raises(FileNotFoundError, match="complete checkout"):
        suites.forms_of("hanet", device("cpu"))
    with pytest.raises(SystemExit, match="2"):
        main(["speed"])
    assert "invalid choice: 'speed'" in capsys.readouterr().err
