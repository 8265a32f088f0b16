"""Names of files in one spelling, names of pairs by their files, and guesses what was meant if names do not fit."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

FOLDERS = {  # words for a role in use by public sets, any case; the first found wins
    "before": ("a", "time1", "image1", "t1", "im1", "before", "pre"),
    "after": ("b", "time2", "image2", "t2", "im2", "after", "post"),
    "label": ("label", "out", "mask", "gt", "change", "labels", "masks"),
}
WORD = re.compile(rf"(?<![^\W_])(?:{'|'.join(word for words in FOLDERS.values() for word in words)})(?![^\W_])")
DATE = re.compile(r"(?<!\d)(?:19|20)\d\d(?:(?:[-.]?[01]\d){1,2}|_[01]\d_[0-3]\d)?(?!\d)")  # 2018, 2018-05, 20180506


def nfc(name: str) -> str:
    """Return a name in one spelling: macOS stores é as e and an accent (NFD), others as one character (NFC)."""
    return unicodedata.normalize("NFC", name)


def loose(name: str) -> str:
    """Return a name as file systems compare it that ignore case and forms of Unicode."""
    return nfc(name).casefold()


def pair_names(rows: Iterable[tuple[Path, ...]]) -> dict[tuple[Path, ...], str]:
    """Return names of rows of before, after and perhaps label: BEFORE, or BEFORE__AFTER if an image is in several rows.

    An image is called by its stem; if names of pairs are then equal, by its path below the folder that all share.
    """
    uses = Counter(image for row in rows for image in set(row[:2]))
    dates = {row: row[:2] if max(uses.values()) > 1 else row[:1] for row in rows}
    stems = {row: "__".join(image.stem for image in images) for row, images in dates.items()}
    if len(set(map(loose, stems.values()))) == len(stems):
        return stems
    images = [image for row in dates.values() for image in row]
    longer = dict(zip(images, _below(images), strict=True))
    return {row: "__".join(longer[image] for image in dates[row]) for row in dates}


def image_names(images: Sequence[Path]) -> list[str]:
    """Return the stems of images; if two are equal, the paths below the folder that all share."""
    stems = [image.stem for image in images]
    return stems if len(set(map(loose, stems))) == len(stems) else _below(images)


def _below(images: Iterable[Path]) -> list[str]:
    """Return the paths of images below the folder that all share, without suffix, "_" for slashes."""
    paths = [image.absolute() for image in images]
    shared = max(1, len(os.path.commonprefix([path.parent.parts for path in paths])))  # without the drive
    return ["_".join(path.with_suffix("").parts[shared:]) for path in paths]


def closest(names: Sequence[str], folders: Sequence[Path]) -> str | None:
    """Return the folder whose name is nearest to one of these."""
    by_name = {path.name.lower(): path.name for path in folders}
    matches = (get_close_matches(name, by_name, 1, 0.7) for name in names if len(name) > 2)
    return next((by_name[match[0]] for match in matches if match), None)


def dated_pair(paths: Iterable[Path]) -> dict[str, Path]:
    """Return by role the first paths in one folder that differ only by a date or a word of a role; or an empty dict.

    Two dates are before and after; a name without either is the label.
    """
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in paths:
        shared, mark = _without_mark(path.stem)
        groups[shared][mark] = path
    for marks in groups.values():
        dates = sorted(mark for mark in marks if mark[:1].isdigit())
        roles = {"before": marks[dates[0]], "after": marks[dates[1]]} if len(dates) == 2 else {}
        roles |= {role: marks[word] for role, words in FOLDERS.items() for word in words[::-1] if word in marks}
        if "" in marks:
            roles.setdefault("label", marks[""])
        if {"before", "after"} <= roles.keys():
            return roles
    return {}


def misnamed_pair(paths: Mapping[str, Iterable[Path]]) -> dict[str, Path]:
    """Return the first paths, one of each role, that differ only by a date or a word of a role; or an empty dict."""
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for role, of_role in paths.items():
        for path in of_role:
            groups[_without_mark(path.stem)[0]][role].append(path)
    for group in groups.values():
        alone = {role: found[0] for role, found in group.items() if len(found) == 1}
        if alone.keys() == paths.keys() and len({path.stem for path in alone.values()}) > 1:
            return alone
    return {}


def swapped_names(before: Path, after: Path) -> tuple[str, str] | None:
    """Return the last parts of two paths that differ by a date or word, if either says that they are swapped."""
    for names in zip(before.parts[::-1], after.parts[::-1], strict=False):
        dates, found = zip(*map(_marks, names), strict=True)
        digits = [re.sub(r"\D", "", date.group()) for date in dates if date]
        roles = [role for word in found for role in ("before", "after") if word and word.group() in FOLDERS[role]]
        swapped = []
        if len(digits) == 2 and digits[0] != digits[1]:
            length = min(map(len, digits))
            swapped.append(digits[0][:length] > digits[1][:length])
        if len(roles) == 2 and roles[0] != roles[1]:
            swapped.append(roles[0] == "after")
        if swapped:
            return names if any(swapped) else None
    return None


def list_advice(pair: Mapping[str, Path]) -> str:
    """Return the advice for a pair whose names differ: use one name, or write a list with this first line."""
    stems = ", ".join(repr(stem) for stem in dict.fromkeys(path.stem for path in pair.values()))
    paths = [path.absolute() for path in pair.values()]
    folder = next(folder for folder in paths[0].parents if paths[1].is_relative_to(folder) or folder == folder.parent)
    cells = [(path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix() for path in paths]
    line = (", " if any(" " in cell for cell in cells) else " ").join(cells)
    return (
        f"names differ by a date or a word ({stems}): give the files of a pair one name, or write the list "
        f"{folder / 'pairs.txt'}, a pair a line, the first {line!r}, and pass it as --data-root"
    )


def _marks(name: str) -> tuple[re.Match[str] | None, re.Match[str] | None]:
    """Find the last date and the last word of a role in a name in small letters."""
    dates, words = ([*pattern.finditer(name.lower())] for pattern in (DATE, WORD))
    return dates[-1] if dates else None, words[-1] if words else None


def _without_mark(stem: str) -> tuple[str, str]:
    """Split a stem in small letters: the rest, and its last date or, without a date, its last word of a role."""
    date, word = _marks(stem)
    mark, plain = date or word, stem.lower()
    start, end = mark.span() if mark else (0, 0)
    shared = [part for part in re.split(r"[\W_]+", f"{plain[:start]} {plain[end:]}") if part]
    return "_".join(shared), plain[start:end]
