"""Changes remixed: a few changed places serve against every background, and as places that did not change.

What few pairs teach badly is what is no change: a house in both images, seen in another light. So changes are pasted
into other pairs, as in Self-Pair (Seo et al., WACV 2023) and copy-paste (Ghiasi et al., CVPR 2021), and they are undone
where they are, by giving both dates the later look. It suits sets whose changes are mostly things that appear.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

KEPT, UNDONE = 0.7, 0.5  # shares of a pair's places that are pasted elsewhere, or undone
MARGIN, SHIFT = 4, 2  # pixels around a place that come with it, and by which two looks of one thing differ, at most
BACKGROUNDS = {"still": 0.2, "undone": 0.4, "as it is": 0.4}  # what becomes of the pair that is pasted into
PASTED = {"appears": 0.4, "changes": 0.3, "stays": 0.3}  # what a pasted place does there
Sample = tuple[Tensor, Tensor, Tensor]


def remix(sample: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """Make a pair of two: one, perhaps without some of its changes or all, into which the other's are pasted.

    Args:
        sample: before and after, uint8 (C, H, W), and mask, uint8 (H, W) of 0, 1 and 255; not altered.
        donor: another of the same size, with changes; half of the time it is pasted into.
        rng: of all draws.
    """
    if rng.random() < 0.5:
        sample, donor = donor, sample
    background = str(rng.choice(list(BACKGROUNDS), p=list(BACKGROUNDS.values())))
    if background == "still":
        sample = stand_still(sample, rng)
    elif background == "undone":
        sample = undo_changes(sample, rng)
    return paste_changes(sample, donor, rng)


def stand_still(sample: Sample, rng: np.random.Generator) -> Sample:
    """One date's image in both, a pixel or two apart: nothing changed, whatever was there."""
    before, after, mask = sample
    image = before if rng.random() < 0.5 else after
    return _shifted(image, rng), image, mask.masked_fill(mask == 1, 0)


def undo_changes(sample: Sample, rng: np.random.Generator) -> Sample:
    """Half of the changed places get their later look in both dates: they were there all the time."""
    before, after, mask = sample
    core = _chosen(mask, UNDONE, rng)
    weight = _soft(core, int(rng.integers(MARGIN + 1)))
    return _blended(before, _shifted(after, rng), weight), after, mask.masked_fill(torch.from_numpy(core), 0)


def paste_changes(sample: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """Paste some of a donor's changed places, where they lie and as bright as what is around them.

    They appear (their later look, in `after` alone), change (their two looks, in their dates), or stay (their later
    look in both dates, which is no change). The mask of what is pasted is 1 or, where it stays, 0; that of the margin
    around it is unaltered.
    """
    before, after, mask = sample
    core, what = _chosen(donor[2], KEPT, rng), str(rng.choice(list(PASTED), p=list(PASTED.values())))
    weight = _soft(core, int(rng.integers(MARGIN + 1)))
    if what != "appears":
        before = _blended(before, _shifted(donor[1], rng) if what == "stays" else donor[0], weight)
    value = 0 if what == "stays" else 1
    return before, _blended(after, donor[1], weight), mask.masked_fill(torch.from_numpy(core), value)


def _chosen(mask: Tensor, share: float, rng: np.random.Generator) -> np.ndarray:
    """Each changed place, whole, with a probability; bool (H, W)."""
    places, count = ndimage.label(mask.numpy() == 1)
    return np.append(False, rng.random(count) < share)[places]


def _shifted(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Moved by up to SHIFT pixels; what leaves on one side comes in on the other."""
    down, right = (int(n) for n in rng.integers(-SHIFT, SHIFT + 1, 2))
    return image.roll((down, right), (1, 2))


def _soft(core: np.ndarray, reach: int) -> Tensor:
    """1 on the core and `reach` pixels around it, then falling to 0 over two pixels; float32 (H, W)."""
    region = ndimage.binary_dilation(core, iterations=reach) if reach else core
    return torch.from_numpy(np.maximum(ndimage.uniform_filter(region.astype(np.float32), 3), region))


def _blended(image: Tensor, donor: Tensor, weight: Tensor) -> Tensor:
    """The donor over the image by weight, as bright as the image."""
    ground, patch = image.float(), donor.float()
    gain = (ground.mean() / patch.mean().clamp(min=1)).clamp(0.5, 2)
    return torch.lerp(ground, patch * gain, weight).round_().clamp_(0, 255).to(torch.uint8)
