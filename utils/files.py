"""Files that appear whole or not at all; the standard library alone, so that datasets may use it too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_of(path: Path) -> Path:
    """Where a file is written before it gets its name; what a killed run leaves there, the next one overwrites."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    partial = partial_of(path)
    try:
        partial.touch()
    except PermissionError as error:  # say the name that was asked for, not the temporary one
        raise PermissionError(
            error.errno, f"{error.strerror}; choose a folder that can be written", str(path)
        ) from error
    try:
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
