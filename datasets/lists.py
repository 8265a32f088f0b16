"""Reads list files: the pairs of a split, one a line."""

import codecs
import csv
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from utils.console import UserError

SEPARATORS = "\t, "  # between the columns of a line, in the order in which they are tried
COLUMNS = 3  # before, after, label


@dataclass(frozen=True)
class Line:
    """A line of a list.

    Attributes:
        place: the list and the number of the line, for messages.
        text: the line without its end.
    """

    place: str
    text: str

    @property
    def is_comment(self) -> bool:
        """Whether the line begins with #; a file may be called so, too."""
        return self.text.lstrip().startswith("#")

    def columns(self, root: Path) -> list[str]:
        """The cells of the line, split where that gives two or three files, or else at the first separator in it.

        Args:
            root: the folder that paths start from.
        """
        splits = self.splits()
        if len(splits) == 1:
            return splits[0]
        return next((cells for cells in splits if _are_files(cells, root)), splits[0])

    def splits(self) -> list[list[str]]:
        """The cells of the line by each separator in it."""
        text = self.text.strip(" ")
        return [self._cells(text, each) for each in SEPARATORS if each in text] or [self._cells(text, "\t")]

    def _cells(self, text: str, separator: str) -> list[str]:
        quote = "'" if text.startswith("'") else '"'
        try:
            (cells,) = csv.reader([text], delimiter=separator, quotechar=quote, skipinitialspace=True)
        except csv.Error as error:
            raise UserError(f"{self.place}: not a line of a list ({error}); mend the line") from error
        cells = [cell.strip() for cell in cells]
        while len(cells) > 1 and not cells[-1]:
            cells.pop()
        return cells

    def checked(self, cells: list[str]) -> list[str]:
        """The cells, if a line may hold them.

        Raises:
            UserError: too many, or an empty one.
        """
        if len(cells) > COLUMNS:
            raise UserError(
                f"{self.place}: {len(cells)} columns, but a line names at most before, after and label; where names "
                f"have blanks, put tabs between the columns"
            )
        if "" in cells:
            raise UserError(f"{self.place}: column {cells.index('') + 1} is empty; fill it in or remove the line")
        return cells

    def file(self, cell: str, root: Path) -> Path:
        """The path that a cell names, from the root; only an absolute one must exist.

        Raises:
            UserError: the path leaves the root by "..", or is absolute and does not exist.
        """
        plain = self.inside(cell)
        for name in (cell, str(plain)):
            if found := _existing(root / name):
                return found
        if is_absolute(plain):
            raise UserError(f"{self.place}: {cell} does not exist; mend the path")
        return root / plain

    def inside(self, name: str) -> PurePosixPath:
        """A listed name with slashes for backslashes.

        Raises:
            UserError: the name has "..".
        """
        plain = PurePosixPath(name.replace("\\", "/"))
        if ".." in plain.parts:
            raise UserError(f"{self.place}: {name!r} leaves the data set's folder; write the path without '..'")
        return plain


def read_lines(path: Path) -> list[Line]:
    """The lines of a list that are not blank: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        UserError: the file has another encoding.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    remedy = f"save the list as UTF-8, in an editor or by: iconv -f GBK -t UTF-8 {path.name} > utf8.txt"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 text; {remedy}") from error
    lines = []
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):
        stripped = line.strip("\0")  # some programs fill the last block of a file with NUL
        if "\0" in stripped:
            raise UserError(f"{path}, line {number}: NUL between characters, so not UTF-8 text; {remedy}")
        if stripped.strip():
            lines.append(Line(f"{path}, line {number}", stripped))
    return lines


def nfc(name: str) -> str:
    """A name in one spelling: macOS stores é as e and an accent (NFD), others as one character (NFC)."""
    return unicodedata.normalize("NFC", name)


def is_absolute(plain: PurePosixPath) -> bool:
    """Whether a path with slashes starts from the top of a file system, here or on Windows."""
    return plain.is_absolute() or bool(PureWindowsPath(plain).drive)


def is_there(path: Path) -> bool:
    """Whether there is a file or a link, even a broken one."""
    try:
        return path.is_file() or path.is_symlink()
    except OSError:  # the name is too long, so there is none
        return False


def _are_files(cells: list[str], root: Path) -> bool:
    names = [(cell, cell.replace("\\", "/")) for cell in cells]
    return len(cells) in (2, COLUMNS) and all(any(_existing(root / name) for name in both) for both in names)


def _existing(path: Path) -> Path | None:
    """The file at this path, or one whose name is spelled otherwise in Unicode."""
    if is_there(path):
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
    """Names in a folder by their NFC; `changed`, the folder's time, makes the cache forget."""
    return {nfc(path.name): path.name for path in folder.iterdir()}
