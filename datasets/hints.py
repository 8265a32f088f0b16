"""Guesses what was meant if names of files or folders do not fit."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

Words = Mapping[str, Sequence[str]]  # role to the words that stand for it in names
DATE = re.compile(r"(?<!\d)(?:19|20)\d\d(?:(?:[-.]?[01]\d){1,2}|_[01]\d_[0-3]\d)?(?!\d)")  # 2018, 2018-05, 20180506


def closest(names: Sequence[str], folders: Sequence[Path]) -> str | None:
    """Return the folder whose name is nearest to one of these."""
    by_name = {path.name.lower(): path.name for path in folders}
    matches = (get_close_matches(name, by_name, 1, 0.7) for name in names if len(name) > 2)
    return next((by_name[match[0]] for match in matches if match), None)


def dated_pair(paths: Iterable[Path], words: Words) -> dict[str, Path]:
    """Return by role the first paths in one folder that differ only by a date or a word of a role; or an empty dict.

    Two dates are before and after; a name without either is the label.
    """
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in paths:
        shared, mark = _without_mark(path.stem, words)
        groups[shared][mark] = path
    for marks in groups.values():
        dates = sorted(mark for mark in marks if mark[:1].isdigit())
        roles = {"before": marks[dates[0]], "after": marks[dates[1]]} if len(dates) == 2 else {}
        roles |= {role: marks[word] for role in words for word in words[role][::-1] if word in marks}
        if "" in marks:
            roles.setdefault("label", marks[""])
        if {"before", "after"} <= roles.keys():
            return roles
    return {}


def misnamed_pair(paths: Mapping[str, Iterable[Path]], words: Words) -> dict[str, Path]:
    """Return the first paths, one of each role, that differ only by a date or a word of a role; or an empty dict."""
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for role, of_role in paths.items():
        for path in of_role:
            groups[_without_mark(path.stem, words)[0]][role].append(path)
    for group in groups.values():
        alone = {role: found[0] for role, found in group.items() if len(found) == 1}
        if alone.keys() == paths.keys() and len({path.stem for path in alone.values()}) > 1:
            return alone
    return {}


def swapped_names(before: Path, after: Path, words: Words) -> tuple[str, str] | None:
    """Return the last parts of two paths that differ by a date or word, if either says that they are swapped."""
    for names in zip(before.parts[::-1], after.parts[::-1], strict=False):
        dates, found = zip(*(_marks(name, words) for name in names), strict=True)
        digits = [re.sub(r"\D", "", date.group()) for date in dates if date]
        roles = [role for word in found for role in ("before", "after") if word and word.group() in words[role]]
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


def _marks(name: str, words: Words) -> tuple[re.Match[str] | None, re.Match[str] | None]:
    """Find the last date and the last word of a role in a name in small letters."""
    word = rf"(?<![^\W_])(?:{'|'.join(word for of_role in words.values() for word in of_role)})(?![^\W_])"
    date, role = ([*re.finditer(pattern, name.lower())] for pattern in (DATE, word))
    return date[-1] if date else None, role[-1] if role else None


def _without_mark(stem: str, words: Words) -> tuple[str, str]:
    """Split a stem in small letters: the rest, and its last date or, without a date, its last word of a role."""
    date, word = _marks(stem, words)
    mark, plain = date or word, stem.lower()
    start, end = mark.span() if mark else (0, 0)
    shared = [part for part in re.split(r"[\W_]+", f"{plain[:start]} {plain[end:]}") if part]
    return "_".join(shared), plain[start:end]
