"""Finds which files on disk are before, after and label of each split: every layout that is recognised."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasets.lists import Line, SplitFiles, is_table, listed_stems, read_lines, read_table
from datasets.names import FOLDERS, closest, dated_pair, list_advice, nfc
from datasets.raster import SUFFIXES
from utils.console import UserError, nearest

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
LISTS = ("list", "lists")  # folders in which SPLIT.txt is looked for, before the root itself
FLAGS = {role: f"--{role}-dir" for role in FOLDERS}
Names = Mapping[str, str | None]  # role to the folder's name, where the user gave one


def list_split(root: Path, split: str, labels: bool = True, folders: Names | None = None) -> SplitFiles:
    """Find which files belong to a split, train, val or test, opening no image; docs/datasets.md lists the layouts.

    Args:
        root: the data set's folder, or a text file of "A B label" paths.
        split: its name.
        labels: there must be labels; those that exist must be complete either way. A label folder without images counts
            as none.
        folders: names of folders by role, in place of FOLDERS; absolute paths are taken as they are.

    Raises:
        FileNotFoundError: no such folder or split, or none that is recognised.
        UserError: a list cannot be read, or a line does not name the files it should; or labels are required, and
            their folder has no images.
    """
    if root.is_file():
        return read_table(root, read_lines(root), root.parent, labels)
    if not root.is_dir():
        raise FileNotFoundError(f"{_no_such_folder(root)}; --data-root takes the folder of a data set")
    given = {role: name for role, name in (folders or {}).items() if name}
    anywhere = any(Path(name).is_absolute() for name in given.values())
    inner, listed = None if anywhere else _child(root, SPLITS.get(split, (split,))), _list_of(root, split)
    if not (anywhere or inner or listed) and (splits := [name for name in SPLITS if has_split(root, name)]):
        raise FileNotFoundError(f"{root}: no split {split!r}; there is {', '.join(splits)}; choose one of these")
    lines = read_lines(listed) if listed else []
    if listed and is_table(lines, root):
        return read_table(listed, lines, root, labels)
    folder = inner or root
    found = {role: _role_folder(folder, role, given.get(role)) for role in FOLDERS}
    single = {} if any(found.values()) else _single_pair(folder)
    if {"before", "after"} <= single.keys() and ("label" in single or not labels):
        how = "files " + ", ".join(path.name for path in single.values())
        return SplitFiles(dict.fromkeys(single, folder), {folder.resolve().name: single}, how=how)
    if listed and not (found["before"] and found["after"]) and is_table(lines, root, must_exist=False):
        return read_table(listed, lines, root, labels)
    present = {role: path for role, path in found.items() if path is not None}
    if not present.keys() >= set(FOLDERS if labels else ("before", "after")):
        raise FileNotFoundError(_not_recognised(folder, found, labels))
    where = f"by {listed.relative_to(root).as_posix()}" if listed else ""
    alone = "" if listed or inner else ": no splits here, so these are all there are"
    how = " ".join(["/".join(path.name for path in present.values()), where]).strip() + alone
    split_files = in_folders(present, labels, lines if listed else None, how)
    if listed and not split_files.files:
        raise UserError(f"{listed}: the list is empty; write the name of a pair on each line, or remove the list")
    return split_files


def has_split(root: Path, split: str) -> bool:
    """Return True if the data set has a folder or a list for this split."""
    return root.is_dir() and (_child(root, SPLITS.get(split, (split,))) or _list_of(root, split)) is not None


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted, without hidden ones; a FileNotFoundError without a folder."""
    if not folder.is_dir():
        raise FileNotFoundError(_no_such_folder(folder))
    return [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


def _no_such_folder(folder: Path) -> str:
    """Return the message for a missing folder, with the name nearest to the first part of its path that is missing."""
    missing = next((path for path in (folder, *folder.parents) if path.parent.is_dir()), folder)
    siblings = [path.name for path in missing.parent.iterdir()] if missing.parent.is_dir() else []
    return f"{folder}: no such folder{nearest(missing.name, siblings, 0.6)}"  # BTI has a ratio of 0.67 to BIT


def in_folders(
    folders: Mapping[str, Path], labels: bool = True, lines: Sequence[Line] | None = None, how: str = ""
) -> SplitFiles:
    """Match files by their stem, in any Unicode form; the name of a pair is its earlier image's stem.

    `labels` is as of `list_split`, `lines` those of a list of names, None: all files, and `how` the layout in words.

    Raises:
        FileNotFoundError: no such folder.
        UserError: labels are required, and their folder has no images; or a line does not name one pair.
    """
    images = {role: list_images(folder) for role, folder in folders.items()}
    if not images.get("label", True) and any(images.values()):
        what = f"{folders['label']}: no images in the label folder ({', '.join(SUFFIXES)})"
        if labels:
            raise UserError(f"{what}; add the labels")
        del images["label"]
        how += f"; {what}, so there are no labels"
    places = {role: folders[role] for role in images}
    by_stem: dict[str, dict[str, Path]] = {}
    doubles = []
    for role, paths in images.items():
        for path in paths:
            first = by_stem.setdefault(nfc(path.stem), {}).setdefault(role, path)
            if first is not path:
                doubles.append((path, first))
    wanted, unknown = (list(by_stem), "") if lines is None else listed_stems(lines, places, by_stem.keys())
    found = {stem: by_stem.get(stem, {}) for stem in wanted}
    named = {next((path.stem for path in files.values()), stem): files for stem, files in found.items()}
    return SplitFiles(places, dict(sorted(named.items())), doubles, how, unknown)


def _single_pair(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder that are named like a role."""
    stems = {path.stem.lower(): path for path in list_images(folder)}
    return {role: stems[name] for role, names in FOLDERS.items() for name in names[::-1] if name in stems}


def _list_of(root: Path, split: str) -> Path | None:
    """Return the list of a split, its name in any case."""
    names = [f"{name}.txt".lower() for name in SPLITS.get(split, (Path(split).name,))]
    for folder in (_child(root, LISTS[:1]), _child(root, LISTS[1:]), root):
        if folder and (found := _first(filter(Path.is_file, folder.iterdir()), names)):
            return found
    return None


def _role_folder(folder: Path, role: str, given: str | None) -> Path | None:
    """Return the folder of a role, by the given name or the first of the usual names."""
    if given is None:
        return _child(folder, FOLDERS[role])
    return folder / given if (folder / given).is_dir() else None


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first subfolder with one of these names, in any case."""
    return _first(filter(Path.is_dir, folder.iterdir()), [name.lower() for name in names])


def _first(paths: Iterable[Path], names: Sequence[str]) -> Path | None:
    """Return the path of the first of some small names that any path has."""
    present = {path.name.lower(): path for path in sorted(paths)}
    return next((present[name] for name in names if name in present), None)


def _not_recognised(folder: Path, found: Mapping[str, Path | None], labels: bool) -> str:
    """Return the message for an unknown layout: what was searched, what exists, and the nearest names."""
    missing = [role for role in FOLDERS if found[role] is None and (labels or role != "label")]
    looked_for = "; ".join(f"{role} as {', '.join(FOLDERS[role])}" for role in missing)
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    near = {role: match for role in missing if (match := closest(FOLDERS[role], inner))}
    if {"before", "after"} <= set(missing):
        near |= {role: path.name for role, path in dated_pair(inner).items() if role in missing}
    pair = dated_pair(list_images(folder))
    hints = [f"perhaps {' '.join(f'{FLAGS[role]} {name}' for role, name in near.items())}"] if near else []
    hints += [f"perhaps --data-root {path}" for path in inner if _looks_like_data(path)][:1]
    hints += [list_advice(pair)] if pair else []
    hints = hints or [f"name the folders with {', '.join(FLAGS.values())}"]
    there = sorted(path.name for path in folder.iterdir())
    listed = (", ".join(there[:8]) or "nothing") + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    what = f"no folder for {' and '.join(missing)} (looked for {looked_for}, any case); there is {listed}"
    return f"{folder}: {what}; {'; '.join(hints)}"


def _looks_like_data(folder: Path) -> bool:
    dates = all(_child(folder, FOLDERS[role]) for role in ("before", "after"))
    return dates or any(has_split(folder, split) for split in SPLITS)
