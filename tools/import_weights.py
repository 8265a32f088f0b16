"""Turns weights that the authors of AMFNet or HANet published into a checkpoint; nothing in their file is run."""

import hashlib
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # python path/to/tools/import_weights.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.catalog import CATALOG, GENERIC, STATISTICS, Statistics
from models.official import AMFNET_VARIANTS, behind, from_official
from tools.weights.pickled import read_state_dict
from utils.checkpoint import save_checkpoint
from utils.console import errors_in_one_line, show_log
from utils.flags import given_flags, setting
from utils.training.recipes import RECIPES

log = logging.getLogger("import")
SETS = tuple(name for name in CATALOG if name != GENERIC)


@dataclass(frozen=True)
class ImportConfig:
    """Settings of an import; the flags are made from these fields."""

    weights: Path = setting(Path(), "AMFNet's .pth (a state dict) or HANet's .pt (a pickled network)")
    data_name: str = setting("", "public set it was trained on; HANet's inputs want the statistics of it", SETS)
    variant: str = setting("full", "which of AMFNet's released ablations it is", tuple(AMFNET_VARIANTS))
    output: Path | None = setting(None, "checkpoint to write (default: MODEL-SET.pt, here)", parse=Path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line():
        show_log()
        flags = given_flags(ImportConfig, str(__doc__), argv, required=("data_name",), positional=("weights",))
        import_weights(ImportConfig(**flags))


def import_weights(config: ImportConfig) -> Path:
    """Write the checkpoint and return its path.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of weights, or not of these networks; or the output is already there.
    """
    state = read_state_dict(config.weights)
    try:
        model, options = behind(state, config.variant)
        network = from_official(state, config.variant)
    except ValueError as error:
        raise ValueError(f"{config.weights}: {error}") from error
    output = config.output or Path(f"{model}-{config.data_name}.pt")
    if output.exists():
        raise ValueError(f"{output}: is already there; name another --output")
    selected_on = chosen_on(model, config.weights)
    recipe = f"{model}-{config.data_name}"
    content = {
        "model": model,
        "options": options,
        "weights": network.state_dict(),
        "statistics": statistics_of(model, config.data_name),
        "threshold": 0.5,  # both take the larger of two logits
        "recipe": recipe if recipe in RECIPES else model,
        "config": {"data_name": config.data_name},
        "selected_on": selected_on,
        "imported": {"file": config.weights.name, "sha256": hashlib.sha256(config.weights.read_bytes()).hexdigest()},
    }
    save_checkpoint(output, content)
    log.info("%s of %s, epoch selected on: %s", type(network).__name__, CATALOG[config.data_name].title, selected_on)
    log.info(
        "next: python predict_batch.py --checkpoint %s --before OLD --after NEW --output MAPS", shlex.quote(str(output))
    )
    return output


def statistics_of(model: str, data_name: str) -> Statistics:
    """What the authors normalised with: AMFNet nothing, HANet each date with the statistics of its set.

    Raises:
        ValueError: HANet, and a set of which its authors released none.
    """
    if model == "amfnet":
        return STATISTICS["none"]
    statistics = CATALOG[data_name].statistics
    if statistics is None:
        known = ", ".join(name for name in SETS if CATALOG[name].statistics)
        raise ValueError(f"--data-name {data_name}: HANet was released for other sets ({known})")
    return statistics


def chosen_on(model: str, weights: Path) -> str:
    """What the authors chose the epoch by: AMFNet's scripts the test split, HANet's the validation split.

    HANet's files that are called final_epochN hold the last epoch, which nothing chose.
    """
    if model == "amfnet":
        return "test"
    return "none (last epoch)" if weights.stem.startswith("final") else "val"


if __name__ == "__main__":
    main()
