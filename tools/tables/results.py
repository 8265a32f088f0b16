"""Results of methods on data sets: read from run folders, from prediction folders, and from docs/papers."""

import csv
import hashlib
import inspect
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tools.costs import count_macs, count_parameters
from utils.checkpoint import Checkpoint, load_checkpoint, network_from
from utils.console import UserError
from utils.prediction.records import ImageSet, image_set
from utils.training.config import FREE_ON_RESUME

PAPERS = Path(__file__).parents[2] / "docs" / "papers"
SCORES = {"f1": "F1", "precision": "Pre.", "recall": "Rec.", "oa": "OA", "iou": "IoU"}  # in the papers' order
PROTOCOL = {
    "split": "{} split",
    "window": "windows of {}",
    "threshold": "threshold {}",
    "selection": "epoch chosen on {}",
}
COUNTED_SIDE = 256  # pixels of the pair whose multiply-adds are counted, as in the papers


@dataclass(frozen=True)
class Result:
    """Scores of one method on one data set."""

    name: str  # of the method
    data: str  # title of the data set
    scores: Mapping[str, float]  # percent, by the keys of SCORES
    deviations: Mapping[str, float] = field(default_factory=dict)  # standard deviations, if scores are means of runs
    published: str = ""  # source of a published result; empty for ours
    parameters: float | None = None  # in millions
    flops: float | None = None  # in 10^9; ours are multiply-adds, as the papers' seem to be
    settings: Mapping[str, str] = field(default_factory=dict)  # by the names of flags and of the network's options
    protocol: Mapping[str, str] = field(default_factory=dict)  # by key of PROTOCOL; missing: not stated, empty: none
    notes: Mapping[str, str] = field(default_factory=dict)  # footnotes by score; those of the key "" are of the row
    images: ImageSet = ImageSet()  # that were scored; only rows of equal images are ranked together


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by the names in its first line, without lines that start with #."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def read_published(tables: Sequence[str] = (), kind: str = "") -> list[Result]:
    """Rows of the published tables of these names, or without names of this kind; UserError for an unknown name."""
    known = {row["table"]: row for row in read_csv(PAPERS / "tables.csv")}
    tables = tables or [name for name, row in known.items() if kind and row["kind"] == kind]
    if unknown := [name for name in tables if name not in known]:
        raise UserError(f"--published {unknown[0]}: no such table; there are {', '.join(known)}, and none")
    rows = read_csv(PAPERS / "scores.csv")
    return [
        Result(
            name=row["name"],
            data=row["data"],
            scores={score: float(row[score]) for score in SCORES if row[score]},
            published=known[name]["source"],
            parameters=float(row["params_m"]) if row["params_m"] else None,
            flops=float(row["flops_g"]) if row["flops_g"] else None,
            settings=dict(word.split("=") for word in row["settings"].split()),
            protocol={key: known[name][key] for key in PROTOCOL if known[name][key]},
            notes={score: row["note"] for score in row["note_on"].split() or [""] if row["note"]},
        )
        for name in tables for row in rows if row["table"] == name
    ]  # fmt: skip


