"""Draws a network as boxes and arrows: one band per stride, columns from left to right."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models import MODELS
from tools.costs import count_parameters
from tools.figures.paper import COLOURS, PAGE, FigureConfig, broken, chart
from tools.figures.trace import Box, blank_network, trace
from utils.flags import at_least, setting
from utils.training.config import network_option

if TYPE_CHECKING:  # importing any of ours imports no chart library
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# in points
POINTS, LINE = 6.4, 7.6  # size of letters; distance of lines
LEFT, RIGHT, TOP, FOOT = 24, 4, 4, 24  # margins; strides are written on the left, the legend at the foot
GAP, JOIN_GAP, BAND_GAP = 9, 21, 5  # between columns, between columns with a join, around a band
RADIUS, SHEET = 4.5, 2.2  # of a join; offset of the second sheet of a box for both dates
INK, TINTS = "#333333", COLOURS[:-1]  # without black
BREAKS = r"(?<=[._ ])|(?<=[a-z])(?=[A-Z])"  # after dots, underscores and blanks, and before capitals
Point = tuple[float, float]


@dataclass(frozen=True)
class ArchitectureConfig(FigureConfig):
    """Settings of a drawn network."""

    model: str = setting("amfnet", "network", tuple(MODELS))
    model_options: dict[str, object] = setting(
        None, "its settings, such as backbone=resnet18 bfam=false, or width=20", parse=network_option
    )
    width: float = setting(PAGE, "printed width in inches; the size of letters stays the same")


def architecture(config: ArchitectureConfig) -> None:
    """A network's modules with names, widths and strides, and the flow of data, found by running it."""
    at_least(config, width=5)
    options = config.model_options or {}
    network = blank_network(config.model, **options)
    boxes = trace(network, int(str(options.get("in_channels", 3))))
    drawing = Drawing(boxes, 72 * config.width)
    chosen = " ({})".format(", ".join(f"{name}={value}" for name, value in options.items())) if options else ""
    title = f"{type(network).__name__}{chosen}, {count_parameters(network) / 1e6:.2f} M parameters."
    with chart(config.output, config.width, drawing.height / 72) as figure:
        draw(figure, drawing, title)


class Place(NamedTuple):
    """Place of a box: its band, which is its stride; its lane in the band; its column, plus 0.5 for a join."""

    band: int
    lane: int
    column: float


def arrange(boxes: Sequence[Box]) -> dict[str, Place]:
    """A place for every box: right of its sources in its band, and not left of its sources in other bands.

    If a place is taken, the box moves down one lane, or right one column if an arrow leaves the taken place downwards.
    An output is placed beside its source.
    """
    places: dict[str, Place] = {}
    strides = {box.name: box.stride for box in boxes}
    lead_down = {source for box in boxes for source in box.sources if strides[source] < box.stride}
    for box in boxes:
        sources = [places[name] for name in box.sources if name in places]
        band = strides[box.sources[0]] if box.role == "output" else box.stride
        beside = [place for place in sources if place.band == band]
        step = 0.5 if box.role == "join" else 1
        columns = [math.floor(p.column) + (step if p in beside or step < 1 else 0) for p in sources]
        column, lane = max(columns, default=0), min((place.lane for place in beside), default=0)
        while taken := [name for name, place in places.items() if place == (band, lane, column)]:
            column, lane = (column + 1, lane) if taken[0] in lead_down else (column, lane + 1)
        places[box.name] = Place(band, lane, column)
    return places


