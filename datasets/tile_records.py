"""What is kept beside tiles: tiles.json, the plan they come from, manifest.csv, the tiles."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets.pairs import with_sidecars
from datasets.tiles import Hashes, Scene, Tile, Tiling
from utils.files import partial_of, write_whole, written_whole

PLAN, MANIFEST = "tiles.json", "manifest.csv"
ROLES = ("before", "after", "label")


def refuse_source(output: Path, sources: Iterable[Path]) -> None:
    """Make sure that nothing is written into or over what is read.

    Args:
        output: folder of the tiles.
        sources: folders, or files, that are read. Tiles may lie beside a file, not in a folder that is read.

    Raises:
        ValueError: they overlap.
    """
    target = output.resolve()
    for source in sources:
        place = source.resolve()
        if target == place or place in target.parents or target in place.parents:
            raise ValueError(f"{output}: lies in, or holds, the source {source}; give --output a folder of its own")


def plan_of(scenes: Sequence[Scene], tiling: Tiling, root: Path) -> dict[str, Any]:
    """The plan as plain values: settings, and every file with its bytes and time of change."""
    files = {}
    for scene in scenes:
        for path in (each for image in scene.files.values() for each in with_sidecars(image)):
            stat = path.stat()
            files[_relative(path, root)] = [stat.st_size, stat.st_mtime_ns]
    return {"settings": asdict(tiling), "tiles": tile_counts(scenes), "files": files}


def tile_counts(scenes: Sequence[Scene]) -> dict[str, int]:
    """How many tiles each split gets."""
    splits = dict.fromkeys(scene.split for scene in scenes)
    return {split: sum(len(scene.windows) for scene in scenes if scene.split == split) for split in splits}


def start_output(output: Path, plan: dict[str, Any]) -> dict[tuple[str, str], Hashes]:
    """Make the folder and keep the plan in it, or make sure that its tiles are of the same plan.

    Returns:
        the hashes in its manifest, by split and name of the tile; empty unless an earlier run came to its end.

    Raises:
        ValueError: it holds tiles of another plan, or files of something else.
    """
    path = output / PLAN
    if path.is_file():
        _compare(output, json.loads(path.read_text(encoding="utf-8")), plan)
        return _read_hashes(output / MANIFEST)
    if output.is_dir() and set(output.iterdir()) - {partial_of(path)}:
        raise ValueError(f"{output}: holds files, but no {PLAN} of tiles cut here; give --output a new folder")
    output.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{json.dumps(plan, indent=1)}\n".encode())
    return {}


def _compare(output: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    remedy = f"give another --output, or delete {output} first"
    old, new = there.get("settings", {}), here["settings"]
    changed = [f"{name}: {old.get(name)} there, {new[name]} here" for name in new if old.get(name) != new[name]]
    if changed:
        raise ValueError(f"{output}: holds tiles cut with other settings ({'; '.join(changed)}); {remedy}")
    for key, what in (("files", "of other files, or files changed since"), ("tiles", "of other splits")):
        before, now = there.get(key, {}), here[key]
        if before != now:
            first = min(name for name in {**before, **now} if before.get(name) != now.get(name))
            raise ValueError(f"{output}: holds tiles {what} (first {first}); {remedy}")


def write_manifest(output: Path, tiles: Iterable[Tile], root: Path) -> Path:
    """Write manifest.csv: for each tile its split, name, window, source files and the SHA-256 of its own files.

    The window is the part of the source, so at a padded edge it is smaller than the tile. Tiles are written down as
    they come, and none is kept; the file gets its name with the last one.
    """
    columns = ("split", "tile", "top", "left", "height", "width", *ROLES, *(f"{role}_sha256" for role in ROLES))
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
            (row["split"], row["tile"]): {role: row[f"{role}_sha256"] for role in ROLES if row[f"{role}_sha256"]}
            for row in csv.DictReader(lines)
        }


def _relative(path: Path, root: Path) -> str:
    """Seen from the source's root and with forward slashes, so that it reads the same on every machine."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()
