"""What the benchmark found as text: which numbers stand where, and what is made of them."""

import json

import pytest

from tools.benchmark_tables import compared, headlines, markdown, read_results, spread, table


def row(case, base, ratio=(1.0,), values=(10.0,), unit="pairs/s", **more):
    return {"case": case, "base": base, "unit": unit, "values": list(values), "ratio": list(ratio), **more}


def found(**suites):
    about = {"machine": "Abacus 3", "cores": 2, "threads": 2, "versions": {"torch": "9.9"}, "commit": "abc"}
    return {
        **about,
        "command": "python -m tools.benchmark --short",
        "freed_memory_kept": True,
        "suites": suites,
    }


@pytest.fixture
def suites():
    """One network, in the forms that a machine with two backends has."""
    plain = "net, batch 1, plain"
    share = {"share_of_peak": [0.4, 0.5, 0.6], "gflops": [40, 50, 60]}
    return {
        "inference": [
            row("torch.mm, float32", "torch.mm, float32", share_of_peak=[1, 1, 1], gflops=[100, 90, 110]),
            row(plain, plain, (1, 1, 1)),
            row("net, batch 1, modules", plain, (1.2, 1.3, 1.4)),
            row("net, batch 1, torch", plain, (1.3, 1.5, 1.4), (14, 15, 12), **share),
            row("net, batch 1, openvino", plain, (1.9, 1.8, 5.0)),
            row("net, batch 1, onnxruntime", plain, (2.0, 1.7, 1.8)),
            row("net, batch 1, torch bf16", plain, (3, 2, 4)),
            row("net, batch 1, openvino bf16", plain, (3.5, 3.4, 1.0)),
        ],
        "training": [
            row("step, net, batch 8, exact", "step, net, batch 8, plain", (1.25,)),
            row("training, amfnet", "step, net, batch 8, exact", (0.97,)),
        ],
        "memory": [row("net, 64 x 64, exact", "net, 64 x 64, plain", (4.0,), (2000.0,), "MB")],
        "loading": [
            row("decoding", "decoding", (1, 1), (200, 100)),
            row("cache, none", "files, none", (5, 5), (900, 900)),
            row("cache, amfnet", "files, amfnet", (3, 3), (700, 300)),
        ],
        "startup": [row("--help", "--help", (1,), (0.123,), "s", cpu_ms_per_pair=[100])],
    }


def test_what_the_suites_come_to(suites):
    """The best is the best by its median, a round's luck aside; loading is held against decoding, round by round."""
    lines = {line["case"]: line["ratio"] for line in headlines(suites)}
    assert lines == {
        "net, batch 1: eager": [1.3, 1.5, 1.4],
        "net, batch 1: best exact backend (openvino)": [1.9, 1.8, 5.0],
        "net, batch 1: bf16, best backend (openvino)": [3.5, 3.4, 1.0],
        "training step, net, batch 8": [1.25],
        "memory, net, 64 x 64": [4.0],
        "loading from the cache, augmentation amfnet": [3.5, 3.0],
        "--help": [1],
    }
    assert headlines({"doctor": [row("a", "b")]}) == []


def test_markdown_has_the_numbers_and_the_machine(suites):
    lines = markdown(found(**suites)).splitlines()
    assert lines[0] == "|  | times | of | measured | of the machine's peak |"
    assert (
        "| net, batch 1: eager | 1.40 (1.30 to 1.50) | plain form | 14 pairs/s (12 to 15) | 50% (40% to 60%) |" in lines
    )
    assert "| memory, net, 64 x 64 | 4.00 | plain form | 2000 MB |  |" in lines
    assert "| --help |  |  | 0.12 s |  |" in lines
    assert {line.count("|") for line in lines[: lines.index("")]} == {6}
    for words in (
        "--short",
        "3 interleaved rounds",
        "Abacus 3, 2 cores",
        "torch 9.9",
        "torch.mm, float32: 100 GFLOP/s",
    ):
        assert words in lines[-1]


def test_a_table_shows_what_there_is():
    """Ratios of bases and columns that nobody fills are left out."""
    text = table([row("a", "a", (1,), (300,), "MB"), row("b", "a", (3,), (100,), "MB")]).splitlines()
    assert text[0].split() == ["measured", "memory,", "times", "less", "of"]
    assert [line.split() for line in text[1:]] == [["a", "300", "MB"], ["b", "100", "MB", "3.00", "a"]]
    rows = [row("mm", "mm"), row("torch.mm", "torch.mm", share_of_peak=[1.0], gflops=[123.4])]
    assert table(rows).splitlines()[2].endswith("123 GFLOP/s")
    assert spread([3, 1, 2], ".1f", " s") == "2.0 s (1.0 to 3.0)"


def test_two_machines_side_by_side():
    """Fewer seconds and fewer MB are better; a case of one alone is counted, and one of another unit is none."""
    here = found(
        a=[row("x", "y", (2,), (50,)), row("slow", "slow", (1,), (2,), "s"), row("big", "big", (1,), (100,), "MB")],
        b=[row("new", "new"), row("other", "other", unit="s")],
    )
    there = found(
        a=[row("x", "y", (4,), (100,)), row("slow", "slow", (1,), (3,), "s"), row("big", "big", (1,), (250,), "MB")],
        b=[row("other", "other", unit="MB")],
    )
    lines = compared(here, {**there, "machine": "Babbage"}, "old.json").splitlines()
    cells = {line.split("  ")[0]: line.split() for line in lines if line.startswith(("a: ", "b: "))}
    assert cells["a: x"][2:] == ["50", "pairs/s", "100", "pairs/s", "0.50", "2.00", "4.00"]
    assert cells["a: slow"][2:] == ["2.00", "s", "3.00", "s", "1.50"]
    assert cells["a: big"][2:] == ["100", "MB", "250", "MB", "2.50"]
    assert len(cells) == 3
    assert "2 cases of this are not in that" in lines
    assert "Abacus 3" in lines[0]
    assert lines[1].startswith("that, old.json: ") and "Babbage" in lines[1]


def test_reading_gives_what_was_written(tmp_path, suites):
    (tmp_path / "a.json").write_text(json.dumps(found(**suites)))
    assert read_results(tmp_path / "a.json") == found(**suites)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"suites": 3}',
        '{"suites": {"a": [3]}}',
        '{"suites": {}}',
        "\x00",
        '{"suites": {"a": null}}',
    ],
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json: not a file that python -m tools.benchmark --json wrote"):
        read_results(tmp_path / "a.json")
