"""Finds the pairs of a data set, complete and in order."""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from datasets.layouts import Names, SplitFiles, in_folders, list_images, list_split
from datasets.names import FOLDERS, list_advice, misnamed_pair, swapped_names
from datasets.raster import SUFFIXES
from datasets.sidecars import sidecars
from datasets.threads import readable, threaded
from utils.console import UserError, nearest, quantity

log = logging.getLogger(__name__)
SAMPLED, PLACES = 4096, 16  # bytes of a file, and at how many places, that the mark of a pair depends on


@dataclass(frozen=True)
class Pair:
    """Two images of one place, and where changes are known, their label."""

    name: str
    before: Path
    after: Path
    label: Path | None = None

    @property
    def files(self) -> list[Path]:
        """Its two or three files."""
        return [path for path in (self.before, self.after, self.label) if path]

    @property
    def stamp(self) -> str:
        """Paths, sizes and times of change of its files and their sidecars: another stamp, another pair."""
        paths = [path for file in self.files for path in with_sidecars(file)]
        stats = [(_resolved(path.parent) / path.name, _stat(path)) for path in paths]
        return " ".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" if stat else str(path) for path, stat in stats)


def with_sidecars(path: Path) -> list[Path]:
    """Return an image, and the world file, mask and .aux.xml file beside it."""
    try:
        return [path, *(path.with_name(name) for name in sidecars(path))]
    except OSError:
        return [path]


@lru_cache
def _resolved(folder: Path) -> Path:
    return folder.resolve()


def find_pairs(root: Path, split: str, labels: bool = True, folders: Names | None = None) -> list[Pair]:
    """Find the pairs of one split, sorted by name, and log the layout; see `list_split`.

    Raises:
        FileNotFoundError: no such folder or split.
        UserError: a date or label is missing for a name, or there is no image; with labels also a broken link.
    """
    found = list_split(root, split, labels, folders)
    pairs = complete_pairs(found)
    if labels:
        for pair in pairs:
            refuse_broken_links(pair)
    log.info("%s: %s of %s", split, quantity(len(pairs), "pair"), found.how)
    return pairs


def match_pairs(before: Path, after: Path, label: Path | None = None) -> list[Pair]:
    """Match the images of two or three folders by file stem, sorted by name; the label folder may be empty.

    Raises:
        FileNotFoundError: a folder does not exist.
        UserError: orphans, two files of one stem, or nothing at all.
    """
    folders = {role: path for role, path in zip(FOLDERS, (before, after, label), strict=True) if path}
    found = in_folders(folders, labels=False, how=", ".join(map(str, folders.values())))
    pairs = complete_pairs(found)
    log.info("%s of %s", quantity(len(pairs), "pair"), found.how)
    return pairs


def complete_pairs(found: SplitFiles) -> list[Pair]:
    """Return the pairs of a split's files; orphans, two files of one name, or nothing at all is a UserError."""
    for path, other in found.doubles:
        raise UserError(f"{path}: a second file for the name {path.stem!r}, besides {other.name}")
    if found.unknown:
        raise UserError(found.unknown)
    for role, place in found.places.items():
        lacking = [name for name, files in found.files.items() if role not in files]
        if lacking:
            raise UserError(
                f"{place}: {len(lacking)} of {len(found.files)} names have no {role} image, first {lacking[0]!r}"
                f"{_what_to_do(found.places, role, lacking[0])}"
            )
    if not found.files:
        place = found.places["before"]
        inner = next((path for path in sorted(place.iterdir()) if path.is_dir() and list_images(path)), None)
        hint = f"; those in {inner} must lie in the folder itself" if inner else ""
        raise UserError(f"{place}: no images here ({', '.join(SUFFIXES)}){hint}")
    return [Pair(name, files["before"], files["after"], files.get("label")) for name, files in found.files.items()]


def _what_to_do(places: Mapping[str, Path], role: str, name: str) -> str:
    """Return what to do about a name that has no file in the folder of a role."""
    images = {role: list_images(place) for role, place in places.items()}
    if pair := misnamed_pair(images):
        return f"; {list_advice(pair)}"
    return f"{nearest(name, (path.stem for path in images[role]), 0.8)}; add the files or remove their partners"


def later_first(pair: Pair) -> str:
    """Return a remark if the names of the two dates say that they are swapped; else empty."""
    names = swapped_names(pair.before, pair.after)
    return "by their names, the dates are swapped: before is {}, after is {}".format(*names) if names else ""


def refuse_broken_links(pair: Pair) -> None:
    """Raise a UserError that names a broken link; opening it would only report that there is no such file."""
    for path in pair.files:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path}: broken link to {path.readlink()}; mend the link, or remove the pair")


def refuse_inside(output: Path, pairs: Sequence[Pair], flag: str = "--output") -> None:
    """Refuse an output folder in or beside a folder of images or labels, where maps would be taken for some."""
    target = output.resolve()
    for folder in {path.parent.resolve() for pair in pairs for path in pair.files}:
        if target == folder.parent or folder in (target, *target.parents):
            raise UserError(f"{flag} {output}: would write among the images of {folder}; name a folder outside")


def _stat(path: Path) -> os.stat_result | None:
    """Return size and time of a file; None if it cannot be reached."""
    try:
        return path.stat()
    except OSError:
        return None


def fingerprint(pairs: Sequence[Pair]) -> str:
    """Return a short hash of names and file sizes, which differs between data sets."""
    digest = hashlib.sha256()
    for pair in pairs:
        for path in (pair.before, pair.after, pair.label):
            stat = _stat(path) if path else None
            digest.update(f"{pair.name} {stat.st_size if stat else 0}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def image_marks(pairs: Sequence[Pair], labels: bool = False) -> list[str]:
    """Return a short hash of each pair's images, of sizes and some bytes; empty for files that cannot be read.

    With `labels`, all bytes of the label are part of the hash.
    """
    return [mark or "" for mark in threaded(readable(partial(_mark, label=labels), lenient=True), pairs)]


def marks_in(about: Mapping[str, Any], key: str = "trained_on") -> set[str]:
    """Return the marks of the pairs that a checkpoint was trained or "chosen_on"; an older one holds none."""
    found = about.get(key, ())
    return set() if isinstance(found, str) else {*found} - {""}


def _mark(pair: Pair, label: bool) -> str:
    digest = hashlib.sha256()
    for path in (pair.before, pair.after):
        size = path.stat().st_size
        with path.open("rb") as file:
            for place in range(0, size, max(SAMPLED, size // PLACES)):
                file.seek(place)
                digest.update(file.read(SAMPLED))
        digest.update(str(size).encode())
    if label and pair.label:
        digest.update(pair.label.read_bytes())
    return digest.hexdigest()[:12]
