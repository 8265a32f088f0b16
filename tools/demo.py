"""The demo: draws scenes, trains a network on them, predicts the test split, and shows the result."""

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
from utils.console import errors_in_one_line, show_log
from utils.flags import Parser
from utils.metrics import best_threshold
from utils.prediction.config import parse_predict_config
from utils.prediction.session import predict
from utils.prediction.sharing import Share
from utils.training.config import parse_train_config
from utils.training.session import train

log = logging.getLogger("demo")
SIZE, COUNTS = 128, {"train": 480, "val": 40, "test": 60}
FLAGS = {  # the papers' recipes suit thousands of tiles and an encoder trained on ImageNet
    "amfnet": "--backbone-weights none --augmentation hanet --loss hybrid --lr 1e-3 --epochs 5 --batch-size 8",
    "hanet": "--linear-epochs 0 --schedule poly --lr 1e-3 --epochs 3 --batch-size 4",
}


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
    shared = ["--data-root", str(args.data), "--device", args.device]
    recipe = ["--recipe", args.model, "--output", str(run), "--overwrite", *FLAGS[args.model].split()]
    train(parse_train_config([*shared, *recipe]))
    predict(parse_predict_config([*shared, "--checkpoint", str(run / "best.pt"), "--overwrite"]), Share.of_torchrun())
    show(args.model, run, find_pairs(args.data, "test"))


def draw_missing(folder: Path, counts: Mapping[str, int]) -> None:
    """Draw counts[SPLIT] scenes per split into a folder, except for splits that exist."""
    missing = {split: count for split, count in counts.items() if not (folder / split).exists()}
    log.info("drawing %d scenes in %s", sum(missing.values()), folder)
    write_scenes(folder, missing, SIZE, town=True)


def show(model: str, run: Path, pairs: Sequence[Pair]) -> None:
    """Log the network's F1 and that of a subtraction, and draw some pairs with their error maps."""
    maps = run / "predict-test"
    f1 = json.loads((maps / "metrics.json").read_text())["scores"]["f1"]
    threshold, subtraction = best_threshold(sum(map(grey_difference, pairs)))
    overview = maps / "overview.png"
    shown = [pair for pair in pairs if read_label(pair.label, MASKS).any()][:8]
    draw_grid(
        {
            "before": [read_image(pair.before) for pair in shown],
            "after": [read_image(pair.after) for pair in shown],
            "label": [read_label(pair.label, MASKS) * 255 for pair in shown],
            "error map": [read_image(maps / "error" / f"{pair.name}.png") for pair in shown],
        },
        overview,
    )
    log.info("test F1 %.2f: %s", 100 * f1, model)
    log.info("test F1 %.2f: grey difference over %d, the best threshold on these pairs", 100 * subtraction, threshold)
    log.info("see %s, and the curves in %s", overview, run / "curves.png")


def grey_difference(pair: Pair) -> torch.Tensor:
    """Counts of pixels by label and by absolute difference of the dates' mean of R, G and B, int64 (2, 256)."""
    before, after = (read_image(path).mean(-1) for path in (pair.before, pair.after))
    levels, mask = np.abs(before - after).round().astype(np.uint8), read_label(pair.label, MASKS)
    return torch.from_numpy(np.stack([np.bincount(levels[mask == truth], minlength=256) for truth in (0, 1)]))


if __name__ == "__main__":
    main()
