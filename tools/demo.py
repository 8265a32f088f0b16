"""The demo: draws scenes, predicts them with the detector, trains on them, predicts again, and shows both."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":  # python path/to/tools/demo.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.pairs import Pair, find_pairs
from datasets.raster import read_image, read_label
from datasets.reading import MASKS
from datasets.scenes import write_scenes
from tools.figures.grids import draw_grid
from tools.methods.untrained import grey_difference
from utils.console import errors_in_one_line, show_log
from utils.flags import Parser
from utils.metrics import best_threshold
from utils.prediction.config import parse_predict_config
from utils.prediction.session import predict
from utils.training.config import parse_train_config
from utils.training.session import train

log = logging.getLogger("demo")
SIZE, COUNTS = 192, {"train": 320, "val": 24, "test": 40}
FLAGS = {  # short runs: the published recipes are for thousands of tiles
    "amfnet": "--recipe fine-tune --augmentation hanet --epochs 6 --epoch-steps 80 --lr 1e-3",
    "hanet": "--recipe hanet --linear-epochs 0 --schedule poly --lr 1e-3 --crop-size 128 --epochs 4 --batch-size 4",
}
VIEWS = ("--tta", "flips")  # these scenes hold houses alone; halls need the detector's --tta scales


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo; existing scenes are used again."""
    parser = Parser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--model", choices=FLAGS, default="amfnet", help="network to train")
    parser.add_argument("--data", type=Path, default=Path("demo/scenes"), help="folder of the drawn scenes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    args = parser.parse_args(argv)
    show_log()
    with errors_in_one_line():
        draw_missing(args.data, COUNTS)
    run = Path("checkpoints") / f"demo-{args.model}"
    shared = ["--data-root", str(args.data), "--device", args.device, "--overwrite"]
    maps = {args.model: run / "predict-test"}
    if args.model == "amfnet":
        maps = {"detector, before fine-tuning": run / "detector", "detector, fine-tuned": run / "predict-test"}
        predict(parse_predict_config([*shared, *VIEWS, "--output", str(run / "detector")]))
        show(maps, 1, find_pairs(args.data, "test"))
    train(parse_train_config([*shared, "--output", str(run), *FLAGS[args.model].split()]))
    predict(parse_predict_config([*shared, *VIEWS, "--checkpoint", str(run)]))
    show(maps, len(maps), find_pairs(args.data, "test"))
    log.info("curves: %s", run / "curves.png")


def draw_missing(folder: Path, counts: Mapping[str, int]) -> None:
    """Draw counts[SPLIT] scenes per split into a folder, except for splits that exist."""
    missing = {split: count for split, count in counts.items() if not (folder / split).exists()}
    log.info("drawing %d scenes in %s", sum(missing.values()), folder)
    write_scenes(folder, missing, SIZE, town=True)


def show(maps: Mapping[str, Path], count: int, pairs: Sequence[Pair]) -> None:
    """Log the F1 of the first `count` folders of maps and of a subtraction; draw some pairs with their error maps."""
    done = dict(list(maps.items())[:count])
    threshold, subtraction = best_threshold(sum(map(count_differences, pairs)))
    overview = list(done.values())[-1] / "overview.png"
    shown = [pair for pair in pairs if read_label(pair.label, MASKS).any()][:8]
    errors = {name: [read_image(folder / "error" / f"{p.name}.png") for p in shown] for name, folder in done.items()}
    dates = {role: [read_image(getattr(pair, role)) for pair in shown] for role in ("before", "after")}
    draw_grid({**dates, "label": [read_label(pair.label, MASKS) * 255 for pair in shown], **errors}, overview)
    for name, folder in done.items():
        log.info("test F1 %.2f: %s", 100 * json.loads((folder / "metrics.json").read_text())["scores"]["f1"], name)
    log.info("test F1 %.2f: grey difference over %d, the best threshold on these pairs", 100 * subtraction, threshold)
    log.info("picture: %s", overview)


def count_differences(pair: Pair) -> torch.Tensor:
    """Counts of pixels by label and by grey difference, int64 (2, 256)."""
    levels, mask = grey_difference(read_image(pair.before), read_image(pair.after)), read_label(pair.label, MASKS)
    return torch.from_numpy(np.stack([np.bincount(levels[mask == truth], minlength=256) for truth in (0, 1)]))


if __name__ == "__main__":
    main()
