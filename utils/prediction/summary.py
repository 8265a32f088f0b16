"""What a prediction comes to: per_image.csv, metrics.json, report.html, and lines for whoever ran it."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.change_map import PALETTES
from utils.files import write_csv, write_text
from utils.metrics import LEVELS, SCORES, precision_recall, score_table, scores
from utils.prediction.maps import MapSettings
from utils.prediction.records import COUNTS, total_counts, total_levels
from utils.prediction.report import ReportPair, write_report

log = logging.getLogger(__name__)
REPORT_PAIRS = 5000  # in one page, which is then 300 MB


def write_summary(
    output: Path, whole: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], protocol: Mapping[str, Any]
) -> None:
    """Write per_image.csv and metrics.json, and log what is in them.

    Args:
        output: the folder.
        whole: the record of each pair that was predicted, by name.
        failed: what is wrong with the others.
        protocol: how it was done.
    """
    rows = sorted((content["row"] for content in whole.values()), key=lambda row: row["name"])
    counts = total_counts(rows)
    result = {} if counts is None else scores(counts)
    protocol = {
        **protocol,
        "sizes": sorted({"{} x {}".format(*content["size"]) for content in whole.values()}),
        "windows": sorted({content["windows"] for content in whole.values()}),
        "on_another_grid": sum(content["aligned"] for content in whole.values()),
    }
    pixels = {} if counts is None else dict(zip(COUNTS, counts.flatten().tolist(), strict=True))
    write_csv(output / "per_image.csv", rows)
    content = {"scores": result, "pixels": pixels, "failed": failed, "protocol": protocol}
    write_text(output / "metrics.json", json.dumps(content, indent=1) + "\n")
    kinds = {path.split("/")[0] for content in whole.values() for path in content["files"]}
    _tell(output, rows, result, protocol, [kind for kind in protocol["save"] if kind in kinds])
    if counts is not None and not counts[1].sum():
        read = ", ".join(f"--{n.replace('_', '-')} {protocol['reading'][n]}" for n in ("change_value", "ignore_value"))
        log.warning("no label has a changed pixel (read by %s): scores of the changed class say nothing", read)
    if counts is not None and protocol["selected_on"] == "test":
        log.warning("this checkpoint was chosen on the test split of its data set: scores there flatter")
    if protocol["trained_on_these"]:
        log.warning("this checkpoint was trained on these very pairs: maps and scores flatter")


def _tell(
    output: Path,
    rows: Sequence[Mapping[str, Any]],
    result: Mapping[str, float],
    protocol: Mapping[str, Any],
    kinds: Sequence[str],
) -> None:
    """Log where everything is and, with labels, the table of scores."""
    share = sum(row["changed_share"] for row in rows) / len(rows)
    log.info("%d pairs, %.2f %% of pixels changed", len(rows), 100 * share)
    if share in (0.0, 1.0):
        log.warning(
            "every pixel is %s: check that the images resemble the training data, and --threshold",
            "changed" if share else "unchanged",
        )
    if count := protocol["on_another_grid"]:
        log.info("%d pairs have dates or labels on different grids: seen on that of the earlier image", count)
    if result:
        log.info("%s", score_table({"all pairs": result}, SCORES))
    log.info("maps: %s", ", ".join(str(output / kind) for kind in kinds) or "none")
    if protocol["save"] and not kinds:
        log.warning("--save %s: no pair has the label or the place on earth for that", ",".join(protocol["save"]))
    log.info("%s: %s, %s", "scores" if result else "shares", output / "per_image.csv", output / "metrics.json")
    old = sorted({path.stem for path in (output / "mask").glob("*.png")} - {row["name"] for row in rows})
    if old:
        log.warning("%s also holds %d maps of an earlier prediction, first %s.png", output, len(old), old[0])


def write_page(
    settings: MapSettings,
    whole: Mapping[str, Mapping[str, Any]],
    thumbnails: Mapping[str, Callable[[], Mapping[str, np.ndarray]]],
) -> None:
    """Write report.html from the files of a prediction that is done, so that no pixel is kept for it meanwhile.

    Args:
        settings: what was written, and where; metrics.json and the masks must be there.
        whole: the records of the pairs by name.
        thumbnails: for each of them its pictures; see `ReportPair`.
    """
    if "mask" not in settings.save or len(whole) > REPORT_PAIRS:
        log.info("no report.html: it shows masks (--save mask,...), and at most %d pairs", REPORT_PAIRS)
        return
    content = json.loads((settings.output / "metrics.json").read_text(encoding="utf-8"))
    rows = {name: {k: v for k, v in whole[name]["row"].items() if k != "name"} for name in sorted(whole)}
    shown = (ReportPair(name, row, thumbnails[name]) for name, row in rows.items())
    curve = {name: v.numpy() for name, v in precision_recall(total_levels(whole.values(), LEVELS)).items()}
    about = {**content, "title": title_of(content["protocol"]), "legend": PALETTES[settings.palette].legend()}
    write_report(settings.output / "report.html", shown, about, curve | {"threshold": np.arange(1, LEVELS) / LEVELS})
    log.info("report, to open in a browser: %s", settings.output / "report.html")


def title_of(protocol: Mapping[str, Any]) -> str:
    """The title of a report: the data set and its split, or both dates of --before and --after."""
    before = Path(protocol["images"]).resolve()
    if not protocol["after"]:
        return "Changes in " + ", ".join(dict.fromkeys((before.name, protocol["split"])))
    after = Path(protocol["after"]).resolve()
    parts = 1 if before.name != after.name else 2  # 2012/scene.tif and 2016/scene.tif
    return "Changes from {} to {}".format(*("/".join(path.parts[-parts:]) for path in (before, after)))
