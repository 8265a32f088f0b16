"""Finds the pairs of a data set on disk: which folder is before, after and label, and which files belong together."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.raster import SUFFIXES

log = logging.getLogger(__name__)

FOLDERS = {  # names in use by public sets, any case; the first found wins
    "before": ("a", "time1", "image1", "t1", "im1", "before", "pre"),
    "after": ("b", "time2", "image2", "t2", "im2", "after", "post"),
    "label": ("label", "out", "mask", "gt", "change", "labels", "masks"),
}


SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Pair:
    """Two images of one place, and where changes are known, their label."""

    name: str
    before: Path
    after: Path
    label: Path | None = None


def find_pairs(root: Path, split: str, labels: bool = True) -> list[Pair]:
    """Find the pairs of one split, sorted by name.

    Understood are ROOT/SPLIT/{A,B,label}, ROOT/{A,B,label} with ROOT/list/SPLIT.txt, and, where no other split can
    be seen, ROOT/{A,B,label} alone; folder names as in FOLDERS. Files belong together by their stem.

    Args:
        root: the data set's folder.
        split: train, val or test.
        labels: whether a label folder must exist; one that exists must be complete either way.

    Raises:
        FileNotFoundError: no such folder or split.
        ValueError: a date or label is missing for some name, or there is no image.
    """
    folders, names = find_folders(root, split, labels)
    pairs = match_pairs(folders["before"], folders["after"], folders.get("label"), names)
    used = "/".join(folder.name for folder in folders.values())
    where = folders["before"].parent
    how = " by list" if names is not None else "" if where != root else ": no splits here, so these are all there are"
    log.info("%s: %d pairs of %s in %s%s", split, len(pairs), used, where, how)
    return pairs


def find_folders(root: Path, split: str, labels: bool = True) -> tuple[dict[str, Path], list[str] | None]:
    """Find where a split's images lie, without looking at them.

    Args:
        root: the data set's folder.
        split: train, val or test.
        labels: whether a label folder must exist.

    Returns:
        Role (before, after, label if there is one) to folder, and the names a list file gives, if there is one.

    Raises:
        FileNotFoundError: no such folder or split.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; --data-root takes the folder of a data set")
    inner, names = _child(root, SPLITS.get(split, (split,))), _listed_names(root, split)
    if inner is None and names is None:
        splits = [name for name in SPLITS if has_split(root, name)]
        if splits:
            raise FileNotFoundError(f"{root}: no split {split!r}; there is {', '.join(splits)}")
    folder = root if inner is None else inner
    found = {role: _child(folder, choices) for role, choices in FOLDERS.items()}
    if found["before"] is None or found["after"] is None or (labels and found["label"] is None):
        missing = [role for role in FOLDERS if found[role] is None and (labels or role != "label")]
        looked_for = "; ".join(f"{role} as {', '.join(FOLDERS[role])}" for role in missing)
        raise FileNotFoundError(
            f"{folder}: no folder for {' and '.join(missing)} (looked for {looked_for}, any case); there is "
            f"{_listing(folder)}"
        )
    return {role: path for role, path in found.items() if path is not None}, names


def has_split(root: Path, split: str) -> bool:
    """Whether the data set tells this split apart, by a folder or a list."""
    if not root.is_dir():
        return False
    return _child(root, SPLITS.get(split, (split,))) is not None or _list_of(root, split) is not None


def match_pairs(before: Path, after: Path, label: Path | None = None, names: Sequence[str] | None = None) -> list[Pair]:
    """Match the images of two or three folders by file stem, sorted by name.

    Args:
        before: folder of the earlier date.
        after: folder of the later date.
        label: folder of labels, if there is one.
        names: only these, each a stem or a file name; without it, all, and then no file may be left over.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: orphans, two files of one stem, a listed name that does not exist, or nothing at all.
    """
    folders = {"before": before, "after": after} | ({"label": label} if label else {})
    files = {role: _images(folder) for role, folder in folders.items()}
    if names is None:
        wanted = sorted(set().union(*files.values()))
    else:
        wanted = sorted({name if name in files["before"] else Path(name).stem for name in names})
    for role, found in files.items():
        missing = [name for name in wanted if name not in found]
        if missing:
            raise ValueError(
                f"{folders[role]}: {len(missing)} of {len(wanted)} names have no {role} image, first "
                f"{missing[0]!r}; add the files or remove their partners"
            )
    if not wanted:
        raise ValueError(f"{before}: no images here ({', '.join(SUFFIXES)})")
    labels = files.get("label", {})
    return [Pair(name, files["before"][name], files["after"][name], labels.get(name)) for name in wanted]


def refuse_inside(output: Path, pairs: Sequence[Pair]) -> None:
    """Keep what is written apart from what is read: maps in a data set would be taken for its images or labels.

    Raises:
        ValueError: the output folder lies in, or beside, a folder that images or labels are read from.
    """
    target = output.resolve()
    for folder in {path.parent.resolve() for p in pairs for path in (p.before, p.after, p.label) if path}:
        if target == folder.parent or folder in (target, *target.parents):
            raise ValueError(f"--output {output}: would write among the images of {folder}; name a folder outside")


def hold_out(
    pairs: Sequence[Pair], changed: Sequence[int], seed: int, share: float = 0.1
) -> tuple[list[Pair], list[Pair]]:
    """Split off a seeded share for validation, of pairs with and without change alike.

    Args:
        pairs: all training pairs.
        changed: changed pixels of each.
        seed: of the choice.
        share: how many go; of those with change at least one, so that F1 can be told.

    Returns:
        (training, validation), each in the order of `pairs`.

    Raises:
        ValueError: fewer than two pairs have any change.
    """
    rng = np.random.default_rng(seed)
    with_change, without = np.flatnonzero(changed), np.flatnonzero(np.equal(changed, 0))
    if len(with_change) < 2:
        raise ValueError("there is no val split, and none to hold out: fewer than two training pairs have any change")
    chosen: set[int] = set()
    for group, least in ((with_change, 1), (without, 0)):
        chosen |= set(rng.permutation(group)[: max(least, round(share * len(group)))].tolist())
    return [p for i, p in enumerate(pairs) if i not in chosen], [p for i, p in enumerate(pairs) if i in chosen]


def fingerprint(pairs: Sequence[Pair]) -> str:
    """A short hash of names and file sizes: tells two data sets apart without reading them."""
    digest = hashlib.sha256()
    for pair in pairs:
        for path in (pair.before, pair.after, pair.label):
            digest.update(f"{pair.name} {path.stat().st_size if path else 0}\n".encode())
    return digest.hexdigest()[:16]


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    """The first subfolder with one of these names, in any case."""
    present = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((present[name.lower()] for name in names if name.lower() in present), None)


def _listed_names(root: Path, split: str) -> list[str] | None:
    """First column of ROOT/list/SPLIT.txt, if there is one."""
    path = _list_of(root, split)
    if path is None:
        return None
    return [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _list_of(root: Path, split: str) -> Path | None:
    paths = (root / "list" / f"{name}.txt" for name in SPLITS.get(split, (split,)))
    return next((path for path in paths if path.is_file()), None)


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted; hidden ones are left out.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


def _images(folder: Path) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in images:
            raise ValueError(f"{path}: a second file for the name {path.stem!r}, besides {images[path.stem].name}")
        images[path.stem] = path
    return images


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
