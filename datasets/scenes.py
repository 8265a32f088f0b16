"""Drawn aerial scenes at two dates, with the buildings that changed: the demo's data.

A scene is planned once and drawn twice. Each date has its own sun, season, cars and camera, so most pixels that
differ are not a changed building, and a network has to learn what a building looks like.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from datasets.scene_drawing import photograph, render
from datasets.scene_plan import PAD, SCALE, footprints, plan_scene

MARK = "a drawn scene, no photograph"  # in the comment of every file


def draw_scene(seed: int | Sequence[int], size: int = 256) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws one scene at two dates; the same seed draws the same bytes.

    Returns:
        before, after: uint8 (size, size, 3) RGB; after is shifted by up to two pixels.
        mask: uint8 (size, size), 255 on the footprints of buildings that appeared or vanished, on
            the grid of before, else 0.
    """
    rng = np.random.default_rng(seed)
    plan = plan_scene(rng, size)
    changed = [b for b in plan.buildings if b.dates[0] != b.dates[1]]
    mask = np.uint8(255) * footprints(changed, plan.n)[PAD:-PAD, PAD:-PAD]
    turn, reach = rng.uniform(0, math.tau), rng.uniform(0, 2 * SCALE)
    shift = int(reach * math.cos(turn)), int(reach * math.sin(turn))
    before = photograph(render(plan, 0, rng), (0, 0), size, rng)
    after = photograph(render(plan, 1, rng), shift, size, rng)
    return before, after, mask


def write_scenes(root: Path, counts: Mapping[str, int], size: int = 256, seed: int = 0) -> None:
    """Writes counts[SPLIT] scenes as root/SPLIT/{A,B,label}/scene_0000.png and on.

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
                images = draw_scene([seed, index, *split.encode()], size)
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
