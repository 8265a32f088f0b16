"""The pairs of a data set: complete, in order, and apart from what is written."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.layouts import Names, SplitFiles, in_folders, list_images, list_split
from datasets.raster import SUFFIXES
from utils.console import nearest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Two images of one place, and where changes are known, their label."""

    name: str
    before: Path
    after: Path
    label: Path | None = None

    @property
    def stamp(self) -> str:
        """Names, sizes and times of change of its files: another stamp, another pair."""
        files = [(path.name, path.stat()) for path in (self.before, self.after, self.label) if path]
        return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)


def find_pairs(root: Path, split: str, labels: bool = True, folders: Names | None = None) -> list[Pair]:
    """Find the pairs of one split, sorted by name, and log the arrangement; see `list_split`.

    Raises:
        FileNotFoundError: no such folder or split.
        ValueError: a date or label is missing for some name, or there is no image.
    """
    found = list_split(root, split, labels, folders)
    pairs = complete_pairs(found)
    log.info("%s: %d pairs of %s", split, len(pairs), found.how)
    return pairs


def match_pairs(before: Path, after: Path, label: Path | None = None) -> list[Pair]:
    """Match the images of two or three folders by file stem, sorted by name.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: orphans, two files of one stem, or nothing at all.
    """
    folders = {"before": before, "after": after} | ({"label": label} if label else {})
    return complete_pairs(in_folders(folders))


def complete_pairs(found: SplitFiles) -> list[Pair]:
    """The pairs of a split's files.

    Raises:
        ValueError: orphans, two files of one name, or nothing at all.
    """
    for path, other in found.doubles:
        raise ValueError(f"{path}: a second file for the name {path.stem!r}, besides {other.name}")
    for role, place in found.places.items():
        lacking = [name for name, files in found.files.items() if role not in files]
        if lacking:
            hint = nearest(lacking[0], (path.stem for path in list_images(place)) if place.is_dir() else (), 0.8)
            raise ValueError(
                f"{place}: {len(lacking)} of {len(found.files)} names have no {role} image, first "
                f"{lacking[0]!r}{hint}; add the files or remove their partners"
            )
    if not found.files:
        raise ValueError(f"{found.places['before']}: no images here ({', '.join(SUFFIXES)})")
    return [Pair(name, files["before"], files["after"], files.get("label")) for name, files in found.files.items()]


def refuse_inside(output: Path, pairs: Sequence[Pair], flag: str = "--output") -> None:
    """Keep what is written apart from what is read: maps in a data set would be taken for its images or labels.

    Raises:
        ValueError: the output folder lies in, or beside, a folder that images or labels are read from.
    """
    target = output.resolve()
    for folder in {path.parent.resolve() for p in pairs for path in (p.before, p.after, p.label) if path}:
        if target == folder.parent or folder in (target, *target.parents):
            raise ValueError(f"{flag} {output}: would write among the images of {folder}; name a folder outside")


def fingerprint(pairs: Sequence[Pair]) -> str:
    """A short hash of names and file sizes: tells two data sets apart without reading them."""
    digest = hashlib.sha256()
    for pair in pairs:
        for path in (pair.before, pair.after, pair.label):
            digest.update(f"{pair.name} {path.stat().st_size if path else 0}\n".encode())
    return digest.hexdigest()[:16]


def image_fingerprint(pairs: Sequence[Pair]) -> str:
    """The same, whether there are labels or not."""
    return fingerprint([replace(pair, label=None) for pair in pairs])
