"""Keeps a record of each predicted pair: its line of per_image.csv, and its files.

A record is written last, so a pair that has one is done: a resumed run skips it, and the summary reads the records of
all processes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.console import UserError
from utils.files import short_name, write_text
from utils.metrics import LEVELS, scores

FOLDER, PARTS = "records", ".parts"
CHANGE_DATES = ("change-date/{}.png", "change-date/{}.tif", "change-date-legend/{}.png")  # of each place of a series
SUMMARY = ("per_image.csv", "change_dates.csv", "metrics.json", "report.html")
COUNTS = ("tn", "fp", "fn", "tp")
Row = Mapping[str, Any]  # of per_image.csv
Record = Mapping[str, Any]  # of a pair: its `row`, `files` under the output folder, and facts; or `error`
Whole = Mapping[str, Record]  # of the pairs that were predicted, by name
SAME = (  # settings that a resumed run must share with the earlier one
    "checkpoint_sha256", "reading", "tile_size", "overlap", "tta", "threshold", "min_area", "save", "palette",
    "precision", "backend", "register", "series", "pixel_size", "network_pixel_size", "origin",
)  # fmt: skip


class Records:
    """The records in an output folder, one small JSON file a pair."""

    def __init__(self, output: Path) -> None:
        self.output, self.folder, self.protocol = output, output / FOLDER, output / "protocol.json"

    def refuse_to_replace(self) -> None:
        """Raise UserError if the folder holds the maps of an earlier prediction."""
        if any("row" in (_read(path) or {}) for path in self.folder.glob("*.json")):
            there, how = _read(self.protocol), ""
            if there and {"checkpoint", "images", "threshold"} <= there.keys():
                how = f" ({there['checkpoint']} on {there['images']}, threshold {there['threshold']:g})"
            raise UserError(
                f"{self.output}: holds the maps of an earlier prediction{how}; pass --skip-existing to resume it, "
                f"--overwrite to replace it, or --output for another folder"
            )

    def begin(self, protocol: Mapping[str, Any], stamps: Mapping[str, str], resume: bool) -> None:
        """Prepare the folder, and write protocol.json.

        If the run resumes, pairs that are done stay, by the stamps of pairs, and the maps of the others are removed;
        otherwise all maps on record are removed. Change-date maps, those of the protocol's `places`, are drawn
        anew in any case.

        Raises:
            UserError: to resume, the settings differ from those of the maps; or the folder holds other files.
            OSError: the folder cannot be written.
        """
        if not self.protocol.is_file():
            self._refuse_others()
        self.folder.mkdir(parents=True, exist_ok=True)
        here = json.loads(json.dumps(protocol))  # tuples become lists
        there = _read(self.protocol) or {}
        if resume and self.protocol.is_file():
            self._refuse_changes(there, here)
        for name in SUMMARY:
            (self.output / name).unlink(missing_ok=True)
        for place, name in product(there.get("places", ()), CHANGE_DATES):
            (self.output / name.format(place)).unlink(missing_ok=True)
        if not resume:
            self.end()
        undone = (self._path(name) for name, stamp in stamps.items() if not self.done(name, stamp))
        for path in undone if resume else self.folder.glob("*.json"):
            for file in (_read(path) or {}).get("files", ()):
                (self.output / file).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        write_text(self.protocol, json.dumps(here, indent=1) + "\n")

    def _refuse_changes(self, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        """Raise UserError if the settings of the maps differ."""
        both = [(name, there.get(name, "off" if name == "register" else None), here[name]) for name in SAME]
        if changed := [f"{name}: {old} there, {new} here" for name, old, new in both if old != new]:
            raise UserError(
                f"{self.output}: holds maps predicted with other settings ({'; '.join(changed)}); pass "
                f"--overwrite in place of --skip-existing to replace them, or --output for another folder"
            )

    def _refuse_others(self) -> None:
        """Raise UserError if files of something else, such as a run's metrics.json, would be replaced."""
        others = [self.output / name for name in SUMMARY if (self.output / name).exists()]
        if others := others + (list(self.folder.iterdir()) if self.folder.is_dir() else []):
            raise UserError(f"{others[0]}: not of a prediction, but would be replaced; name another --output")

    def end(self) -> None:
        """Remove the parts that processes keep for each other."""
        shutil.rmtree(self.output / PARTS, ignore_errors=True)

    def write(self, name: str, content: Record) -> None:
        """Write the record of a pair."""
        write_text(self._path(name), json.dumps(content) + "\n")

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the record of a pair, or None."""
        return _read(self._path(name))

    def _path(self, name: str) -> Path:
        return self.folder / f"{short_name(name)}.json"

    def done(self, name: str, stamp: str) -> bool:
        """Return True if a pair was predicted from files of this stamp, and all its maps exist."""
        content = self.read(name)
        if not content or "row" not in content or content.get("stamp") != stamp:
            return False
        return all((self.output / path).is_file() for path in content["files"])


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def image_row(name: str, changed: int, known: int, counts: Tensor | None) -> dict[str, object]:
    """Return a line of per_image.csv: the changed share of known pixels; with a label, counts and scores."""
    row: dict[str, object] = {"name": name, "changed_share": changed / known if known else 0.0}
    if counts is not None:
        row |= dict(zip(COUNTS, counts.flatten().tolist(), strict=True))
        row |= {s: value for s, value in scores(counts).items() if s in ("precision", "recall", "f1", "iou")}
    return row


def total_counts(rows: Iterable[Row]) -> Tensor | None:
    """Return the pixels of all rows, int64 (2, 2); None without labels."""
    counted = [[row[name] for name in COUNTS] for row in rows if "tp" in row]
    return torch.tensor(counted, dtype=torch.int64).sum(0).view(2, 2) if counted else None


class ImageSet(NamedTuple):
    """The images that scores were computed on: number of pairs (0: unknown), and a digest of them and their labels."""

    pairs: int = 0
    digest: str = ""


def image_set(labels: Iterable[tuple[str, int, int]]) -> ImageSet:
    """Return the set of scored images, from each name and its label's unchanged and changed pixels."""
    ordered = sorted(labels)
    return ImageSet(len(ordered), hashlib.sha256(repr(ordered).encode()).hexdigest()[:16])


def sparse(levels: Tensor) -> dict[str, list[int]]:
    """Return the levels of (2, LEVELS) that are not 0: level -> unchanged and changed pixels."""
    return {str(level): levels[:, level].tolist() for level in levels.sum(0).nonzero().flatten().tolist()}


def total_levels(contents: Iterable[Record]) -> Tensor:
    """Return the levels of all records, int64 (2, LEVELS)."""
    total = torch.zeros(2, LEVELS, dtype=torch.int64)
    for content in contents:
        for level, pixels in content.get("levels", {}).items():
            total[:, int(level)] += torch.tensor(pixels)
    return total
