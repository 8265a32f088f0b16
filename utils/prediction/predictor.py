"""A trained network as a function from two dates of any size to a probability of change.

from utils.prediction.predictor import ChangePredictor
probability = ChangePredictor("best.pt")(before, after)  # uint8 (H, W, 3) twice -> float32 (H, W)
"""

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.console import UserError
from utils.machine import is_out_of_memory, pick_device
from utils.prediction.blending import BATCH, TILE, TTA, Blender, Cover
from utils.runtimes.opening import open_network
from utils.runtimes.torch_network import TorchNetwork

log = logging.getLogger(__name__)
SAMPLE = 2**20  # pixels of the first batches on which bf16 and fp32 are compared
EDGE = 0.02  # of [0, 1]: a tuned threshold there is suspicious
Dates = tuple[np.ndarray, np.ndarray]  # before and after, uint8 (h, w, channels)


class ChangePredictor:
    """Predicts with a checkpoint, which holds the network, its input statistics and its threshold.

    Attributes:
        model: uint8 (B, channels, H, W) twice -> probability, float32 (B, H, W); H and W multiples of `size_divisor`.
        about: the checkpoint without weights: recipe, config, scores, epoch, the split it was selected on.
        threshold: a pixel is changed if its probability exceeds it.
        channels: of an image.
        size_divisor: windows are padded to multiples of it by reflection.
        overlap: of windows, in pixels.
        flipped: in bf16, how many pixels of the first batches are on the other side of the threshold in fp32, and how
            many were compared.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        device: torch.device | str = "auto",
        tile_size: int | None = None,
        overlap: int | None = None,
        batch_size: int | None = None,
        tta: Collection[str] = (),
        precision: str = "fp32",
        backend: str = "torch",
    ) -> None:
        """Load the network.

        Args:
            checkpoint: best.pt of a run, the run's folder, or a .onnx file of tools/export_onnx.py.
            device: auto, cpu, cuda or cuda:N.
            tile_size: side of a window; 0: every scene whole; None: scenes up to AT_ONCE pixels whole, others by TILE.
            overlap: pixels that windows share; None: a quarter of their side.
            batch_size: windows in a batch; None: BATCH, fewer if they have more than AT_ONCE pixels together.
            tta: of TTA; the mean over these views is returned.
            precision: fp32, or bf16, which is faster on processors with bf16 and flips some pixels.
            backend: of BACKENDS: torch, compile (minutes per window size), onnxruntime, openvino. An ONNX file takes
                the last two; torch then means onnxruntime.

        Raises:
            FileNotFoundError: there is no checkpoint.
            UserError: it is not a checkpoint, or windows, views, precision or backend do not go with this network.
        """
        path, where = Path(checkpoint), pick_device(device) if isinstance(device, str) else device
        path = path / "best.pt" if path.is_dir() else path
        self.model = open_network(path, where, precision, backend)
        self.device, self.about = self.model.device, self.model.about
        self.channels, self.size_divisor = self.model.channels, self.model.size_divisor
        self.threshold = float(self.about.get("threshold", 0.5))
        self.tile_size, self.batch_size, self.views = tile_size, batch_size, _views(tta)
        side = tile_size or TILE
        self.overlap = side // 4 if overlap is None else overlap
        self.flipped = (0, 0)
        self._fitting: dict[torch.Size, int] = {}  # windows of a shape that fitted into memory
        if side % self.size_divisor:
            raise UserError(f"--tile-size {side}: this network takes multiples of {self.size_divisor}")
        if not 0 <= self.overlap < side:
            raise UserError(f"--overlap {self.overlap}: must be at least 0 and below the window's {side} pixels")
        if "swap" in tta and not self.model.can_swap:
            raise UserError(f"--tta swap: {path} scales its two dates differently; predict with the .pt it is made of")

    def choose_threshold(self, asked: float | str | None) -> float:
        """Return the threshold asked for: a number, "tuned", or None for the checkpoint's own.

        Raises:
            UserError: "tuned", but the checkpoint has no tuned threshold.
        """
        if asked != "tuned":
            return self.threshold if asked is None else float(asked)
        if "tuned_threshold" not in self.about:
            raise UserError("--threshold tuned: this checkpoint has none; a run stores one at its end")
        tuned = float(self.about["tuned_threshold"])
        if not EDGE < tuned < 1 - EDGE:
            said = "lies at the edge of [0, 1], so the network hardly separates change on val; compare 0.5"
            log.warning("--threshold tuned: %g %s, and see precision_recall.png", tuned, said)
        return tuned

    def turned_out(self) -> dict[str, Any]:
        """Return what of the protocol is known only after predicting: the backend, and the share that bf16 flipped."""
        flipped, compared = self.flipped
        if not compared:
            return {"backend": self.model.backend}
        share = flipped / compared
        log.info("bf16: %.4f %% of the first %d pixels are on the other side of the threshold", 100 * share, compared)
        return {"backend": self.model.backend, "moved_by_bf16": {"share": share, "pixels": compared}}

    def cover(self, height: int, width: int) -> Cover:
        """Return the windows of a scene."""
        whole = self.tile_size == 0 or (self.tile_size is None and height * width <= self.model.at_once)
        side = self.tile_size or TILE
        return Cover((height, width), (height, width) if whole else (side, side), self.overlap)

    def padded(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that the network gets for a window of this shape."""
        height, width = (-(-length // self.size_divisor) * self.size_divisor for length in shape)
        return height, width

    def batch_for(self, shape: tuple[int, int]) -> int:
        """Return the number of windows of this shape in a batch."""
        height, width = self.padded(shape)
        return self.batch_size or max(1, min(BATCH, self.model.at_once // (height * width)))

    def collate(self, dates: Sequence[Dates]) -> tuple[Tensor, Tensor]:
        """Stack windows of one padded shape to uint8 (B, channels, H, W) twice.

        Windows are padded by reflection: a black border would be an edge, and HANet's attention sees all pixels.
        """
        height, width = self.padded(dates[0][0].shape[:2])

        def filled(image: np.ndarray) -> np.ndarray:
            missing = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
            return np.pad(image, missing, "reflect").transpose(2, 0, 1)

        before, after = (torch.from_numpy(np.stack([filled(pair[date]) for pair in dates])) for date in (0, 1))
        if self.device.type == "cuda":  # for asynchronous copies
            return before.pin_memory(), after.pin_memory()
        return before, after

    def probability(self, before: Tensor, after: Tensor) -> Tensor:
        """Return probabilities of change: uint8 (B, C, H, W) twice -> float32 (B, H, W) in [0, 1].

        Where memory runs out, the batch is halved, from then on for all of this shape.

        Raises:
            UserError: wrong or different sizes, or a single window does not fit into memory.
        """
        shape = before.shape[-2:]
        size = min(self._fitting.get(shape, len(before)), len(before))
        while True:
            try:
                parts = zip(before.split(size), after.split(size), strict=True)
                return torch.cat([self._mean(*part) for part in parts])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            where = f"out of memory with {size} windows of {shape[0]} x {shape[1]} pixels"
            if size == 1:
                raise UserError(f"{where}; give a smaller --tile-size")
            self._fitting[shape] = size = size // 2
            log.warning("%s: predicting %d at a time", where, size)

    @torch.inference_mode()
    def _mean(self, before: Tensor, after: Tensor) -> Tensor:
        """The mean over all views; for the first SAMPLE pixels of bf16, fp32 is compared."""
        first, second = (x.to(self.device, non_blocking=True) for x in (before, after))
        result = self._over_views(self.model, first, second)
        flipped, compared = self.flipped
        if isinstance(self.model, TorchNetwork) and self.model.exact is not None and compared < SAMPLE:
            exact = self._over_views(partial(self.model, exact=True), first, second)
            flipped += int(((result > self.threshold) != (exact > self.threshold)).sum())
            self.flipped = flipped, compared + result.numel()
        return result

    def _over_views(self, model: Callable[..., Tensor], first: Tensor, second: Tensor) -> Tensor:
        total: Any = 0.0
        for turns, mirrored, swapped in self.views:
            dates = (torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1)) for x in (first, second))
            back = torch.rot90(model(*dates, swapped), -turns, (-2, -1))  # (B, H, W)
            total = total + (back.flip(-1) if mirrored else back)
        return total / len(self.views)

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the probability of change, float32 (H, W) in [0, 1], of two images of any size.

        Args:
            before: uint8 (H, W, channels), RGB or the bands that the network was trained on.
            after: the later date, the same shape.

        Raises:
            UserError: other types, different shapes, or a window too large for memory.
        """
        if not before.dtype == after.dtype == np.uint8 or not before.shape == after.shape == (
            *before.shape[:2], self.channels,
        ):  # fmt: skip
            found = " and ".join(f"{x.dtype} {x.shape}" for x in (before, after))
            raise UserError(f"before and after must be uint8 (height, width, {self.channels}), both alike; got {found}")
        cover = self.cover(*before.shape[:2])
        blender, result = Blender(cover), np.empty(cover.size, np.float32)
        height, width = cover.shape
        step = self.batch_for(cover.shape)
        for start in range(0, len(cover.windows), step):
            windows = cover.windows[start : start + step]
            batch = self.collate([(before[w.slices], after[w.slices]) for w in windows])
            probabilities = self.probability(*batch)[:, :height, :width].cpu().numpy()
            for window, probability in zip(windows, probabilities, strict=True):
                for top, rows in blender.add(window, probability):
                    result[top : top + len(rows)] = rows
        return result


def _views(tta: Collection[str]) -> list[tuple[int, bool, bool]]:
    """The views: quarter turns, whether mirrored before turning, and whether the dates are swapped."""
    if unknown := set(tta) - set(TTA):
        raise UserError(f"--tta {','.join(sorted(unknown))}: not known; choose of {', '.join(TTA)}")
    turns = range(0, 4, 1 if "rotations" in tta else 2) if {"flips", "rotations"} & set(tta) else range(1)
    mirrored = (False, True) if "flips" in tta else (False,)
    swapped = (False, True) if "swap" in tta else (False,)
    return [(t, m, s) for s in swapped for m in mirrored for t in turns]
