"""A trained network as a function from two dates of any size to a probability of change.

from utils.prediction.predictor import ChangePredictor
probability = ChangePredictor()(before, after)  # two files, PIL images or uint8 (H, W, 3) -> float32 (H, W)
"""

import logging
import math
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor

from datasets.image_check import NO_DATA, ImageCheck, seen_by
from datasets.open_pair import OpenPair
from datasets.pairs import Pair, later_first
from datasets.pixel_size import metres_a_pixel, size_remarks, zoom_for
from datasets.reading import reading_from
from datasets.windows import Window
from utils.console import UserError
from utils.machine import is_out_of_memory, pick_device
from utils.prediction.blending import BATCH, TILE, Blender, Cover
from utils.prediction.views import Views
from utils.runtimes.opening import open_network
from utils.runtimes.torch_network import TorchNetwork
from utils.settings import find_checkpoint

log = logging.getLogger(__name__)
SAMPLE = 2**20  # pixels of the first batches on which bf16 and fp32 are compared
LARGEST = 4096  # side of a window in pixels of the image, where the network sees fewer
EDGE = 0.02  # of [0, 1]: a tuned threshold there is suspicious
Image = np.ndarray | PIL.Image.Image | Path | str
Dates = tuple[np.ndarray, np.ndarray]  # before and after, uint8 (h, w, channels)


