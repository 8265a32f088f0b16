"""Names of files in one spelling, and of pairs by their files."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


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
    folders = [image.absolute().parent.parts for images in dates.values() for image in images]
    shared = max(1, len(os.path.commonprefix(folders)))  # without the drive

    def below(image: Path) -> str:
        return "_".join(image.absolute().with_suffix("").parts[shared:])

    return {row: "__".join(map(below, images)) for row, images in dates.items()}
