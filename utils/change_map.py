"""Change maps, error maps and overlays in RGB, and the legend of their colours."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
NOT_COUNTED: Colour = (128, 128, 128)  # of an error map, where the truth is unknown
OVERLAY: Colour = (255, 0, 255)  # of changed pixels on an image: in no palette, and rare in aerial images


@dataclass(frozen=True)
class Palette:
    """Colours of an error map."""

    found: Colour  # true positive
    unchanged: Colour  # true negative
    false_alarm: Colour  # false positive
    missed: Colour  # false negative

    def legend(self) -> dict[str, Colour]:
        """Meaning -> colour."""
        words = {"found": self.found, "rightly unchanged": self.unchanged, "false alarm": self.false_alarm}
        return {**words, "missed": self.missed, "not counted": NOT_COUNTED}


PALETTES = {
    "amfnet": Palette((255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0)),  # AMFNet's comparison figures
    "hanet": Palette((255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 255)),  # HANet Fig. 6; its caption says blue
    "open-cd": Palette((0, 255, 0), (0, 0, 0), (255, 255, 0), (255, 0, 0)),  # red is missed there
    "colour-blind": Palette((255, 255, 255), (0, 0, 0), (213, 94, 0), (86, 180, 233)),  # Okabe and Ito's orange, blue
}

EARLY_TO_LATE = ((70, 110, 255), (225, 60, 200), (255, 130, 50), (255, 240, 70))  # blue, magenta, orange, yellow


def date_colours(count: int) -> list[Colour]:
    """Return a colour for each of `count` later dates of a series, from blue to yellow."""
    places = np.linspace(0, len(EARLY_TO_LATE) - 1, count)
    bands = [np.interp(places, range(len(EARLY_TO_LATE)), band).round() for band in zip(*EARLY_TO_LATE, strict=True)]
    return [(int(red), int(green), int(blue)) for red, green, blue in zip(*bands, strict=True)]


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of an image whose longer side becomes `side` pixels."""
    width, height = (max(1, round(length * side / max(size))) for length in size)
    return width, height


def change_map(changed: np.ndarray) -> np.ndarray:
    """Bool (H, W) -> uint8 (H, W): 255 where changed, else 0."""
    return changed.astype(np.uint8) * 255


def error_map(changed: np.ndarray, mask: np.ndarray, palette: Palette = PALETTES["amfnet"]) -> np.ndarray:
    """The errors of a prediction, bool (H, W), as uint8 RGB (H, W, 3).

    `mask`, (H, W), is the truth: 0 and 1. Other values are not counted and become grey.
    """
    # by 2 * truth + prediction, the last for what is not counted
    colours = (palette.unchanged, palette.false_alarm, palette.missed, palette.found, NOT_COUNTED)
    return np.array(colours, np.uint8)[np.where(mask <= 1, 2 * (mask == 1) + changed, 4)]


def overlay(image: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """An image, uint8 (H, W, 3), with half magenta where `changed`, bool (H, W), is true."""
    tinted = image.copy()
    tinted[changed] = image[changed] // 2 + np.array(OVERLAY, np.uint8) // 2
    return tinted


def draw_legend(colours: dict[str, Colour]) -> Image.Image:
    """Squares of the colours with their meanings, one line each, RGB."""
    side, gap, font = 18, 8, ImageFont.load_default(15)
    width = 3 * gap + side + max(round(font.getlength(word)) for word in colours)
    sheet = Image.new("RGB", (width, gap + len(colours) * (side + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (word, colour) in enumerate(colours.items()):
        y = gap + line * (side + gap)
        pen.rectangle((gap, y, gap + side - 1, y + side - 1), fill=colour, outline=(90, 90, 90))
        pen.text((2 * gap + side, y + side // 2), word, "black", font, anchor="lm")
    return sheet
