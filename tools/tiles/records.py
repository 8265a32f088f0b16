"""Files beside tiles: tiles.json has their plan, manifest.csv lists them."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets.pairs import with_sidecars
from tools.tiles.cutting import FOLDERS, Hashes, PlannedPair, Tile, Tiling
from utils.console import UserError
from utils.files import partial_of, write_whole, written_whole

PLAN, MANIFEST = "tiles.json", "manifest.csv"


def refuse_source(output: Path, sources: Iterable[Path]) -> None:
    """Raise UserError if the output folder overlaps a source, a folder or file that is read."""
    target = output.resolve()
    for source in sources:
        place = source.resolve()
        if target == place or place in target.parents or target in place.parents:
            raise UserError(f"{output}: lies in, or holds, the source {source}; pass another folder as --output")


def plan_of(scenes: Sequence[PlannedPair], tiling: Tiling, root: Path) -> dict[str, Any]:
    """The plan as plain values: settings, number of tiles per split, and size and time of change of every file."""
    files, tiles = {}, Counter[str]()
    for scene in scenes:
        tiles[scene.split] += len(scene.windows)
        for path in (each for image in scene.files.values() for each in with_sidecars(image)):
            stat = path.stat()
            files[_relative(path, root)] = [stat.st_size, stat.st_mtime_ns]
    return {"settings": asdict(tiling), "tiles": dict(tiles), "files": files}


def start_output(output: Path, plan: dict[str, Any]) -> dict[tuple[str, str], Hashes]:
    """Make the folder and write the plan; UserError if it has tiles of another plan, or other files.

    Return the hashes in its manifest, by split and name of the tile; none unless an earlier run was completed.
    """
    path = output / PLAN
    if path.is_file():
        _compare(output, json.loads(path.read_text(encoding="utf-8")), plan)
        return _read_hashes(output / MANIFEST)
    if output.is_dir() and set(output.iterdir()) - {partial_of(path)}:
        raise UserError(f"{output}: has files, but no {PLAN} of tiles; pass a new folder as --output")
    output.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{json.dumps(plan, indent=1)}\n".encode())
    return {}


def _compare(output: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    remedy = f"pass another --output, or delete {output} first"
    old, new = there.get("settings", {}), here["settings"]
    changed = [f"{name}: {old.get(name)} there, {new[name]} here" for name in new if old.get(name) != new[name]]
    if changed:
        raise UserError(f"{output}: has tiles cut with other settings ({'; '.join(changed)}); {remedy}")
    for key, what in (("files", "of other files, or files changed since"), ("tiles", "of other splits")):
        before, now = there.get(key, {}), here[key]
        if before != now:
            first = min(name for name in {**before, **now} if before.get(name) != now.get(name))
            raise UserError(f"{output}: has tiles {what} (first {first}); {remedy}")


def write_manifest(output: Path, tiles: Iterable[Tile], root: Path) -> Path:
    """Write manifest.csv: split, name, window, source files and SHA-256 of the files of each tile.

    The window is the part of the source; at a padded edge it is smaller than the tile.
    """
    columns = ("split", "tile", "top", "left", "height", "width", *FOLDERS, *(f"{role}_sha256" for role in FOLDERS))
    path = output / MANIFEST
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for tile in tiles:
            row: dict[str, object] = {"split": tile.scene.split, "tile": tile.scene.tile_name(tile.window)}
            row |= asdict(tile.window)
            row |= {role: _relative(source, root) for role, source in tile.scene.files.items()}
            row |= {f"{role}_sha256": value for role, value in tile.hashes.items()}
            writer.writerow(row)
    return path


def _read_hashes(path: Path) -> dict[tuple[str, str], Hashes]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            (row["split"], row["tile"]): {role: row[f"{role}_sha256"] for role in FOLDERS if row[f"{role}_sha256"]}
            for row in csv.DictReader(lines)
        }


def _relative(path: Path, root: Path) -> str:
    """A path from the root if it is inside, with forward slashes on every system."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
