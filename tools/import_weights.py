"""Converts weights that the authors of a network published into a checkpoint; no code in their file is run.

A pickle is a program: it names functions of any installed module and calls them, so `torch.load(weights_only=True)`
refuses whole networks. Here, classes that a file names become stand-ins, which keep their state and have no methods.
"""

import hashlib
import logging
import shlex
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

if __name__ == "__main__":  # python path/to/tools/import_weights.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.catalog import CATALOG, GENERIC, STATISTICS, Statistics
from models.official import AMFNET_VARIANTS, behind, from_official
from utils.checkpoint import save_checkpoint
from utils.console import UserError, errors_in_one_line, show_log
from utils.flags import given_flags, setting
from utils.training.recipes import RECIPES

log = logging.getLogger("import")
SETS = tuple(name for name in CATALOG if name != GENERIC)


@dataclass(frozen=True)
class ImportConfig:
    """Settings of an import; the flags are made from these fields."""

    weights: Path = setting(Path(), "file of torch.save: a state dict, such as AMFNet's, or a network, such as HANet's")
    data_name: str = setting("", "public set it was trained on; HANet's inputs need its statistics", SETS)
    variant: str = setting("full", "which of AMFNet's released ablations it is", tuple(AMFNET_VARIANTS))
    output: Path | None = setting(None, "checkpoint to write (default: MODEL-SET.pt, here)", parse=Path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line():
        show_log()
        flags = given_flags(ImportConfig, str(__doc__), argv, required=("data_name",), positional=("weights",))
        import_weights(ImportConfig(**flags))


def import_weights(config: ImportConfig) -> Path:
    """Write the checkpoint and return its path; UserError for a file without weights of these networks."""
    state, data_name = read_state_dict(config.weights), config.data_name
    try:
        model, options = behind(state, config.variant)
        network = from_official(state, config.variant)
    except ValueError as error:
        raise UserError(f"{config.weights}: {error}") from error
    output = config.output or Path(f"{model}-{data_name}.pt")
    if output.exists():
        raise UserError(f"{output}: is already there; name another --output")
    selected_on = {"amfnet": "test", "hanet": "val"}.get(model, "unknown")  # split of which the authors' code chose by
    if model == "hanet" and config.weights.stem.startswith("final"):
        selected_on = "none (last epoch)"
    content = {
        "model": model,
        "options": options,
        "weights": network.state_dict(),
        "statistics": statistics_of(model, data_name),
        "threshold": 0.5,  # all take the larger of two logits
        "recipe": f"{model}-{data_name}" if f"{model}-{data_name}" in RECIPES else model,
        "config": {"data_name": data_name},
        "selected_on": selected_on,
        "imported": {"file": config.weights.name, "sha256": hashlib.sha256(config.weights.read_bytes()).hexdigest()},
    }
    save_checkpoint(output, content)
    log.info("%s of %s, epoch selected on: %s", type(network).__name__, CATALOG[data_name].title, selected_on)
    log.info(
        "next: python predict_batch.py --checkpoint %s --before OLD --after NEW --output MAPS", shlex.quote(str(output))
    )
    return output


def statistics_of(model: str, data_name: str) -> Statistics:
    """Input statistics of a network's recipe; "train" is those of the data set, or UserError if it has none."""
    if statistics := STATISTICS.get(str(RECIPES[model]["statistics"]), CATALOG[data_name].statistics):
        return statistics
    known = ", ".join(name for name in SETS if CATALOG[name].statistics)
    raise UserError(f"--data-name {data_name}: {model} needs the statistics of the set, which are known of {known}")


class RefusedError(UserError):
    """A file that has more than tensors and inert objects."""


def _refuse(what: str) -> NoReturn:
    raise RefusedError(
        f"asks for {what}, which weights do not need and which could run any code; nothing was run. If you trust the "
        f"file, open it with its authors' code and save its state_dict()"
    )


class _Uncallable(type):
    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        _refuse(f"{cls.__module__}.{cls.__qualname__}()")


class StandIn(metaclass=_Uncallable):
    """An inert object in place of one of a class that the file names: it keeps the state and has no methods.

    A pickle creates it without a call. A call could run a function, so it is refused.
    """

    state: dict[str, Any]

    def __new__(cls, *args: object) -> "StandIn":  # noqa: D102, as a pickle creates an object
        made = object.__new__(cls)
        made.state = {}
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict, or that of a pickled network, onto the CPU; no code in the file is run.

    The file is of `torch.save`, PyTorch 1.6 or later. A UserError names code that it would run, and refuses damaged or
    older files and other contents.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.save never compresses; what does could fill the memory
            if packed := [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]:
                raise UserError(f"{packed[0]} is compressed")
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _state_dict(content)
    except RefusedError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # damaged files can raise any exception
        what = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{path}: damaged, or not a file of torch.save by PyTorch 1.6 or later ({what}); get it again, or if it is "
            f"older, load it and save it again by torch.save"
        ) from error


def _stand_in(name: str) -> type[StandIn]:
    """A class of stand-ins for a dotted name; RefusedError if Python or PyTorch has the name and it is no layer."""
    module, _, own = name.rpartition(".")
    room = module.split(".")[0]
    if (room in sys.stdlib_module_names or room == "torch") and not module.startswith("torch.nn."):
        _refuse(name)
    return cast(type[StandIn], _Uncallable(own, (StandIn,), {"__module__": module}))


def _state_dict(content: object) -> dict[str, Tensor]:
    if isinstance(content, StandIn):
        content = _walk(content, "")
    if not isinstance(content, Mapping):
        raise RefusedError(f"holds a {type(content).__name__}, neither a state dict nor a network")
    if {"model", "options", "weights"} <= content.keys():
        raise RefusedError("is a checkpoint of this project; pass it to predict_batch.py as it is")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        listed = f"other things than tensors: {', '.join(others[:8])}" if others else "no tensor"
        raise RefusedError(f"holds {listed}; save the state dict alone to its own file")
    return {str(key): value.detach() for key, value in content.items()}


def _walk(module: StandIn, prefix: str) -> dict[str, object]:
    """The state dict of the module that this stands for."""
    parts = {role: module.state.get(f"_{role}") or {} for role in ("parameters", "buffers", "modules")}
    fleeting = module.state.get("_non_persistent_buffers_set") or ()
    saved = {name: value for name, value in parts["buffers"].items() if name not in fleeting}
    found = {f"{prefix}{name}": value for name, value in (parts["parameters"] | saved).items() if value is not None}
    for name, child in parts["modules"].items():
        found |= _walk(child, f"{prefix}{name}.") if child is not None else {}
    return found


if __name__ == "__main__":
    main()
