"""Intervals of differences in F1: methods that are equal, better everywhere, and better in one image only."""

import numpy as np
import pytest

from tools.methods import significance
from tools.methods.significance import Difference, differences, in_a_line

IMAGES = 30


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 999)


def counted(seed, found, runs=1):
    """Images of 50 to 100 changed pixels, of which a share is found; as many false alarms as misses."""
    rng = np.random.default_rng(seed)
    changed = rng.integers(50, 100, IMAGES)
    hits = np.stack([rng.binomial(changed, found) for _ in range(runs)])
    return np.stack([hits, changed - hits, changed - hits], axis=-1)


def f1_of(counts):
    """In percent, of the summed counts, and the mean over seeds."""
    tp, fp, fn = counts.sum(1).T
    return (200 * tp / (2 * tp + fp + fn)).mean()


def test_equal_methods_do_not_differ_and_a_clearly_better_one_does():
    counts = {"weak": counted(0, 0.6, runs=2), "a": counted(1, 0.9), "b": counted(2, 0.9), "a again": counted(1, 0.9)}
    found = {frozenset(each[:2]): each for each in differences(counts)}
    assert len(found) == 6
    assert found[frozenset(("a", "a again"))][2:] == (0, 0, 0)
    close = found[frozenset(("a", "b"))]
    assert close.low < 0 < close.high and not close.significant
    for name in ("a", "b", "a again"):
        each = found[frozenset((name, "weak"))]
        assert each.row == name and each.significant and 20 < each.low < each.mean < each.high < 40
        assert each.mean == pytest.approx(f1_of(counts[name]) - f1_of(counts["weak"]))


def test_a_lead_from_one_image_is_not_clear_and_a_small_one_in_all_is():
    """Both rows see the same images, so what differs between images does not widen the interval."""
    base = counted(0, 0.7)
    lucky, steady = base.copy(), base.copy()
    lucky[0, 0] = [500, 0, 0]
    steady[..., 0] += 1
    by_pair = {each[:2]: each for each in differences({"base": base, "lucky": lucky, "steady": steady})}
    assert by_pair["lucky", "base"].mean > by_pair["steady", "base"].mean > 0
    assert not by_pair["lucky", "base"].significant
    assert by_pair["steady", "base"].significant


def test_images_without_change_in_label_and_maps():
    empty = np.zeros((1, 2, 3), int)
    assert differences({"a": empty, "b": empty}) == [Difference("a", "b", 0, 0, 0)]


def test_the_line_names_the_fewer():
    clear, unclear = Difference("a", "c", 5, 4, 6), Difference("a", "b", 1, -1, 3)
    noise_of = "the noise of 9 images (95 % intervals, paired bootstrap over images, not over seeds)"
    assert in_a_line([unclear], 9) == f"No difference in F1 is larger than {noise_of}"
    assert in_a_line([clear], 9) == f"All differences in F1 are larger than {noise_of}"
    assert in_a_line([clear, clear, unclear], 9).endswith(f"{noise_of}, but not between a and b")
    assert in_a_line([clear, unclear], 9) == f"Larger than {noise_of} are the differences in F1 of a over c"
