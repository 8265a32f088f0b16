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
SAMPLE = 2**20  # pixels of the first batches that bf16 and fp32 are compared on
EDGE = 0.02  # of [0, 1]: a tuned threshold there is no good sign
Dates = tuple[np.ndarray, np.ndarray]  # before and after, uint8 (h, w, channels)


class ChangePredictor:
    """Predicts with a checkpoint, which says network, input statistics and threshold by itself.

    Attributes:
        model: uint8 (B, channels, H, W) twice -> probability, float32 (B, H, W), of sizes that the network takes.
        about: the checkpoint without its weights: recipe, config, scores, epoch, what it was selected on.
        threshold: probability over which the run calls a pixel changed.
        channels: of an image.
        size_divisor: the network takes multiples of it; other sizes are filled up by reflection and cut off again.
        overlap: of windows, in pixels.
        moved: in bf16, how many pixels of the first batches fp32 puts on the other side of the threshold, and how many
            were compared.
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
            checkpoint: best.pt of a run, the run's folder, or a .onnx file that tools/export_onnx.py made of one.
            device: auto, cpu, cuda or cuda:N.
            tile_size: side of a window; 0: every scene whole; None: scenes up to AT_ONCE pixels whole, others by TILE.
            overlap: pixels that windows share; None: a quarter of their side.
            batch_size: windows at a time; None: BATCH, fewer where they hold more than AT_ONCE pixels together.
            tta: of TTA: the mean over flipped, turned or swapped dates is taken.
            precision: of PRECISIONS: fp32, or bf16, which is faster where the processor knows it and moves some pixels.
            backend: of BACKENDS: torch; compile, which takes minutes a size of windows; onnxruntime; openvino. An ONNX
                file takes the last two, and onnxruntime for torch.

        Raises:
            FileNotFoundError: there is no checkpoint.
            UserError: it is none, or windows, views, precision or backend are not as this network takes them.
        """
        path, where = Path(checkpoint), pick_device(device) if isinstance(device, str) else device
        path = path / "best.pt" if path.is_dir() else path
        self.model = open_network(path, where, precision, backend)
        self.about = self.model.about
        self.channels, self.size_divisor = self.model.channels, self.model.size_divisor
        self.threshold = float(self.about.get("threshold", 0.5))
        self.tile_size, self.batch_size, self.views = tile_size, batch_size, _views(tta)
        side = tile_size or TILE
        self.overlap = side // 4 if overlap is None else overlap
        self.moved = (0, 0)
        self._fitting: dict[tuple[int, int], int] = {}  # windows of a shape that did fit into memory
        if side % self.size_divisor:
            raise UserError(f"--tile-size {side}: this network takes multiples of {self.size_divisor}")
        if not 0 <= self.overlap < side:
            raise UserError(f"--overlap {self.overlap}: must be at least 0 and below the window's {side} pixels")
        if "swap" in tta and not self.model.can_swap:
            raise UserError(f"--tta swap: {path} scales its two dates differently; predict with the .pt it is made of")

    def choose_threshold(self, asked: float | str | None) -> float:
        """The threshold asked for: a number, "tuned", or None for the checkpoint's own.

        Raises:
            UserError: nobody tuned one.
        """
        if asked != "tuned":
            return self.threshold if asked is None else float(asked)
        if "tuned_threshold" not in self.about:
            raise UserError("--threshold tuned: this checkpoint has none; a run stores one at its end")
        tuned = float(self.about["tuned_threshold"])
        if not EDGE < tuned < 1 - EDGE:
            log.warning(
                "--threshold tuned: %g lies at the edge of [0, 1], so on val the network hardly told change from none; "
                "look at precision_recall.png, and compare 0.5", tuned,
            )  # fmt: skip
        return tuned

    @property
    def device(self) -> torch.device:
        """Of the network's tensors."""
        return self.model.device

    def turned_out(self) -> dict[str, Any]:
        """What of a prediction's protocol only shows afterwards: what computed, and the share that bf16 moved."""
        moved, compared = self.moved
        if not compared:
            return {"backend": self.model.backend}
        share = moved / compared
        log.info("bf16 moves %.4f %% of pixels across the threshold (of the first %d)", 100 * share, compared)
        return {"backend": self.model.backend, "moved_by_bf16": {"share": share, "pixels": compared}}

    def cover(self, height: int, width: int) -> Cover:
        """The windows of a scene."""
        whole = self.tile_size == 0 or (self.tile_size is None and height * width <= self.model.at_once)
        side = self.tile_size or TILE
        return Cover((height, width), (height, width) if whole else (side, side), self.overlap)

    def padded(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the network gets for a window of this shape."""
        height, width = (-(-length // self.size_divisor) * self.size_divisor for length in shape)
        return height, width

    def batch_for(self, shape: tuple[int, int]) -> int:
        """How many windows of a shape are predicted at a time."""
        height, width = self.padded(shape)
        return self.batch_size or max(1, min(BATCH, self.model.at_once // (height * width)))

    def collate(self, dates: Sequence[Dates]) -> tuple[Tensor, Tensor]:
        """Windows of one padded shape as a batch, uint8 (B, channels, H, W) twice.

        What a window lacks to a multiple of `size_divisor` mirrors what is there: an invented black border would be
        an edge in both dates, and weigh in HANet's attention, which looks at all pixels.
        """
        height, width = self.padded(dates[0][0].shape[:2])

        def filled(image: np.ndarray) -> np.ndarray:
            below, right = height - image.shape[0], width - image.shape[1]
            padded = np.pad(image, ((0, below), (0, right), (0, 0)), "reflect") if below or right else image
            return padded.transpose(2, 0, 1)

        before, after = (torch.from_numpy(np.stack([filled(pair[date]) for pair in dates])) for date in (0, 1))
        if self.device.type == "cuda":  # so that copying waits for nothing, and nothing for it
            return before.pin_memory(), after.pin_memory()
        return before, after

    def probability(self, before: Tensor, after: Tensor) -> Tensor:
        """Probability of change of every pixel: uint8 (B, C, H, W) twice -> float32 (B, H, W) in [0, 1].

        Where memory runs out, half as many windows are tried, from then on for all of this shape.

        Raises:
            UserError: wrong or different sizes, or one window alone does not fit into memory.
        """
        shape, parts, done = (before.shape[-2], before.shape[-1]), [], 0
        while done < len(before):
            size = min(self._fitting.get(shape, len(before)), len(before) - done)
            part = self._fitted(before[done : done + size], after[done : done + size])
            if part is not None:
                parts.append(part)
                done += size
                continue
            where = f"out of memory with {size} windows of {shape[0]} x {shape[1]} pixels"
            if size == 1:
                raise UserError(f"{where}; give a smaller --tile-size")
            self._fitting[shape] = size // 2
            log.warning("%s: going on with %d at a time", where, size // 2)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _fitted(self, before: Tensor, after: Tensor) -> Tensor | None:
        """The probabilities, or None if memory ran out; on return, what was taken for it is free again."""
        try:
            return self._mean(before, after)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _mean(self, before: Tensor, after: Tensor) -> Tensor:
        """Over all views of test-time augmentation; while bf16 is sampled, in fp32 as well."""
        first, second = (x.to(self.device, non_blocking=True) for x in (before, after))
        result = self._over_views(self.model, first, second)
        moved, compared = self.moved
        if isinstance(self.model, TorchNetwork) and self.model.exact is not None and compared < SAMPLE:
            exact = self._over_views(partial(self.model, exact=True), first, second)
            moved += int(((result > self.threshold) != (exact > self.threshold)).sum())
            self.moved = moved, compared + result.numel()
        return result

    def _over_views(self, model: Callable[..., Tensor], first: Tensor, second: Tensor) -> Tensor:
        """The mean over all views, of which there is at least one."""
        total: Tensor | float = 0.0
        for turns, mirrored, swapped in self.views:
            there = partial(_turned, turns=turns, mirrored=mirrored)
            seen = model(there(first), there(second), swapped)  # (B, H, W) as turned
            back = torch.rot90(seen, -turns, (-2, -1))
            total = total + (back.flip(-1) if mirrored else back)
        return total / len(self.views)  # type: ignore[return-value]

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Probability of change, float32 (H, W) in [0, 1], of two images of any size.

        Args:
            before: uint8 (H, W, channels), as the network was trained: RGB, or the bands of its run.
            after: the later date, the same shape.

        Raises:
            UserError: other types, different shapes, or too large a window for memory.
        """
        channels = self.channels
        for image in (before, after):
            if image.dtype != np.uint8 or image.shape != (*before.shape[:2], channels):
                found = " and ".join(f"{x.dtype} {x.shape}" for x in (before, after))
                raise UserError(f"before and after must be uint8 (height, width, {channels}), both alike; got {found}")
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
    """What is averaged: quarter turns, whether mirrored before them, and whether the dates are swapped."""
    unknown = set(tta) - set(TTA)
    if unknown:
        raise UserError(f"--tta {','.join(sorted(unknown))}: not known; choose of {', '.join(TTA)}")
    turns = range(0, 4, 1 if "rotations" in tta else 2) if {"flips", "rotations"} & set(tta) else range(1)
    mirrored = (False, True) if "flips" in tta else (False,)
    swapped = (False, True) if "swap" in tta else (False,)
    return [(t, m, s) for s in swapped for m in mirrored for t in turns]


def _turned(x: Tensor, turns: int, mirrored: bool) -> Tensor:
    """(B, C, H, W) mirrored, then turned counterclockwise by quarters."""
    return torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1))
