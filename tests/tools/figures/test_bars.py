"""The benchmark's bars, read back from the SVG."""

import re

import pytest

from tools.figures.bars import draw_ratios

ROWS = {
    "fast": [
        {"case": "base", "base": "base", "ratio": [1.0, 1.0]},
        {"case": "twice", "base": "base", "ratio": [2.0, 1.0, 3.0]},
        {"case": "half", "base": "base", "ratio": [0.5]},
    ],
    "small": [{"case": "third", "base": "whole", "ratio": [3.0]}],
}


def across(text, name):
    """Left and right end of what has this id, in the picture's units."""
    drawn = re.search(rf'<g id="{re.escape(name)}">\s*<path d="([^"]*)"', text)
    xs = [float(x) for x in re.findall(r"[ML] ([-\d.]+)", drawn.group(1))]
    return min(xs), max(xs)


def test_bars_are_as_long_as_their_medians(tmp_path):
    draw_ratios(ROWS, tmp_path / "bars.svg", "Abacus 3")
    text = (tmp_path / "bars.svg").read_text()
    zero, one = across(text, "bar small: third")[0], across(text, "base")[0]
    unit = one - zero
    for name, ratio in {"fast: twice": 2.0, "fast: half": 0.5, "small: third": 3.0}.items():
        assert across(text, f"bar {name}") == pytest.approx((zero, zero + ratio * unit), abs=0.01)
    assert across(text, "spread fast: twice") == pytest.approx((one, zero + 3 * unit), abs=0.01)
    assert across(text, "base") == pytest.approx((one, one)), "the base is a line at 1"
    assert "bar fast: base" not in text
    for words in ("Abacus 3", "fast: twice", "2.00"):
        assert f">{words}<" in text
    draw_ratios(ROWS, tmp_path / "again.svg", "Abacus 3")
    assert (tmp_path / "again.svg").read_text() == text


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_ratios({"a": [{"case": "b", "base": "b", "ratio": [1]}]}, tmp_path / "bars.svg")
    assert not list(tmp_path.iterdir())
