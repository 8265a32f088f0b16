"""Examines a data set on disk: every file is decoded once, everything wrong is collected, no pixel is kept."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from datasets.findings import Finding, value_shares
from datasets.label_counts import changed_pixels, known_levels
from datasets.layouts import SPLITS, Names, SplitFiles, has_split, list_split
from datasets.measurements import histogram_statistics
from datasets.pair_facts import ImageFacts, PairFacts, is_constant, pixel_digests, read_facts
from datasets.raster import PLAIN
from datasets.reading import Reading
from datasets.recognition import count_remark
from datasets.threads import threaded

DATES = ("before", "after")
AT_A_TIME = 16  # names a thread takes: to hand over each alone would cost a fiftieth of its decoding
UNSPLIT = "all"  # a data set that tells no splits apart


@dataclass
class Split:
    """A split as it lies on disk, complete or not, and what is wrong with the names alone."""

    name: str
    files: dict[str, dict[str, Path]] = field(default_factory=dict)
    roles: tuple[str, ...] = DATES  # that every pair must have
    findings: list[Finding] = field(default_factory=list)

    @property
    def complete(self) -> list[str]:
        """Names that have both dates and, in a labelled split, a label."""
        return [name for name, files in self.files.items() if files.keys() >= set(self.roles)]


@dataclass
class Examination:
    """What all files of a split told: sizes and modes of images, counts of levels, changed shares, fingerprints."""

    split: Split
    findings: list[Finding]
    reading: Reading
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    examples: dict[object, Path] = field(default_factory=dict)  # a size or a mode: the first image that has it
    label_levels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    highest: dict[str, int] = field(default_factory=dict)  # name: the highest known value of its label
    shares: dict[str, float] = field(default_factory=dict)  # name: changed share of its label
    changed: int = 0
    windows: dict[Path, tuple[bytes, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.levels = np.zeros((2, self.reading.channels, 256), np.int64)

    def add(self, facts: PairFacts) -> None:
        """Count one pair in."""
        self.findings += pair_findings(facts)
        for date, role in enumerate(DATES):
            if role in facts.images:
                image = facts.images[role]
                self.levels[date] += image.levels
                self.windows[image.path] = image.windows
                self.sizes[image.size] += 1
                self.modes[image.mode] += 1
                self.examples.setdefault(image.size, image.path)
                self.examples.setdefault(image.mode, image.path)
        if "label" in facts.images:
            label = facts.images["label"]
            changed, known = changed_pixels(label.levels, self.reading), known_levels(label.levels, self.reading)
            self.findings += label_findings(label, known, changed, self.reading)
            self.label_levels += label.levels
            self.highest[facts.name] = int(np.flatnonzero(known).max(initial=0))
            self.shares[facts.name] = changed / max(int(known.sum()), 1)
            self.changed += changed

    @property
    def usual_size(self) -> tuple[int, int] | None:
        """Height and width that most images have; None without images."""
        return self.sizes.most_common(1)[0][0] if self.sizes else None

    @property
    def foreground(self) -> int:
        """Labels with a changed pixel."""
        return sum(share > 0 for share in self.shares.values())

    @property
    def changed_share(self) -> float | None:
        """Changed pixels among all pixels of all labels; None without labels."""
        return self.changed / max(self.known_pixels, 1) if self.shares else None

    @property
    def known_pixels(self) -> int:
        """Pixels of all labels, without those that are unknown."""
        return int(known_levels(self.label_levels, self.reading).sum())

    def summary(self) -> dict[str, Any]:
        """All of it as primitives: fractions, and mean and std a date and channel in [0, 1]."""
        total = max(int(self.label_levels.sum()), 1)
        values = np.flatnonzero(self.label_levels).tolist()
        known = all(self.levels.sum((1, 2)))
        return {
            "pairs": len(self.split.complete),
            "sizes": {_as_text(size): count for size, count in self.sizes.most_common()},
            "modes": dict(self.modes.most_common()),
            "label_values": {str(value): int(self.label_levels[value]) / total for value in values},
            "changed_share": self.changed_share,
            "changed_pixels": self.changed,
            "known_pixels": self.known_pixels,
            "foreground_images": self.foreground if self.shares else None,
            **(histogram_statistics(self.levels) if known else {"mean": None, "std": None}),
        }


def survey(root: Path, folders: Names | None = None) -> list[Split]:
    """List what every split has, opening no image.

    Raises:
        FileNotFoundError: no such folder, or nothing in it looks like a data set.
    """
    names = [name for name in SPLITS if has_split(root, name)]
    return [_list_split(root, name, folders) for name in names] or [_list_split(root, UNSPLIT, folders)]


def _list_split(root: Path, name: str, folders: Names | None) -> Split:
    split = Split(name)
    try:
        found: SplitFiles = list_split(root, name, labels=False, folders=folders)
    except (FileNotFoundError, ValueError) as error:
        if name == UNSPLIT:
            raise
        split.findings.append(Finding("list" if isinstance(error, ValueError) else "layout", name, str(error)))
        return split
    split.files, split.roles = found.files, tuple(found.places)
    if "label" not in split.roles:
        kind = "no labels" if name == "train" else "nothing to score"
        split.findings.append(Finding(kind, name, _why_no_labels(root, name, folders)))
    for path, other in found.doubles:
        what = f"a second file for the name {path.stem!r}, besides {other.name}"
        split.findings.append(Finding("two files of one name", str(path), what))
    for stem in split.files:
        missing = found.missing(stem)
        if missing:
            where = ", ".join(str(found.places[role]) for role in missing)
            split.findings.append(Finding("orphan", where, f"no {' and no '.join(missing)} image for {stem!r}"))
    if not split.complete:
        split.findings.append(Finding("no pairs", name, f"no complete pair among {len(split.files)} names"))
    return split


def _why_no_labels(root: Path, name: str, folders: Names | None) -> str:
    """What training would say of a split that has none: where labels were looked for, and what is nearest."""
    try:
        list_split(root, name, labels=True, folders=folders)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return "no labels here"


def examine(
    split: Split, workers: int, tick: Callable[[int], object] = lambda done: None, reading: Reading = PLAIN
) -> Examination:
    """Decode every file of a split once, in threads, and judge it.

    Args:
        split: what `survey` found.
        workers: threads; memory holds the decoded files of as many names, and no more.
        tick: called with the number of names that are done since the last call.
        reading: how the files are read.
    """
    result = Examination(split, list(split.findings), reading)
    items = list(split.files.items())
    some = max(1, min(AT_A_TIME, len(items) // (8 * workers)))
    parts = (items[start : start + some] for start in range(0, len(items), some))
    for part in threaded(lambda part: [read_facts(*item, reading) for item in part], parts, workers):
        for facts in part:
            result.add(facts)
        tick(len(part))
    if reading.change_value is None and _two_codes(known_levels(result.label_levels, reading)):
        # the split's error asks what 1 and 255 mean; 1 is no grey value beside it
        result.findings = [finding for finding in result.findings if finding.kind != "grey labels"]
    result.findings += split_findings(result)
    return result


def pair_findings(facts: PairFacts) -> Iterator[Finding]:
    """What is wrong with one pair, but for the values of its label."""
    yield from (Finding("unreadable", str(path), what) for path, what in facts.unreadable.items())
    images = facts.images
    dates = [images[role] for role in DATES if role in images]
    sizes = {image.size for image in images.values()}
    if len(sizes) > 1:
        listed = ", ".join(f"{role} {image.size[0]} x {image.size[1]}" for role, image in images.items())
        yield Finding("sizes in a pair", str(next(iter(images.values())).path), listed)
    for image in dates:
        if not image.windows and is_constant(image.levels):  # one that has windows is not constant
            colour = ", ".join(str(channel.argmax()) for channel in image.levels)
            yield Finding("constant image", str(image.path), f"every pixel is ({colour})")
    if len(dates) == 2 and dates[0].mode != dates[1].mode:
        yield Finding("modes in a pair", str(dates[0].path), f"before {dates[0].mode}, after {dates[1].mode}")
    if facts.identical and not is_constant(dates[0].levels):
        yield Finding("identical dates", str(dates[0].path), "before and after have the same pixels")


def label_findings(label: ImageFacts, known: np.ndarray, changed: int, reading: Reading) -> Iterator[Finding]:
    """What is wrong with one label's values, given the counts of those that are known, and the changed pixels."""
    values, total = np.flatnonzero(known), int(known.sum())
    if not total:
        yield Finding("all unknown", str(label.path), value_shares(label.levels))
        return
    if reading.change_value is None and 1 < values.max() < 128:
        yield Finding("label codes", str(label.path), f"{value_shares(label.levels)}: no value is read as changed")
        return
    other = values[(values != 0) & (values != 255)] if reading.change_value is None and values.max() > 1 else values[:0]
    if len(other):
        listed = ", ".join(map(str, other[:10].tolist())) + (", ..." if len(other) > 10 else "")
        what = f"{len(other)} values besides 0 and 255 ({listed}) in {known[other].sum()} of {total} pixels"
        yield Finding("grey labels", str(label.path), what)
    if changed == total:
        yield Finding("all changed", str(label.path), value_shares(label.levels))


