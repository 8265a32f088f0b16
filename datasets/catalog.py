"""What is known of public data sets: channel statistics a date, and how many pairs a split has.

The statistics were released with HANet's code (metadata of its loader). Values are RGB in [0, 1]: mean and standard
deviation over the training tiles, before then after.
"""

import re
from dataclasses import dataclass

Statistics = dict[str, list[list[float]]]  # mean, std: one row a date


def _statistics(before: tuple[str, str], after: tuple[str, str]) -> Statistics:
    rows = [[float(x) for x in row.split()] for row in (*before, *after)]
    return {"mean": [rows[0], rows[2]], "std": [rows[1], rows[3]]}


_IMAGENET = ("0.485 0.456 0.406", "0.229 0.224 0.225")

STATISTICS: dict[str, Statistics] = {
    "none": _statistics(("0 0 0", "1 1 1"), ("0 0 0", "1 1 1")),  # [0, 1] as it is: AMFNet's training
    "imagenet": _statistics(_IMAGENET, _IMAGENET),
    "levir": _statistics(
        ("0.45025915 0.44666713 0.38134697", "0.21711577 0.20401315 0.18665968"),
        ("0.3455239 0.33819652 0.2888149", "0.157594 0.15198614 0.14440961"),
    ),
    "whu": _statistics(
        ("0.49069053 0.44911194 0.39301977", "0.17230505 0.16819492 0.17020544"),
        ("0.49139765 0.49035382 0.46980983", "0.2150498 0.20449342 0.21956162"),
    ),
    "sysu": _statistics(
        ("0.39659828 0.5284582 0.46539742", "0.24339822 0.1843563 0.18066375"),
        ("0.40202096 0.48765418 0.39895305", "0.21836075 0.18112999 0.17903014"),
    ),
    "cdd": _statistics(
        ("0.35390204 0.3910402 0.3430754", "0.21585055 0.23398526 0.2087468"),
        ("0.47324985 0.49860582 0.46874452", "0.24311192 0.2601877 0.25678152"),
    ),
    "dsifn": _statistics(
        ("0.39334667 0.41008812 0.372291", "0.20001005 0.19594198 0.19641198"),
        ("0.39037502 0.3820759 0.38505003", "0.19432788 0.17783593 0.17126249"),
    ),
    "s2looking": _statistics(
        ("0.17553517 0.20817895 0.20358624", "0.07853421 0.080604345 0.07777272"),
        ("0.20552409 0.21961312 0.21183391", "0.07319275 0.06418888 0.06009885"),
    ),
}


@dataclass(frozen=True)
class KnownCounts:
    """Pairs of a public set as it is used with square images of one side, in pixels."""

    side: int
    train: int
    val: int
    test: int
    certain: bool = True  # False: named in passing or from memory, not found in the set's own papers


KNOWN_COUNTS: dict[str, tuple[KnownCounts, ...]] = {
    "levir": (KnownCounts(1024, 445, 64, 128), KnownCounts(256, 7120, 1024, 2048)),
    "whu": (KnownCounts(256, 4536, 504, 2760), KnownCounts(256, 6096, 762, 762, certain=False)),  # HANet's; at random
    "sysu": (KnownCounts(256, 12000, 4000, 4000, certain=False),),
    "cdd": (KnownCounts(256, 10000, 3000, 3000), KnownCounts(256, 10000, 2998, 3000)),  # or 15,998 usable in all
    "dsifn": (KnownCounts(512, 3600, 340, 48), KnownCounts(256, 14400, 1360, 192)),  # four tiles an image
    "s2looking": (KnownCounts(1024, 3500, 500, 1000, certain=False), KnownCounts(256, 56000, 8000, 16000)),
    "clcd": (KnownCounts(512, 360, 120, 120, certain=False), KnownCounts(512, 320, 120, 120, certain=False)),
}


def guess_name(folder: str) -> str | None:
    """The public set a folder's name begins with (LEVIR-CD, WHU_CD, ...), a key of KNOWN_COUNTS."""
    plain = re.sub("[^a-z0-9]", "", folder.lower())
    return next((name for name in KNOWN_COUNTS if plain.startswith(name)), None)
