"""Counts and scores against the published numbers and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tests import golden
from utils.metrics import (
    LEVELS,
    SCORES,
    best_threshold,
    count_levels,
    count_pixels,
    precision_recall,
    score_table,
    scores,
)


def test_published_counts_and_scores():
    published = golden.numbers("losses_metrics")
    rng = np.random.default_rng(published["logits_seed"])
    logits = torch.from_numpy(rng.normal(0, 3, (2, 2, 24, 16)).astype(np.float32))
    mask = torch.from_numpy((rng.uniform(size=(2, 24, 16)) > 0.85).astype(np.int64))
    counts = count_pixels(logits.argmax(1) == 1, mask)
    assert counts.dtype == torch.int64
    assert counts.tolist() == published["confusion_rows_true_cols_pred"]
    for name, value in published["metrics"].items():  # the released code adds 1.2e-7 to denominators
        assert scores(counts)[name] == pytest.approx(value, rel=3e-7)


def test_published_scores_of_large_counts():
    published = golden.numbers("losses_metrics")["metrics_big"]
    counts = torch.tensor(published["confusion"], dtype=torch.float64).long()
    for name in set(SCORES) & published.keys():
        assert scores(counts)[name] == pytest.approx(published[name], rel=3e-7)
    assert scores(counts)["f1"] == pytest.approx(published["dice"], rel=1e-12)  # the one without that addition


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_scikit_learn_agrees(seed, changed_share, error_share):
    rng = np.random.default_rng(seed)
    truth = rng.random((2, 9, 7)) < changed_share
    predicted = truth ^ (rng.random((2, 9, 7)) < error_share)
    counts = count_pixels(torch.from_numpy(predicted), torch.from_numpy(truth.astype(np.int64)))
    t, p = truth.ravel(), predicted.ravel()
    assert counts.tolist() == sk.confusion_matrix(t, p, labels=[False, True]).tolist()
    expected = {
        "precision": sk.precision_score(t, p, zero_division=0),
        "recall": sk.recall_score(t, p, zero_division=0),
        "f1": sk.f1_score(t, p, zero_division=0),
        "iou": sk.jaccard_score(t, p, zero_division=0),
        "oa": sk.accuracy_score(t, p),
    }
    if len(set(t)) == 2 or len(set(p)) == 2:  # scikit-learn's kappa of 0/0 is nan
        expected["kappa"] = sk.cohen_kappa_score(t, p)
    got = scores(counts)
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_ignored_pixels_are_not_counted():
    mask = torch.tensor([[[0, 1, 255, 255]]])
    assert count_pixels(torch.tensor([[[True, True, True, False]]]), mask).tolist() == [[0, 1], [0, 1]]


def test_unchanged_pair_scores_zero_not_nan():
    """No change in label or prediction is 0/0 for the changed class, and 0 here."""
    got = scores(torch.tensor([[100, 0], [0, 0]]))
    assert (got["precision"], got["recall"], got["f1"], got["iou"], got["kappa"]) == (0, 0, 0, 0, 0)
    assert got["oa"] == 1


def test_one_count_over_a_split_is_not_a_mean_over_batches():
    """An easy small batch must not weigh as much as a hard large one."""
    small, large = torch.tensor([[0, 0], [0, 10]]), torch.tensor([[0, 0], [990, 0]])
    assert scores(small + large)["recall"] == pytest.approx(0.01)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_curve_is_scikit_learns_and_its_best_threshold_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    probability = torch.from_numpy(rng.random((5, 9))).float()
    mask = torch.from_numpy(rng.choice([0, 1, 255], (5, 9)))
    levels = count_levels(probability, mask)
    known = mask != 255
    truth, shown = (mask[known] == 1).numpy(), probability[known]
    assert levels.sum() == known.sum()
    curve, (best, f1) = precision_recall(levels), best_threshold(levels)
    for k in (*range(0, LEVELS - 1, 37), best):
        changed = (shown > (k + 1) / LEVELS).numpy()
        for name, score in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
            assert float(curve[name][k]) == pytest.approx(score(truth, changed, zero_division=0))
    assert [f1, f1] == pytest.approx([float(curve["f1"].max()), float(curve["f1"][best])])


def test_table_is_percent_and_aligned():
    table = score_table({"ours": {"f1": 0.12345, "iou": 1.0}}, ("f1", "iou"))
    assert table.splitlines() == ["             f1        iou", "ours      12.35     100.00"]
