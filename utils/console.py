"""The log of a script, its errors in one line, and words looked up in tables; imports no PyTorch."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from types import TracebackType
from typing import TypeVar

FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk, or what of it a user may take
Choice = TypeVar("Choice")


class UserError(ValueError):
    """A mistake of the user, or a file that does not fit: what is wrong, where, and what to do.

    Scripts print it as one line. Errors of other classes, except OSError, are bugs and keep their traceback.
    """


@contextmanager
def mistakes_of_users() -> Iterator[None]:
    """Turn a ValueError of the block, such as a network raises for a wrong option, into a UserError."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def choose(table: Mapping[str, Choice], name: str, flag: str) -> Choice:
    """The table's entry for the word of a flag; without one, a UserError lists the table and names the nearest."""
    if name not in table:
        raise UserError(f"{flag} {name}: not known; choose one of {', '.join(table)}{nearest(name, table)}")
    return table[name]


def nearest(name: str, names: Iterable[str], cutoff: float = 0.7) -> str:
    """Text with the most similar of some names, ignoring case; empty if none reaches `cutoff` (1: equal)."""
    by_small = {other.lower(): other for other in names}
    matches = get_close_matches(name.lower(), by_small, 1, cutoff)
    return f" (nearest: {by_small[matches[0]]!r})" if matches else ""


def quantity(number: int, noun: str) -> str:
    """Text of a number with its noun, such as "2 pairs"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def show_log(quiet: bool = False) -> None:
    """Print the project's log as plain lines on stderr; quiet: warnings only."""
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, format="%(message)s", force=True)


@contextmanager
def errors_in_one_line(on_interrupt: str = "interrupted") -> Iterator[None]:
    """Turn an expected error (bad input, a file that cannot be read or written) into one line and exit code 2.

    CHANGE_DETECTION_TRACEBACK=1 keeps its traceback. Ctrl-C leaves with 130. Filters of warnings set in the block end
    with it.
    """
    try:
        with warnings.catch_warnings():
            # rasterio warns so for most public data sets
            warnings.filterwarnings("ignore", "Dataset has no geotransform")
            yield
    except Exception as error:
        message = in_one_line(error)
        if not message or os.environ.get("CHANGE_DETECTION_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{on_interrupt}\n")
        raise SystemExit(130) from None


def interrupts_in_one_line() -> None:
    """Make Ctrl-C one line outside `errors_in_one_line` too, such as while a script imports PyTorch."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("\ninterrupted\n")
        else:
            usual(kind, error, trace)

    sys.excepthook = hook


def in_one_line(error: Exception) -> str:
    """The message of an expected error in one line; empty for any other error."""
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which need not be imported to name it
        return "out of GPU memory; use a smaller --batch-size (in training also --amp)"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the words are PyTorch's
        return "out of memory; use a smaller --batch-size, or fewer --num-workers"
    if isinstance(error, OSError) and error.filename:
        remedy = "; free some space there, or choose another folder" if error.errno in FULL else ""
        return f"{error.filename}: {error.strerror}{remedy}"
    return _last_line(error) if isinstance(error, UserError | OSError) else ""


def _last_line(error: Exception) -> str:
    """The message; of an error from a loader's worker, which carries a traceback as text, the message in it."""
    last = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return last.split("Error: ", 1)[1] if "DataLoader worker" in str(error) and "Error: " in last else last
