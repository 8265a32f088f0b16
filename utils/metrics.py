"""Scores of the changed class from one 2 x 2 pixel count over a whole split; fractions, never percent.

How we count: pixels of all pairs together, then one division. Means of scores an image or a batch are other
numbers and are never called F1 here. A score whose denominator is 0 is 0.
"""

import numpy as np
import torch
from torch import Tensor

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

    precision, recall, f1 and iou are of the changed class; oa is overall accuracy, kappa Cohen's; miou and mpa
    (pixel accuracy) are means over both classes, fwiou weighs each class's IoU by its pixels.
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


def best_threshold(levels: np.ndarray, changed: np.ndarray) -> tuple[int, float]:
    """The threshold on uint8 levels with the best F1 of `level > threshold`, and that F1.

    Args:
        levels: uint8, any shape.
        changed: bool, the same shape.
    """
    hits = np.bincount(levels[changed], minlength=256)[::-1].cumsum()[::-1]  # with at least each level
    found = np.bincount(levels.ravel(), minlength=256)[::-1].cumsum()[::-1]
    f1 = 2 * hits / np.maximum(found + changed.sum(), 1)
    best = int(f1.argmax())
    return best - 1, float(f1[best])


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0
