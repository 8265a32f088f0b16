"""Reads list files: the pairs of a split, one a line, by name or by the paths of their files."""

import codecs
import csv
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from datasets.names import loose, nfc, pair_names
from datasets.raster import SUFFIXES
from utils.console import UserError, nearest

SEPARATORS = "\t, "  # between the columns of a line, in the order in which they are tried
ROLES = ("before", "after", "label")


@dataclass
class SplitFiles:
    """The files of a split as they lie on disk, complete or not."""

    places: dict[str, Path]  # folder or list that the files of a role come from: before, after, and label if any
    files: dict[str, dict[str, Path]]  # name to role to file, sorted by name
    doubles: list[tuple[Path, Path]] = field(default_factory=list)  # files of an earlier one's name, and that one
    how: str = ""  # the layout, in words
    unknown: str = ""  # the first line of the list that names no file, and what to do

    def missing(self, name: str) -> list[str]:
        """Return the roles for which a name has no file."""
        return [role for role in self.places if role not in self.files[name]]


@dataclass(frozen=True)
class Line:
    """A line of a list: its text without line end, and for messages the list and the number of the line."""

    place: str
    text: str

    @property
    def is_comment(self) -> bool:
        """True if the line begins with #, as the name of a file may too."""
        return self.text.lstrip().startswith("#")

    def error(self, what: str) -> UserError:
        """Return an error about this line."""
        return UserError(f"{self.place}: {what}")

    def splits(self) -> list[list[str]]:
        """Return the cells of the line by each separator in it."""
        text = self.text.strip(" ")
        return [self._cells(text, each) for each in SEPARATORS if each in text] or [self._cells(text, "\t")]

    def _cells(self, text: str, separator: str) -> list[str]:
        quote = "'" if text.startswith("'") else '"'
        try:
            (cells,) = csv.reader([text], delimiter=separator, quotechar=quote, skipinitialspace=True)
        except csv.Error as error:
            raise self.error(f"not a line of a list ({error}); mend the line") from error
        cells = [cell.strip() for cell in cells]
        while len(cells) > 1 and not cells[-1]:
            cells.pop()
        return cells

    def columns(self, root: Path) -> list[str]:
        """Return the cells, split so that they are two or three files under `root`, or else at the first separator."""
        splits = self.splits()
        files = (cells for cells in splits if len(cells) in (2, 3) and all(_find(cell, root) for cell in cells))
        return next(files, splits[0])

    def checked(self, cells: list[str]) -> list[str]:
        """Return the cells, unless there are too many or an empty one."""
        if len(cells) > len(ROLES):
            what = f"{len(cells)} columns, but a line names at most before, after and label"
            raise self.error(f"{what}; where names have blanks, put tabs between the columns")
        if "" in cells:
            raise self.error(f"column {cells.index('') + 1} is empty; fill it in or remove the line")
        return cells

    def inside(self, name: str) -> PurePosixPath:
        """Return a listed name with slashes for backslashes, unless it is relative and has ".."."""
        plain = PurePosixPath(name.replace("\\", "/"))
        if ".." in plain.parts and not _is_absolute(plain):
            raise self.error(f"{name!r} leaves the data set's folder; write the path without '..'")
        return plain

    def file(self, cell: str, root: Path) -> Path:
        """Return the path that a cell names, from `root`; only an absolute one must exist."""
        plain = self.inside(cell)
        found = _find(cell, root)
        if not found and _is_absolute(plain):
            raise self.error(f"{cell} does not exist; mend the path")
        return found or root / plain


