"""F1 against a shift: the numbers by hand for a predictor of differences, and the figure from flags."""

import numpy as np
import pytest

from datasets.scenes import draw_scene
from tests.conftest import write_pairs
from tests.scripts import fails
from tests.tools.figures.test_counts import line_points
from tools.figures.shifts import errors_by_kind, f1_by_shift
from tools.make_figures import main


class Differences:
    """Calls every pixel changed whose grey value differs."""

    def mask(self, before, after):
        return np.abs(before.astype(int) - after).sum(-1) > 60


@pytest.fixture(scope="module")
def pair():
    before = draw_scene(1, 192)[0]
    after, mask = before.copy(), np.zeros((192, 192), np.uint8)
    after[60:110, 70:130], mask[60:110, 70:130] = after[60:110, 70:130] + np.uint8(128), 1
    return before, after, mask


def test_a_corrected_shift_costs_little(pair):
    scores = f1_by_shift(Differences(), iter([pair] * 4), range(4))
    kept, corrected = scores["as it is"], scores["corrected"]
    assert kept[0] == corrected[0] > 0.99
    assert kept[3] < 0.7
    assert min(corrected) > 0.9


def test_the_figure_holds_the_numbers(checkpoint, pair, tmp_path):
    before, after, mask = pair
    write_pairs(tmp_path / "set" / "test", dict.fromkeys("ab", (before, after, 255 * mask)))
    flags = ["--checkpoint", checkpoint, "--data-root", tmp_path / "set", "--largest", 2, "--device", "cpu"]
    main(["shifts", *map(str, flags), "--output", str(tmp_path / "out.svg")])
    svg = (tmp_path / "out.svg").read_text()
    for name in ("as it is", "corrected"):
        assert len(line_points(svg, name)) == 3
    assert ">2 pairs<" in svg


def test_too_small_for_a_shift(pair):
    small = tuple(image[:20, :20] for image in pair)
    with pytest.raises(ValueError, match="20 x 20 pixels are too small for these shifts"):
        f1_by_shift(Differences(), iter([small]), range(7))


def test_images_without_a_measurable_shift(pair, tmp_path, capsys):
    """Small ones are refused; of flat ones none is reliable, and no median is said."""
    write_pairs(tmp_path / "small", {"a": tuple(image[:100, :99] for image in pair)})
    small, flat = (
        ["shift-errors", "--data-root", str(tmp_path / name), "--output", str(tmp_path / f"{name}.svg")]
        for name in ("small", "flat")
    )
    fails(lambda: main(small), capsys, "small: too small to measure shifts; pass images of 128 pixels or more")
    write_pairs(tmp_path / "flat", {"a": (*np.full((2, 128, 128, 3), 90, np.uint8), 255 * pair[2][:128, :128])})
    main(flat)
    said = capsys.readouterr().err
    assert "one date: reliable 0 of 4\n" in said and "nan" not in said
    assert not (tmp_path / "small.svg").exists() and (tmp_path / "flat.svg").exists()


@pytest.mark.slow
def test_errors_of_estimates(pair, tmp_path, capsys):
    """A date against itself is exact; of two dates the pair's own shift is not an error; other places are unlike."""
    scenes = [draw_scene(seed, 192) for seed in (5, 6)]
    own = [(before, np.roll(before, (3, -2), (0, 1)), mask) for before, _, mask in scenes]
    found, claims = errors_by_kind(own, 20)
    errors = np.array([found["one date"], found["two dates"]])
    assert errors.shape == (2, 8, 2)
    assert errors[..., 0].max() > 10
    assert errors[..., 1].max() < 0.15
    assert claims == [False, False]
    before, after, mask = pair
    write_pairs(tmp_path / "set" / "test", {"a": (before, after, 255 * mask), "b": (before, before, 255 * mask)})
    main(["shift-errors", "--data-root", str(tmp_path / "set"), "--output", str(tmp_path / "out.svg")])
    assert 'id="two dates"' in (tmp_path / "out.svg").read_text()
    said = capsys.readouterr().err
    assert "one date: reliable 8 of 8, median error 0.0" in said
    assert "unlike places: reliable 2 of 2" in said  # both pairs show one place
