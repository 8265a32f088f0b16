"""Scores of the changed class, as fractions, from one 2 x 2 count of the pixels of a whole split.

The pixels of all pairs are counted together, then divided once; means over images or batches would be other numbers.
A score whose denominator is 0 is 0.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LEVELS = 1000  # of probability, between the thresholds 0.001, 0.002, ... 0.999
SCORES = ("precision", "recall", "f1", "iou", "oa", "kappa", "miou", "mpa", "fwiou")


def count_pixels(changed: Tensor, mask: Tensor) -> Tensor:
    """Count pixels by truth (row) and prediction (column), each unchanged then changed.

    Args:
        changed: bool (..., H, W), the predicted change.
        mask: (..., H, W) of 0, 1 and 255; pixels that are neither 0 nor 1 are not counted.

    Returns:
        int64 (2, 2) on the same device, [[TN, FP], [FN, TP]]; nothing waits for the device.
    """
    truths = (mask == 0, mask == 1)
    return torch.stack([(truth & predicted).sum() for truth in truths for predicted in (~changed, changed)]).view(2, 2)


def scores(counts: Tensor) -> dict[str, float]:
    """Every score of SCORES from a (2, 2) count.

    precision, recall, f1 and iou are those of the changed class. oa is overall accuracy, kappa Cohen's kappa. miou and
    mpa (pixel accuracy) are means over both classes; fwiou weights each class's IoU by its pixels.
    """
    (tn, fp), (fn, tp) = counts.double().tolist()
    total = tn + fp + fn + tp
    ious = (_ratio(tn, tn + fp + fn), _ratio(tp, tp + fp + fn))
    agreement = _ratio(tn + tp, total)
    chance = _ratio((tn + fp) * (tn + fn) + (fn + tp) * (fp + tp), total * total)
    return {
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "iou": ious[1],
        "oa": agreement,
        "kappa": _ratio(agreement - chance, 1 - chance),
        "miou": sum(ious) / 2,
        "mpa": (_ratio(tn, tn + fp) + _ratio(tp, tp + fn)) / 2,
        "fwiou": _ratio((tn + fp) * ious[0] + (fn + tp) * ious[1], total),
    }


def count_levels(probability: Tensor, mask: Tensor) -> Tensor:
    """Count pixels by truth (row) and level (column), int64 (2, LEVELS): level i exceeds the first i thresholds.

    Args:
        probability: float (..., H, W) in [0, 1].
        mask: (..., H, W) of 0, 1 and 255; pixels that are neither 0 nor 1 are not counted.
    """
    thresholds = torch.arange(1, LEVELS, device=probability.device, dtype=torch.float64).div(LEVELS)
    levels = torch.bucketize(probability.contiguous(), thresholds.to(probability.dtype))
    return torch.stack([torch.bincount(levels[mask == truth], minlength=LEVELS) for truth in (0, 1)])


def precision_recall(levels: Tensor) -> dict[str, Tensor]:
    """Precision, recall and F1 of `level > k`, each float64 (L - 1,) for k = 0 ... L - 2, of int64 (2, L); 0/0 is 0."""
    above = levels.double().cpu().flip(1).cumsum(1).flip(1)[:, 1:]  # (2, L - 1): of a higher level than k
    false, true = above
    changed = levels[1].sum().double().cpu()
    return {
        "precision": true / (true + false).clamp(min=1),
        "recall": true / changed.clamp(min=1),
        "f1": 2 * true / (true + false + changed).clamp(min=1),
    }


def best_threshold(levels: Tensor) -> tuple[int, float]:
    """The first k at which `level > k` has the best F1, and that F1; k means the threshold (k + 1) / LEVELS."""
    f1 = precision_recall(levels)["f1"]
    best = int(f1.argmax())
    return best, f1[best].item()


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


def score_table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """Scores as aligned text: percent with two decimals, one line for each row."""
    width = max(len(name) for name in rows)
    lines = [" " * width + "".join(f"{column:>11}" for column in columns)]
    lines += [f"{name:<{width}}" + "".join(f"{100 * row[c]:>11.2f}" for c in columns) for name, row in rows.items()]
    return "\n".join(lines)
