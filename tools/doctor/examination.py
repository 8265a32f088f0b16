"""Examines a data set on disk: decodes every file once and collects everything that is wrong."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from datasets.label_codes import decide, shares
from datasets.label_counts import LabelFacts, changed_pixels, known_codes
from datasets.layouts import SPLITS, Names, SplitFiles, has_split, list_split
from datasets.measurements import histogram_statistics
from datasets.reading import PLAIN, PixelFormat, code_name
from datasets.recognition import count_remark
from datasets.threads import threaded
from tools.doctor.findings import Finding
from tools.doctor.pair_facts import PairFacts, pixel_digests, read_facts

DATES = ("before", "after")
AT_A_TIME = 16  # names a thread takes; one at a time costs 2 % of decoding
UNSPLIT = "all"  # name of the only split of a data set without splits


@dataclass
class Split:
    """The files of a split, complete or not, and findings about their names."""

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
    """Facts of all files of a split: sizes and modes of images, counts of levels, changed shares, digests."""

    split: Split
    findings: list[Finding]
    reading: PixelFormat
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    examples: dict[object, Path] = field(default_factory=dict)  # a size or a mode: the first image that has it
    labels: dict[Path, LabelFacts] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)  # name: changed share of its label
    changed: int = 0
    known_pixels: int = 0  # of all labels, where both dates are known, too
    windows: dict[Path, tuple[bytes, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.levels = np.zeros((2, self.reading.channels, 256), np.int64)

    def add(self, facts: PairFacts) -> None:
        """Add the facts of one pair."""
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
        if facts.label and facts.label_path:
            self.labels[facts.label_path] = facts.label

    def judge_labels(self) -> None:
        """Decide which code means changed, and count changed pixels by it."""
        if not self.labels:
            return
        try:
            self.reading = decide(self.labels, self.reading)
        except ValueError as error:
            self.findings.append(Finding("label codes", self.split.name, str(error)))
            return
        names = {files["label"]: name for name, files in self.split.files.items() if "label" in files}
        for path, label in self.labels.items():
            known = sum(known_codes(label.counted, self.reading).values())
            changed = changed_pixels(label.counted, self.reading)
            if known and changed == known:
                self.findings.append(Finding("all changed", str(path), shares(label.counted)))
            self.shares[names[path]] = changed / max(known, 1)
            self.changed += changed
            self.known_pixels += known

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

    def summary(self) -> dict[str, Any]:
        """All facts as plain values; shares are fractions, mean and std a date and channel lie in [0, 1]."""
        codes = sum((Counter(label.known) for label in self.labels.values()), Counter[int]())
        total = max(codes.total(), 1)
        known = all(self.levels.sum((1, 2)))
        return {
            "pairs": len(self.split.complete),
            "sizes": {_as_text(size): count for size, count in self.sizes.most_common()},
            "modes": dict(self.modes.most_common()),
            "label_values": {code_name(code): pixels / total for code, pixels in sorted(codes.items())},
            "changed_share": self.changed_share,
            "changed_pixels": self.changed,
            "known_pixels": self.known_pixels,
            "foreground_images": self.foreground if self.shares else None,
            **(histogram_statistics(self.levels) if known else {"mean": None, "std": None}),
        }


def survey(root: Path, folders: Names | None = None) -> list[Split]:
    """List the files of every split; FileNotFoundError if the folder is missing or has no data set."""
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
        what = "no labels here"
        try:
            list_split(root, name, labels=True, folders=folders)
        except (FileNotFoundError, ValueError) as error:  # training's own message
            what = str(error)
        split.findings.append(Finding(kind, name, what))
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


def examine(
    split: Split, workers: int, tick: Callable[[int], object] = lambda done: None, reading: PixelFormat = PLAIN
) -> Examination:
    """Decode every file of a split once, in threads, and judge it.

    Args:
        split: a split from `survey`.
        workers: threads; memory holds the decoded files of as many names.
        tick: called with the number of names done since the last call.
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
    result.judge_labels()
    result.findings += split_findings(result)
    return result


def pair_findings(facts: PairFacts) -> Iterator[Finding]:
    """Findings about one pair, without the values of its label."""
    yield from (Finding("unreadable", str(path), what) for path, what in facts.unreadable.items())
    images = facts.images
    dates = [images[role] for role in DATES if role in images]
    if facts.problem:
        sizes = len({image.size for image in dates}) > 1 or "differs in size" in facts.problem
        where = str(dates[0].path) if dates else facts.name
        yield Finding("sizes in a pair" if sizes else "pair", where, facts.problem)
    if facts.unknown:
        yield Finding("all unknown", str(dates[0].path), "no pixel is known at both dates and in the label")
    for image in dates:
        if image.constant:
            yield Finding("constant image", str(image.path), "every pixel has one colour")
    if len(dates) == 2 and dates[0].mode != dates[1].mode:
        yield Finding("modes in a pair", str(dates[0].path), f"before {dates[0].mode}, after {dates[1].mode}")
    if facts.identical and not dates[0].constant:
        yield Finding("identical dates", str(dates[0].path), "before and after have the same pixels")


def split_findings(result: Examination) -> Iterator[Finding]:
    """Findings about a split as a whole."""
    name = result.split.name
    yield from _odd_ones("sizes of tiles" if name == "train" else "sizes of images", result.sizes, result.examples)
    yield from _odd_ones("modes in the split", result.modes, result.examples)
    if result.shares and not result.changed:
        what = f"no changed pixel in {len(result.shares)} labels"
        yield Finding("no change" if name == "train" else "nothing to find", name, what)


def _odd_ones(kind: str, counts: Counter[Any], examples: Mapping[object, Path]) -> Iterator[Finding]:
    """A finding for every size or mode but the most frequent one."""
    for odd, count in counts.most_common()[1:]:
        usual = _as_text(counts.most_common(1)[0][0])
        yield Finding(kind, str(examples[odd]), f"{_as_text(odd)} in {count} images; most have {usual}")


def _as_text(key: tuple[int, int] | str) -> str:
    return key if isinstance(key, str) else f"{key[0]} x {key[1]}"


def count_findings(result: Examination, data_name: str) -> Iterator[Finding]:
    """Compare the number of pairs with the known one of a public set, a key of the catalog."""
    if remark := count_remark(data_name, result.split.name, len(result.split.complete), result.usual_size):
        yield Finding("pair count", result.split.name, remark)


def leak_findings(results: Sequence[Examination], workers: int) -> Iterator[Finding]:
    """Images that share all pixels, or an aligned 256 x 256 window, with another split.

    Splits of one name (of two data sets) may share pixels; sets without splits may not. Only images with equal counts
    of levels are decoded again, to compare their pixels.
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
            if hits := [index[window] for window in windows if window in index]:
                of = "its pixels are" if len(windows) == 1 else f"{len(hits)} of its {len(windows)} windows are"
                yield Finding("leak", str(path), f"{of} also in {first.split.name}: {min(hits)}")


def _sharing(images: Mapping[Path, tuple[bytes, ...]], others: Mapping[Path, tuple[bytes, ...]]) -> list[Path]:
    """The images that share the digest of a window with any of the others."""
    there = {window for windows in others.values() for window in windows}
    return [path for path, windows in images.items() if not there.isdisjoint(windows)]
