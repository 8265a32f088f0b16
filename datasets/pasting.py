"""Changes of one pair pasted into another: a few changed places serve against every background.

After Self-Pair (Seo et al., WACV 2023), which makes changes by pasting objects, and copy-paste (Ghiasi et al., CVPR
2021). Here what is pasted is a changed place of the training set, into one date or into both.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

KEPT = 0.7  # share of a donor's changed places that are pasted
MARGIN = 4  # pixels around a place that come with it, at most
SHARES = {"appears": 0.4, "changes": 0.3, "stays": 0.3}  # how often what is pasted does which
Sample = tuple[Tensor, Tensor, Tensor]


def paste_changes(sample: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """Paste some of a donor's changed places where they lie.

    What is pasted either appears (its later look, in `after` alone), changes (its two looks, in their dates), or
    stays (its later look in both dates, which is no change: an object is not a change). It takes on the brightness of
    the image around it. A set whose changes are mostly things that vanish should not use this.

    Args:
        sample: before and after, uint8 (C, H, W), and mask, uint8 (H, W); not altered.
        donor: another, of the same size.
        rng: draws the places and what becomes of them.

    Returns:
        A sample; the mask of what is pasted is 1 or, where it stays, 0, and of the margin around it unaltered.
    """
    places, count = ndimage.label(donor[2].numpy() == 1)
    chosen = 1 + np.flatnonzero(rng.random(count) < KEPT)
    reach, what = int(rng.integers(MARGIN + 1)), str(rng.choice(list(SHARES), p=list(SHARES.values())))
    core = np.isin(places, chosen) if len(chosen) else np.zeros(places.shape, bool)
    if not core.any():
        return sample
    before, after, mask = sample
    weight = _soft(core, reach)
    pasted = _blended(after, donor[1], weight)
    if what != "appears":
        before = _blended(before, donor[1 if what == "stays" else 0], weight)
    value = 0 if what == "stays" else 1
    return before, pasted, mask.masked_fill(torch.from_numpy(core), value)


def _soft(core: np.ndarray, reach: int) -> Tensor:
    """1 on the core and `reach` pixels around it, then falling to 0 over two pixels; float32 (H, W)."""
    region = ndimage.binary_dilation(core, iterations=reach) if reach else core
    return torch.from_numpy(np.maximum(ndimage.uniform_filter(region.astype(np.float32), 3), region & core))


def _blended(image: Tensor, donor: Tensor, weight: Tensor) -> Tensor:
    """The donor over the image by weight, as bright as the image."""
    ground, patch = image.float(), donor.float()
    gain = (ground.mean() / patch.mean().clamp(min=1)).clamp(0.5, 2)
    return torch.lerp(ground, patch * gain, weight).round_().clamp_(0, 255).to(torch.uint8)
