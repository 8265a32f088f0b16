"""Which differences in F1 exceed the noise of the scored images: a paired bootstrap over images."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

RESAMPLES, LEVEL, BATCH = 9999, 0.95, 50
LEAST = 10  # images: of fewer, the intervals are far too narrow


class Difference(NamedTuple):
    """F1 of a row less that of another, in percent, and the limits of its interval."""

    row: str
    other: str
    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """True if the interval does not hold 0."""
        return not self.low <= 0 <= self.high


def differences(counts: Mapping[str, np.ndarray]) -> list[Difference]:
    """Return the differences between all rows, each with the better row first.

    A sample draws as many images as there are, with repetition, and the same ones for all rows and seeds. F1 is that of
    the summed counts, and its mean over seeds. The counts of a row are true positives, false positives and false
    negatives, int (seeds, images, 3), of the same images in the same order, at least two.
    """
    from scipy.stats import bootstrap

    columns = [column for runs in counts.values() for run in runs for column in run.T]  # (images,) each
    ends = np.cumsum([len(runs) for runs in counts.values()])[:-1]

    def mean_f1(*drawn: np.ndarray) -> np.ndarray:
        """Columns (..., images) -> F1 in percent, (rows, ...)."""
        sums = np.stack([column.sum(-1) for column in drawn])
        f1 = 200 * sums[0::3] / np.maximum(2 * sums[0::3] + sums[1::3] + sums[2::3], 1)
        return np.stack([runs.mean(0) for runs in np.split(f1, ends)])

    names, f1 = list(counts), mean_f1(*columns)
    pairs = list(combinations(sorted(range(len(names)), key=lambda row: -f1[row]), 2))
    better, worse = map(list, zip(*pairs, strict=True))

    def statistic(*drawn: np.ndarray, axis: int) -> np.ndarray:
        of_rows = mean_f1(*drawn)
        return of_rows[better] - of_rows[worse]

    low, high = bootstrap(
        columns, statistic, paired=True, vectorized=True, axis=-1, n_resamples=RESAMPLES, batch=BATCH,
        confidence_level=LEVEL, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return [
        Difference(names[one], names[two], float(f1[one] - f1[two]), float(low[place]), float(high[place]))
        for place, (one, two) in enumerate(pairs)
    ]


def in_a_line(found: Sequence[Difference], images: int) -> str:
    """Return a sentence that names the significant differences, or all others if those are fewer."""
    significant, others = ([each for each in found if each.significant == wanted] for wanted in (True, False))
    noise = f"the noise of {images} images ({100 * LEVEL:g} % intervals, paired bootstrap over images, not over seeds)"
    if not significant:
        return f"No difference in F1 is larger than {noise}"
    if len(others) < len(significant):
        exceptions = "; ".join(f"{each.row} and {each.other}" for each in others)
        return f"All differences in F1 are larger than {noise}" + f", but not between {exceptions}" * bool(others)
    return f"Larger than {noise} are the differences in F1 of " + "; ".join(
        f"{x.row} over {x.other}" for x in significant
    )
