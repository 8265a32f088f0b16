"""How files become the pixels and masks all else works on: bands, depth and label codes; arithmetic only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

IGNORE = 255  # in a mask: neither loss nor scores count this pixel


@dataclass(frozen=True)
class Reading:
    """The one way in which a run, and later its checkpoint, reads images and labels.

    Attributes:
        bands: bands of an image, counted from 1, that become its channels; none: grey or RGB as three channels.
        limits: for each band the values that become 0 and 255; none: values stay as they are.
        change_value: the label value, or palette index, that means changed; None: the rule of `mask`.
        ignore_value: the label value that means unknown; None: there is none.
    """

    bands: tuple[int, ...] = ()
    limits: tuple[tuple[float, float], ...] = ()
    change_value: int | None = None
    ignore_value: int | None = None

    @property
    def channels(self) -> int:
        """Channels of an image read in this way."""
        return len(self.bands) or 3

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values of the bands, any type (..., channels) -> uint8, linear between the limits; no number becomes 0."""
        if not self.limits:
            return values
        low, high = np.array(self.limits, np.float32).T
        levels = (values.astype(np.float32) - low) * (255 / (high - low))
        return np.nan_to_num(levels.round()).clip(0, 255).astype(np.uint8)

    def mask(self, values: np.ndarray) -> np.ndarray:
        """Label values, uint8 -> mask of 0 unchanged, 1 changed and IGNORE, uint8.

        Without a change value: where no value (but the ignored one) exceeds 1, changed is > 0; otherwise it is
        >= 128, which also serves 0/255, grey edges and the noise of JPEG.
        """
        ignored = None if self.ignore_value is None else values == self.ignore_value
        known = values if ignored is None else np.where(ignored, 0, values)
        if self.change_value is not None:
            changed = known == self.change_value
        else:
            changed = known > (0 if known.max(initial=0) <= 1 else 127)
        mask = changed.astype(np.uint8)
        if ignored is not None:
            mask[ignored] = IGNORE
        return mask

    def as_plain(self) -> dict[str, Any]:
        """As primitives, for a checkpoint."""
        return asdict(self)


def reading_from(content: Mapping[str, Any] | None) -> Reading:
    """The reading a checkpoint holds; of one that holds none, 8-bit RGB."""
    values = dict(content or {})
    values["bands"] = tuple(values.get("bands", ()))
    values["limits"] = tuple(tuple(pair) for pair in values.get("limits", ()))
    return Reading(**values)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, channels) -> (H, W, 3) to be looked at: the first three channels, or the first one three times."""
    return image[..., :3] if image.shape[-1] > 2 else image[..., :1].repeat(3, axis=-1)
