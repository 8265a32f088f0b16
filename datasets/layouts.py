"""Finds which files on disk are before, after and label of each split: every arrangement that is understood."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from datasets.hints import closest, dated_pair, list_advice
from datasets.lists import Line, is_absolute, is_there, nfc, read_lines
from datasets.raster import SUFFIXES
from utils.console import UserError, nearest

FOLDERS = {  # names in use by public sets, any case; the first found wins
    "before": ("a", "time1", "image1", "t1", "im1", "before", "pre"),
    "after": ("b", "time2", "image2", "t2", "im2", "after", "post"),
    "label": ("label", "out", "mask", "gt", "change", "labels", "masks"),
}
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
LISTS = ("list", "lists")  # folders in which SPLIT.txt is looked for, before the root itself
FLAGS = {role: f"--{role}-dir" for role in FOLDERS}
Names = Mapping[str, str | None]  # role to the folder's name, where the user gave one


@dataclass
class SplitFiles:
    """The files of a split as they lie on disk, complete or not.

    Attributes:
        places: for each role that the split has (before, after, perhaps label) the folder or list it comes from.
        files: name to role to file, sorted by name.
        doubles: files that share their name with an earlier one, and that one.
        how: the arrangement, in words.
        unknown: the first line of the list that names no file, and what to do; empty if there is none.
    """

    places: dict[str, Path]
    files: dict[str, dict[str, Path]]
    doubles: list[tuple[Path, Path]] = field(default_factory=list)
    how: str = ""
    unknown: str = ""

    def missing(self, name: str) -> list[str]:
        """Roles for which a name has no file."""
        return [role for role in self.places if role not in self.files[name]]


def list_split(root: Path, split: str, labels: bool = True, folders: Names | None = None) -> SplitFiles:
    """Find which files belong to a split, opening no image.

    Understood are ROOT/SPLIT/{A,B,label}; ROOT/{A,B,label} with names in ROOT/list/SPLIT.txt or ROOT/SPLIT.txt; such a
    text file of "A B label" paths from the root; a ROOT that is itself such a file; ROOT/{before,after,label}.SUFFIX,
    one pair; and, where no split can be seen, ROOT/{A,B,label} alone. Folders are called as in FOLDERS, in any case.

    Args:
        root: the data set's folder, or a text file.
        split: train, val or test.
        labels: whether there must be labels; where there are some, they must be complete either way. A label folder
            without images counts as none.
        folders: names of folders by role, in place of FOLDERS; a path that is absolute stands for itself.

    Raises:
        FileNotFoundError: no such folder or split, or none that can be understood.
        UserError: a list cannot be read, or a line does not name the files that are wanted; or labels are wanted,
            and their folder has no images.
    """
    if root.is_file():
        return _in_table(root, read_lines(root), root.parent, labels)
    if not root.is_dir():
        raise FileNotFoundError(f"{_no_such_folder(root)}; --data-root takes the folder of a data set")
    given = {role: name for role, name in (folders or {}).items() if name}
    anywhere = any(Path(name).is_absolute() for name in given.values())
    inner, listed = None if anywhere else _child(root, SPLITS.get(split, (split,))), _list_of(root, split)
    if inner is None and listed is None:
        splits = [name for name in SPLITS if has_split(root, name)]
        if splits and not anywhere:
            raise FileNotFoundError(f"{root}: no split {split!r}; there is {', '.join(splits)}")
    lines = read_lines(listed) if listed else []
    if listed and _is_table(lines, root):
        return _in_table(listed, lines, root, labels)
    folder = inner or root
    found = {role: _role_folder(folder, role, given.get(role)) for role in FOLDERS}
    single = {} if any(found.values()) else _single_pair(folder)
    if {"before", "after"} <= single.keys() and ("label" in single or not labels):
        places = {role: path.parent for role, path in single.items()}
        return SplitFiles(
            places, {folder.resolve().name: single}, how="files " + ", ".join(p.name for p in single.values())
        )
    if listed and not (found["before"] and found["after"]) and _is_table(lines, root, must_exist=False):
        return _in_table(listed, lines, root, labels)
    if found["before"] is None or found["after"] is None or (labels and found["label"] is None):
        raise FileNotFoundError(_not_understood(folder, found, labels))
    present = {role: path for role, path in found.items() if path is not None}
    where = f"by {listed.relative_to(root).as_posix()}" if listed else ""
    alone = "" if listed or inner else ": no splits here, so these are all there are"
    how = " ".join(["/".join(path.name for path in present.values()), where]).strip() + alone
    split_files = in_folders(present, labels, lines if listed else None, how)
    if listed and not split_files.files:
        raise UserError(f"{listed}: the list is empty; write the name of a pair on each line, or remove the list")
    return split_files


def has_split(root: Path, split: str) -> bool:
    """Whether the data set tells this split apart, by a folder or a list."""
    if not root.is_dir():
        return False
    return _child(root, SPLITS.get(split, (split,))) is not None or _list_of(root, split) is not None


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted; hidden ones are left out.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(_no_such_folder(folder))
    return [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


def _no_such_folder(folder: Path) -> str:
    """The message for a folder that is not there, with the name nearest to the first part of it that is not."""
    hint = ""
    if missing := next((path for path in (folder, *folder.parents) if path.parent.is_dir()), None):
        hint = nearest(missing.name, (path.name for path in missing.parent.iterdir()), 0.6)  # BTI is 0.67 near to BIT
    return f"{folder}: no such folder{hint}"


def in_folders(
    folders: Mapping[str, Path], labels: bool = True, lines: Sequence[Line] | None = None, how: str = ""
) -> SplitFiles:
    """Match files by their stem, whatever its Unicode form; a pair is called as its earlier image.

    Args:
        folders: by role.
        labels: whether there must be labels; see `list_split`.
        lines: of a list that names what is wanted; None: all files.
        how: the arrangement, in words.

    Raises:
        FileNotFoundError: no such folder.
        UserError: labels are wanted, and their folder has no images; or a line does not name one pair.
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
    wanted, unknown = (list(by_stem), "") if lines is None else _listed_stems(lines, places, by_stem.keys())
    found = {stem: by_stem.get(stem, {}) for stem in wanted}
    named = {next((path.stem for path in files.values()), stem): files for stem, files in found.items()}
    return SplitFiles(places, dict(sorted(named.items())), doubles, how, unknown)


