"""The parts of a drawn scene: land, streets, buildings, trees, and the plan that holds them; and its geometry.

Lengths and heights are in half metres. A plan covers n half metres a side, PAD of them beyond each border, so that
what stands there still casts its shadow into the image. `zoom` is the number of image pixels per half metre.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SCALE, PAD = 2, 12  # fine pixels an image pixel; half metres beyond the border
HOUSES, ROWS, HAMLET, TOWN, HALLS, FLATS, PARKING, SITE, MEADOW, SCRUB, WOOD, FIELD, POND = range(13)  # kinds of land


@dataclass(frozen=True)
class Streets:
    """Gently curved streets every `spacing` along v; cross streets every `block` along u; land between them.

    A street exists at a date where a quarter beside it is settled, or for good where its row is in `through`.
    """

    x: float
    y: float
    angle: float
    spacing: float
    block: float
    width: float
    bend: float
    kinds: np.ndarray  # int (2, 8, 8), by date, row and block
    through: np.ndarray  # bool (8,)

    def place(self, u: float, v: float, half_length: float, half_width: float) -> "Wing":
        """A rectangle centred at street coordinates (u, v), in the street's direction there."""
        c, s, bent = math.cos(self.angle), math.sin(self.angle), v + self.bend * math.sin(u / 90)
        angle = self.angle + math.atan(self.bend / 90 * math.cos(u / 90))
        return Wing(self.x + c * u - s * bent, self.y + s * u + c * bent, half_length, half_width, angle)

    def from_canvas(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The street coordinates (u, v) of canvas positions."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        u = c * (x - self.x) + s * (y - self.y)
        return u, c * (y - self.y) - s * (x - self.x) - self.bend * np.sin(u / 90)

    def land(self, u: np.ndarray, v: np.ndarray, date: int) -> tuple[np.ndarray, ...]:
        """At (u, v) and a date: distance beyond the kerb, distance to a street's middle, kind of land, block."""
        row = np.floor(v / self.spacing).astype(np.int32)
        beside = row + np.where(v / self.spacing - row < 0.5, -1, 1)  # the row beyond the nearest street
        along = u / self.block + (row & 1) / 2  # staggered: cross streets end in Ts
        block = np.floor(along).astype(np.int32)
        kinds = self.kinds[date]
        kind = kinds[row & 7, block & 7]
        over = kinds[beside & 7, np.floor(u / self.block + (beside & 1) / 2).astype(np.int32) & 7]
        after = kinds[row & 7, (block + np.where(along - block < 0.5, -1, 1)) & 7]
        to_v = abs(v - self.spacing * np.rint(v / self.spacing))
        to_u = self.block * abs(along - np.rint(along))
        to_v = np.where((kind <= SITE) | (over <= SITE) | self.through[np.maximum(row, beside) & 7], to_v, 99)
        to_u = np.where((kind <= SITE) | (after <= SITE), to_u, 99)
        corner = self.width / 2 + 6  # kerbs turn on a radius of 6
        kerb = 6 - np.hypot(np.maximum(corner - to_u, 0), np.maximum(corner - to_v, 0))
        kerb = np.where(np.minimum(to_u, to_v) >= 99, 99, kerb)
        return kerb, np.minimum(to_u, to_v), kind, (row & 7) * 8 + (block & 7)


@dataclass(frozen=True)
class Wing:
    """A rectangle: centre, half sides along and across `angle`, height of its eaves."""

    x: float
    y: float
    half_length: float
    half_width: float
    angle: float
    eaves: float = 0

    def at(self, along: float, across: float) -> tuple[float, float]:
        """The canvas position of coordinates along and across."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return self.x + c * along - s * across, self.y + s * along + c * across

    def box(self, along: float, across: float, half_length: float, half_width: float) -> "Wing":
        """A rectangle of the same direction, centred at (along, across) of this one."""
        return Wing(*self.at(along, across), half_length, half_width, self.angle, self.eaves)

    def corners(self, scale: float) -> list[tuple[float, float]]:
        """Four corners in pixels of which `scale` make a half metre, as Pillow takes them."""
        a, b = self.half_length, self.half_width
        points = (self.at(i, j) for i, j in ((a, b), (a, -b), (-a, -b), (-a, b)))
        return [(scale * x, scale * y) for x, y in points]


@dataclass(frozen=True)
class Building:
    """Wings under one roof, the main one first; `kerb` is how far across its street begins."""

    wings: tuple[Wing, ...]
    kerb: float
    kind: int
    colours: tuple[np.ndarray, np.ndarray]  # before and after
    pitch: float  # rise over run; 0 is a flat roof
    hip: bool
    seams: bool  # lines run down the slope, not along the eaves
    rough: float
    grain: float
    lights: tuple[float, ...]  # of roof lights: distance along and across, size (0: there are none), brightness
    panels: bool
    pool: bool
    bare: bool  # soil, not lawn, while it does not stand
    dates: tuple[bool, bool]  # stands before, stands after


@dataclass(frozen=True)
class Pad:
    """Something flat on the ground that is no building: a slab, a court, a bed; its colour at each date, or None."""

    place: Wing
    colours: tuple[tuple[int, ...] | None, ...]
    lined: bool


@dataclass(frozen=True)
class Tree:
    """A crown: the heights `dome` in a window of the fine canvas, and its leaves."""

    window: tuple[slice, slice]
    dome: np.ndarray
    evergreen: bool
    tone: float
    dates: tuple[bool, bool]  # stands before, stands after


@dataclass(frozen=True)
class Plan:
    """What both dates share; coarse, fine, grain (m, m), lumps and leafy (2m, 2m) are noise of variance 1."""

    size: int  # m: image pixels a side, with what lies beyond the border
    zoom: float
    streets: Streets
    buildings: Sequence[Building]
    pads: Sequence[Pad]
    tracks: Sequence[tuple[list[tuple[float, float]], float]]  # points of a dirt road, and its width
    trees: Sequence[Tree]
    seasons: tuple[float, float]  # -1 winter or drought, 1 lush
    coarse: np.ndarray
    fine: np.ndarray
    grain: np.ndarray
    lumps: np.ndarray
    leafy: np.ndarray
    u: np.ndarray
    v: np.ndarray
    land: tuple[tuple[np.ndarray, ...], ...]  # by date, what land says at (u, v)


def noise(rng: np.random.Generator, n: int, wavelengths: Sequence[float]) -> np.ndarray:
    """Float32 (n, n) of mean 0 and variance 1; longer waves are stronger."""
    total = np.zeros((n, n), np.float32)
    for wave in wavelengths:
        box = (1, 1, 1 + n / wave, 1 + n / wave)
        knots = rng.standard_normal((math.ceil(n / wave) + 2,) * 2, dtype=np.float32)
        smooth = Image.fromarray(knots).resize((n, n), Image.Resampling.BICUBIC, box)
        total += np.asarray(smooth) * np.float32(wave**0.5)
    return (total - total.mean()) / total.std()


def around(wing: Wing, pixels: int, scale: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The wing's window of a canvas of pixels^2, `scale` a half metre, and there the coordinates along and across."""
    c, s = math.cos(wing.angle), math.sin(wing.angle)
    axes = []
    for centre, i, j in ((wing.y, s, c), (wing.x, c, s)):
        reach = abs(i) * wing.half_length + abs(j) * wing.half_width + 1
        low, high = math.floor((centre - reach) * scale), math.ceil((centre + reach) * scale)
        axes.append(np.arange(max(0, low), min(pixels, high), dtype=np.float32))
    rows, cols = (slice(int(a[0]), int(a[-1]) + 1) if len(a) else slice(0, 0) for a in axes)
    y = (axes[0][:, None] + 0.5) / np.float32(scale) - np.float32(wing.y)
    x = (axes[1][None] + 0.5) / np.float32(scale) - np.float32(wing.x)
    return (rows, cols), c * x + s * y, c * y - s * x


def footprints(buildings: Sequence[Building], pixels: int, scale: float) -> np.ndarray:
    """Bool (pixels, pixels), true where a roof covers the pixel's centre."""
    covered = np.zeros((pixels, pixels), bool)
    for wing in (wing for building in buildings for wing in building.wings):
        window, along, across = around(wing, pixels, scale)
        covered[window] |= (abs(along) <= wing.half_length) & (abs(across) <= wing.half_width)
    return covered
