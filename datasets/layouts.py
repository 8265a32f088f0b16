"""Finds which files on disk are before, after and label of each split: every arrangement that is understood."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from datasets.raster import SUFFIXES
from utils.console import nearest

FOLDERS = {  # names in use by public sets, any case; the first found wins
    "before": ("a", "time1", "image1", "t1", "im1", "before", "pre"),
    "after": ("b", "time2", "image2", "t2", "im2", "after", "post"),
    "label": ("label", "out", "mask", "gt", "change", "labels", "masks"),
}
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
LISTS = ("list", "lists", ".")  # where SPLIT.txt is looked for
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
    """

    places: dict[str, Path]
    files: dict[str, dict[str, Path]]
    doubles: list[tuple[Path, Path]] = field(default_factory=list)
    how: str = ""

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
        labels: whether there must be labels; where there are some, they must be complete either way.
        folders: names of folders by role, in place of FOLDERS; a path that is absolute stands for itself.

    Raises:
        FileNotFoundError: no such folder or split, or none that can be understood.
        ValueError: a list does not name the files that are wanted, or one that leaves the root.
    """
    if root.is_file():
        return _in_table(root, root.parent, labels)
    if not root.is_dir():
        raise FileNotFoundError(f"{_no_such_folder(root)}; --data-root takes the folder of a data set")
    given = {role: name for role, name in (folders or {}).items() if name}
    anywhere = any(Path(name).is_absolute() for name in given.values())
    inner, listed = None if anywhere else _child(root, SPLITS.get(split, (split,))), _list_of(root, split)
    if inner is None and listed is None:
        splits = [name for name in SPLITS if has_split(root, name)]
        if splits and not anywhere:
            raise FileNotFoundError(f"{root}: no split {split!r}; there is {', '.join(splits)}")
    if listed and _is_table(listed, root):
        return _in_table(listed, root, labels)
    folder = inner or root
    found = {role: _role_folder(folder, role, given.get(role)) for role in FOLDERS}
    single = {} if any(found.values()) else _single_pair(folder)
    if {"before", "after"} <= single.keys() and ("label" in single or not labels):
        places = {role: path.parent for role, path in single.items()}
        return SplitFiles(
            places, {folder.resolve().name: single}, how="files " + ", ".join(p.name for p in single.values())
        )
    if found["before"] is None or found["after"] is None or (labels and found["label"] is None):
        raise FileNotFoundError(_not_understood(folder, found, labels))
    present = {role: path for role, path in found.items() if path is not None}
    where = f"by {listed.relative_to(root).as_posix()}" if listed else ""
    alone = "" if listed or inner else ": no splits here, so these are all there are"
    how = " ".join(["/".join(path.name for path in present.values()), where]).strip() + alone
    return in_folders(present, _listed_names(listed) if listed else None, how)


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


def in_folders(folders: Mapping[str, Path], names: Iterable[str] | None = None, how: str = "") -> SplitFiles:
    """Files that belong together by their stem: all there are, or those of some names."""
    by_role: dict[str, dict[str, Path]] = {}
    doubles = []
    for role, folder in folders.items():
        by_role[role] = {}
        for path in list_images(folder):
            if path.stem in by_role[role]:
                doubles.append((path, by_role[role][path.stem]))
            by_role[role].setdefault(path.stem, path)
    stems = by_role["before"]
    wanted = set().union(*by_role.values()) if names is None else {n if n in stems else Path(n).stem for n in names}
    files = {name: {role: found[name] for role, found in by_role.items() if name in found} for name in sorted(wanted)}
    return SplitFiles(dict(folders), files, doubles, how)


def _single_pair(folder: Path) -> dict[str, Path]:
    """Image files of a folder that are called like a role."""
    stems = {path.stem.lower(): path for path in list_images(folder)}
    return {role: stems[name] for role, names in FOLDERS.items() for name in names[::-1] if name in stems}


def _rows(path: Path) -> list[list[str]]:
    """Columns of a list's lines, split at tabs where a line has any, otherwise at blanks."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return [line.split("\t") if "\t" in line else line.split() for line in lines if line]


def _is_table(path: Path, root: Path) -> bool:
    """Whether the lines of a list are paths of two or three files, not names."""
    rows = _rows(path)
    return bool(rows) and len(rows[0]) in (2, 3) and (root / rows[0][0]).is_file() and (root / rows[0][1]).is_file()


def _in_table(path: Path, root: Path, labels: bool) -> SplitFiles:
    """A text file of "A B label" a line, paths from the root; files are called by the first column's stem."""
    rows = _rows(path)
    columns = len(rows[0]) if rows else 0
    if columns not in (2, 3) or any(len(row) != columns for row in rows) or (labels and columns == 2):
        wanted = "before, after and label" if labels else "before, after and perhaps label"
        raise ValueError(f"{path}: every line must name the files {wanted}, split by blanks or tabs")
    roles = list(FOLDERS)[:columns]
    plain = sorted({tuple(_inside(name, path) for name in row) for row in rows})
    names = [PurePosixPath(row[0]).stem for row in plain]
    if len(set(names)) < len(names):  # in different folders: the whole path tells them apart
        names = ["_".join(PurePosixPath(row[0]).with_suffix("").parts) for row in plain]
    files: dict[str, dict[str, Path]] = {}
    for name, row in zip(names, plain, strict=True):
        if name in files:
            raise ValueError(f"{path}: {row[0]} is in two pairs; pairs are called by their before image, so copy it")
        paths = zip(roles, (root / file for file in row), strict=True)
        files[name] = {role: file for role, file in paths if file.is_file()}
    return SplitFiles(dict.fromkeys(roles, path), files, how=f"{path.name}, a list of {'/'.join(roles)}")


def _listed_names(path: Path) -> list[str]:
    """The first column of a list."""
    return [_inside(row[0], path) for row in _rows(path)]


def _inside(name: str, listed_in: Path) -> str:
    """A listed name, which may not leave the data set's folder."""
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or ":" in plain.parts[0]:
        raise ValueError(f"{listed_in}: {name!r} leaves the data set's folder; list names or paths that lie in it")
    return str(plain)


def _list_of(root: Path, split: str) -> Path | None:
    names = SPLITS.get(split, (Path(split).name,))
    paths = (root / folder / f"{name}.txt" for folder in LISTS for name in names)
    return next((path for path in paths if path.is_file()), None)


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
    near = {role: match for role in missing if (match := _closest(FOLDERS[role], inner))}
    hints = [f"perhaps {' '.join(f'{FLAGS[role]} {name}' for role, name in near.items())}"] if near else []
    hints += [f"perhaps --data-root {path}" for path in inner if _looks_like_data(path)][:1]
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


def _closest(names: Sequence[str], folders: Sequence[Path]) -> str | None:
    """The folder whose name is nearest to one of these."""
    by_name = {path.name.lower(): path.name for path in folders}
    matches = (get_close_matches(name, by_name, 1, 0.7) for name in names if len(name) > 2)
    return next((by_name[match[0]] for match in matches if match), None)
