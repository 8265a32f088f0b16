"""Draws comparison grids as the two papers print them, with Pillow, so that maps keep their exact colours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.windows import Window
from utils.change_map import Colour, fitted
from utils.files import written_whole

RED, YELLOW, INK = (255, 0, 0), (255, 255, 0), (0, 0, 0)
LACKING = (200, 200, 200)  # in place of a missing map
ENLARGED = 3  # times, of what a red box holds
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


@dataclass(frozen=True)
class ComparedPair:
    """The pictures of one pair, uint8 (H, W, 3) each.

    Attributes:
        dates: both photographs.
        maps: the label first, then a map a method, in order; None where a method has none.
        box: window that is enlarged.
    """

    dates: tuple[np.ndarray, np.ndarray]
    maps: Sequence[np.ndarray | None]
    box: Window | None = None

    def size(self, side: int) -> tuple[int, int]:
        """(width, height) of each picture, the longer one `side` pixels."""
        return fitted(self.dates[0].shape[1::-1], side)

    def corner(self) -> Window:
        """Where the enlarged box hides least: of the corners that leave the box free, the one with most black."""
        assert self.box
        (rows, columns), box = self.dates[0].shape[:2], self.box
        height, width = min(ENLARGED * box.height, rows), min(ENLARGED * box.width, columns)
        corners = [Window(top, left, height, width) for top in (0, rows - height) for left in (0, columns - width)]
        free = [
            corner
            for corner in corners
            if not (-box.height < box.top - corner.top < height) or not (-box.width < box.left - corner.left < width)
        ]
        shown = [image for image in self.maps if image is not None]
        return min(free or corners, key=lambda corner: sum(int(image[corner.slices].any(-1).sum()) for image in shown))


@dataclass(frozen=True)
class Captions:
    """Texts of a grid.

    Attributes:
        names: of the label and of the methods.
        scores: below each name; below the label's, what the numbers are.
        notes: below everything.
        legend: words and colours of the maps.
    """

    names: Sequence[str]
    scores: Sequence[str]
    notes: Sequence[str]
    legend: Mapping[str, Colour]


class Sheet:
    """A white sheet in pixels with text sizes in printed points.

    Args:
        width: pixels.
        inches: printed width.
    """

    def __init__(self, width: int, inches: float) -> None:
        self.point = width / inches / 72
        self.line = round(9.5 * self.point)  # from one line of text to the next
        self.image = Image.new("RGB", (width, 1), "white")
        self.pen = ImageDraw.Draw(self.image)

    def grow(self, height: int) -> None:
        """Make room below."""
        taller = Image.new("RGB", (self.image.width, self.image.height + height), "white")
        taller.paste(self.image, (0, 0))
        self.image, self.pen = taller, ImageDraw.Draw(taller)

    def font(self, points: float = 8) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The font at a printed size."""
        return ImageFont.load_default(points * self.point)

    def text(self, x: float, y: float, words: str, points: float = 8, anchor: str = "mm") -> None:
        """Write a line."""
        self.pen.text((x, y), words, INK, self.font(points), anchor=anchor)

    def size_for(self, lines: Iterable[str], width: float) -> float:
        """Points at which all lines are at most `width` pixels wide: 8, or less, down to 5."""
        widest = max((self.font().getlength(line) for line in lines), default=0)
        return max(5.0, min(8.0, 8 * width / max(widest, 1)))

    def lines_of(self, name: str, width: float) -> list[str]:
        """A name, broken after hyphens and blanks where it is wider than `width`."""
        lines = [""]
        for part in re.findall(r"[^- ]+[- ]?", name):
            if lines[-1] and self.font().getlength((lines[-1] + part).strip()) > width:
                lines.append("")
            lines[-1] += part
        return [line.strip() for line in lines]

    def picture(self, image: np.ndarray | None, x: int, y: int, size: tuple[int, int], photograph: bool) -> None:
        """Paste a picture at a size of (width, height), smoothed if it is a photograph; grey in place of None."""
        if image is None:
            self.pen.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), LACKING)
            self.text(x + size[0] / 2, y + size[1] / 2, "no mask", 6)
            return
        smooth = Image.Resampling.BICUBIC if photograph else Image.Resampling.NEAREST
        self.image.paste(Image.fromarray(image).resize(size, smooth), (x, y))

    def compared(self, pair: ComparedPair, image: np.ndarray | None, x: int, y: int, side: int) -> None:
        """Paste a picture of a pair; if the pair has a box, mark it and paste it enlarged over a corner."""
        photograph = any(image is date for date in pair.dates)
        self.picture(image, x, y, pair.size(side), photograph)
        if image is None or not pair.box:
            return
        zoom, stroke, corner = side / max(image.shape[:2]), max(2, round(0.8 * self.point)), pair.corner()
        for window in (pair.box, corner):
            left, top = x + round(window.left * zoom), y + round(window.top * zoom)
            size = round(window.width * zoom), round(window.height * zoom)
            if window is corner:
                self.picture(np.ascontiguousarray(image[pair.box.slices]), left, top, size, photograph)
            self.frame(left, top, *size, RED, stroke)

    def frame(self, x: int, y: int, width: int, height: int, colour: Colour, stroke: int) -> None:
        """A frame round a rectangle, all of it outside."""
        for k in range(1, stroke + 1):
            self.pen.rectangle((x - k, y - k, x + width - 1 + k, y + height - 1 + k), outline=colour)

    def dashed(self, left: int, top: int, right: int, bottom: int) -> None:
        """A dashed rectangle."""
        dash, stroke = max(4, round(3 * self.point)), max(1, round(0.5 * self.point))
        for x in range(left, right, 2 * dash):
            for y in (top, bottom):
                self.pen.line((x, y, min(x + dash, right), y), INK, stroke)
        for y in range(top, bottom, 2 * dash):
            for x in (left, right):
                self.pen.line((x, y, x, min(y + dash, bottom)), INK, stroke)

    def foot(self, captions: Captions, gap: int) -> None:
        """Add the notes, and the legend in one line."""
        top, width = self.image.height, self.image.width
        self.grow(self.line * (len(captions.notes) + 1) + 2 * gap)
        for number, note in enumerate(captions.notes):
            self.text(gap, top + gap + (number + 0.5) * self.line, note, self.size_for([note], width - 2 * gap), "lm")
        y, square, font = top + gap + (len(captions.notes) + 0.5) * self.line, round(6 * self.point), self.font()
        widths = [square + self.line / 2 + font.getlength(word) for word in captions.legend]
        x = (width - sum(widths) - self.line * (len(widths) - 1)) / 2
        for (word, colour), taken in zip(captions.legend.items(), widths, strict=True):
            self.pen.rectangle((x, y - square // 2, x + square, y - square // 2 + square), colour, (90, 90, 90))
            self.text(x + square + self.line / 2, y, word, anchor="lm")
            x += taken + self.line


def hanet_grid(pairs: Sequence[ComparedPair], captions: Captions, side: int, inches: float) -> Image.Image:
    """HANet's Fig. 6: a row a pair, columns T1, T2, GT, methods; red boxes enlarged, a yellow frame round the last.

    Args:
        pairs: the rows.
        captions: names and scores of the label and the methods.
        side: pixels of a picture's longer side.
        inches: printed width.
    """
    names, gap = ["T1", "T2", *captions.names], max(6, side // 24)
    sheet = Sheet(len(names) * (side + gap) + gap, inches)
    places = [gap + number * (side + gap) for number in range(len(names))]
    broken = [sheet.lines_of(name, side + gap / 2) for name in names]
    head = gap + max(map(len, broken)) * sheet.line
    sheet.grow(head + gap)
    points = sheet.size_for(sum(broken, []), side + gap / 2)
    for x, lines in zip(places, broken, strict=True):
        for number, line in enumerate(reversed(lines)):  # the last line touches the picture
            sheet.text(x + side / 2, head - (number + 0.5) * sheet.line, line, points)
    top = y = sheet.image.height
    for pair in pairs:
        sheet.grow(pair.size(side)[1] + gap)
        for x, picture in zip(places, [*pair.dates, *pair.maps], strict=True):
            sheet.compared(pair, picture, x, y, side)
        y = sheet.image.height
    sheet.frame(places[-1], top, side, y - gap - top, YELLOW, max(2, gap - 3))
    sheet.grow(sheet.line)
    for x, score in zip(places[2:], captions.scores, strict=True):
        sheet.text(x + side / 2, y + sheet.line / 2, score)
    sheet.foot(captions, gap)
    return sheet.image


def amfnet_grid(pairs: Sequence[ComparedPair], captions: Captions, side: int, inches: float) -> Image.Image:
    """AMFNet's comparison: two rows a pair, T1 and the first half of the maps, T2 and the second, in dashed groups.

    Maps carry letters, a for the label; a key below explains them. Eleven methods give the published two rows of seven.

    Args:
        pairs: the groups, called I, II, III.
        captions: names and scores of the label and the methods.
        side: pixels of a picture's longer side.
        inches: printed width.
    """
    half, gap = -(-len(captions.names) // 2), max(6, side // 24)
    sheet = Sheet((half + 1) * (side + gap) + 3 * gap + side // 4, inches)
    left, band = sheet.image.width - (half + 1) * (side + gap) - gap, sheet.line + gap // 2
    sheet.grow(gap)
    letters = [f"({ascii_lowercase[number]})" for number in range(len(captions.names))]
    for numeral, pair in zip(ROMAN, pairs, strict=False):
        top = y = sheet.image.height + gap
        tall = pair.size(side)[1]
        for row, date in enumerate(pair.dates):
            part = slice(row * half, (row + 1) * half)
            sheet.grow(tall + band + 2 * gap * (1 - row))
            for place, picture in enumerate([date, *pair.maps[part]]):
                x = left + place * (side + gap)
                sheet.compared(pair, picture, x, y, side)
                sheet.text(x + side / 2, y + tall + band / 2, [f"T{row + 1}", *letters[part]][place])
            y += tall + band
        sheet.grow(2 * gap)
        sheet.dashed(left - gap, top - gap, sheet.image.width - gap, y)
        sheet.text((left - gap) / 2, (top - gap + y) / 2, numeral)
    lines = [f"{letter} {name}" for letter, name in zip(letters, captions.names, strict=True)]
    points = sheet.size_for(lines, side + gap / 2)
    for row in range(2):  # the key: what the letters mean and the scores, below their columns
        y = sheet.image.height
        sheet.grow(2 * sheet.line + gap)
        for place in range(row * half, min((row + 1) * half, len(lines))):
            x = left + (place - row * half + 1) * (side + gap) + side / 2
            sheet.text(x, y + sheet.line / 2, lines[place], points)
            sheet.text(x, y + 1.5 * sheet.line, captions.scores[place])
    sheet.foot(captions, gap)
    return sheet.image


def draw_grid(
    columns: Mapping[str, Sequence[np.ndarray]], path: Path, names: Sequence[str] = (), side: int = 192
) -> None:
    """Draw images of pairs as a PNG: a line a pair, in two blocks, below the names of the columns.

    Args:
        columns: name to one uint8 image a pair, (H, W) or (H, W, 3).
        path: the PNG to write.
        names: names of the pairs, drawn below their first image.
        side: pixels of an image's longer side in the grid.
    """
    gap, top, font, small = 4, 26, ImageFont.load_default(16), ImageFont.load_default(11)
    pairs = len(next(iter(columns.values())))
    tallest = max(fitted(image.shape[1::-1], side)[1] for images in columns.values() for image in images)
    blocks, line_height = min(2, pairs), tallest + gap + (14 if names else 0)
    lines = -(-pairs // blocks)
    block_width = len(columns) * (side + gap) + 3 * gap
    sheet = Image.new("RGB", (blocks * block_width - 4 * gap, top + lines * line_height - gap), "white")
    pen = ImageDraw.Draw(sheet)
    for number in range(pairs):
        for place, (name, images) in enumerate(columns.items()):
            x, y = number // lines * block_width + place * (side + gap), top + number % lines * line_height
            if number % lines == 0:
                pen.text((x + side // 2, top // 2), name, "black", font, anchor="mm")
            # maps keep their exact colours, photographs are smoothed
            smooth = Image.Resampling.BICUBIC if name in ("before", "after") else Image.Resampling.NEAREST
            image = Image.fromarray(images[number]).convert("RGB")
            sheet.paste(image.resize(fitted(image.size, side), smooth), (x, y))
            if names and place == 0:
                pen.text((x, y + tallest + 1), names[number], "black", small)
    with written_whole(path) as partial:
        sheet.save(partial, format="PNG")
