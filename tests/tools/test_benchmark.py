"""The benchmark: who takes turns with whom, what is compared with what, and that the suites run."""

import json
import sys

import pytest

from tools import benchmark, network_suites, suites
from tools.benchmark import Case, Timing, interleaved, main, peak_table, peaks, summary, table
from utils import memory


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
    assert base["pairs_per_second"] == [100, 10]
    assert half["ratio"] == [0.5, 0.5]
    assert (half["cpu_ms_per_pair"], half["cpu_ratio"]) == ([20, 20], [0.25, 0.25])
    text = table([base, half]).splitlines()
    assert text[1].split() == ["base", "55", "(10", "to", "100)", "5.00", "(5.00", "to", "5.00)"]
    assert text[2].endswith("0.50 (0.50 to 0.50)  0.25 (0.25 to 0.25)  base")


def test_the_busiest_process_is_timed(monkeypatch):
    clocks = iter([{1: 0.0, 2: 5.0}, {1: 0.5, 2: 5.1, 3: 0.25}] * 2)
    monkeypatch.setattr(benchmark, "cpu_seconds", lambda: next(clocks))
    assert interleaved([Case("a", dict, 1, "a")], 1)["a"][0].cpu == 0.5


def test_memory_is_compared_and_not_timed():
    rows = peaks([Case("plain", lambda: 300.0, 1, "plain"), Case("exact", lambda: 100.0, 1, "plain")])
    assert [(row["megabytes"], row["ratio"]) for row in rows] == [(300, [1]), (100, [3])]
    text = [line.split() for line in peak_table(rows).splitlines()]
    assert text[1:] == [["plain", "300"], ["exact", "100", "3.00", "plain"]]


@pytest.mark.skipif(not memory.STATUS.exists(), reason="the peak starts anew on Linux alone")
def test_the_peak_is_that_since_it_was_forgotten():
    large = bytearray(64 << 20)
    del large
    memory.forget_peak()
    before = memory.resident()
    assert 0 <= memory.peak_resident() - before < 16
    large = bytearray(b"1") * (32 << 20)
    assert 32 <= memory.peak_resident() - before < 48
    assert len(large) == 32 << 20


def test_suites_of_plain_forms_say_where_these_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "tests.plain", None)
    monkeypatch.delattr("tests.plain", raising=False)
    with pytest.raises(FileNotFoundError, match="tests/plain.* whole checkout"):
        network_suites.memory(None)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_suites_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites, "DRAWN", 8)
    monkeypatch.setattr(suites, "COPIES", 1)
    monkeypatch.setattr(suites, "PREDICTED", 2)
    monkeypatch.setattr(network_suites, "TRAINED", (2, 1))
    monkeypatch.setattr(network_suites, "SIDE", 64)
    monkeypatch.setattr(network_suites, "PAIRS", (2,))
    monkeypatch.setattr(network_suites, "SIDES", (128,))
    main(["--rounds", "1", "--json", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["suites"]) == set(benchmark.SUITES)
    assert isinstance(found["freed_memory_kept"], bool)
    out = capsys.readouterr().out
    for name, rows in found["suites"].items():
        assert all(len(row["ratio"]) == 1 and row.get("pairs_per_second", [1])[0] > 0 for row in rows)
        assert f"{name}\n" in out
    ratio = {row["case"]: row["ratio"][0] for row in found["suites"]["memory"]}
    assert ratio["hanet, 128 x 128, exact"] > 1.5
    assert {row["base"] for row in found["suites"]["inference"]} == {
        f"{n}, batch 2, plain" for n in ("amfnet", "hanet")
    }
    against = {row["case"]: row["base"] for row in found["suites"]["training"]}
    assert against["step, hanet, exact"] == "step, hanet, plain"
    assert against["training, amfnet"] == "step, amfnet, exact"
    loading = {row["case"]: row for row in found["suites"]["loading"]}
    assert loading["cache, amfnet"]["base"] == "files, amfnet"
    assert {row["base"] for row in found["suites"]["prediction"]} == {"network, amfnet", "network, hanet"}
    notes = {row["case"]: row["note"] for row in found["suites"]["bf16"]}
    for name in ("amfnet_aux", "hanet"):
        share = float(notes[f"{name}, bfloat16"].partition("%")[0])
        assert 0 < share < 1, "bfloat16 moves a few pixels that lie on the edge"


@pytest.mark.parametrize("argv", [["speed"], ["--rounds", "0"]])
def test_wrong_words(argv, capsys):
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    known = "loading, doctor, prediction, inference, training, bf16, memory"
    expected = {"speed": f"no suite 'speed'; there are {known}", "0": "at least 1"}[argv[-1]]
    assert expected in capsys.readouterr().err
