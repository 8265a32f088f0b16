"""How files become pixels and masks: bands, depth and label codes. Arithmetic only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from utils.console import UserError

IGNORE = 255  # in a mask: neither loss nor scores count this pixel
COLOUR = 2**24  # codes from here on are colours, COLOUR + 0xRRGGBB; grey colours have their level as code


@dataclass(frozen=True)
class Reading:
    """How a run, and later its checkpoint, reads images and labels.

    Attributes:
        bands: bands of an image, counted from 1, that become its channels; none: grey or RGB as three channels.
        limits: for each band the values that become 0 and 255; none: values stay as they are.
        change_value: the label code that means changed, a number (of a palette: its index) or a colour "#rrggbb".
        ignore_value: the label code that means unknown, given alike.
        change_from: in place of a change value, the least grey level that means changed.
        named: whether the user named the code of changed pixels; otherwise it was found in the labels.
    """

    bands: tuple[int, ...] = ()
    limits: tuple[tuple[float, float], ...] = ()
    change_value: int | str | None = None
    ignore_value: int | str | None = None
    change_from: int | None = None
    named: bool = False

    @property
    def channels(self) -> int:
        """Channels of an image read in this way."""
        return len(self.bands) or 3

    @property
    def decided(self) -> bool:
        """True if the label codes of changed pixels are known."""
        return self.change_value is not None or self.change_from is not None

    @property
    def by_index(self) -> bool:
        """Whether the codes of a palette are its indices: the user named numbers, and no colour."""
        given = (self.ignore_value, self.change_value if self.named else None)
        return any(isinstance(code, int) for code in given) and not any(isinstance(code, str) for code in given)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values of the bands, any type (..., channels) -> uint8, linear between the limits; NaN becomes 0."""
        if not self.limits:
            return values
        low, high = np.array(self.limits, np.float32).T
        levels = (values.astype(np.float32) - low) * (255 / (high - low))
        return np.nan_to_num(levels.round()).clip(0, 255).astype(np.uint8)

    def mask(self, codes: np.ndarray) -> np.ndarray:
        """Label codes, integers -> mask of 0 unchanged, 1 changed and IGNORE, uint8.

        Raises:
            UserError: it is not decided which codes mean changed.
        """
        if self.change_from is not None:
            changed = luminance(codes) >= self.change_from
        elif self.change_value is not None:
            changed = codes == code_of(self.change_value)
        else:
            raise UserError("the label code of changed pixels is not decided: pass change_value or change_from")
        mask = changed.astype(np.uint8)
        if self.ignore_value is not None:
            mask[codes == code_of(self.ignore_value)] = IGNORE
        return mask

    def as_plain(self) -> dict[str, Any]:
        """As primitives, for a checkpoint."""
        return asdict(self)


MASKS = Reading(change_value=255)  # of the masks that this project writes


def reading_from(content: Mapping[str, Any] | None) -> Reading:
    """The reading a checkpoint holds; of one that holds none, 8-bit RGB."""
    values = dict(content or {})
    values["bands"] = tuple(values.get("bands", ()))
    values["limits"] = tuple(tuple(pair) for pair in values.get("limits", ()))
    values.setdefault("named", values.get("change_value") is not None)  # as checkpoints had it that do not say
    return Reading(**values)


def with_codes(
    reading: Reading, change_value: int | str | None, ignore_value: int | str | None, change_from: int | None
) -> Reading:
    """The same reading with the label codes that are given; a change value and a least level replace each other."""
    if change_value is not None or change_from is not None:
        reading = replace(reading, change_value=change_value, change_from=change_from, named=True)
    return reading if ignore_value is None else replace(reading, ignore_value=ignore_value)


def labels_of(config: Any) -> Reading:
    """How labels are read, as far as the flags of a `DataConfig` name their codes."""
    return with_codes(Reading(), config.change_value, config.ignore_value, config.change_from)


def code_of(value: int | str) -> int:
    """A number as it is, a colour "#rrggbb" as its code."""
    if isinstance(value, int):
        return value
    number = int(value.removeprefix("#"), 16)
    grey = number & 255
    return grey if number == grey * 0x010101 else COLOUR + number


def code_name(code: int) -> str:
    """A label code as a flag takes it: 255, or #ff0000."""
    return f"#{code - COLOUR:06x}" if code >= COLOUR else str(code)


def colour_codes(rgb: np.ndarray) -> np.ndarray:
    """Codes of the colours of a label, uint8 (h, w, 3) -> (h, w): uint8 where all are grey, else int64."""
    red, green, blue = (rgb[..., channel] for channel in range(3))
    grey = (red == green) & (green == blue)
    if grey.all():
        return red
    number = (red.astype(np.int64) << 16) + (green.astype(np.int64) << 8) + blue
    return np.where(grey, red, COLOUR + number)


def label_pixels(codes: np.ndarray, deep: bool = False) -> np.ndarray:
    """The pixels that have these codes: grey (h, w), uint8 unless they are deep, or colours, uint8 (h, w, 3)."""
    if deep or codes.dtype == np.uint8:
        return codes
    if (codes < COLOUR).all():
        return codes.astype(np.uint8)
    number = np.where(codes >= COLOUR, codes - COLOUR, codes * 0x010101)
    return np.stack([number >> 16 & 255, number >> 8 & 255, number & 255], -1).astype(np.uint8)


def luminance(codes: np.ndarray) -> np.ndarray:
    """Grey levels of label codes: colours by ITU-R BT.601, all others as they are."""
    colours = codes >= COLOUR
    if codes.dtype == np.uint8 or not colours.any():
        return codes
    number = codes - COLOUR
    red, green, blue = number >> 16 & 255, number >> 8 & 255, number & 255
    return np.where(colours, (299 * red + 587 * green + 114 * blue) // 1000, codes)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, channels) -> (H, W, 3) to be looked at: the first three channels, or the first one three times."""
    return image[..., :3] if image.shape[-1] > 2 else image[..., :1].repeat(3, axis=-1)
