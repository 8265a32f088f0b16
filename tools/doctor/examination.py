"""Examines a data set on disk: decodes every file once and collects findings."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from datasets.label_codes import decide, shares
from datasets.label_counts import LabelFacts, changed_pixels, known_codes
from datasets.layouts import SPLITS, Names, has_split, list_split
from datasets.measurements import histogram_statistics
from datasets.reading import PLAIN, PixelFormat, code_name
from datasets.recognition import count_remark
from datasets.registration import Shift
from datasets.threads import threaded
from tools.doctor.findings import Finding
from tools.doctor.pair_facts import DATES, ImageFacts, PairFacts, read_facts
from utils.console import quantity

AT_A_TIME = 16  # names per job of a thread; with one name per job, decoding takes 2 % longer
MEASURED = 50  # pairs of a split, evenly spaced, whose shift and likeness are measured
# of 105 pairs of real images, 3 have a likeness below UNLIKE; of 428 pairs of unlike places, two thirds
UNLIKE, MANY, ENOUGH = 0.02, 0.25, 8  # likeness; share of the measured pairs, and how many these are at least
SHIFTED = 1.0  # pixels; a longer median shift is a finding
UNSPLIT = "all"  # name of the only split of a data set without splits


@dataclass
class Split:
    """The files of a split, complete or not."""

    name: str
    files: dict[str, dict[str, Path]] = field(default_factory=dict)  # by name of the pair and role
    roles: tuple[str, ...] = DATES  # that every pair needs
    findings: list[Finding] = field(default_factory=list)  # about names and folders

    @property
    def complete(self) -> list[str]:
        """Names that have both dates and, in a labelled split, a label."""
        return [name for name, files in self.files.items() if files.keys() >= set(self.roles)]


@dataclass
class Examination:
    """Facts of all files of a split."""

    split: Split
    findings: list[Finding]
    reading: PixelFormat  # how its files are read
    images: dict[Path, ImageFacts] = field(default_factory=dict)  # readable dates; `levels` has their counts of levels
    shares: dict[str, float] = field(default_factory=dict)  # changed share of each label, by name of the pair
    changed: int = 0  # pixels of all labels
    known_pixels: int = 0  # of all labels, where both dates are known
    measured: int = 0  # pairs whose shift was measured
    shifts: dict[str, Shift] = field(default_factory=dict)  # the reliable ones, by name of the pair
    likeness: dict[str, float] = field(default_factory=dict)  # of measured pairs, by name
    pixel_size: float | None = None  # metres

    def __post_init__(self) -> None:
        self.labels: dict[str, LabelFacts] = {}  # by name of the pair
        self.levels = np.zeros((2, self.reading.channels, 256), np.int64)

    def add(self, name: str, facts: PairFacts) -> None:
        """Add the facts of one pair."""
        self.findings += facts.findings
        for role, image in facts.images.items():
            self.levels[DATES.index(role)] += image.levels
            self.images[image.path] = replace(image, levels=np.empty(0))
        if facts.label:
            self.labels[name] = facts.label
        if facts.shift:
            self.shifts[name] = facts.shift
        if facts.likeness is not None:
            self.likeness[name] = facts.likeness
        self.pixel_size = self.pixel_size or facts.metres

    def judge(self) -> None:
        """Decide which code means changed, count changed pixels, and add the findings about the whole split."""
        train, where = self.split.name == "train", self.split.name
        if self.labels:
            self._judge_labels()
        sizes = {path: _size_text(image.size) for path, image in self.images.items()}
        self.findings += _odd_ones("sizes of tiles" if train else "sizes of images", sizes)
        self.findings += _odd_ones("modes in the split", {path: image.mode for path, image in self.images.items()})
        if (about := self.shift_summary()) and about["median_pixels"] > SHIFTED:
            median, largest = shift_text(about, "median"), shift_text(about, "largest")
            count = f"{about['reliable']} of {about['measured']} pairs"
            what = f"median {median}, largest {largest} ({about['largest']}); reliable in {count}"
            self.findings.append(Finding("shifted dates", where, what))
        unlike = [name for name, likeness in self.likeness.items() if likeness < UNLIKE]
        if len(self.likeness) >= ENOUGH and len(unlike) > MANY * len(self.likeness):
            what = f"no edges in common in {len(unlike)} of {len(self.likeness)} pairs, first {unlike[0]}"
            self.findings.append(Finding("unlike dates", where, what))
        if self.shares and not self.changed:
            what = f"no changed pixel in {len(self.shares)} labels"
            self.findings.append(Finding("no change" if train else "nothing to find", where, what))

    def _judge_labels(self) -> None:
        paths = {name: self.split.files[name]["label"] for name in self.labels}
        try:
            self.reading = decide({paths[name]: facts for name, facts in self.labels.items()}, self.reading)
        except ValueError as error:
            self.findings.append(Finding("label codes", self.split.name, str(error)))
            return
        for name, label in self.labels.items():
            known = sum(known_codes(label.counted, self.reading).values())
            changed = changed_pixels(label.counted, self.reading)
            if known and changed == known:
                self.findings.append(Finding("all changed", str(paths[name]), shares(label.counted)))
            self.shares[name] = changed / max(known, 1)
            self.changed += changed
            self.known_pixels += known

    def shift_summary(self) -> dict[str, Any] | None:
        """Return how far the later images are shifted, as plain values; None if no shift was reliable."""
        if not self.shifts:
            return None
        lengths = {name: shift.length for name, shift in self.shifts.items()}
        largest, median = max(lengths, key=lengths.__getitem__), float(np.median(list(lengths.values())))
        return {
            "measured": self.measured, "reliable": len(lengths),
            "median_pixels": median, "largest_pixels": lengths[largest], "largest": largest,
            "median_metres": median * self.pixel_size if self.pixel_size else None,
            "largest_metres": lengths[largest] * self.pixel_size if self.pixel_size else None,
        }  # fmt: skip

    @property
    def usual_size(self) -> tuple[int, int] | None:
        """Height and width that most images have; None without images."""
        sizes = Counter(image.size for image in self.images.values())
        return sizes.most_common(1)[0][0] if sizes else None

    def summary(self) -> dict[str, Any]:
        """All facts as plain values. Shares are fractions; mean and std per date and channel lie in [0, 1]."""
        codes = sum((Counter(label.known) for label in self.labels.values()), Counter[int]())
        images, total, known = self.images.values(), max(codes.total(), 1), all(self.levels.sum((1, 2)))
        return {
            "pairs": len(self.split.complete),
            "sizes": dict(Counter(_size_text(image.size) for image in images).most_common()),
            "modes": dict(Counter(image.mode for image in images).most_common()),
            "label_values": {code_name(code): pixels / total for code, pixels in sorted(codes.items())},
            "changed_share": self.changed / max(self.known_pixels, 1) if self.shares else None,
            "changed_pixels": self.changed,
            "known_pixels": self.known_pixels,
            "foreground_images": sum(share > 0 for share in self.shares.values()) if self.shares else None,
            "shift": self.shift_summary(),
            **(histogram_statistics(self.levels) if known else {"mean": None, "std": None}),
        }


def survey(root: Path, folders: Names | None = None) -> list[Split]:
    """List the files of every split; FileNotFoundError if the folder is missing or has no data set."""
    names = [name for name in SPLITS if has_split(root, name)]
    return [_list_split(root, name, folders) for name in names or [UNSPLIT]]


def _list_split(root: Path, name: str, folders: Names | None) -> Split:
    split = Split(name)
    try:
        found = list_split(root, name, labels=False, folders=folders)
    except (FileNotFoundError, ValueError) as error:
        if name == UNSPLIT:
            raise
        split.findings.append(Finding("list" if isinstance(error, ValueError) else "layout", name, str(error)))
        return split
    split.files, split.roles = found.files, tuple(found.places)
    if "label" not in split.roles:
        what = "no labels here"
        try:
            list_split(root, name, labels=True, folders=folders)
        except (FileNotFoundError, ValueError) as error:  # the message that training shows
            what = str(error)
        split.findings.append(Finding("no labels" if name == "train" else "nothing to score", name, what))
    for path, other in found.doubles:
        what = f"a second file for the name {path.stem!r}, besides {other.name}"
        split.findings.append(Finding("two files of one name", str(path), what))
    for stem in split.files:
        if missing := found.missing(stem):
            where = ", ".join(str(found.places[role]) for role in missing)
            split.findings.append(Finding("orphan", where, f"no {' and no '.join(missing)} image for {stem!r}"))
    if not split.complete:
        split.findings.append(Finding("no pairs", name, f"no complete pair among {len(split.files)} names"))
    return split


def examine(
    split: Split,
    workers: int,
    tick: Callable[[int], object] = lambda done: None,
    reading: PixelFormat = PLAIN,
    pixel_size: float | None = None,
) -> Examination:
    """Decode every file of a split of `survey` once, in threads, and judge it.

    Each of the `workers` holds the decoded files of one name in memory. `tick` is called with the number of names done
    since its last call. Without a pixel size in metres, georeferences give it.
    """
    result = Examination(split, list(split.findings), reading, pixel_size=pixel_size)
    items = list(split.files.items())
    some = max(1, min(AT_A_TIME, len(items) // (8 * workers)))
    parts = (items[start : start + some] for start in range(0, len(items), some))
    names = split.complete
    measured = set(names[:: math.ceil(len(names) / MEASURED)]) if names else set()
    result.measured = len(measured)

    def facts_of(part: list[tuple[str, dict[str, Path]]]) -> list[tuple[str, PairFacts]]:
        return [(name, read_facts(name, of, reading, name in measured)) for name, of in part]

    for part in threaded(facts_of, parts, workers):
        for name, facts in part:
            result.add(name, facts)
        tick(len(part))
    result.judge()
    return result


def _odd_ones(kind: str, values: Mapping[Path, str]) -> Iterator[Finding]:
    """A finding for every value but the most frequent one; `values` are by image."""
    for odd, count in (counts := Counter(values.values()).most_common())[1:]:
        first = next(path for path, value in values.items() if value == odd)
        yield Finding(kind, str(first), f"{odd} in {quantity(count, 'image')}; most have {counts[0][0]}")


def shift_text(about: Mapping[str, Any], which: str) -> str:
    """Return the "median" or the "largest" shift of a `shift_summary` in pixels, and in metres if they are known."""
    metres = about[f"{which}_metres"]
    return f"{about[f'{which}_pixels']:.1f} px" + (f" = {metres:.2g} m" if metres else "")


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def count_findings(result: Examination, data_name: str) -> Iterator[Finding]:
    """Compare the number of pairs with the known one of a public set, a key of the catalog."""
    if remark := count_remark(data_name, result.split.name, len(result.split.complete), result.usual_size):
        yield Finding("pair count", result.split.name, remark)


def leak_findings(results: Sequence[Examination]) -> Iterator[Finding]:
    """Images that share all pixels, or an aligned 256 x 256 window, with another split.

    Splits of one name (of two data sets) may share pixels; data sets without splits may not.
    """
    for first, second in combinations(results, 2):
        if first.split.name == second.split.name != UNSPLIT:
            continue
        index = {window: path for path, image in first.images.items() for window in image.windows}
        for path, image in second.images.items():
            if hits := [index[window] for window in image.windows if window in index]:
                count = len(image.windows)
                of = "its pixels are" if count == 1 else f"{len(hits)} of its {count} windows are"
                yield Finding("leak", str(path), f"{of} also in {first.split.name}: {min(hits)}")