def split_findings(result: Examination) -> Iterator[Finding]:
    """What is wrong with a split as a whole."""
    name = result.split.name
    yield from _odd_ones("sizes of tiles" if name == "train" else "sizes of images", result.sizes, result.examples)
    yield from _odd_ones("modes in the split", result.modes, result.examples)
    reading, known = result.reading, known_levels(result.label_levels, result.reading)
    small = [label for label, high in result.highest.items() if high == 1]
    if reading.change_value is None and small and known[128:].any() and not _two_codes(known):
        what = f"{len(small)} labels end at 1, read as changed; others reach 128 and more (first {small[0]!r})"
        yield Finding("mixed label codes", name, what)
    elif reading.change_value is None and _two_codes(known):
        yield Finding("mixed label codes", name, f"does 1 or 255 mean changed? {value_shares(known)}")
    if result.shares and not result.changed:
        what = f"no changed pixel in {len(result.shares)} labels; values {value_shares(result.label_levels)}"
        yield Finding("no change" if name == "train" else "nothing to find", name, what)


def _two_codes(levels: np.ndarray) -> bool:
    return {1, 255} <= set(np.flatnonzero(levels).tolist()) <= {0, 1, 255}


def _odd_ones(kind: str, counts: Counter[Any], examples: Mapping[object, Path]) -> Iterator[Finding]:
    """A finding for every size or mode but the most frequent one."""
    for odd, count in counts.most_common()[1:]:
        usual = _as_text(counts.most_common(1)[0][0])
        yield Finding(kind, str(examples[odd]), f"{_as_text(odd)} in {count} images; most have {usual}")


