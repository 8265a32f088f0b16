"""Cuts the images of a data set, or one large pair, into tiles: SPLIT/{A,B,label}/NAME_ROW_COL.png."""

import argparse
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

if __name__ == "__main__":  # python path/to/tools/prepare_tiles.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.catalog import CATALOG
from datasets.layouts import SPLITS, has_split
from datasets.pairs import Pair, find_pairs
from datasets.recognition import count_remark, introduce, known_pairs, recognise
from datasets.windows import EDGES
from tools.tiles.cutting import TileCutter, Tiling, plan_scenes
from tools.tiles.records import plan_of, refuse_source, start_output, write_manifest
from utils.console import UserError, errors_in_one_line, show_log
from utils.flags import Parser

log = logging.getLogger("prepare_tiles")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    args = parse(argv)
    show_log()
    with errors_in_one_line("interrupted; the same command goes on"):
        prepare(args)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags; wrong ones leave with exit code 2."""
    parser = Parser(
        prog="python -m tools.prepare_tiles",
        description=__doc__,
        epilog="The same command goes on with a run that was stopped. Names and "
        "manifest.csv tell which pixels of the source they are.",
    )

    def flag(name: str, text: str, **options: object) -> None:
        parser.add_argument(f"--{name}", help=text, **options)

    flag(
        "data-root", "data set to cut: {train,val,test}/{A,B,label}, A,B,label and list/*.txt, or A,B,label", type=Path
    )
    for role in ("before", "after", "label"):
        flag(f"{role}-dir", f"name of the {role} images' folder in --data-root, where it is no usual one")
    flag("before", "earlier image of one pair, in place of --data-root", type=Path)
    flag("after", "later image of the pair", type=Path)
    flag("label", "label of the pair, if there is one", type=Path)
    flag("split", "cut only this split; names the split where the source has none (default there: train)")
    flag("output", "folder of the tiles, outside the source", type=Path, required=True)
    flag("tile-size", "side of a tile in pixels (default: 256)", type=int, default=256)
    flag("overlap", "pixels that neighbouring tiles share (default: 0)", type=int, default=0)
    flag(
        "edge",
        "last tile of a row or column: shift it back until it is full, pad it with zeros, or drop it (default: shift)",
        choices=EDGES,
        default="shift",
    )
    flag(
        "data-name", "public set this is (default: by the folder's name)", choices=["auto", *CATALOG],
        default="auto",
    )  # fmt: skip
    flag("num-workers", "threads", type=int, default=min(4, os.cpu_count() or 1))
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> None:
    """Plan, cut and record; then say what there is and how to go on."""
    splits, root = find_source(args)
    tiling = Tiling(args.tile_size, args.overlap, args.edge)
    pairs = [pair for members in splits.values() for pair in members]
    files = {path for pair in pairs for path in (pair.before, pair.after, pair.label) if path}
    refuse_source(args.output, {root, *(path.parent for path in files)} if args.data_root else files)
    scenes = plan_scenes(splits, tiling, args.num_workers)
    name = recognise(root, args.data_name)
    sizes = {scene.size for scene in scenes}
    introduce(name, Counter(scene.split for scene in scenes), sizes.pop() if len(sizes) == 1 else None)
    plan = plan_of(scenes, tiling, root)
    cutter = TileCutter(args.output, tiling.tile_size, start_output(args.output, plan))
    with (
        closing(cutter.cut(scenes, args.num_workers)) as parts,
        logging_redirect_tqdm(),
    ):
        tiles = (tile for part in parts for tile in part)
        total = sum(plan["tiles"].values())
        shown = tqdm(tiles, total=total, unit="tile", desc="cutting", dynamic_ncols=True)
        manifest = write_manifest(args.output, shown, root)
    report_counts(plan["tiles"], tiling, name)
    log.info("source, window and SHA-256 of each tile: %s", manifest)
    codes = " (with --change-value or --ignore-value where the labels' codes want it)"
    labelled = any(scene.pair.label for scene in scenes)
    log.info("next: python -m tools.check_dataset --data-root %s%s", shlex.quote(str(args.output)), codes * labelled)


def report_counts(tiles: Mapping[str, int], tiling: Tiling, name: str) -> None:
    """Log how many tiles each split has, and where tiles do not overlap, hold that against the known numbers."""
    size = tiling.tile_size, tiling.tile_size
    for split, count in tiles.items():
        known = not tiling.overlap and count in known_pairs(name, split, size)
        log.info("%s: %d tiles of %d x %d%s", split, count, *size, f", as known of {CATALOG[name].title}" * known)
        remark = None if tiling.overlap else count_remark(name, split, count, size)
        if remark:
            log.warning("%s: %s", split, remark)


def find_source(args: argparse.Namespace) -> tuple[dict[str, list[Pair]], Path]:
    """The pairs of each split, and the folder their files are named from."""
    if (args.data_root is None) == (args.before is None) or (args.before is None) != (args.after is None):
        raise UserError("give either --data-root, a data set, or --before and --after, the two images of a pair")
    if args.data_root is None:
        files = [path for path in (args.before, args.after, args.label) if path is not None]
        for path in files:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file; --before, --after and --label take one image each")
        files = [path.resolve() for path in files]
        one_drive = len({path.anchor for path in files}) == 1
        root = Path(os.path.commonpath([path.parent for path in files])) if one_drive else files[0].parent
        return {args.split or "train": [Pair(args.before.stem, *files)]}, root
    root = args.data_root
    present = [split for split in SPLITS if has_split(root, split)]
    wanted = [args.split] if args.split else present or ["train"]
    if not present:
        log.info("no splits in %s: its tiles are called %s", root, wanted[0])
    folders = {"before": args.before_dir, "after": args.after_dir, "label": args.label_dir}
    splits = {split: find_pairs(root, split, labels=False, folders=folders) for split in wanted}
    if any(pair.label is None for pairs in splits.values() for pair in pairs):
        log.warning("no labels found: the tiles can be predicted, not trained on")
    return splits, root


if __name__ == "__main__":
    main()
