"""What a prediction leaves for each pair: its line of per_image.csv, and that its files are whole.

A record is written last, so a pair that has one is done: a run that goes on skips it, and whoever writes the summary
reads all of them, no matter which process made them.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.console import UserError
from utils.files import short_name, write_text
from utils.metrics import scores
from utils.settings import BACKENDS, PRECISIONS

FOLDER, PARTS = "records", ".parts"
SUMMARY = ("per_image.csv", "metrics.json", "report.html")
COUNTS = ("tn", "fp", "fn", "tp")
SAME = (  # settings that a run which goes on must share with the one before
    "checkpoint_sha256", "reading", "tile_size", "overlap", "tta", "threshold", "min_area", "save", "palette",
    "precision", "backend",
)  # fmt: skip


class Records:
    """The records in an output folder, one small JSON file a pair."""

    def __init__(self, output: Path) -> None:
        self.output, self.folder = output, output / FOLDER

    def refuse_to_replace(self) -> None:
        """Keep the maps of an earlier prediction, unless the user says what becomes of them.

        Raises:
            UserError: the folder holds maps.
        """
        names = (path.stem for path in self.folder.glob("*.json"))
        if any("row" in (self.read(name) or {}) for name in names):
            raise UserError(
                f"{self.output}: holds the maps of an earlier prediction{self._told()}; pass --skip-existing to go on "
                f"with it, --overwrite to replace it, or --output for another folder"
            )

    def _told(self) -> str:
        """What made the maps that are there, for a message."""
        try:
            there = json.loads((self.output / "protocol.json").read_text(encoding="utf-8"))
            return f" ({there['checkpoint']} on {there['images']}, threshold {there['threshold']:g})"
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def begin(self, protocol: Mapping[str, Any], stamps: Mapping[str, str], go_on: bool) -> None:
        """Make the folder ready, and keep the settings in it.

        Args:
            protocol: settings of this run.
            stamps: of its pairs by name; see `done`.
            go_on: whether to keep what is there of them and whole; without that, all maps on record are removed.

        Raises:
            UserError: to go on, the settings would have to be those of what is there; or something else is there.
            OSError: the folder cannot be written.
        """
        kept = self.output / "protocol.json"
        if not kept.is_file():
            self._refuse_others()
        self.folder.mkdir(parents=True, exist_ok=True)
        here = json.loads(json.dumps(protocol))  # tuples become lists
        if go_on and kept.is_file():
            there = json.loads(kept.read_text(encoding="utf-8"))
            # older protocols name no precision, and no backend or the usual one
            there.setdefault("precision", PRECISIONS[0])
            if there.setdefault("backend", BACKENDS[0]) == BACKENDS[0] and str(there.get("checkpoint")).endswith(
                ".onnx"
            ):
                there["backend"] = "onnxruntime"
            changed = [
                f"{name}: {there.get(name)} there, {here[name]} here" for name in SAME if there.get(name) != here[name]
            ]
            if changed:
                raise UserError(
                    f"{self.output}: holds maps predicted with other settings ({'; '.join(changed)}); pass "
                    f"--overwrite in place of --skip-existing to replace them, or --output for another folder"
                )
        for name in SUMMARY:  # of maps that are now drawn
            (self.output / name).unlink(missing_ok=True)
        if go_on:
            for name, stamp in stamps.items():
                if not self.done(name, stamp):
                    self._path(name).unlink(missing_ok=True)
        else:
            self.end()
            self._forget()
        write_text(kept, json.dumps(here, indent=1) + "\n")

    def _forget(self) -> None:
        """Remove all records with their maps, which the new ones may not all replace."""
        for path in self.folder.glob("*.json"):
            content = self.read(path.stem) or {}
            for file in content.get("files", ()):
                (self.output / file).unlink(missing_ok=True)
            path.unlink()

    def _refuse_others(self) -> None:
        """Files that no prediction made, such as a run's metrics.json, are neither removed nor replaced."""
        theirs = [self.output / name for name in SUMMARY if (self.output / name).exists()]
        if theirs := theirs + (list(self.folder.iterdir()) if self.folder.is_dir() else []):
            raise UserError(f"{theirs[0]}: not of a prediction, but would be replaced; name another --output")

    def end(self) -> None:
        """Remove what processes kept for each other."""
        shutil.rmtree(self.output / PARTS, ignore_errors=True)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep what came of a pair: `row`, `files` (paths under the output folder) and facts, or `error`."""
        write_text(self._path(name), json.dumps(content) + "\n")

    def read(self, name: str) -> dict[str, Any] | None:
        """What came of a pair; None if nothing has yet."""
        try:
            content = json.loads(self._path(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def _path(self, name: str) -> Path:
        """The record of a pair."""
        return self.folder / f"{short_name(name)}.json"

    def done(self, name: str, stamp: str) -> bool:
        """Whether a pair was predicted from images and label of this stamp, and all its files are there."""
        content = self.read(name)
        if not content or "row" not in content or content.get("stamp") != stamp:
            return False
        return all((self.output / path).is_file() for path in content["files"])


def image_row(name: str, changed: int, known: int, counts: Tensor | None) -> dict[str, object]:
    """One line of per_image.csv: the changed share of known pixels; with a label, counts and scores of this image."""
    row: dict[str, object] = {"name": name, "changed_share": changed / known if known else 0.0}
    if counts is not None:
        row |= dict(zip(COUNTS, counts.flatten().tolist(), strict=True))
        row |= {s: value for s, value in scores(counts).items() if s in ("precision", "recall", "f1", "iou")}
    return row


def total_counts(rows: Iterable[Mapping[str, Any]]) -> Tensor | None:
    """The pixels of all rows together, int64 (2, 2); None without labels."""
    counted = [[row[name] for name in COUNTS] for row in rows if "tp" in row]
    return torch.tensor(counted, dtype=torch.int64).sum(0).view(2, 2) if counted else None


class ImageSet(NamedTuple):
    """The images that scores were computed on: number of pairs (0: unknown), and a digest of them and their labels."""

    pairs: int = 0
    digest: str = ""


def image_set(labels: Iterable[tuple[str, int, int]]) -> ImageSet:
    """The set of scored images, identified by the name of each and the unchanged and changed pixels of its label."""
    ordered = sorted(labels)
    return ImageSet(len(ordered), hashlib.sha256(repr(ordered).encode()).hexdigest()[:16])


def sparse(levels: Tensor) -> dict[str, list[int]]:
    """Pixels by truth and level (2, L) -> what is not 0: level to its unchanged and changed pixels."""
    return {str(level): levels[:, level].tolist() for level in levels.sum(0).nonzero().flatten().tolist()}


def total_levels(contents: Iterable[Mapping[str, Any]], count: int) -> Tensor:
    """The levels of all records together, int64 (2, count)."""
    total = torch.zeros(2, count, dtype=torch.int64)
    for content in contents:
        for level, pixels in content.get("levels", {}).items():
            total[:, int(level)] += torch.tensor(pixels)
    return total