def _as_text(key: tuple[int, int] | str) -> str:
    return key if isinstance(key, str) else f"{key[0]} x {key[1]}"


def count_findings(result: Examination, data_name: str) -> Iterator[Finding]:
    """Compare the number of pairs with what is known of a public set, for images of this size.

    Args:
        result: an examined split.
        data_name: a key of the catalog.
    """
    remark = count_remark(data_name, result.split.name, len(result.split.complete), result.usual_size)
    if remark:
        yield Finding("pair count", result.split.name, remark)


def leak_findings(results: Sequence[Examination], workers: int) -> Iterator[Finding]:
    """Images that share pixels with another split: wholly, or in a 256 x 256 window of the larger one's grid.

    Splits of one name (of two data sets) may share pixels; unsplit sets may share none. Only images that share
    counts of levels are decoded again, to compare their pixels.
    """
    for first, second in combinations(results, 2):
        if first.split.name == second.split.name != UNSPLIT:
            continue
        alike = _sharing(first.windows, second.windows), _sharing(second.windows, first.windows)
        known, exact = (
            dict(zip(paths, threaded(partial(pixel_digests, reading=result.reading), paths, workers), strict=True))
            for paths, result in zip(alike, (first, second), strict=True)
        )
        index = {window: path for path, windows in known.items() for window in windows}
        for path, windows in exact.items():
            hits = [index[window] for window in windows if window in index]
            if hits:
                of = "its pixels are" if len(windows) == 1 else f"{len(hits)} of its {len(windows)} windows are"
                yield Finding("leak", str(path), f"{of} also in {first.split.name}: {min(hits)}")


def _sharing(images: Mapping[Path, tuple[bytes, ...]], others: Mapping[Path, tuple[bytes, ...]]) -> list[Path]:
    """The images that have a window's digest in common with any of the others."""
    there = {window for windows in others.values() for window in windows}
    return [path for path, windows in images.items() if not there.isdisjoint(windows)]
