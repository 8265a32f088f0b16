"""Holds out a share of the training pairs for validation, so that the epoch is chosen on pairs not trained on."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.pairs import Pair
from utils.console import UserError

log = logging.getLogger(__name__)
TILE = re.compile(r"(.+)_(\d{4,})_(\d{4,})")  # NAME_ROW_COL of tools/prepare_tiles.py: test_2_0256_0512


def hold_out(
    pairs: Sequence[Pair], changed: Sequence[int], seed: int, share: float = 0.1
) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into (training, validation) by a seed; of tiles, which may overlap within a scene, whole scenes.

    Tiles are recognised by names with row and column; pairs that share an image are of one scene, too. If all come from
    one scene, if change is in one scene only, or without scenes, the same share of pairs with and without change is
    held out. The share is as near as whole scenes allow; at least one pair has change, so that F1 is defined.

    Raises:
        UserError: fewer than two pairs have any change.
    """
    rng = np.random.default_rng(seed)
    if np.count_nonzero(changed) < 2:
        raise UserError("there is no val split, and none to hold out: fewer than two training pairs have any change")
    scenes = _scenes(pairs)
    with_change = {scene for scene, pixels in zip(scenes, changed, strict=True) if pixels}
    if len(with_change) > 1 and len(set(scenes)) < len(pairs):
        sizes = Counter(scenes)
        held = _choose_scenes(sizes, with_change, share * len(pairs), rng)
        chosen = {i for i, scene in enumerate(scenes) if scene in held}
        what = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
        log.info("held out: all tiles of %d of %d scenes (%s)", len(held), len(sizes), what)
    else:
        chosen = set()
        for group, least in ((np.flatnonzero(changed), 1), (np.flatnonzero(np.equal(changed, 0)), 0)):
            chosen |= set(rng.permutation(group)[: max(least, round(share * len(group)))].tolist())
    return [p for i, p in enumerate(pairs) if i not in chosen], [p for i, p in enumerate(pairs) if i in chosen]


def _scenes(pairs: Sequence[Pair]) -> list[str]:
    """Return the scene of each pair: of its tile, or of the first pair that shares an image with it, or its name."""
    scenes = {pair.name: match[1] if (match := TILE.fullmatch(pair.name)) else pair.name for pair in pairs}
    joined: dict[str, str] = {}  # a scene to one that it is a part of

    def whole(scene: str) -> str:
        while scene in joined:
            scene = joined[scene]
        return scene

    owner: dict[Path, str] = {}
    for pair in pairs:
        for image in (pair.before, pair.after):
            mine, other = whole(scenes[pair.name]), whole(owner.setdefault(image, scenes[pair.name]))
            if mine != other:
                joined[mine] = other
    return [whole(scenes[pair.name]) for pair in pairs]


def _choose_scenes(
    sizes: Mapping[str, int], with_change: set[str], wanted: float, rng: np.random.Generator
) -> list[str]:
    """Choose scenes in a random order, each if it brings the number of their tiles nearer to `wanted`.

    One scene with change is always chosen, the smallest if all are too large, and one always left to train on.
    """
    drawn = [str(scene) for scene in rng.permutation(list(sizes))]
    changing = [scene for scene in drawn if scene in with_change]
    first = next((s for s in changing if sizes[s] < 2 * wanted), min(changing, key=lambda s: sizes[s]))
    stays = next(scene for scene in changing if scene != first)
    held, tiles = [first], sizes[first]
    for scene in drawn:
        if scene not in (first, stays) and abs(tiles + sizes[scene] - wanted) < abs(tiles - wanted):
            held.append(scene)
            tiles += sizes[scene]
    return held


def _corners(pairs: Sequence[Pair]) -> dict[str, list[tuple[int, int]]]:
    """Return the (row, column) of the tiles of each scene, by their names."""
    corners = defaultdict(list)
    for match in filter(None, (TILE.fullmatch(pair.name) for pair in pairs)):
        corners[match[1]].append((int(match[2]), int(match[3])))
    return corners


def count_overlapping(train: Sequence[Pair], val: Sequence[Pair], size: tuple[int, int]) -> int:
    """Count validation tiles of (height, width) that share pixels with a training tile, by their names."""
    others = {scene: np.array(places) for scene, places in _corners(train).items()}
    places = [(others[scene], place) for scene, found in _corners(val).items() if scene in others for place in found]
    return sum(bool((abs(tiles - place) < size).all(1).any()) for tiles, place in places)


def warn_of_overlap(train: Sequence[Pair], val: Sequence[Pair], size: tuple[int, int]) -> None:
    """Warn if validation tiles share pixels with training tiles; arguments as `count_overlapping`."""
    shared = count_overlapping(train, val, size)
    if shared:
        log.warning(
            "%d held-out tiles share pixels with training tiles: their scores flatter, and the last epochs most; cut "
            "tiles with --overlap 0 and --edge pad or drop, or make a val split of another scene",
            shared,
        )
