"""Draws grids of pictures with Pillow, which keeps the exact colours of maps: comparisons as both papers print them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.windows import Window
from tools.figures.paper import broken, save_sheet
from utils.change_map import Colour, fitted

RED, YELLOW, INK = (255, 0, 0), (255, 255, 0), (0, 0, 0)
LACKING = (200, 200, 200)  # in place of a missing map
ENLARGED = 3  # scale of the content of a red box
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


class Panel(NamedTuple):
    """A picture, uint8 (H, W) or (H, W, 3), with lines of text below it; photographs are smoothed when resized."""

    picture: np.ndarray | None
    lines: Sequence[str] = ()
    photograph: bool = False


@dataclass(frozen=True)
class ComparedPair:
    """The pictures of one pair, uint8 (H, W, 3) each."""

    dates: tuple[np.ndarray, np.ndarray]
    maps: Sequence[np.ndarray | None]  # the label, then one map per method; None for a method without one
    box: Window | None = None  # is enlarged

    def size(self, side: int) -> tuple[int, int]:
        """(width, height) of each picture; the longer one is `side` pixels."""
        return fitted(self.dates[0].shape[1::-1], side)

    def corner(self) -> Window:
        """Place of the enlarged box: of the corners that leave the box free, the one with the most black."""
        assert self.box
        (rows, columns), box = self.dates[0].shape[:2], self.box
        height, width = min(ENLARGED * box.height, rows), min(ENLARGED * box.width, columns)
        corners = [Window(top, left, height, width) for top in (0, rows - height) for left in (0, columns - width)]
        free = [
            corner for corner in corners
            if not (-box.height < box.top - corner.top < height) or not (-box.width < box.left - corner.left < width)
        ]  # fmt: skip
        shown = [image for image in self.maps if image is not None]
        return min(free or corners, key=lambda corner: sum(int(image[corner.slices].any(-1).sum()) for image in shown))


@dataclass(frozen=True)
class Captions:
    """Texts of a comparison."""

    names: Sequence[str]  # of the label and of the methods
    scores: Sequence[str]  # below each name; below the label's, what the numbers are
    notes: Sequence[str]  # below the grid
    legend: Mapping[str, Colour]  # colours of the maps, by meaning


class Sheet:
    """A white sheet `width` pixels wide, with text sizes in points when printed `inches` wide."""

    def __init__(self, width: int, inches: float) -> None:
        self.point = width / inches / 72
        self.line = round(9.5 * self.point)  # from one line of text to the next
        self.image = Image.new("RGB", (width, 1), "white")
        self.pen = ImageDraw.Draw(self.image)

    def grow(self, height: int) -> int:
        """Add rows of pixels at the bottom; returns the first of them."""
        top, taller = self.image.height, Image.new("RGB", (self.image.width, self.image.height + height), "white")
        taller.paste(self.image, (0, 0))
        self.image, self.pen = taller, ImageDraw.Draw(taller)
        return top

    def font(self, points: float = 8) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The font at a printed size."""
        return ImageFont.load_default(points * self.point)

    def text(self, x: float, y: float, words: str, points: float = 8, anchor: str = "mm") -> None:
        """Write a line."""
        self.pen.text((x, y), words, INK, self.font(points), anchor=anchor)

    def size_for(self, lines: Iterable[str], width: float) -> float:
        """Points at which all lines are at most `width` pixels wide, between 5 and 8."""
        widest = max((self.font().getlength(line) for line in lines), default=0)
        return max(5.0, min(8.0, 8 * width / max(widest, 1)))

    def lines_of(self, text: str, width: float) -> list[str]:
        """A text, broken after hyphens and blanks where it is wider than `width` pixels."""
        return broken(text, r"(?<=[- ])", lambda line: self.font().getlength(line) <= width)

    def picture(self, image: np.ndarray | None, x: int, y: int, size: tuple[int, int], photograph: bool) -> None:
        """Paste a picture at a size of (width, height), smoothed if it is a photograph; grey in place of None."""
        if image is None:
            self.pen.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), LACKING)
            self.text(x + size[0] / 2, y + size[1] / 2, "no mask", 6)
            return
        smooth = Image.Resampling.BICUBIC if photograph else Image.Resampling.NEAREST
        self.image.paste(Image.fromarray(image).resize(size, smooth), (x, y))

    def row(self, panels: Sequence[Panel], side: int, gap: int, points: float) -> None:
        """Add a row of pictures, the longer side of each `side` pixels, with their lines of text below."""
        usual = next(panel.picture for panel in panels if panel.picture is not None)
        sizes = [fitted(np.shape(usual if c.picture is None else c.picture)[1::-1], side) for c in panels]
        tallest, most = max(height for _, height in sizes), max(len(panel.lines) for panel in panels)
        y = self.grow(tallest + most * self.line + gap)
        for place, (panel, size) in enumerate(zip(panels, sizes, strict=True)):
            x = gap + place * (side + gap)
            self.picture(panel.picture, x, y, size, panel.photograph)
            for number, line in enumerate(panel.lines):
                self.text(x + size[0] / 2, y + size[1] + (number + 0.5) * self.line, line, points)

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
            self.frame((left, top, left + size[0], top + size[1]), RED, stroke)

    def frame(self, box: tuple[int, int, int, int], colour: Colour, stroke: int) -> None:
        """Draw a frame outside of a box (left, top, right, bottom)."""
        left, top, right, bottom = box
        outer = (left - stroke, top - stroke, right - 1 + stroke, bottom - 1 + stroke)
        self.pen.rectangle(outer, outline=colour, width=stroke)

    def dashed(self, left: int, top: int, right: int, bottom: int) -> None:
        """Draw a dashed rectangle."""
        dash, stroke = max(4, round(3 * self.point)), max(1, round(0.5 * self.point))
        for x in range(left, right, 2 * dash):
            for y in (top, bottom):
                self.pen.line((x, y, min(x + dash, right), y), INK, stroke)
        for y in range(top, bottom, 2 * dash):
            for x in (left, right):
                self.pen.line((x, y, x, min(y + dash, bottom)), INK, stroke)

    def foot(self, captions: Captions, gap: int) -> None:
        """Add the notes, and the legend in one line."""
        width, square, font = self.image.width, round(6 * self.point), self.font()
        y = self.grow(self.line * (len(captions.notes) + 1) + 2 * gap) + gap + self.line / 2
        for note in captions.notes:
            self.text(gap, y, note, self.size_for([note], width - 2 * gap), "lm")
            y += self.line
        widths = [square + self.line / 2 + font.getlength(word) for word in captions.legend]
        x = (width - sum(widths) - self.line * (len(widths) - 1)) / 2
        for (word, colour), taken in zip(captions.legend.items(), widths, strict=True):
            self.pen.rectangle((x, y - square // 2, x + square, y - square // 2 + square), colour, (90, 90, 90))
            self.text(x + square + self.line / 2, y, word, anchor="lm")
            x += taken + self.line


def hanet_grid(pairs: Sequence[ComparedPair], captions: Captions, side: int, inches: float) -> Image.Image:
    """HANet's Fig. 6: a row per pair; columns T1, T2, GT, methods; red boxes enlarged; a yellow frame round the last.

    The longer side of a picture is `side` pixels; the sheet is printed `inches` wide.
    """
    names, gap = ["T1", "T2", *captions.names], max(6, side // 24)
    sheet = Sheet(len(names) * (side + gap) + gap, inches)
    places = [gap + number * (side + gap) for number in range(len(names))]
    lines = [sheet.lines_of(name, side + gap / 2) for name in names]
    head = gap + max(map(len, lines)) * sheet.line
    sheet.grow(head + gap)
    points = sheet.size_for(sum(lines, []), side + gap / 2)
    for x, words in zip(places, lines, strict=True):
        for number, line in enumerate(reversed(words)):  # the last line touches the picture
            sheet.text(x + side / 2, head - (number + 0.5) * sheet.line, line, points)
    top = sheet.image.height
    for pair in pairs:
        y = sheet.grow(pair.size(side)[1] + gap)
        for x, picture in zip(places, [*pair.dates, *pair.maps], strict=True):
            sheet.compared(pair, picture, x, y, side)
    y = sheet.grow(sheet.line)
    sheet.frame((places[-1], top, places[-1] + side, y - gap), YELLOW, max(2, gap - 3))
    for x, score in zip(places[2:], captions.scores, strict=True):
        sheet.text(x + side / 2, y + sheet.line / 2, score)
    sheet.foot(captions, gap)
    return sheet.image


def amfnet_grid(pairs: Sequence[ComparedPair], captions: Captions, side: int, inches: float) -> Image.Image:
    """AMFNet's comparison: two rows per pair, T1 and the first half of the maps, T2 and the second, in dashed groups.

    Maps have letters, a for the label, which a key below explains. Eleven methods give the published two rows of seven.
    Arguments as for `hanet_grid`.
    """
    half, gap = -(-len(captions.names) // 2), max(6, side // 24)
    sheet = Sheet((half + 1) * (side + gap) + 3 * gap + side // 4, inches)
    left, band = sheet.image.width - (half + 1) * (side + gap) - gap, sheet.line + gap // 2
    sheet.grow(gap)
    letters = [f"({ascii_lowercase[number]})" for number in range(len(captions.names))]
    parts = [slice(row * half, (row + 1) * half) for row in range(2)]
    for numeral, pair in zip(ROMAN, pairs, strict=False):
        top, tall = sheet.image.height + gap, pair.size(side)[1]
        y = sheet.grow(2 * (tall + band) + 4 * gap) + gap
        for row, (date, part) in enumerate(zip(pair.dates, parts, strict=True)):
            pictures, labels = [date, *pair.maps[part]], [f"T{row + 1}", *letters[part]]
            for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
                x = left + place * (side + gap)
                sheet.compared(pair, picture, x, y, side)
                sheet.text(x + side / 2, y + tall + band / 2, label)
            y += tall + band
        sheet.dashed(left - gap, top - gap, sheet.image.width - gap, y)
        sheet.text((left - gap) / 2, (top - gap + y) / 2, numeral)
    lines = [f"{letter} {name}" for letter, name in zip(letters, captions.names, strict=True)]
    points = sheet.size_for(lines, side + gap / 2)
    for part in parts:  # names and scores below their columns
        y = sheet.grow(2 * sheet.line + gap)
        for place, (line, score) in enumerate(zip(lines[part], captions.scores[part], strict=True), 1):
            x = left + place * (side + gap) + side / 2
            sheet.text(x, y + sheet.line / 2, line, points)
            sheet.text(x, y + 1.5 * sheet.line, score)
    sheet.foot(captions, gap)
    return sheet.image


def draw_grid(columns: Mapping[str, Sequence[np.ndarray]], path: Path, names: Sequence[str] = ()) -> None:
    """Draw images of pairs, a row per pair in two blocks, with the names of their columns and pairs.

    A column has an image per pair, uint8 (H, W) or (H, W, 3).
    """
    panels, side, gap = [], 192, 4
    for number, images in enumerate(zip(*columns.values(), strict=True)):
        row = [Panel(image, (name,), name in ("before", "after")) for name, image in zip(columns, images, strict=True)]
        panels.append([row[0]._replace(lines=(*row[0].lines, *names[number : number + 1])), *row[1:]])
    half = -(-len(panels) // 2)
    rows = [sum(panels[number::half], []) for number in range(half)]
    width = len(rows[0]) * (side + gap) + gap
    sheet = Sheet(width, width / 144)
    points = sheet.size_for((line for row in rows for panel in row for line in panel.lines), side)
    sheet.grow(gap)
    for each in rows:
        sheet.row(each, side, gap, points)
    save_sheet(sheet.image, path, width / 144)
