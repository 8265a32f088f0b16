"""Results as rows of a table: of run folders, of predictions, and as the papers printed them."""

import csv
import hashlib
import inspect
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tools.costs import count_macs, count_parameters
from utils.checkpoint import Checkpoint, load_checkpoint, network_from
from utils.prediction.records import ImageSet, image_set
from utils.training.config import FREE_ON_RESUME

SCORES = {"f1": "F1", "precision": "Pre.", "recall": "Rec.", "oa": "OA", "iou": "IoU"}  # in the papers' order
PROTOCOL = {
    "split": "{} split",
    "window": "windows of {}",
    "threshold": "threshold {}",
    "selection": "epoch chosen on {}",
}
SIDE = 256  # of the pair whose multiply-adds are counted, as the papers do


@dataclass(frozen=True)
class Result:
    """A method on a data set.

    Attributes:
        name: of the method.
        data: title of the data set.
        scores: in percent, by the keys of SCORES.
        deviations: standard deviations of scores that are means of several runs.
        published: the source of a published result; empty for ours.
        parameters: in millions.
        flops: in 10^9; ours are multiply-adds, as the papers' seem to be.
        settings: of an ablation, in the names of flags and of the network's options.
        protocol: by the keys of PROTOCOL; what is missing is not stated.
        notes: footnotes by score; those under "" are of the whole row.
        images: what the scores were computed on; only rows of equal images are ranked together.
    """

    name: str
    data: str
    scores: Mapping[str, float]
    deviations: Mapping[str, float] = field(default_factory=dict)
    published: str = ""
    parameters: float | None = None
    flops: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    protocol: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    images: ImageSet = ImageSet()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file by the names in its first."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def published_tables(folder: Path, kind: str) -> tuple[str, ...]:
    """Names of the published tables of a kind: comparison, pfbs, ..."""
    return tuple(row["table"] for row in read_csv(folder / "tables.csv") if row["kind"] == kind)


def read_published(folder: Path, tables: Sequence[str]) -> list[Result]:
    """The rows of published tables, in the order of the names.

    Raises:
        ValueError: no table is called so.
    """
    known = {row["table"]: row for row in read_csv(folder / "tables.csv")}
    if unknown := [name for name in tables if name not in known]:
        raise ValueError(f"--published {unknown[0]}: no such table; there are {', '.join(known)}, and none")
    rows = read_csv(folder / "scores.csv")
    return [_published(row, known[name]) for name in tables for row in rows if row["table"] == name]


def _published(row: Mapping[str, str], table: Mapping[str, str]) -> Result:
    return Result(
        name=row["name"],
        data=row["data"],
        scores={score: float(row[score]) for score in SCORES if row[score]},
        published=table["source"],
        parameters=float(row["params_m"]) if row["params_m"] else None,
        flops=float(row["flops_g"]) if row["flops_g"] else None,
        settings=dict(word.split("=") for word in row["settings"].split()),
        protocol={key: table[key] for key in PROTOCOL if table[key]},
        notes={score: row["note"] for score in row["note_on"].split() or [""] if row["note"]},
    )