def read_folder(name: str, data: str, folder: Path) -> Result:
    """Result of a run (its validation scores at threshold 0.5) or of a prediction, by a method of this name.

    `data` is the title of the data set; empty: as recorded. UserError for a folder without scores.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no metrics.json; train_aux.py writes it at the end of a run (--resume finishes one) and "
            f"predict_batch.py beside its maps"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); make it again") from error
    try:
        result, best = (_of_prediction if "protocol" in content else _of_run)(folder, content)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not of a run or prediction of this version ({error} is missing)") from error
    if not result.scores:
        raise UserError(f"{path}: no scores, since the prediction had no labels; predict with labels, or pass --masks")
    result = replace(result, name=name, data=data or result.data)
    return _with_network(result, best) if best else result


def _of_run(folder: Path, content: Mapping[str, Any]) -> tuple[Result, Checkpoint]:
    chosen, best = content["selected_on"], load_checkpoint(folder / "best.pt")
    protocol = {"split": chosen, "window": "whole images", "threshold": "0.5", "selection": chosen}
    codes = [(best.get("reading") or {}).get(key) for key in ("change_value", "ignore_value", "change_from")]
    images = ImageSet(digest=f"{chosen} of {best.get('data', folder)}, labels {codes}")
    data = Path(best["config"]["data_root"]).name
    return Result("", data, _percent(content["at_0.5"]), protocol=protocol, images=images), best


def _of_prediction(folder: Path, content: Mapping[str, Any]) -> tuple[Result, Checkpoint | None]:
    about = content["protocol"]
    whole = about["windows"] == ["whole image"]
    window = " and ".join(about["sizes"] if whole else about["windows"])
    window += "" if whole else f", overlap {about['overlap']}"
    # a text where each pair has its own
    threshold = f"tuned on {about['selected_on']}" if about.get("tuned") else about["threshold"]
    protocol = {"split": about["split"], "window": window}
    protocol["threshold"] = threshold if isinstance(threshold, str) else f"{threshold:g}"
    protocol |= {"selection": about["selected_on"]} if about["selected_on"] is not None else {}
    notes = [
        f"trained on {about['trained_on_these']} of these pairs: optimistic" * bool(about["trained_on_these"]),
        "epoch chosen on some of these pairs: optimistic" * about["selected_on_these"],
        f"test-time augmentation: {', '.join(about['tta'])}" * bool(about["tta"]),
        f"changes under {about['min_area']} pixels left out" * bool(about["min_area"]),
        f"pairs that could not be predicted: {len(content['failed'])}" * bool(content["failed"]),
    ]
    note = {"": "; ".join(filter(None, notes))} if any(notes) else {}
    data, scores = Path(about["images"]).name, _percent(content["scores"])
    result = Result("", data, scores, protocol=protocol, notes=note, images=scored_images(folder)[0])
    return result, _best_of(folder, about)


def scored_images(folder: Path) -> tuple[ImageSet, np.ndarray]:
    """Return the images that a prediction was scored on, and int64 (images, 3): TP, FP and FN of each, by name."""
    rows = sorted((row for row in read_csv(folder / "per_image.csv") if row.get("tp")), key=lambda row: row["name"])
    counts = np.array([[int(row[key]) for key in ("tp", "fp", "fn", "tn")] for row in rows], np.int64).reshape(-1, 4)
    tp, fp, fn, tn = counts.T
    names = [row["name"] for row in rows]
    return image_set(zip(names, (tn + fp).tolist(), (fn + tp).tolist(), strict=True)), counts[:, :3]


def _best_of(folder: Path, about: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint of a prediction; None if it is gone or was replaced."""
    for path in (Path(about["checkpoint"]), folder.parent / "best.pt"):
        there = path.suffix != ".onnx" and path.is_file()
        if there and hashlib.sha256(path.read_bytes()).hexdigest() == about["checkpoint_sha256"]:
            return load_checkpoint(path)
    return None


def _with_network(result: Result, best: Checkpoint) -> Result:
    """Add size, cost and settings of the checkpoint's network."""
    network = network_from(best)
    defaults = {name: each.default for name, each in inspect.signature(type(network)).parameters.items()}
    values = {**best.get("config", {}), **defaults, **best["options"]}
    settings = {name: json.dumps(value).strip('"') for name, value in values.items()}
    macs = count_macs(network, COUNTED_SIDE, COUNTED_SIDE, int(values.get("in_channels", 3)))
    flops = sum(each.total for each in macs) / 1e9
    return replace(result, parameters=count_parameters(network) / 1e6, flops=flops, settings=settings)


def _percent(scores: Mapping[str, float]) -> dict[str, float]:
    return {score: 100 * scores[score] for score in SCORES if score in scores}


def averaged(results: Sequence[Result]) -> Result:
    """Mean scores and standard deviations of several runs of one method; UserError if more than the seed differs."""
    first = results[0]
    if len(results) == 1:
        return first
    keys = set().union(*(each.settings for each in results)) - FREE_ON_RESUME - {"seed"}
    if other := sorted(key for key in keys if len({each.settings.get(key) for each in results}) > 1):
        raise UserError(f"{first.name}: runs that differ in {', '.join(other)} have no mean; give them other names")
    columns = {score: [each.scores[score] for each in results] for score in first.scores}
    notes = dict.fromkeys([each.notes[""] for each in results if "" in each.notes])
    notes[f"mean ± standard deviation of {len(results)} runs"] = None
    sets = sorted(each.images for each in results)
    return replace(
        first,
        scores={score: statistics.mean(values) for score, values in columns.items()},
        deviations={score: statistics.stdev(values) for score, values in columns.items()},
        protocol={key: " or ".join(dict.fromkeys(e.protocol.get(key, "?") for e in results)) for key in first.protocol},
        notes={**first.notes, "": "; ".join(notes)},
        images=sets[0] if sets[0] == sets[-1] else ImageSet(digest=str(sets)),  # each seed held out other pairs
    )
