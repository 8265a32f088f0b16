"""Cuts the images of a data set, or one large pair, into tiles: SPLIT/{A,B,label}/NAME_ROW_COL.png.

The same command resumes a run that was stopped. manifest.csv lists the source pixels of each tile.
"""

import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

if __name__ == "__main__":  # python path/to/tools/prepare_tiles.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.catalog import CATALOG
from datasets.layouts import SPLITS, has_split
from datasets.pairs import Pair, find_pairs
from datasets.recognition import count_remark, introduce, known_pairs, recognise
from datasets.windows import EDGES, Edge
from tools.tiles.cutting import TileCutter, Tiling, plan_scenes
from tools.tiles.records import plan_of, refuse_source, start_output, write_manifest
from utils.console import UserError, errors_in_one_line, show_log
from utils.flags import given_flags, setting

log = logging.getLogger("prepare_tiles")


@dataclass(frozen=True)
class TilesConfig:
    """Settings of the cutting; the flags are made from these fields."""

    data_root: Path | None = setting(
        None, "data set to cut: {train,val,test}/{A,B,label}, A,B,label and list/*.txt, or A,B,label", parse=Path
    )
    before_dir: str | None = setting(None, "name of the earlier images' folder in --data-root, if unusual", parse=str)
    after_dir: str | None = setting(None, "name of the later images' folder in --data-root, if unusual", parse=str)
    label_dir: str | None = setting(None, "name of the labels' folder in --data-root, if unusual", parse=str)
    before: Path | None = setting(None, "earlier image of one pair, in place of --data-root", parse=Path)
    after: Path | None = setting(None, "later image of the pair", parse=Path)
    label: Path | None = setting(None, "label of the pair, if it has one", parse=Path)
    split: str | None = setting(
        None, "cut only this split; names the split of a source without splits (default there: train)", parse=str
    )
    output: Path = setting(None, "folder of the tiles, outside the source", parse=Path)
    tile_size: int = setting(256, "side of a tile in pixels")
    overlap: int = setting(0, "pixels that neighbouring tiles share")
    edge: Edge = setting(
        "shift", "last tile of a row or column: shift it back until it is full, pad it with zeros, or drop it", EDGES
    )
    data_name: str = setting("auto", "public set this is; auto: by the folder's name", ("auto", *CATALOG))
    num_workers: int = setting(min(4, os.cpu_count() or 1), "threads")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line("interrupted; the same command resumes"):
        config = TilesConfig(**given_flags(TilesConfig, str(__doc__), argv, required=("output",)))
        show_log()
        prepare(config)


def prepare(config: TilesConfig) -> None:
    """Plan, cut and record the tiles; then log their number and the next command."""
    splits, root = find_source(config)
    tiling = Tiling(config.tile_size, config.overlap, config.edge)
    pairs = [pair for members in splits.values() for pair in members]
    files = {path for pair in pairs for path in (pair.before, pair.after, pair.label) if path}
    refuse_source(config.output, {root, *(path.parent for path in files)} if config.data_root else files)
    scenes = plan_scenes(splits, tiling, config.num_workers)
    name = recognise(root, config.data_name)
    sizes = {scene.size for scene in scenes}
    introduce(name, Counter(scene.split for scene in scenes), sizes.pop() if len(sizes) == 1 else None)
    plan = plan_of(scenes, tiling, root)
    cutter = TileCutter(config.output, tiling.tile_size, start_output(config.output, plan))
    with closing(cutter.cut(scenes, config.num_workers)) as parts, logging_redirect_tqdm():
        tiles = (tile for part in parts for tile in part)
        total = sum(plan["tiles"].values())
        shown = tqdm(tiles, total=total, unit="tile", desc="cutting", dynamic_ncols=True)
        manifest = write_manifest(config.output, shown, root)
    report_counts(plan["tiles"], tiling, name)
    log.info("source, window and SHA-256 of each tile: %s", manifest)
    codes = " (with --change-value or --ignore-value if the labels' codes need it)"
    labelled = any(scene.pair.label for scene in scenes)
    log.info("next: python -m tools.check_dataset --data-root %s%s", shlex.quote(str(config.output)), codes * labelled)


def report_counts(tiles: Mapping[str, int], tiling: Tiling, name: str) -> None:
    """Log the number of tiles of each split and, without overlap, compare it with the known one."""
    size = tiling.tile_size, tiling.tile_size
    for split, count in tiles.items():
        known = not tiling.overlap and count in known_pairs(name, split, size)
        log.info("%s: %d tiles of %d x %d%s", split, count, *size, f", as known of {CATALOG[name].title}" * known)
        if not tiling.overlap and (remark := count_remark(name, split, count, size)):
            log.warning("%s: %s", split, remark)


def find_source(config: TilesConfig) -> tuple[dict[str, list[Pair]], Path]:
    """The pairs of each split, and the folder that their names in the manifest are relative to."""
    root, before, after = config.data_root, config.before, config.after
    if (root is None) == (before is None) or (before is None) != (after is None):
        raise UserError("give either --data-root, a data set, or --before and --after, the two images of a pair")
    if before and after:
        files = [path for path in (before, after, config.label) if path is not None]
        for path in files:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file; --before, --after and --label take one image each")
        files = [path.resolve() for path in files]
        one_drive = len({path.anchor for path in files}) == 1
        common = Path(os.path.commonpath([path.parent for path in files])) if one_drive else files[0].parent
        return {config.split or "train": [Pair(before.stem, *files)]}, common
    assert root
    present = [split for split in SPLITS if has_split(root, split)]
    wanted = [config.split] if config.split else present or ["train"]
    if not present:
        log.info("no splits in %s: its tiles are called %s", root, wanted[0])
    folders = {"before": config.before_dir, "after": config.after_dir, "label": config.label_dir}
    splits = {split: find_pairs(root, split, labels=False, folders=folders) for split in wanted}
    if any(pair.label is None for pairs in splits.values() for pair in pairs):
        log.warning("no labels found: the tiles suit prediction, not training")
    return splits, root


if __name__ == "__main__":
    main()
