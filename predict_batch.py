#!/usr/bin/env python3
"""Draws change maps for folders of image pairs with a trained network, and scores them where labels exist."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.change_pairs import ChangePairs, check_sizes, same_size_batches
from datasets.layouts import has_split
from datasets.pairs import Pair, find_pairs, fingerprint, match_pairs, refuse_inside
from datasets.raster import read_image
from datasets.reading import Reading, as_rgb, reading_from
from utils.change_map import RED_GREEN, change_map, error_map
from utils.config import PredictConfig, parse_predict_config
from utils.metrics import LEVELS, SCORES, count_levels, count_pixels, precision_recall, scores
from utils.predictor import ChangePredictor
from utils.report import ReportPair, write_report
from utils.run_log import score_table, write_csv, write_text
from utils.runtime import errors_in_one_line, pick_device, show_log, written_whole

log = logging.getLogger("predict")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line():
        show_log()
        predict(parse_predict_config(argv))


def predict(config: PredictConfig) -> dict[str, float]:
    """Write every pair's maps, per_image.csv and metrics.json; returns the scores (empty without labels)."""
    pairs = pairs_to_predict(config)
    labelled = pairs[0].label is not None
    predictor = ChangePredictor(config.checkpoint, pick_device(config.device))
    threshold = predictor.choose_threshold(config.threshold)
    reading = reading_from(predictor.about.get("reading"))
    codes = {"change_value": config.change_value, "ignore_value": config.ignore_value}
    reading = replace(reading, **{name: value for name, value in codes.items() if value is not None})
    sizes = check_sizes(pairs, predictor.size_divisor, alike=False, reading=reading)
    output = config.output or config.checkpoint.parent / f"predict-{images_of(config)}"
    refuse_inside(output, pairs)
    for folder in ("mask", "error") if labelled else ("mask",):
        (output / folder).mkdir(parents=True, exist_ok=True)
    for summary in ("per_image.csv", "metrics.json", "report.html"):  # of maps that are now drawn anew
        (output / summary).unlink(missing_ok=True)
    loader = DataLoader(
        ChangePairs(pairs, reading=reading),
        batch_sampler=same_size_batches(sizes, config.batch_size),
        num_workers=config.num_workers,
        pin_memory=predictor.device.type == "cuda",
    )
    total, rows = torch.zeros(2, 2, dtype=torch.int64), []
    levels = torch.zeros(2, LEVELS, dtype=torch.int64, device=predictor.device)
    with tqdm(total=len(pairs), unit="pair", desc="predicting", dynamic_ncols=True) as progress:
        for batch in loader:
            probability = predictor.probability(batch["before"], batch["after"])
            if labelled:
                levels += count_levels(probability, batch["mask"].to(predictor.device, non_blocking=True))
            changed = (probability > threshold).cpu()
            for name, prediction, mask in zip(batch["name"], changed, batch["mask"], strict=True):
                counts = count_pixels(prediction, mask)
                total += counts
                rows.append(image_row(name, prediction, counts if labelled else None))
                write_maps(output, name, prediction.numpy(), mask.numpy() if labelled else None)
            progress.update(len(changed))
    rows.sort(key=lambda row: row["name"])
    write_csv(output / "per_image.csv", rows)
    result = scores(total) if labelled else {}
    write_metrics(output, config, predictor, pairs, sizes, threshold, total, result)
    if config.report:
        write_page(output, pairs, rows, reading, levels)
    report(output, rows, result)
    warn_of_old_maps(output, {pair.name for pair in pairs})
    if labelled and predictor.about.get("selected_on") == "test":
        log.warning("this checkpoint was chosen on the test split of its data set: scores there flatter")
    if labelled and not total[1].sum():
        log.warning("no label has a changed pixel: scores of the changed class say nothing")
    return result


def pairs_to_predict(config: PredictConfig) -> list[Pair]:
    """The pairs of two or three folders, or of a split of a data set."""
    if config.before and config.after:
        return match_pairs(config.before, config.after, config.label)
    return find_pairs(config.data_root, config.split, labels=False, folders=config.folders)


def warn_of_old_maps(output: Path, names: set[str]) -> None:
    """Say so when the folder also holds maps of other pairs, which the scores do not count."""
    old = [path for path in (output / "mask").glob("*.png") if path.stem not in names]
    if old:
        log.warning("%s also holds %d maps of an earlier prediction, first %s", output, len(old), old[0].name)


def images_of(config: PredictConfig) -> str:
    """What the maps are of, in a word: the split, "all" of a data set without splits, or the folder of --before."""
    if config.before:
        return config.before.resolve().name
    return config.split if has_split(config.data_root, config.split) else "all"