class Drawing:
    """Boxes with their text, centres and sizes, all by name, in points from the upper left corner."""

    def __init__(self, boxes: Sequence[Box], width: float) -> None:
        self.boxes, self.width = {box.name: box for box in boxes}, width
        places = arrange(boxes)
        columns = 1 + max(math.floor(place.column) for place in places.values())
        joined = {math.floor(place.column) for place in places.values() if place.column % 1}
        gaps = [JOIN_GAP if column in joined else GAP for column in range(columns)]
        wide = (width - LEFT - RIGHT - sum(gaps[:-1])) / columns
        self.lines = {box.name: lines_of(box, wide - 4) for box in boxes}
        high = LINE * max(map(len, self.lines.values())) + 5
        lefts = [LEFT + sum(gaps[:column]) + column * wide for column in range(columns)]
        tops: dict[tuple[int, int], float] = {}
        self.bands: list[tuple[int, float, float]] = []  # stride, top, bottom
        y: float = TOP
        for stride in sorted({place.band for place in places.values()}):
            start, lanes = y, 1 + max(place.lane for place in places.values() if place.band == stride)
            for lane in range(lanes):
                tops[stride, lane] = y + 2 * BAND_GAP
                y += high + 2 * BAND_GAP
            y += BAND_GAP
            self.bands.append((stride, start, y))
            y += BAND_GAP / 2
        self.height = y + FOOT
        self.centres, self.sizes = {}, {}
        for name, place in places.items():
            left, middle = lefts[math.floor(place.column)], tops[place.band, place.lane] + high / 2
            join = bool(place.column % 1)
            self.centres[name] = (left + wide + JOIN_GAP / 2 if join else left + wide / 2, middle)
            self.sizes[name] = (2 * RADIUS, 2 * RADIUS) if join else (wide, high)

    def arrows(self) -> Iterator[tuple[str, str, list[Point]]]:
        """Source, target and corners of every arrow: the first path of `ways` that crosses no other box."""
        for target, box in self.boxes.items():
            for source in box.sources:
                ways = self.ways(source, target)
                yield source, target, next((way for way in ways if not self.crossed(way, source, target)), ways[-1])

    def ways(self, source: str, target: str) -> list[list[Point]]:
        """Paths for an arrow: straight, around one corner, in two steps, or above the boxes between."""
        (x, y), (to_x, to_y) = start, end = self.centres[source], self.centres[target]
        right, down = math.copysign(1, to_x - x), math.copysign(1, to_y - y)
        (w, h), (to_w, to_h) = ((a / 2, b / 2) for a, b in (self.sizes[source], self.sizes[target]))
        straight = [edge(start, end, w, h), edge(end, start, to_w, to_h)]
        step, over = to_y - down * (to_h + BAND_GAP + 1), min(y - h, to_y - to_h) - BAND_GAP - 1
        bent = [
            [(x + right * w, y), (to_x, y), (to_x, to_y - down * to_h)],
            *([[(x, y + down * h), (x, to_y), (to_x - to_w, to_y)]] if right > 0 else []),
            [(x, y + down * h), (x, step), (to_x, step), (to_x, to_y - down * to_h)],
            [(x + w / 2, y - h), (x + w / 2, over), (to_x - to_w / 2, over), (to_x - to_w / 2, to_y - to_h)],
        ]
        return [straight, bent[-1]] if y == to_y else [straight, *bent] if x == to_x else [*bent, straight]

    def crossed(self, way: Sequence[Point], source: str, target: str) -> list[str]:
        """Boxes that a path crosses or touches, besides its source and target."""
        others = [name for name in self.boxes if name not in (source, target)]
        centres, sizes = (
            np.array([of[name] for name in others]).reshape(-1, 1, 2) for of in (self.centres, self.sizes)
        )
        parts = itertools.pairwise(way)  # points on them at distances of at most 1
        points = np.concatenate([np.linspace(a, b, math.ceil(math.dist(a, b)) + 1) for a, b in parts])
        inside = (np.abs(points - centres) < sizes / 2 + 1).all(-1).any(-1)
        return [name for name, hit in zip(others, inside, strict=True) if hit]


