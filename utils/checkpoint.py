"""Checkpoints: dicts of tensors and primitives with all that a prediction needs, written whole.

A file holds `model`, `options`, `weights`, `statistics`, `reading` (bands, limits, label codes), `threshold`,
`recipe`, `config`, `scores`, `epoch`, `data` (a fingerprint), `selected_on`, `drawn_scenes` (whether its training data
were drawn), `seen` (how its training images look) and `versions`; last.pt also `optimizer`, `scaler` and `history`.
"""

import errno
import pickle
import platform
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn

import models
from utils.console import UserError, mistakes_of_users
from utils.files import written_whole

Checkpoint = dict[str, Any]
_IMPORT = "weights of the networks' authors become one by: python -m tools.import_weights {} --data-name SET"


def save_checkpoint(path: Path, content: Checkpoint) -> None:
    """Write a checkpoint with the versions of Python and PyTorch, whole or not at all."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    save_whole(path, {**content, "versions": versions})


def save_whole(path: Path, content: object) -> None:
    """Write an object by torch.save, whole or not at all; an OSError names the file."""
    with written_whole(path) as partial:
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OSError(errno.ENOSPC, "could not be written; the disk may be full", str(path)) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, without running any code from it.

    Raises:
        FileNotFoundError: there is none.
        UserError: the file is damaged, or is not a checkpoint of this project.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; train one with train_aux.py")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors, but damaged or a pickled network; {_IMPORT.format(path)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not a checkpoint, or a damaged one") from error
    if not isinstance(content, dict) or not {"model", "options", "weights", "statistics"} <= content.keys():
        raise UserError(f"{path}: not a checkpoint of this project; {_IMPORT.format(path)}")
    return content


def network_from(content: Checkpoint) -> nn.Module:
    """The trained network of a checkpoint, in evaluation mode.

    Raises:
        UserError: its weights are not those of the network it names.
    """
    with mistakes_of_users():
        network = models.build_model(content["model"], **content["options"])
    try:
        network.load_state_dict(content["weights"])
    except RuntimeError as error:
        raise UserError(
            f"weights and options of this checkpoint do not fit: {shorten(str(error), 200, placeholder=' ...')}"
        ) from error
    return network.eval()