def read_folder(name: str, data: str, folder: Path) -> Result:
    """The result of a run, or of a prediction.

    Args:
        name: of the method.
        data: title of the data set; empty: as the folder says.
        folder: of train_aux.py (scores of its validation at 0.5) or of predict_batch.py.

    Raises:
        FileNotFoundError: it lacks a file.
        ValueError: the file has no scores, or is another one.
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
        raise ValueError(f"{path}: damaged ({error}); make it again") from error
    try:
        result = (_of_prediction if "protocol" in content else _of_run)(name, data, folder, content)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not of a run or prediction of this version ({error} is missing)") from error
    if not result.scores:
        raise ValueError(f"{path}: no scores, for the prediction had no labels; give them, or masks with --label")
    return result


def _of_run(name: str, data: str, folder: Path, content: Mapping[str, Any]) -> Result:
    chosen, scores = content["selected_on"], _percent(content["at_0.5"])
    best = load_checkpoint(folder / "best.pt")
    protocol = {"split": chosen, "window": "whole images", "threshold": "0.5", "selection": chosen}
    data = data or Path(best["config"]["data_root"]).name
    images = ImageSet(digest=f"{chosen} of {best.get('data', folder)}")
    return _with_network(Result(name, data, scores, protocol=protocol, images=images), best)


def _of_prediction(name: str, data: str, folder: Path, content: Mapping[str, Any]) -> Result:
    about = content["protocol"]
    whole = about["windows"] == ["whole image"]
    window = " and ".join(about["sizes"] if whole else about["windows"])
    window += "" if whole else f", overlap {about['overlap']}"
    protocol = {"split": about["split"], "window": window, "threshold": f"{about['threshold']:g}"}
    protocol |= {"selection": about["selected_on"]} if about["selected_on"] else {}
    told = [
        "trained on these very pairs: flatters" if about["trained_on_these"] else "",
        f"mean over views: {', '.join(about['tta'])}" if about["tta"] else "",
        f"changes under {about['min_area']} pixels left out" if about["min_area"] else "",
        f"pairs that could not be predicted: {len(content['failed'])}" if content["failed"] else "",
    ]
    notes = {"": "; ".join(filter(None, told))} if any(told) else {}
    data = data or Path(about["images"]).name
    result = Result(name, data, _percent(content["scores"]), protocol=protocol, notes=notes, images=_images_of(folder))
    best = _checkpoint_of(folder, about)
    return _with_network(result, best) if best else result


def _images_of(folder: Path) -> ImageSet:
    """The images of a prediction that were scored."""
    rows = [row for row in read_csv(folder / "per_image.csv") if row.get("tp")]
    return image_set((row["name"], int(row["tn"]) + int(row["fp"]), int(row["fn"]) + int(row["tp"])) for row in rows)


def _checkpoint_of(folder: Path, about: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint behind a prediction, if it is still there and the same."""
    for path in (Path(about["checkpoint"]), folder.parent / "best.pt"):
        there = path.suffix != ".onnx" and path.is_file()
        if there and hashlib.sha256(path.read_bytes()).hexdigest() == about["checkpoint_sha256"]:
            return load_checkpoint(path)
    return None


def _with_network(result: Result, best: Checkpoint) -> Result:
    """Add what the checkpoint tells: size and cost of the network, and the settings of an ablation."""
    network = network_from(best)
    defaults = {name: each.default for name, each in inspect.signature(type(network)).parameters.items()}
    values = {**best.get("config", {}), **defaults, **best["options"]}
    settings = {name: json.dumps(value).strip('"') for name, value in values.items()}
    macs = count_macs(network, SIDE, SIDE, int(values.get("in_channels", 3)))
    return replace(
        result, parameters=count_parameters(network) / 1e6, flops=sum(m.total for m in macs) / 1e9, settings=settings
    )


def _percent(scores: Mapping[str, float]) -> dict[str, float]:
    return {score: 100 * scores[score] for score in SCORES if score in scores}


def averaged(results: Sequence[Result]) -> Result:
    """Several runs of one method as one result: mean scores and their standard deviations.

    Raises:
        ValueError: they differ in more than the seed.
    """
    first = results[0]
    if len(results) == 1:
        return first
    keys = set().union(*(each.settings for each in results)) - FREE_ON_RESUME - {"seed"}
    if other := sorted(key for key in keys if len({each.settings.get(key) for each in results}) > 1):
        raise ValueError(f"{first.name}: runs that differ in {', '.join(other)} have no mean; give them other names")
    columns = {score: [each.scores[score] for each in results] for score in first.scores}
    means = {score: statistics.mean(values) for score, values in columns.items()}
    deviations = {score: statistics.stdev(values) for score, values in columns.items()}
    told = dict.fromkeys([each.notes[""] for each in results if "" in each.notes])
    told[f"mean ± standard deviation of {len(results)} runs"] = None
    protocol = {key: " or ".join(dict.fromkeys(e.protocol.get(key, "?") for e in results)) for key in first.protocol}
    notes = {**first.notes, "": "; ".join(told)}
    sets = sorted({each.images for each in results})
    images = sets[0] if len(sets) == 1 else ImageSet(digest=str(sets))  # each seed held out pairs of its own
    return replace(first, scores=means, deviations=deviations, protocol=protocol, notes=notes, images=images)
