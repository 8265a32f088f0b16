"""Drawn aerial scenes at two dates, with the buildings that changed: what the detector learns from.

A scene is planned once and drawn twice. Each date has its own sun, season, cars and camera, so most pixels that
differ are not a changed building, and a network has to learn what a building looks like.
"""

import io
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

from datasets.scene_drawing import render
from datasets.scene_parts import SCALE
from datasets.scene_plan import plan_scene
from utils.console import UserError

PIXEL_SIZES = (0.05, 10)  # metres, from the smallest to the largest that can be drawn
MARK = "a drawn scene, no photograph"  # in the comment of every file


def draw_scene(
    seed: int | Sequence[int], size: int = 256, town: bool = False, pixel_size: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one scene at two dates; the same seed draws the same bytes.

    Args:
        seed: of everything random.
        size: side of the images in pixels.
        town: draw streets of houses at 0.4 m a pixel, about a tenth of which is changed, by cameras that differ
            little. Other scenes hold any land at 0.3 to 1 m, most of them little change or none, as real images do.
        pixel_size: metres per pixel, of PIXEL_SIZES; None: as above.

    Returns:
        before, after: uint8 (size, size, 3) RGB; after is shifted by up to two pixels.
        mask: uint8 (size, size), 255 on the roofs of buildings that appeared or vanished, as the date shows
            them at which they stand, else 0.

    Raises:
        UserError: the pixel size is out of range.
    """
    if pixel_size is not None and not PIXEL_SIZES[0] <= pixel_size <= PIXEL_SIZES[1]:
        raise UserError("a drawn scene has {:g} to {:g} m a pixel, not {}".format(*PIXEL_SIZES, pixel_size))
    rng = np.random.default_rng(seed)
    plan = plan_scene(rng, size, town, 0.5 / pixel_size if pixel_size else None)
    images, mask = [], np.zeros((size, size), bool)
    for date in (0, 1):
        turn, reach = rng.uniform(0, math.tau), rng.uniform(0, 1.5 * SCALE)
        corner = [(SCALE * ((plan.size - size) // 2)) + int(reach * way) for way in (math.cos(turn), math.sin(turn))]
        window = tuple(slice(c, c + size * SCALE) for c in corner)
        colour, changed = render(plan, date, rng)
        images.append(photograph(colour[window], size, rng, 0.3 if town else 1.0))
        mask |= changed[window].reshape(size, SCALE, size, SCALE).mean((1, 3)) >= 0.5
    return images[0], images[1], np.uint8(255) * mask


def photograph(scene: np.ndarray, size: int, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """What one date's camera makes of the rendered scene (2 size, 2 size, 3): uint8 (size, size, 3).

    Exposure, colours, contrast, haze, blur or sharpening, noise and compression differ between dates; `spread`, 0 to 1,
    says by how much.
    """
    image: Any = sum(scene[i::SCALE, j::SCALE] for i in range(SCALE) for j in range(SCALE))
    gains = np.float32(rng.uniform(0.94, 1.06, 3) * math.exp(spread * rng.uniform(-0.4, 0.3)))
    image = np.clip(image * (gains / (255 * SCALE**2)), 0, 1)
    grey = image.mean(2, keepdims=True)
    image = np.clip(grey + np.float32(1 + spread * rng.uniform(-0.55, 0.2)) * (image - grey), 0, 1)
    image **= np.float32(math.exp(spread * rng.uniform(-0.3, 0.3)))
    middle = image.mean()
    image = middle + np.float32(1 + spread * rng.uniform(-0.2, 0.35)) * (image - middle)
    image += np.float32(max(0, spread * rng.uniform(-0.1, 0.16))) * (np.array((0.72, 0.76, 0.8), np.float32) - image)
    picture = Image.fromarray(np.uint8(np.clip(image * 255, 0, 255)))
    picture = picture.filter(ImageFilter.GaussianBlur(spread * (rng.uniform(0.1, 0.7) + 0.7 * (rng.random() < 0.25))))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.UnsharpMask(rng.uniform(0.8, 1.6), int(rng.integers(50, 250)), 0))
    pixels = np.asarray(picture) + rng.standard_normal((size, size, 1), np.float32) * np.float32(rng.uniform(1, 5))
    picture = Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))
    if rng.random() < 0.4:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(40, 95)))
        picture = Image.open(file)
    return np.asarray(picture)


def write_scenes(root: Path, counts: Mapping[str, int], size: int = 256, seed: int = 0, town: bool = False) -> None:
    """Write counts[SPLIT] scenes as root/SPLIT/{A,B,label}/scene_0000.png and on.

    Every scene has a seed of its own, which does not depend on the other splits. A split is drawn
    under a temporary name and renamed when complete.

    Raises:
        FileExistsError: a split's folder is already there; nothing has been drawn then.
    """
    for folder in (Path(root) / split for split in counts):
        if folder.exists():
            raise FileExistsError(f"{folder} already exists: delete it, or draw to another folder")
    about = PngInfo()
    about.add_text("Comment", MARK)
    for split, count in counts.items():
        partial = Path(root) / f".{split}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
        for name in ("A", "B", "label"):
            (partial / name).mkdir(parents=True)
        try:
            for index in range(count):
                images = draw_scene([seed, index, *split.encode()], size, town)
                for name, image in zip(("A", "B", "label"), images, strict=True):
                    Image.fromarray(image).save(partial / name / f"scene_{index:04d}.png", pnginfo=about)
            partial.rename(Path(root) / split)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def is_drawn(path: Path) -> bool:
    """Return True if `write_scenes` wrote this file."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(256)  # the comment follows the header
    except OSError:  # whoever reads the image says so
        return False
