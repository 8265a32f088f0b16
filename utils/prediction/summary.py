"""Summarises a prediction: per_image.csv, metrics.json, report.html, and lines of the log."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.registration import RELEVANT
from utils.change_map import PALETTES
from utils.console import quantity
from utils.files import write_csv, write_text
from utils.metrics import LEVELS, SCORES, precision_recall, score_table, scores
from utils.prediction.maps import MapSettings
from utils.prediction.records import COUNTS, Row, Whole, total_counts, total_levels
from utils.prediction.report import write_report

log = logging.getLogger(__name__)
REPORT_PAIRS = 5000  # in one page, which then has 300 MB


def write_summary(output: Path, whole: Whole, failed: Mapping[str, str], protocol: Mapping[str, Any]) -> None:
    """Write per_image.csv and metrics.json, and log their content; `failed` has errors by name."""
    rows = sorted((content["row"] for content in whole.values()), key=lambda row: row["name"])
    counts = total_counts(rows)
    protocol = {
        **protocol,
        "sizes": sorted({"{} x {}".format(*content["size"]) for content in whole.values()}),
        "windows": sorted({content["windows"] for content in whole.values()}),
        "on_another_grid": sum(content["aligned"] for content in whole.values()),
    }
    result = {} if counts is None else scores(counts)
    pixels = {} if counts is None else dict(zip(COUNTS, counts.flatten().tolist(), strict=True))
    write_csv(output / "per_image.csv", rows)
    content = {"scores": result, "pixels": pixels, "failed": failed, "protocol": protocol}
    write_text(output / "metrics.json", json.dumps(content, indent=1) + "\n")
    _log(rows, result, protocol)
    kinds = {path.split("/")[0] for record in whole.values() for path in record["files"]}
    log.info("maps: %s", ", ".join(str(output / kind) for kind in protocol["save"] if kind in kinds) or "none")
    if protocol["save"] and not kinds:
        log.warning("--save %s: no pair has the label or the georeference for that", ",".join(protocol["save"]))
    log.info("%s: %s, %s", "scores" if result else "shares", output / "per_image.csv", output / "metrics.json")
    old = sorted({path.stem for path in (output / "mask").glob("*.png")} - {row["name"] for row in rows})
    if old:
        log.warning("%s also holds %d maps of an earlier prediction, first %s.png", output, len(old), old[0])
    if counts is not None and not counts[1].sum():
        read = ", ".join(f"--{n.replace('_', '-')} {protocol['reading'][n]}" for n in ("change_value", "ignore_value"))
        log.warning("no label has a changed pixel (read by %s): scores of the changed class mean nothing", read)
    if counts is not None and (protocol["selected_on"] == "test" or protocol["selected_on_these"]):
        what = "this checkpoint was chosen on %s of its data set: scores there are optimistic"
        log.warning(what, {"test": "the test split", "val": "the val split"}.get(protocol["selected_on"], "pairs"))
    if trained := protocol["trained_on_these"]:
        log.warning(
            "this checkpoint was trained on %d of these %d pairs: maps and scores are optimistic",
            trained, protocol["pairs"],
        )  # fmt: skip


def _log(rows: Sequence[Row], result: Mapping[str, float], protocol: Mapping[str, Any]) -> None:
    share = sum(row["changed_share"] for row in rows) / len(rows)
    log.info("%s, %.2f %% of pixels changed", quantity(len(rows), "pair"), 100 * share)
    if share in (0.0, 1.0):
        word = "changed" if share else "unchanged"
        log.warning("every pixel is %s: check that the images resemble the training data, and --threshold", word)
    if count := protocol["on_another_grid"]:
        log.info("dates or labels on different grids, aligned on the earlier image: %s", quantity(count, "pair"))
    if (register := protocol.get("register", "off")) != "off":
        _log_shifts(rows, register == "auto")
    if result:
        log.info("%s", score_table({"all pairs": result}, SCORES))


def _log_shifts(rows: Sequence[Row], correct: bool) -> None:
    """Log how far the later images are shifted, and what is done about it."""
    found = {
        row["name"]: math.hypot(row["shift_rows"], row["shift_columns"]) for row in rows if row["shift_rows"] != ""
    }
    far = {name: length for name, length in found.items() if length > RELEVANT}
    counts = len(found), len(rows), RELEVANT, len(far)
    log.info("shift of the later image: reliable in %d of %d pairs, over %g pixel in %d", *counts)
    if not far:
        return
    largest = max(far, key=far.__getitem__)
    metres = next((row["shift_metres"] for row in rows if row["name"] == largest), "")
    log.warning(
        "shift: median %.1f pixels, largest %.1f%s (%s); %s", float(np.median(list(far.values()))), far[largest],
        f" = {metres:.3g} m" if metres != "" else "", largest,
        "these later images are read without it; labels stay on the grid of the earlier image" if correct else
        "not corrected; pass --register auto",
    )  # fmt: skip


def write_page(
    settings: MapSettings,
    whole: Whole,
    thumbnails: Callable[[str], Mapping[str, np.ndarray]],
    series: Mapping[str, Any],
) -> None:
    """Write report.html from records, metrics.json and maps, so that no pixels are kept for it; see `write_report`."""
    if "mask" not in settings.save or len(whole) > REPORT_PAIRS:
        log.info("no report.html: it shows masks (--save mask,...), and at most %d pairs", REPORT_PAIRS)
        return
    content = json.loads((settings.output / "metrics.json").read_text(encoding="utf-8"))
    rows = [whole[name]["row"] for name in sorted(whole)]
    points = precision_recall(total_levels(whole.values()))
    curve = {name: points[name].numpy() for name in ("precision", "recall")}
    curve["threshold"] = np.arange(1, LEVELS) / LEVELS
    about = {**content, "title": title_of(content["protocol"]), "legend": PALETTES[settings.palette].legend()}
    write_report(settings.output / "report.html", rows, thumbnails, {**about, **series}, curve)
    log.info("report, to open in a browser: %s", settings.output / "report.html")


def title_of(protocol: Mapping[str, Any]) -> str:
    """Return the title of a report: the data set and its split, or both dates of --before and --after."""
    before = Path(protocol["images"]).resolve()
    if not protocol["after"]:
        return "Changes in " + ", ".join(dict.fromkeys((before.name, protocol["split"])))
    after = Path(protocol["after"]).resolve()
    parts = 1 if before.name != after.name else 2  # 2012/scene.tif and 2016/scene.tif
    return "Changes from {} to {}".format(*("/".join(path.parts[-parts:]) for path in (before, after)))