def _single_pair(folder: Path) -> dict[str, Path]:
    """Image files of a folder that are called like a role."""
    stems = {path.stem.lower(): path for path in list_images(folder)}
    return {role: stems[name] for role, names in FOLDERS.items() for name in names[::-1] if name in stems}


def _listed_stems(lines: Sequence[Line], places: Mapping[str, Path], stems: Collection[str]) -> tuple[list[str], str]:
    """The stems that a list names, each once, and what is wrong with the first line that names no image.

    The whole line is tried first, then its first column.
    """
    folders = {name for path in places.values() for name in (path.name.lower(), os.path.realpath(path))}
    first_words = {stem.split(" ")[0] for stem in stems if " " in stem}
    found: dict[str, Line] = {}
    for line in lines:
        whole = (_stem(text, folders, stems) for text in (line.text, line.text.strip()))
        stem = next((stem for stem in whole if stem in stems), None)
        if stem is None and line.is_comment:
            continue
        found.setdefault(stem or _first_stem(line, folders, stems, first_words), line)
    for stem, line in found.items():
        if stem not in stems:
            near = nearest(stem, stems, 0.8) or "".join(f" (there is {name!r})" for name in sorted(stems)[:1])
            where = "/".join(path.name for path in places.values())
            what = f"{line.place}: {line.text.strip()!r} names no image of {where}{near}; mend or remove the line"
            return list(found), what
    return list(found), ""


def _first_stem(line: Line, folders: Collection[str], stems: Collection[str], first_words: Collection[str]) -> str:
    """The stem that the first column names; other columns may hold numbers, or the same name again.

    Raises:
        UserError: columns name different images.
    """
    cells, text = line.checked(line.splits()[0]), line.text.strip()
    line.inside(cells[0])
    if cells[0] in first_words and text.startswith(f"{cells[0]} "):  # names here have blanks, and this one is missing
        return _stem(text, folders, stems)
    first = _stem(cells[0], folders, stems)
    for cell in cells[1:]:
        is_name = _is_image(cell) or _stem(cell, folders, stems) in stems
        if is_name and not cell.replace(".", "", 1).isdigit() and _stem(cell, folders, stems) != first:
            raise UserError(
                f"{line.place}: {text!r} is no image, and its columns are different ones; name one pair a line, or "
                f"its before, after and label as paths from the data set's folder"
            )
    return first


def _stem(name: str, folders: Collection[str], stems: Collection[str]) -> str:
    """The stem of a listed name; of files in other folders the whole name, which is no stem here.

    Args:
        name: a stem or a file, perhaps with folders.
        folders: names in small letters and absolute paths of the folders that are meant.
        stems: that there are.
    """
    plain = PurePosixPath(name.replace("\\", "/"))
    if nfc(name) in stems:
        return nfc(name)
    if ".." in plain.parts:
        return name
    if is_absolute(plain):
        here = os.path.realpath(Path(name).parent) in folders
    else:
        here = plain.parent == PurePosixPath() or plain.parent.name.lower() in folders
    return nfc(plain.stem if _is_image(plain.name) else plain.name) if here else name


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _is_table(lines: Sequence[Line], root: Path, must_exist: bool = True) -> bool:
    """Whether any line is the paths of two or three files, not a name; without `must_exist`, by its form alone."""
    rows = ([cell.replace("\\", "/") for cell in line.columns(root)] for line in lines)
    return any(
        len(row) in (2, 3) and all(is_there(root / cell) if must_exist else _is_image(cell) for cell in row[:2])
        for row in rows
    )


