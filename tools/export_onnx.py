"""Writes a checkpoint as an ONNX file, input scaling inside, after checking that it gives the same probabilities."""

import json
import logging
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

if __name__ == "__main__":  # python path/to/tools/export_onnx.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.scenes import draw_scene
from utils.checkpoint import load_checkpoint
from utils.console import UserError, errors_in_one_line, show_log
from utils.files import written_whole
from utils.flags import given_flags, setting
from utils.runtimes.onnx_file import OnnxNetwork, onnx_program
from utils.runtimes.torch_network import TorchNetwork
from utils.settings import find_checkpoint

log = logging.getLogger("export")
KEPT = (  # of a checkpoint, in the metadata
    "model", "options", "statistics", "reading", "threshold", "tuned_threshold", "recipe", "epoch", "scores",
    "selected_on", "data", "drawn_scenes", "imported", "versions", "pixel_size", "seen", "tta", "note",
    "trained_on", "chosen_on",
)  # fmt: skip


@dataclass(frozen=True)
class ExportConfig:
    """Settings of an export; the flags are made from these fields."""

    checkpoint: Path = setting(Path("best.pt"), "best.pt of a run, its folder, or detector")
    output: Path | None = setting(None, "ONNX file to write (default: beside the checkpoint, its name)", parse=Path)
    tolerance: float = setting(1e-4, "largest difference from PyTorch's probabilities that is accepted")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line():
        show_log()
        export(ExportConfig(**given_flags(ExportConfig, str(__doc__), argv)))


def export(config: ExportConfig) -> dict[str, float]:
    """Write the file, if it agrees with PyTorch; return the largest difference of a probability on each input.

    UserError: a package is missing, the output is not called .onnx, or the file gives other probabilities.
    """
    checkpoint = find_checkpoint(config.checkpoint)
    output = config.output or checkpoint.with_suffix(".onnx")
    if output.suffix.lower() != ".onnx":
        raise UserError(f"--output {output}: must end with .onnx, by which predict_batch.py recognises it")
    network = TorchNetwork(load_checkpoint(checkpoint), torch.device("cpu"))
    with written_whole(output) as partial:
        write_onnx(network, partial)
        differences = compare(network, OnnxNetwork(partial, network.device))
        worst = max(differences, key=lambda what: differences[what])
        if not differences[worst] <= config.tolerance:
            raise UserError(
                f"{output}: not written, since its probabilities differ from PyTorch's by up to "
                f"{differences[worst]:.1e} ({worst}); --tolerance {config.tolerance:g} is exceeded"
            )
    for what, difference in differences.items():
        log.info("largest difference of a probability: %.1e, %s", difference, what)
    log.info("%s, %.1f MB", output, output.stat().st_size / 1e6)
    log.info(
        "next: python predict_batch.py --checkpoint %s --before OLD --after NEW --output MAPS", shlex.quote(str(output))
    )
    return differences


def write_onnx(network: TorchNetwork, path: Path) -> None:
    """Write a network as an ONNX file, unchecked; UserError if a package is missing."""
    program = onnx_program(network, network.channels, network.size_divisor, torch.uint8, "probability")
    kept = {name: network.about[name] for name in KEPT if name in network.about}
    kept["size_divisor"] = network.size_divisor
    program.model.metadata_props.update({name: json.dumps(value) for name, value in kept.items()})
    program.save(path)


@torch.inference_mode()
def compare(network: TorchNetwork, exported: OnnxNetwork) -> dict[str, float]:
    """The largest absolute difference of a probability on each of the inputs."""
    return {
        what: float((exported(*dates) - network(*dates)).abs().nan_to_num(nan=math.inf).max())
        for what, dates in inputs(network.channels, network.size_divisor)
    }


def inputs(channels: int, divisor: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Noise and drawn scenes of several batches and sizes: a description, and both dates, uint8 (B, C, H, W)."""
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in ((1, divisor, divisor), (3, 2 * divisor, 5 * divisor), (1, 256, 256)):
        noise = torch.randint(0, 256, (2, batch, channels, height, width), dtype=torch.uint8, generator=generator)
        yield f"noise, {batch} x {height} x {width}", (noise[0], noise[1])
    for batch, height, width in ((1, 256, 256), (2, 128, 192)):
        scenes = [draw_scene([0, index], max(height, width))[:2] for index in range(batch)]
        dates = torch.from_numpy(np.stack(scenes, axis=1)).permute(0, 1, 4, 2, 3)  # (2, B, 3, side, side)
        bands = dates[:, :, [band % 3 for band in range(channels)], :height, :width]
        yield f"drawn scenes, {batch} x {height} x {width}", (bands[0], bands[1])


if __name__ == "__main__":
    main()
