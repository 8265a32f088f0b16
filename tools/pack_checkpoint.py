"""Make a small checkpoint to share from a best.pt: half-precision weights, the tuned threshold, a licence note."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

if __name__ == "__main__":  # python path/to/tools/pack_checkpoint.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.console import UserError, errors_in_one_line, show_log
from utils.flags import given_flags, setting

log = logging.getLogger("pack")
KEPT = (
    "model", "options", "statistics", "reading", "threshold", "recipe", "epoch", "selected_on", "scores", "data",
    "pixel_size", "seen", "trained_on", "chosen_on",
)  # fmt: skip


@dataclass(frozen=True)
class PackConfig:
    """Settings of the tool; the flags are made from these fields."""

    checkpoint: Path = setting(Path(), "best.pt of a run")
    output: Path = setting(Path(), "checkpoint to write")
    threshold: float | None = setting(None, "probability above which a pixel is changed (default: tuned)", parse=float)
    tta: str = setting("", "test-time augmentation to predict with by default: scales, flips, ...")
    note: Path | None = setting(None, "text file on origin, licence and credit, kept in the checkpoint", parse=Path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line():
        show_log()
        flags = given_flags(PackConfig, str(__doc__), argv, required=("output",), positional=("checkpoint",))
        pack(PackConfig(**flags))


def pack(config: PackConfig) -> None:
    """Write the packed checkpoint; UserError if a weight leaves float16's range, or the output exists.

    Weights of more than one dimension are stored as float16 and are float32 again in the network that takes them. The
    others, such as running variances, which leave float16's range, stay float32. The threshold is the tuned one.
    """
    content = load_checkpoint(config.checkpoint)
    if config.output.exists():
        raise UserError(f"{config.output}: exists; name another --output")
    packed = {name: content[name] for name in KEPT if name in content}
    packed["threshold"] = config.threshold or content.get("tuned_threshold", content.get("threshold", 0.5))
    packed["tta"] = [word for word in config.tta.split(",") if word]
    if config.note:
        packed["note"] = config.note.read_text(encoding="utf-8")
    packed["weights"] = {key: halved(key, value) for key, value in content["weights"].items()}
    save_checkpoint(config.output, packed)
    log.info("%s: %.1f MB, threshold %.3f", config.output, config.output.stat().st_size / 1e6, packed["threshold"])


def halved(name: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight as it is stored."""
    if weight.ndim < 2:
        return weight.clone()
    half = weight.half()
    if not half.isfinite().all():
        raise UserError(f"{name}: values up to {weight.abs().max():g} do not fit into float16")
    return half


if __name__ == "__main__":
    main()