def read_lines(path: Path) -> list[Line]:
    """Read the lines of a list that are not blank: UTF-8, or UTF-16 with a byte order mark; else a UserError."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    remedy = f"save the list as UTF-8, in an editor or by: iconv -f GBK -t UTF-8 {path.name} > utf8.txt"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 text; {remedy}") from error
    # some programs fill the last block of a file with NUL
    lines = [Line(f"{path}, line {n}", line.strip("\0")) for n, line in enumerate(re.split("\r\n|\r|\n", text), 1)]
    for line in lines:
        if "\0" in line.text:
            raise line.error(f"NUL between characters, so not UTF-8 text; {remedy}")
    return [line for line in lines if line.text.strip()]


def listed_stems(lines: Sequence[Line], places: Mapping[str, Path], stems: Collection[str]) -> tuple[list[str], str]:
    """Return the stems that a list of names holds, each once, and what is wrong with the first that is not in `stems`.

    The whole line is tried first, then its first column. `places` are the folders of the images by role.

    Raises:
        UserError: the columns of a line name different images, or leave the folder.
    """
    names = _Names({name for path in places.values() for name in (path.name.lower(), os.path.realpath(path))}, stems)
    found: dict[str, Line] = {}
    for line in lines:
        whole = (names.stem(text) for text in (line.text, line.text.strip()))
        stem = next((stem for stem in whole if stem in stems), None)
        if stem or not line.is_comment:
            found.setdefault(stem or names.first_stem(line), line)
    for stem, line in found.items():
        if stem not in stems:
            near = nearest(stem, stems, 0.8) or "".join(f" (there is {name!r})" for name in sorted(stems)[:1])
            what = f"{line.text.strip()!r} names no image of {'/'.join(path.name for path in places.values())}{near}"
            return list(found), f"{line.place}: {what}; mend or remove the line"
    return list(found), ""


@dataclass(frozen=True)
class _Names:
    """What a list of names may name: stems of images, in folders given by small name and by absolute path."""

    folders: Collection[str]
    stems: Collection[str]

    @cached_property
    def first_words(self) -> set[str]:
        """First words of stems that have blanks."""
        return {stem.split(" ")[0] for stem in self.stems if " " in stem}

    def stem(self, name: str) -> str:
        """Return the stem of a listed stem or file; of files in other folders the whole name, which is no stem."""
        plain = PurePosixPath(name.replace("\\", "/"))
        if nfc(name) in self.stems:
            return nfc(name)
        if _is_absolute(plain):
            here = os.path.realpath(Path(name).parent) in self.folders
        else:
            here = plain.parent == PurePosixPath() or plain.parent.name.lower() in self.folders
        if ".." in plain.parts or not here:
            return name
        return nfc(plain.stem if _is_image(plain.name) else plain.name)

    def first_stem(self, line: Line) -> str:
        """Return the stem in the first column; other columns may hold numbers, or the same name again."""
        cells, text = line.checked(line.splits()[0]), line.text.strip()
        line.inside(cells[0])
        if cells[0] in self.first_words and text.startswith(f"{cells[0]} "):
            return self.stem(text)  # names here have blanks, and this one is missing
        first = self.stem(cells[0])
        for cell in cells[1:]:
            is_name = _is_image(cell) or self.stem(cell) in self.stems
            if is_name and not cell.replace(".", "", 1).isdigit() and self.stem(cell) != first:
                raise line.error(
                    f"{text!r} is no image, and its columns are different ones; name one pair a line, or its before, "
                    f"after and label as paths from the data set's folder"
                )
        return first


def is_table(lines: Sequence[Line], root: Path, must_exist: bool = True) -> bool:
    """Return True if any line is the paths of two or three files; without `must_exist`, by its form alone."""
    rows = ([cell.replace("\\", "/") for cell in line.columns(root)] for line in lines)
    return any(
        len(row) in (2, 3) and all(_is_there(root / cell) if must_exist else _is_image(cell) for cell in row[:2])
        for row in rows
    )


def read_table(path: Path, lines: Sequence[Line], root: Path, labels: bool) -> SplitFiles:
    """Return the files of a list of "before after label" lines, paths from `root`; for names see `pair_names`.

    Raises:
        UserError: the list is empty, a line has other columns than the first, a path is not allowed, or two pairs have
            one name.
    """
    rows: dict[tuple[Path, ...], Line] = {}
    for line in lines:
        cells = line.columns(root)
        if line.is_comment and not _is_there(root / cells[0]):
            continue
        columns = len(next(iter(rows), cells))
        if len(line.checked(cells)) < 2 or len(cells) != columns or (labels and len(cells) == 2):
            wanted = "before, after and label" if labels else "before, after and perhaps label"
            raise line.error(
                f"every line must name the files {wanted}, split by tabs, commas or blanks; columns here: "
                f"{len(cells)}, in the first line: {columns}"
            )
        rows.setdefault(tuple(line.file(cell, root) for cell in cells), line)
    if not rows:
        raise UserError(f"{path}: the list is empty; write before, after and perhaps label on each line")
    roles = ROLES[:columns]
    missing = [(line, file) for row, line in rows.items() for file in row if not _is_there(file)]
    gone = {file for _, file in missing}
    names, seen = pair_names(rows), set[str]()
    files: dict[str, dict[str, Path]] = {}
    for row in sorted(rows, key=lambda row: [file.as_posix() for file in row]):
        if loose(names[row]) in seen:
            raise rows[row].error(f"a second pair of the name {names[row]!r}; remove the line, or rename an image")
        seen.add(loose(names[row]))
        files[names[row]] = {role: file for role, file in zip(roles, row, strict=True) if file not in gone}
    how, unknown = f"{path.name}, a list of {'/'.join(roles)}", ""
    if missing:
        line, file = missing[0]
        siblings = [path.name for path in file.parent.iterdir()] if file.parent.is_dir() else []
        near = nearest(file.name, siblings, 0.8) if siblings else f" (no folder {file.parent})"
        unknown = f"{line.place}: {file} does not exist{near}; mend or remove the line"
    return SplitFiles(dict.fromkeys(roles, path), files, how=how, unknown=unknown)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _is_absolute(plain: PurePosixPath) -> bool:
    """Return True if a path with slashes is absolute, here or on Windows."""
    return plain.is_absolute() or bool(PureWindowsPath(plain).drive)


def _is_there(path: Path) -> bool:
    """Return True if there is a file or a link, even a broken one."""
    try:
        return path.is_file() or path.is_symlink()
    except OSError:  # the name is too long
        return False


def _find(cell: str, root: Path) -> Path | None:
    """Return the file that a cell names, with slashes or backslashes, in any form of Unicode."""
    return _existing(root / cell) or _existing(root / cell.replace("\\", "/"))


def _existing(path: Path) -> Path | None:
    if _is_there(path):
        return path
    if path.name.isascii():
        return None
    try:
        name = _spellings(path.parent, path.parent.stat().st_mtime_ns).get(nfc(path.name))
    except OSError:  # no such folder
        return None
    return path.with_name(name) if name else None


@lru_cache(maxsize=4)
def _spellings(folder: Path, changed: int) -> dict[str, str]:
    """Return the names in a folder by their NFC form; another time `changed` of the folder lists it again."""
    return {nfc(path.name): path.name for path in folder.iterdir()}