def image_row(name: str, changed: torch.Tensor, counts: torch.Tensor | None) -> dict[str, object]:
    """One line of per_image.csv: the changed share, and with a label the counts and scores of this image alone."""
    row: dict[str, object] = {"name": name, "changed_share": changed.float().mean().item()}
    if counts is not None:
        (row["tn"], row["fp"]), (row["fn"], row["tp"]) = counts.tolist()
        row |= {
            score: value for score, value in scores(counts).items() if score in ("precision", "recall", "f1", "iou")
        }
    return row


def write_maps(output: Path, name: str, changed: np.ndarray, mask: np.ndarray | None) -> None:
    """Write mask/NAME.png (0 / 255) and, with a label, error/NAME.png (red: false alarm, green: missed)."""
    maps = {"mask": change_map(changed)}
    if mask is not None:
        maps["error"] = error_map(changed, mask)
    for folder, pixels in maps.items():
        with written_whole(output / folder / f"{name}.png") as partial:
            Image.fromarray(pixels).save(partial, format="PNG")


def write_metrics(
    output: Path, config: PredictConfig, predictor: ChangePredictor, pairs: Sequence[Pair],
    sizes: Sequence[tuple[int, int]], threshold: float, counts: torch.Tensor, result: Mapping[str, float],
) -> None:  # fmt: skip
    """Write metrics.json: the scores as fractions, and the protocol that gave them."""
    about = predictor.about
    protocol = {
        "checkpoint": str(config.checkpoint),
        "model": about["model"],
        "recipe": about.get("recipe"),
        "epoch": about.get("epoch"),
        "selected_on": about.get("selected_on"),
        "images": str(config.before or config.data_root),
        "split": images_of(config),
        "pairs": len(pairs),
        "sizes": sorted({f"{height} x {width}" for height, width in sizes}),
        "data": fingerprint(pairs),
        "windows": "whole images",
        "threshold": threshold,
    }
    (tn, fp), (fn, tp) = counts.tolist()
    pixels = {"tn": tn, "fp": fp, "fn": fn, "tp": tp} if result else {}
    content = {"scores": result, "pixels": pixels, "protocol": protocol}
    write_text(output / "metrics.json", json.dumps(content, indent=1) + "\n")


def write_page(
    output: Path, pairs: Sequence[Pair], rows: Sequence[Mapping[str, object]], reading: Reading,
    levels: torch.Tensor,
) -> None:  # fmt: skip
    """Write report.html from the files of a prediction that is done, so that no pixel is kept for it meanwhile.

    Args:
        output: folder of mask/, error/ and metrics.json.
        pairs: all of them.
        rows: those of per_image.csv.
        reading: how the images are read.
        levels: pixels by truth and probability, as `count_levels` gives them; without labels all 0.
    """

    def thumbnails(pair: Pair) -> dict[str, np.ndarray]:
        images = {"before": as_rgb(read_image(pair.before, reading)), "after": as_rgb(read_image(pair.after, reading))}
        kinds = {"map": "mask", "error": "error"} if pair.label else {"map": "mask"}
        return images | {kind: np.array(Image.open(output / f / f"{pair.name}.png")) for kind, f in kinds.items()}

    content = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    unchanged, false_alarm, missed, found = RED_GREEN.tolist()
    legend = {"found": found, "false alarm": false_alarm, "missed": missed, "rightly unchanged": unchanged}
    images, split = Path(content["protocol"]["images"]).name, content["protocol"]["split"]
    about = {**content, "title": "Changes in " + ", ".join(dict.fromkeys((images, split))), "legend": legend}
    by_name = {pair.name: pair for pair in pairs}
    shown = (
        ReportPair(
            str(row["name"]), {k: v for k, v in row.items() if k != "name"}, partial(thumbnails, by_name[row["name"]])
        )
        for row in rows
    )
    curve = {name: values.numpy() for name, values in precision_recall(levels).items()}
    write_report(output / "report.html", shown, about, curve | {"threshold": np.arange(1, LEVELS) / LEVELS})
    log.info("report, to open in a browser: %s", output / "report.html")


def report(output: Path, rows: Sequence[Mapping[str, object]], result: Mapping[str, float]) -> None:
    """Log where everything is and, with labels, the table of scores."""
    share = float(np.mean([row["changed_share"] for row in rows]))
    log.info("%d pairs, %.2f %% of pixels changed", len(rows), 100 * share)
    if share in (0.0, 1.0):
        log.warning(
            "every pixel is %s: check that the images resemble the training data, and --threshold",
            "changed" if share else "unchanged",
        )
    if result:
        log.info("%s", score_table({"all pairs": result}, SCORES))
        log.info("error maps: %s (white found, red false alarm, green missed)", output / "error")
    log.info("masks: %s", output / "mask")
    log.info("%s: %s, %s", "scores" if result else "shares", output / "per_image.csv", output / "metrics.json")


if __name__ == "__main__":
    main()
