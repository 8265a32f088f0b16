"""Names of files in one spelling, and of pairs by their files."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
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
