"""Files that appear whole or not at all; of ours it imports console.py alone, so that datasets may use it."""

import csv
import errno
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from utils.console import UserError

LONG = 100  # bytes; file systems allow names of 143 to 255
TOO_LONG_ON_WINDOWS = (123, 206)  # error codes


def short_name(name: str) -> str:
    """The name; its hash if it is so long that a suffix could exceed the file system's limit."""
    content = os.fsencode(name)
    return name if len(content) <= LONG else hashlib.sha256(content).hexdigest()[:32]


def partial_of(path: Path) -> Path:
    """Where a file is written before it gets its name; the next run overwrites what a killed run left there."""
    return path.with_name(f".{short_name(path.stem)}.partial{path.suffix}")


def _refuse_too_long(path: Path) -> None:
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG or getattr(error, "winerror", None) in TOO_LONG_ON_WINDOWS:
            raise UserError(f"{path}: the name is too long for this file system; rename the source") from error


def final_of(partial: Path) -> Path:
    """The file that a `partial_of` becomes; any other path itself."""
    hidden = re.fullmatch(r"\.(.+)\.partial(\.[^.]+)?", partial.name)
    return partial.with_name(hidden[1] + (hidden[2] or "")) if hidden else partial


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an OSError of the block, such as that of a full disk, name the written file, unless it names another one.

    `path` is the file or the `partial_of` it.
    """
    final = final_of(path)
    try:
        yield
    except OSError as error:
        if error.filename is not None and Path(error.filename) != partial_of(final):
            raise
        words = error.strerror or str(error) or type(error).__name__
        if isinstance(error, PermissionError):
            words = f"{words}; choose a folder that can be written"
        raise OSError(error.errno, words, str(final)) from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    Raises:
        UserError: the name is too long for the file system.
        OSError: it cannot be written; the error names `path`.
    """
    _refuse_too_long(path)
    partial = partial_of(path)
    try:
        with naming(path):
            partial.touch()
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def clear_partial(folder: Path) -> None:
    """Remove what `written_whole` left in a folder when its process was killed."""
    for path in folder.glob(".*.partial*"):
        if path.is_file():
            path.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with written_whole(path) as partial:
        partial.write_bytes(content)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the first row's columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; bytes of file names that are no UTF-8 are escaped."""
    write_whole(path, text.encode("utf-8", "backslashreplace"))