def _in_table(path: Path, lines: Sequence[Line], root: Path, labels: bool) -> SplitFiles:
    """A text file of "A B label" a line, paths from the root; files are called by the first column's stem."""
    rows: dict[tuple[Path, ...], Line] = {}
    for line in lines:
        cells = line.columns(root)
        if line.is_comment and not is_there(root / cells[0]):
            continue
        columns = len(next(iter(rows), cells))
        if len(line.checked(cells)) < 2 or len(cells) != columns or (labels and len(cells) == 2):
            wanted = "before, after and label" if labels else "before, after and perhaps label"
            raise UserError(
                f"{line.place}: every line must name the files {wanted}, split by tabs, commas or blanks; columns "
                f"here: {len(cells)}, in the first line: {columns}"
            )
        rows.setdefault(tuple(line.file(cell, root) for cell in cells), line)
    if not rows:
        raise UserError(f"{path}: the list is empty; write before, after and perhaps label on each line")
    roles = list(FOLDERS)[:columns]
    there = {file for row in rows for file in row if is_there(file)}
    names = _table_names(rows, root)
    files: dict[str, dict[str, Path]] = {}
    seen: set[str] = set()
    for row in sorted(rows, key=lambda row: [file.as_posix() for file in row]):
        if _loose(names[row]) in seen:
            what = f"{row[0]} is in two pairs; pairs are called by their before image, so copy it"
            raise UserError(f"{rows[row].place}: {what}")
        seen.add(_loose(names[row]))
        files[names[row]] = {role: file for role, file in zip(roles, row, strict=True) if file in there}
    unknown = next((_no_file(line, file) for row, line in rows.items() for file in row if file not in there), "")
    places = dict.fromkeys(roles, path)
    return SplitFiles(places, files, how=f"{path.name}, a list of {'/'.join(roles)}", unknown=unknown)


def _table_names(rows: Iterable[tuple[Path, ...]], root: Path) -> dict[tuple[Path, ...], str]:
    """Rows to the stems of their first files; where one stem lies in several folders, the folders are part of it."""
    stems = {row: row[0].stem for row in rows}
    if len(set(map(_loose, stems.values()))) == len(stems):
        return stems
    inner = {row: row[0].relative_to(root if row[0].is_relative_to(root) else row[0].anchor) for row in stems}
    return {row: "_".join(path.with_suffix("").parts) for row, path in inner.items()}


def _loose(name: str) -> str:
    """What is left of a name on file systems that tell neither case nor forms of Unicode apart."""
    return nfc(name).casefold()


def _no_file(line: Line, file: Path) -> str:
    """What is wrong with a line that names a file which does not exist."""
    siblings = [path.name for path in file.parent.iterdir()] if file.parent.is_dir() else []
    near = nearest(file.name, siblings, 0.8) if siblings else f" (no folder {file.parent})"
    return f"{line.place}: {file} does not exist{near}; mend or remove the line"


def _list_of(root: Path, split: str) -> Path | None:
    """The list of a split, its name in any case."""
    names = [f"{name}.txt".lower() for name in SPLITS.get(split, (Path(split).name,))]
    for folder in (_child(root, LISTS[:1]), _child(root, LISTS[1:]), root):
        files = sorted(path for path in folder.iterdir() if path.name.lower() in names) if folder else []
        present = {path.name.lower(): path for path in files if path.is_file()}
        if found := next((present[name] for name in names if name in present), None):
            return found
    return None


def _role_folder(folder: Path, role: str, given: str | None) -> Path | None:
    """The folder of a role: what it is said to be called, or the first of the usual names."""
    if given is None:
        return _child(folder, FOLDERS[role])
    return folder / given if (folder / given).is_dir() else None


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    """The first subfolder with one of these names, in any case."""
    present = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((present[name.lower()] for name in names if name.lower() in present), None)


def _not_understood(folder: Path, found: Mapping[str, Path | None], labels: bool) -> str:
    """What was looked for, what is there, and what may have been meant."""
    missing = [role for role in FOLDERS if found[role] is None and (labels or role != "label")]
    looked_for = "; ".join(f"{role} as {', '.join(FOLDERS[role])}" for role in missing)
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    near = {role: match for role in missing if (match := closest(FOLDERS[role], inner))}
    if {"before", "after"} <= set(missing):
        near |= {role: path.name for role, path in dated_pair(inner, FOLDERS).items() if role in missing}
    pair = dated_pair(list_images(folder), FOLDERS)
    hints = [f"perhaps {' '.join(f'{FLAGS[role]} {name}' for role, name in near.items())}"] if near else []
    hints += [f"perhaps --data-root {path}" for path in inner if _looks_like_data(path)][:1]
    hints += [list_advice(pair)] if pair else []
    hints = hints or [f"name the folders with {', '.join(FLAGS.values())}"]
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    more = len(list(folder.iterdir())) - 8
    return (
        f"{folder}: no folder for {' and '.join(missing)} (looked for {looked_for}, any case); there is {there}"
        f"{f' and {more} more' if more > 0 else ''}; {'; '.join(hints)}"
    )


def _looks_like_data(folder: Path) -> bool:
    return any(has_split(folder, split) for split in SPLITS) or all(
        _child(folder, FOLDERS[r]) for r in ("before", "after")
    )