def edge(centre: Point, towards: Point, w: float, h: float) -> Point:
    """The point where the line from a box's centre leaves it; w and h are half its width and height."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    share = 1 / max(abs(dx) / w, abs(dy) / h, 1e-9)
    return centre[0] + share * dx, centre[1] + share * dy


def lines_of(box: Box, width: float) -> list[tuple[str, bool]]:
    """Name (bold), class, channels and stride of a box in lines of at most `width` points."""
    if box.role == "join":
        return [(box.kind, False)]
    texts = [(box.name, True), (box.kind, False), (f"{box.channels} ch, 1/{box.stride}", False)]
    return [
        (line, bold) for text, bold in texts if text
        for line in broken(text, BREAKS, lambda part, bold=bold: text_width(part, bold) <= width)
    ]  # fmt: skip


def text_width(text: str, bold: bool = False) -> float:
    """Width of a line in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=POINTS, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def colours_of(boxes: Mapping[str, Box]) -> dict[str, tuple[float, float, float]]:
    """A light colour per class of modules, in the order of the boxes; white for boxes without a module."""
    from matplotlib.colors import to_rgb

    kinds = {name: re.sub(r"^\d+ ", "", box.kind) for name, box in boxes.items() if box.role == "module"}
    tints = {}
    for number, kind in enumerate(dict.fromkeys(kinds.values())):
        share = (0.35, 0.18)[number // len(TINTS) % 2]
        red, green, blue = (1 - share * (1 - level) for level in to_rgb(TINTS[number % len(TINTS)]))
        tints[kind] = (red, green, blue)
    return {name: tints[kinds[name]] if name in kinds else (1.0, 1.0, 1.0) for name in boxes}


def draw(figure: "Figure", drawing: Drawing, title: str) -> None:
    """Draw bands, arrows, boxes and a legend. The gid of a box is its name."""
    from matplotlib.patches import FancyArrowPatch, Rectangle
    from matplotlib.path import Path as Way

    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.axis("off")
    for stride, top, bottom in drawing.bands:
        size = (drawing.width - LEFT - RIGHT + 4, bottom - top)
        axes.add_patch(Rectangle((LEFT - 2, top), *size, facecolor="#f3f3f3", edgecolor="none"))
        axes.text((LEFT - 2) / 2, (top + bottom) / 2, f"1/{stride}", fontsize=7, ha="center", va="center")
    for source, target, way in drawing.arrows():
        style = {"arrowstyle": "-|>", "mutation_scale": 5, "linewidth": 0.6, "color": INK, "joinstyle": "miter"}
        axes.add_patch(FancyArrowPatch(path=Way(way), shrinkA=0, shrinkB=0, gid=f"{source} to {target}", **style))
    tints = colours_of(drawing.boxes)
    for name in drawing.boxes:
        draw_box(axes, drawing, name, tints[name])
    signs = {box.kind: "adds" if box.kind == "+" else "joins" for box in drawing.boxes.values() if box.role == "join"}
    legend = "A box: name, class, channels, side of its output over the image's; two sheets: both dates pass; "
    legend += "; ".join(["dashed: input and output", *(f"{sign} {what}" for sign, what in signs.items())])
    for number, line in enumerate((title, f"{legend}.")):
        axes.text(LEFT - 2, drawing.height - FOOT + 8 + 10 * number, line, fontsize=7, va="center")


def draw_box(axes: "Axes", drawing: Drawing, name: str, tint: tuple[float, float, float]) -> None:
    """Draw a box with its lines of text."""
    from matplotlib.patches import Rectangle

    box, lines, (x, y), (w, h) = drawing.boxes[name], drawing.lines[name], drawing.centres[name], drawing.sizes[name]
    style = "--" if box.role in ("input", "output") else "-"
    for shift in (SHEET, 0) if box.dates > 1 else (0,):
        corner = (x - w / 2 + shift, y - h / 2 + shift)
        patch = Rectangle(corner, w, h, facecolor=tint, edgecolor=INK, linewidth=0.6, linestyle=style)
        axes.add_patch(patch)
    patch.set_gid(name)
    for number, (line, bold) in enumerate(lines):
        place, weight = y + (number - (len(lines) - 1) / 2) * LINE, "bold" if bold else "normal"
        axes.text(x, place, line, fontsize=POINTS, ha="center", va="center_baseline", weight=weight)
