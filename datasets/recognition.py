"""Recognises public data sets by their folders' names, and says what is known of the one at hand."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from datasets.catalog import CATALOG, GENERIC, Statistics
from utils.console import UserError

log = logging.getLogger(__name__)
Size = tuple[int, int]
NAMESAKES = ("levircd+", "levircdplus", "whugcd")  # other sets, whose names begin like those of sets here


def recognise(root: Path, data_name: str = "auto") -> str:
    """Tell which public set a folder holds, by the folder's name or the name that a link to it has.

    Args:
        root: the data set's folder.
        data_name: a key of CATALOG, which is taken as it is, or "auto".

    Returns:
        A key of CATALOG; GENERIC where no name fits.

    Raises:
        UserError: there is no such key.
    """
    if data_name in CATALOG:
        return data_name
    if data_name != "auto":
        raise UserError(f"--data-name {data_name}: not known; choose one of auto, {', '.join(CATALOG)}")
    return _by_name(root.name) or _by_name(root.resolve().name) or GENERIC


def _by_name(folder: str) -> str | None:
    plain = re.sub("[^a-z0-9+]", "", folder.lower())
    if plain.startswith(NAMESAKES):
        return None
    return next((name for name, entry in CATALOG.items() if plain.startswith(entry.aliases)), None)


def known_pairs(name: str, split: str, size: Size | None) -> dict[int, bool]:
    """How many pairs a split is known to have.

    Args:
        name: a key of CATALOG.
        split: train, val or test; nothing is known of others.
        size: height and width of its images; None where they are not known.

    Returns:
        Each number in use, and whether it is certain.
    """
    known: dict[int, bool] = {}
    for counts in CATALOG[name].counts:
        pairs = {"train": counts.train, "val": counts.val, "test": counts.test}.get(split)
        if pairs is not None and size == (counts.side, counts.side):
            known[pairs] = known.get(pairs, False) or counts.certain
    return known


def count_remark(name: str, split: str, pairs: int, size: Size | None) -> str | None:
    """What there is to say about a split's number of pairs; None where it is as known, or nothing is known.

    Args:
        name: a key of CATALOG.
        split: train, val or test.
        pairs: as found.
        size: height and width of its images; None where they are not known.
    """
    known = known_pairs(name, split, size)
    if size is None or not known or pairs in known:
        return None
    listed = " or ".join(f"{count}{'' if certain else ' (uncertain)'}" for count, certain in known.items())
    return f"{pairs} pairs of {size[0]} x {size[1]}; {CATALOG[name].title} is known to have {listed}"


def introduction(name: str, pairs: Mapping[str, int], size: Size | None) -> str:
    """One line on the set at hand: title, metres a pixel, whether its counts are the known ones, terms.

    Args:
        name: a key of CATALOG.
        pairs: how many each split has.
        size: height and width of its images; None where they are not known.
    """
    if name == GENERIC:
        return "data set: generic; the folder is not named after a public set (--data-name says which it is)"
    entry = CATALOG[name]
    if not any(known_pairs(name, split, size) for split in pairs):
        counts = "no counts of pairs known for such splits"
    elif any(count_remark(name, split, count, size) for split, count in pairs.items()):
        counts = "counts of pairs are not the known ones"
    else:
        counts = "counts of pairs as known"
    return f"data set: {entry.title}; metres a pixel: {entry.said('metres')}; {counts}; terms: {entry.said('terms')}"


def introduce(name: str, pairs: Mapping[str, int], size: Size | None) -> None:
    """Log the introduction, and a warning for every split with another number of pairs than known."""
    log.info("%s", introduction(name, pairs, size))
    for split, count in pairs.items():
        remark = count_remark(name, split, count, size)
        if remark:
            log.warning("%s: %s", split, remark)


def set_statistics(name: str) -> Statistics:
    """The released statistics of a public set.

    Raises:
        UserError: nobody published any; the message says what else there is.
    """
    statistics = CATALOG[name].statistics
    if statistics is None:
        known = ", ".join(other for other, entry in CATALOG.items() if entry.statistics)
        which = "no public set was recognised" if name == GENERIC else f"none are known of {CATALOG[name].title}"
        raise UserError(
            f"--statistics set: {which}; --statistics train measures them, --data-name says which set this is, and "
            f"those of another set go by its name ({known})"
        )
    return statistics