class ChangePredictor:
    """Predicts with a checkpoint, which holds the network, its input statistics and its threshold.

    Attributes:
        model: uint8 (B, channels, H, W) twice -> probability, float32 (B, H, W); H and W multiples of `size_divisor`.
        about: the checkpoint without weights: recipe, config, scores, epoch, the split it was selected on.
        threshold: a pixel is changed if its probability exceeds it.
        channels: of an image.
        pixel_size: metres per pixel that the network was trained on; None: unknown, or nothing is to be resampled.
        size_divisor: windows are padded to multiples of it by reflection.
        seen: how the training images look; empty: unknown.
        overlap: of windows, in pixels.
        flipped: in bf16, how many pixels of the first batches are on the other side of the threshold in fp32, and how
            many were compared.
    """

    def __init__(
        self,
        checkpoint: Path | str = "detector",
        device: torch.device | str = "auto",
        tile_size: int | None = None,
        overlap: int | None = None,
        batch_size: int | None = None,
        tta: Collection[str] | None = None,
        precision: str = "fp32",
        backend: str = "torch",
    ) -> None:
        """Load the network.

        Args:
            checkpoint: best.pt of a run, the run's folder, a .onnx file of tools/export_onnx.py, or "detector", the
                network of this repository.
            device: auto, cpu, cuda or cuda:N.
            tile_size: side of a window; 0: every scene whole; None: scenes up to `model.at_once` pixels whole, others
                in windows of TILE.
            overlap: pixels that windows share; None: a quarter of their side.
            batch_size: windows in a batch; None: BATCH, fewer if they have more than `model.at_once` pixels together.
            tta: of TTA: the mean over views, and with "scales" the larger probability of these and of half the
                resolution, at which large buildings are seen whole; None: as the checkpoint has it.
            precision: fp32, or bf16, which is faster on processors with bf16 and flips some pixels.
            backend: of BACKENDS: torch, compile (minutes per window size), onnxruntime, openvino. An ONNX file takes
                the last two; torch then means onnxruntime.

        Raises:
            FileNotFoundError: there is no checkpoint.
            UserError: it is not a checkpoint, or windows, views, precision or backend do not go with this network.
        """
        path, where = find_checkpoint(checkpoint), pick_device(device) if isinstance(device, str) else device
        self.model = open_network(path, where, precision, backend)
        self.device, self.about = self.model.device, self.model.about
        self.channels, self.size_divisor = self.model.channels, self.model.size_divisor
        self.threshold = float(self.about.get("threshold", 0.5))
        self.pixel_size: float | None = self.about.get("pixel_size")
        self.seen, self._told = seen_by(self.about), set[str]()
        self.tta = tuple(self.about.get("tta", ()) if tta is None else tta)
        self.tile_size, self.batch_size = tile_size, batch_size
        self.views, side = Views(self.tta, self.size_divisor), tile_size or TILE
        self.overlap = side // 4 if overlap is None else overlap
        self.flipped = (0, 0)
        self._fitting: dict[torch.Size, int] = {}  # windows of a shape that fitted into memory
        if side % self.size_divisor:
            raise UserError(f"--tile-size {side}: this network takes multiples of {self.size_divisor}")
        if not 0 <= self.overlap < side:
            raise UserError(f"--overlap {self.overlap}: must be at least 0 and below the window's {side} pixels")
        if "swap" in self.tta and not self.model.can_swap:
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

    def cover(self, height: int, width: int, pixel_size: float | None = None) -> Cover:
        """Return the windows of a scene; sides and overlaps of windows are counted in pixels of the network."""
        zoom = zoom_for(pixel_size, self.pixel_size)
        fits = height * width * zoom**2 <= self.model.at_once and height * width <= LARGEST**2
        whole = self.tile_size == 0 or (self.tile_size is None and fits)
        tile = self.tile_size or TILE
        side = min(round(tile / zoom), max(tile, LARGEST))
        return Cover((height, width), (height, width) if whole else (side, side), side * self.overlap // tile, zoom)

    def padded(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that the network gets for a resampled window of this shape."""
        height, width = (-(-length // self.size_divisor) * self.size_divisor for length in shape)
        return height, width

    def batch_for(self, shape: tuple[int, int]) -> int:
        """Return the number of windows of this shape in a batch."""
        height, width = self.padded(shape)
        return self.batch_size or max(1, min(BATCH, self.model.at_once // (height * width)))

    def collate(self, dates: Sequence[Dates]) -> tuple[Tensor, Tensor]:
        """Stack resampled windows of one padded shape to uint8 (B, channels, H, W) twice.

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
        """The mean over views, or its maximum over scales; for the first SAMPLE pixels of bf16, fp32 is compared."""
        first, second = (x.to(self.device, non_blocking=True) for x in (before, after))
        result = self.views(self.model, first, second)
        flipped, compared = self.flipped
        if isinstance(self.model, TorchNetwork) and self.model.exact is not None and compared < SAMPLE:
            exact = self.views(partial(self.model, exact=True), first, second)
            flipped += int(((result > self.threshold) != (exact > self.threshold)).sum())
            self.flipped = flipped, compared + result.numel()
        return result

    def __call__(self, before: Image, after: Image, pixel_size: float | None = None) -> np.ndarray:
        """Return the probability of change, float32 (H, W) in [0, 1], of two images of any size.

        Args:
            before: uint8 (H, W, channels), RGB or the bands that the network was trained on; a PIL image; or a file.
            after: the later date, the same kind and size. Files with a georeference may have other sizes.
            pixel_size: metres per pixel; None: as the georeference of the files has it, else that of the network.

        Pixels that are no data in a file have the probability 0. What makes a map doubtful is logged once.

        Raises:
            FileNotFoundError: a file does not exist.
            UserError: other types, different shapes, a pixel size that is none, or a window too large for memory.
        """
        if pixel_size is not None and not 0 < pixel_size < math.inf:
            raise UserError(f"pixel_size {pixel_size}: must be metres per pixel, above 0")
        known, own = None, None
        if isinstance(before, str | Path) and isinstance(after, str | Path):
            before, after, known, own = self._from_files(Path(before), Path(after), pixel_size)
        else:
            self._warn(size_remarks(None, self.about.get("pixel_size"), None, pixel_size))
        first, second = _as_array(before), _as_array(after)
        if not first.dtype == second.dtype == np.uint8 or not first.shape == second.shape == (
            *first.shape[:2], self.channels,
        ):  # fmt: skip
            found = " and ".join(f"{x.dtype} {x.shape}" for x in (first, second))
            raise UserError(f"before and after must be uint8 (height, width, {self.channels}), both alike; got {found}")
        check = ImageCheck(self.seen)
        check.see((first, second))
        self._warn(check.remarks())
        height, width = first.shape[:2]
        cover = self.cover(height, width, pixel_size or own)
        blender, result = Blender(cover), np.empty(cover.size, np.float32)
        step = self.batch_for(cover.seen)
        for start in range(0, len(cover.windows), step):
            windows = cover.windows[start : start + step]
            batch = self.collate([cover.to_network((first[w.slices], second[w.slices])) for w in windows])
            for window, probability in zip(windows, self.probability(*batch).cpu().numpy(), strict=True):
                for top, rows in blender.add(window, cover.from_network(probability)):
                    result[top : top + len(rows)] = rows
        return result if known is None else np.where(known, result, np.float32(0))

    def _from_files(
        self, before: Path, after: Path, given: float | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float | None]:
        """Read both dates, where both are known (None: everywhere), and metres per pixel (None: unknown)."""
        pair = Pair(before.stem, before, after)
        with OpenPair(pair, reading_from(self.about.get("reading"))) as opened:
            own, later = metres_a_pixel(opened.grid), metres_a_pixel(opened.after.grid)
            whole = Window(0, 0, *opened.size)
            dates, known = opened.read(whole), opened.known(whole)
        remarks = [*size_remarks(own, self.about.get("pixel_size"), later, given), later_first(pair)]
        self._warn([*filter(None, remarks), *[NO_DATA] * (known is not None and not known.any())])
        return *dates, known, own

    def _warn(self, remarks: Iterable[str]) -> None:
        """Log what makes a map doubtful, each kind once."""
        for remark in remarks:
            if (kind := remark.partition(": ")[0]) not in self._told:
                self._told.add(kind)
                log.warning("%s", remark)

    def mask(self, before: Image, after: Image, pixel_size: float | None = None) -> np.ndarray:
        """Return where the probability exceeds the threshold, bool (H, W); arguments as of a call."""
        return self(before, after, pixel_size) > self.threshold


def _as_array(image: Any) -> np.ndarray:
    """The pixels of a PIL image, upright and RGB; arrays stay.

    Raises:
        UserError: another type, or a PIL image of more than 8 bits.
    """
    if isinstance(image, PIL.Image.Image):
        if image.mode.startswith(("I", "F")):
            raise UserError(f"a PIL image of mode {image.mode} has more than 8 bits; pass the file, or a uint8 array")
        return np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise UserError(f"before and after must be two files, two PIL images or two arrays; got {type(image).__name__}")
    return image
