"""profile_networks.py at small sizes and widths, and the papers' numbers beside ours."""

import csv

import pytest

from models import MODELS, build_model
from tests.models.test_peers import CASES
from tests.scripts import fails
from tools.costs import count_macs, count_parameters
from tools.profile_networks import ProfileConfig, cost_table, main, module_table, paper_table

SMALL = ("--models", "hanet", "--model-options", "width=4", "--sizes", "32,64")


def test_what_is_printed(capsys):
    main([*SMALL, "--no-time"])
    said = capsys.readouterr().out
    network = build_model("hanet", width=4)
    macs = count_macs(network, 64, 64)
    total, once = sum(m.total for m in macs) / 1e9, sum(m.total / m.dates for m in macs) / 1e9
    attention = sum(m.attention for m in macs) / 1e9
    numbers = (total, attention, once, 2 * total, 2 * once)
    cells = " | ".join([f"{count_parameters(network) / 1e6:.2f}", *(f"{n:.2f}" for n in numbers)])
    assert f"| hanet | 64 | {cells} |" in said
    assert "ms per pair" not in said
    assert "Beside the papers" not in said, "a smaller network is not the papers'"
    assert "**HANet at 32 x 32, by module**" in said


def test_every_network_is_counted():
    """Its parameters, and multiply-adds that grow with the image; layers for both dates are there once."""
    small = {"amfnet": ("amfnet", {"backbone": "resnet18"}), "hanet": ("hanet", {"width": 4}), **CASES}
    networks = {name: build_model(*small[name][:1], **small[name][1]) for name in MODELS}
    table = cost_table(ProfileConfig(models=tuple(networks), sizes=(128, 256), time=False), networks)
    rows = {(row[0].text, row[1].text): [cell.text for cell in row[2:]] for row in table.rows}
    for name, network in networks.items():
        (parameters, *macs), (_, larger, *_) = rows[name, "128"], rows[name, "256"]
        assert parameters == f"{count_parameters(network) / 1e6:.2f}"
        assert float(larger) > 3 * float(macs[0]) > 0
        assert (float(macs[2]) < float(macs[0])) == (name != "fc-ef"), name


def test_beside_the_papers():
    """Every line of the CSV: our numbers as facts have them, and a reason."""
    table = paper_table({"amfnet": build_model("amfnet"), "hanet": build_model("hanet")})
    found = [[cell.text for cell in row[:4]] for row in table.rows]
    assert found == [
        ["amfnet", "parameters", "26.55 M", "30.27 M"],
        ["amfnet", "parameters", "26.55 M", "26.55 M"],
        ["amfnet", "multiply-adds of convolutions, both dates", "10.79 G", "10.81 G"],
        ["hanet", "parameters", "2.61 M", "3.03 M"],
        ["hanet", "parameters", "2.61 M", "2.61 M"],
        ["hanet", "multiply-adds of convolutions, both dates", "13.35 G", "16.92 G"],
        ["hanet", "multiply-adds of attention", "3.82 G", "3.74 G"],
        ["hanet", "multiply-adds of convolutions, one date", "10.38 G", "14.07 G"],
    ]
    assert all(row[5].text for row in table.rows)


def test_the_reason_for_hanets_multiply_adds_holds():
    """What fusion at full size and keys would take more, the head's taps less, and the number that fits the paper's."""
    macs = {m.name: m for m in count_macs(build_model("hanet"), 256, 256)}
    fusion = (600 * 80 * 256**2 - macs[""].convolutions) / 1e9
    keys = sum(2 * (40 << m) ** 2 * (256 >> m) ** 2 for m in range(4)) / 1e9
    taps = 18 * 18 * 256**2 / 1e9
    assert (round(fusion, 2), round(keys, 2), round(taps, 2)) == (2.75, 0.84, 0.02)
    more = fusion + keys - taps
    convolutions = sum(m.convolutions for m in macs.values()) / 1e9
    assert round(convolutions + more, 2) == 16.92
    assert round(sum(m.convolutions / m.dates for m in macs.values()) / 1e9 + more, 2) == 13.95


def test_modules_add_up():
    network = build_model("hanet", width=4)
    table = module_table(network, 32, 3)
    rows = {row[0].text: [cell.text.replace(",", "") for cell in row[1:]] for row in table.rows}
    assert {"stem", "blocks.0", "hans.3", "head", "reduce", "HANet itself"} < set(rows)
    total = rows.pop("all")
    assert int(total[0]) == count_parameters(network) == sum(int(row[0]) for row in rows.values())
    assert sum(float(row[2]) for row in rows.values()) == pytest.approx(100, abs=1)


@pytest.mark.slow
@pytest.mark.timeout(300)  # a process starts from nothing
def test_time_and_memory(tmp_path):
    main([*SMALL[:4], "--sizes", "32", "--rounds", "1", "--device", "cpu", "--output", str(tmp_path / "cost.csv")])
    (row,) = [row for row in csv.reader((tmp_path / "cost.csv").open(encoding="utf-8")) if row and row[0] == "hanet"]
    assert row[1] == "32"
    assert float(row[8]) > 0
    assert float(row[9]) >= 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--sizes", "100"], "--sizes 100: amfnet takes multiples of 32"),
        (["--models", "segnet"], "no network is called 'segnet'"),
        (["--rounds", "0"], "--rounds 0: must be at least 1"),
        (["--output", "a.pdf"], "unknown suffix"),
    ],
)
def test_errors_are_one_line(argv, says, capsys):
    fails(lambda: main(argv), capsys, says)
