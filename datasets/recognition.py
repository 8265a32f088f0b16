"""Recognises public data sets by the names of their folders, and compares pair counts with the known ones."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from datasets.catalog import CATALOG, GENERIC, Statistics
from utils.console import UserError, choose

log = logging.getLogger(__name__)
Size = tuple[int, int]  # (height, width) of all images; in its place None: not known, or not the same
NAMESAKES = ("levircd+", "levircdplus", "whugcd")  # other sets, whose names begin like those of sets here


def recognise(root: Path, data_name: str = "auto") -> str:
    """Return the key in CATALOG of the set in a folder, by the name of the folder or of its link; GENERIC if none fits.

    Raises:
        UserError: `data_name` is neither "auto" nor a key, which is returned.
    """
    choose({"auto": None, **CATALOG}, data_name, "--data-name")
    if data_name != "auto":
        return data_name
    return _by_name(root.name) or _by_name(root.resolve().name) or GENERIC


def _by_name(folder: str) -> str | None:
    plain = re.sub("[^a-z0-9+]", "", folder.lower())
    if plain.startswith(NAMESAKES):
        return None
    return next((name for name, entry in CATALOG.items() if plain.startswith(entry.aliases)), None)


def known_pairs(name: str, split: str, size: Size | None) -> dict[int, bool]:
    """Return each number of pairs in use for a split of a set, and whether it is certain."""
    known: dict[int, bool] = {}
    for counts in CATALOG[name].counts:
        pairs = {"train": counts.train, "val": counts.val, "test": counts.test}.get(split)
        if pairs is not None and size == (counts.side, counts.side):
            known[pairs] = known.get(pairs, False) or counts.certain
    return known


def count_remark(name: str, split: str, pairs: int, size: Size | None) -> str | None:
    """Return a remark on a split's number of pairs; None if it is a known one, or none is known."""
    known = known_pairs(name, split, size)
    if size is None or not known or pairs in known:
        return None
    listed = " or ".join(f"{count}{'' if certain else ' (uncertain)'}" for count, certain in known.items())
    return f"{pairs} pairs of {size[0]} x {size[1]}; {CATALOG[name].title} is known to have {listed}"


def known_pixel_size(name: str) -> float | None:
    """Return the metres per pixel of a public set; None if they are unknown, or several."""
    try:
        return float(CATALOG[name].metres)
    except ValueError:
        return None


def introduction(name: str, pairs: Mapping[str, int], size: Size | None) -> str:
    """Return a line about a set: title, metres per pixel, if the number of pairs by split is a known one, terms."""
    if name == GENERIC:
        return "data set: generic; the folder is not named after a public set (name one with --data-name)"
    entry = CATALOG[name]
    if not any(known_pairs(name, split, size) for split in pairs):
        counts = "no counts of pairs known for such splits"
    elif any(count_remark(name, split, count, size) for split, count in pairs.items()):
        counts = "counts of pairs are not the known ones"
    else:
        counts = "counts of pairs as known"
    return f"data set: {entry.title}; metres per pixel: {entry.said('metres')}; {counts}; terms: {entry.said('terms')}"


def introduce(name: str, pairs: Mapping[str, int], size: Size | None) -> None:
    """Log the introduction, and a warning for every split with another number of pairs than known."""
    log.info("%s", introduction(name, pairs, size))
    for split, count in pairs.items():
        if remark := count_remark(name, split, count, size):
            log.warning("%s: %s", split, remark)


def set_statistics(name: str) -> Statistics:
    """Return the released statistics of a public set; without any, a UserError lists the alternatives."""
    statistics = CATALOG[name].statistics
    if statistics is None:
        known = ", ".join(other for other, entry in CATALOG.items() if entry.statistics)
        which = "no public set was recognised" if name == GENERIC else f"none are known of {CATALOG[name].title}"
        raise UserError(
            f"--statistics set: {which}; measure them with --statistics train, name the set with --data-name, or pass "
            f"the name of another set ({known})"
        )
    return statistics
