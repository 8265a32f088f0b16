"""How the values of files become pixels and masks: bands, value ranges and label codes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from utils.console import UserError

IGNORE = 255  # in a mask: neither loss nor scores count this pixel
COUNTED = ("uint8", "uint16", "int16")  # types whose values are counted one by one, for percentiles
COLOUR = 2**24  # codes from here on are colours, COLOUR + 0xRRGGBB; grey colours have their level as code


@dataclass(frozen=True)
class PixelFormat:
    """How a run, and later its checkpoint, reads images and labels.

    A label code is a number (of a palette: its index) or a colour "#rrggbb".
    """

    bands: tuple[int, ...] = ()  # of an image, counted from 1, its channels; none: grey or RGB as three channels
    limits: tuple[tuple[float, float], ...] = ()  # for each band, what becomes 0 and 255; none: values stay
    change_value: int | str | None = None  # label code that means changed
    ignore_value: int | str | None = None  # label code that means unknown
    change_from: int | None = None  # in place of a change value, the least grey level that means changed
    named: bool = False  # the user named the code of changed pixels; else it was found in the labels

    @property
    def channels(self) -> int:
        """Channels of an image in this format."""
        return len(self.bands) or 3

    @property
    def decided(self) -> bool:
        """True if the label codes of changed pixels are known."""
        return self.change_value is not None or self.change_from is not None

    @property
    def by_index(self) -> bool:
        """True if the codes of a palette are its indices: the user named numbers and no colour."""
        given = (self.ignore_value, self.change_value if self.named else None)
        return any(isinstance(code, int) for code in given) and not any(isinstance(code, str) for code in given)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Scale the bands, any type (..., channels), to uint8, linearly between the limits; NaN becomes 0."""
        if not self.limits:
            return values
        low, high = np.array(self.limits, np.float32).T
        levels = (values.astype(np.float32) - low) * (255 / (high - low))
        return np.nan_to_num(levels.round()).clip(0, 255).astype(np.uint8)

    def mask(self, codes: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
        """Convert label codes, integers, to a mask, uint8: 0 unchanged, 1 changed, IGNORE also where not `known`.

        Raises:
            UserError: the codes of changed pixels are not decided.
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
        if known is not None:
            mask[~known] = IGNORE
        return mask

    def as_plain(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return asdict(self)


PLAIN = PixelFormat()
MASKS = PixelFormat(change_value=255)  # of the masks that this project writes


def reading_from(content: Mapping[str, Any] | None) -> PixelFormat:
    """Return the format that a checkpoint holds; 8-bit RGB if it holds none."""
    values = dict(content or {})
    values["bands"] = tuple(values.get("bands", ()))
    values["limits"] = tuple(tuple(pair) for pair in values.get("limits", ()))
    values.setdefault("named", values.get("change_value") is not None)  # older checkpoints have no such key
    return PixelFormat(**values)


def labels_of(config: Any, reading: PixelFormat = PLAIN) -> PixelFormat:
    """Replace the label codes that a `DataConfig` names; a change value and a least level replace each other."""
    if config.change_value is not None or config.change_from is not None:
        reading = replace(reading, change_value=config.change_value, change_from=config.change_from, named=True)
    return reading if config.ignore_value is None else replace(reading, ignore_value=config.ignore_value)


def scale_advice(kind: str) -> str:
    """Return what to pass for values of a type; percentiles are measured on types of COUNTED alone."""
    percentile = " or --scale percentile" if kind in COUNTED else ""
    return f"pass --scale NUMBER (the value that becomes 255){percentile}"


def code_of(value: int | str) -> int:
    """Return the code of a number or a colour "#rrggbb"."""
    if isinstance(value, int):
        return value
    number = int(value.removeprefix("#"), 16)
    grey = number & 255
    return grey if number == grey * 0x010101 else COLOUR + number


def code_name(code: int) -> str:
    """Return a label code as a flag takes it: 255, or #ff0000."""
    return f"#{code - COLOUR:06x}" if code >= COLOUR else str(code)


def possible_nodata(value: float | None, kind: str) -> float | None:
    """Return a nodata value; None if no pixel of this type can have it."""
    if value is None or not np.issubdtype(np.dtype(kind), np.integer):
        return value
    limits = np.iinfo(kind)
    return value if limits.min <= value <= limits.max and value == int(value) else None


def has_data(bands: np.ndarray, nodata: Sequence[float | None]) -> np.ndarray:
    """Return where bands (bands, h, w) hold data by their nodata values, bool (h, w); NaN is found elsewhere.

    A pixel lacks data if any band does; with 8-bit values or a nodata value of 0 only if all bands do, since dark or
    bright pixels have such values in single bands.
    """
    data = [
        np.ones(band.shape, bool) if value is None or np.isnan(value) else band != np.asarray(value).astype(band.dtype)
        for band, value in zip(bands, nodata, strict=True)
    ]
    either = np.any if bands.dtype == np.uint8 or not any(nodata) else np.all
    return np.asarray(either(data, axis=0))


def _channels(number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split 0xRRGGBB into red, green and blue."""
    return number >> 16 & 255, number >> 8 & 255, number & 255


def colour_codes(rgb: np.ndarray) -> np.ndarray:
    """Return the codes of a label's colours, uint8 (h, w, 3) -> (h, w): uint8 if all are grey, else int64."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    grey = (red == green) & (green == blue)
    if grey.all():
        return red
    return np.where(grey, red, COLOUR + (red.astype(np.int64) << 16) + (green.astype(np.int64) << 8) + blue)


def label_pixels(codes: np.ndarray, deep: bool = False) -> np.ndarray:
    """Return pixels of these codes: grey (h, w), uint8 unless `deep`, or colours, uint8 (h, w, 3)."""
    if deep or codes.dtype == np.uint8:
        return codes
    if (codes < COLOUR).all():
        return codes.astype(np.uint8)
    number = np.where(codes >= COLOUR, codes - COLOUR, codes * 0x010101)
    return np.stack(_channels(number), -1).astype(np.uint8)


def luminance(codes: np.ndarray) -> np.ndarray:
    """Return the grey levels of label codes: of colours by ITU-R BT.601, of others the code."""
    colours = codes >= COLOUR
    if codes.dtype == np.uint8 or not colours.any():
        return codes
    red, green, blue = _channels(codes - COLOUR)
    return np.where(colours, (299 * red + 587 * green + 114 * blue) // 1000, codes)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W, channels) as (H, W, 3) for display: the first three channels, or the first repeated."""
    return image[..., :3] if image.shape[-1] > 2 else image[..., :1].repeat(3, axis=-1)
