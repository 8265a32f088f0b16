"""What a drawn scene holds, before any pixel: streets, lots, buildings, trees, and which of them change.

Lengths and heights are in pixels of the finished image, about half a metre each. A plan covers a canvas of
n = size + 2 PAD pixels a side, so that what stands beyond the border still casts its shadow into the image.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

SCALE, PAD = 2, 8  # drawn finer, and beyond the border, by so much
HOUSES, HALLS, FIELD, WOOD, POND = range(5)  # what the land between streets holds
KIND_SHARE = (0.64, 0.14, 0.06, 0.1, 0.06)
TREE_SHARE = np.array([0.25, 0.07, 0.04, 1.2, 0.3])  # of the sites drawn, by kind
HOUSE_ROOFS = ((98, 93, 87), (117, 109, 100), (86, 87, 90), (138, 128, 115), (124, 102, 86),
               (146, 102, 82), (106, 96, 84), (152, 147, 140), (78, 75, 74))  # fmt: skip
HALL_ROOFS = ((212, 210, 204), (190, 189, 182), (156, 157, 157), (128, 136, 144), (168, 157, 142))


@dataclass(frozen=True)
class Streets:
    """Gently curved streets every `spacing` along v; cross streets every `block` along u."""

    x: float
    y: float
    angle: float
    spacing: float
    block: float
    width: float
    bend: float
    kinds: np.ndarray  # int (8, 8), by row and block

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

    def land(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At (u, v): distance beyond the kerb, distance to a street's middle, kind of land."""
        row = np.floor(v / self.spacing)
        u = u / self.block + row / 2 - np.floor(row / 2)  # staggered: cross streets end in Ts
        kind = self.kinds[np.int32(row) & 7, np.int32(np.floor(u)) & 7]
        corner = self.width / 2 + 6  # kerbs turn on a radius of 6
        to_u, to_v = self.block * abs(u - np.rint(u)), abs(v - self.spacing * np.rint(v / self.spacing))
        kerb = 6 - np.hypot(np.maximum(corner - to_u, 0), np.maximum(corner - to_v, 0))
        return kerb, np.minimum(to_u, to_v), kind


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

    def corners(self) -> list[tuple[float, float]]:
        """Four corners on the fine canvas, as Pillow takes them."""
        a, b = self.half_length, self.half_width
        points = (self.at(i, j) for i, j in ((a, b), (a, -b), (-a, -b), (-a, b)))
        return [(SCALE * x, SCALE * y) for x, y in points]


@dataclass(frozen=True)
class Building:
    """Wings under one roof, the main one first; `kerb` is how far across its street begins."""

    wings: tuple[Wing, ...]
    kerb: float
    hall: bool
    colours: tuple[tuple[int, ...], tuple[int, ...]]  # before and after
    pitch: float  # rise over run; 0 is a flat roof
    hip: bool
    pool: bool
    bare: bool  # soil, not lawn, while it does not stand
    dates: tuple[bool, bool]  # stands before, stands after


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
    """What both dates share; coarse and fine (n, n), lumps (2n, 2n) are noise of variance 1."""

    n: int
    streets: Streets
    buildings: Sequence[Building]
    trees: Sequence[Tree]
    seasons: tuple[float, float]  # -1 winter or drought, 1 lush
    coarse: np.ndarray
    fine: np.ndarray
    lumps: np.ndarray
    land: tuple[np.ndarray, ...]  # u, v and what land says there, (n, n) each
    paths: tuple[np.ndarray, ...]  # distance beyond the kerb, to a street's middle, (2n, 2n)


def plan_scene(rng: np.random.Generator, size: int) -> Plan:
    """Draws what both dates share."""
    n = size + 2 * PAD
    kinds = rng.choice(5, (8, 8), p=KIND_SHARE)
    kinds[[0, -1], [0, -1]] = rng.choice([HOUSES, HALLS], 2, p=(0.85, 0.15))  # in the middle
    spacing, block, width = rng.uniform(94, 108), rng.uniform(190, 340), rng.uniform(13, 18)
    x, y = n / 2 + rng.uniform(-0.5, 0.5) * block, n / 2 + rng.uniform(-0.5, 0.5) * spacing
    bend, angle = rng.uniform(-12, 12), rng.uniform(0, math.tau)
    streets = Streets(x, y, angle, spacing, block, width, bend, kinds)
    coarse, fine = noise(rng, n, (128, 64, 32, 16)), noise(rng, n, (9, 5, 2.5))
    lumps = noise(rng, SCALE * n, (13, 6))
    axis = np.arange(n, dtype=np.float32) + 0.5
    u, v = streets.from_canvas(axis[None], axis[:, None])
    buildings = _build(streets, n, rng)
    season = rng.uniform(-1, 1)
    seasons = season, float(np.clip(season + rng.normal(0, 0.7), -1, 1))
    trees = _plant(streets, buildings, coarse, lumps, rng)
    land = (u, v, *streets.land(u, v))
    paths = [np.asarray(Image.fromarray(a).resize(lumps.shape, Image.Resampling.BILINEAR)) for a in land[2:4]]
    return Plan(n, streets, buildings, trees, seasons, coarse, fine, lumps, land, tuple(paths))


def noise(rng: np.random.Generator, n: int, wavelengths: Sequence[float]) -> np.ndarray:
    """Float32 (n, n) of mean 0 and variance 1; longer waves are stronger."""
    total = np.zeros((n, n), np.float32)
    for wave in wavelengths:
        box = (1, 1, 1 + n / wave, 1 + n / wave)
        knots = rng.standard_normal((math.ceil(n / wave) + 2,) * 2, dtype=np.float32)
        smooth = Image.fromarray(knots).resize((n, n), Image.Resampling.BICUBIC, box)
        total += np.asarray(smooth) * np.float32(wave**0.5)
    return (total - total.mean()) / total.std()


def _build(streets: Streets, n: int, rng: np.random.Generator) -> list[Building]:
    """Lines the streets with houses and halls and decides which of them change."""
    changing, share, growth = rng.random() > 0.16, rng.uniform(0.25, 0.65), rng.uniform(0.2, 1)
    edge = (streets.spacing - streets.width) / 2  # from the middle of a row to the kerb
    buildings = []
    for row, column, front in itertools.product(range(-4, 4), range(-3, 4), (-1, 1)):
        hall = streets.kinds[row, column] == HALLS
        if not hall and streets.kinds[row, column] != HOUSES or hall and front > 0:
            continue
        u = (column - 0.5 * (row % 2)) * streets.block + streets.width / 2 + rng.uniform(4, 9)
        end = (column + 1 - 0.5 * (row % 2)) * streets.block - streets.width / 2 - 4
        while u + 2 * (half := rng.uniform(26, 46) if hall else rng.uniform(10, 20)) < end:
            across = 0 if hall else front * rng.uniform(17, 20)
            lot = streets.place(u + half, (row + 0.5) * streets.spacing + across, half, edge)
            if max(abs(lot.x - n / 2), abs(lot.y - n / 2)) < n / 2 + half and rng.random() < 0.94:
                dates = (True, True)
                if changing and rng.random() < share:
                    dates = (False, True) if rng.random() < growth else (True, False)
                buildings.append(_building(lot, front * edge - across, hall, dates, rng))
            u += 2 * half + rng.uniform(4, 12)
    return buildings


def _building(lot: Wing, kerb: float, hall: bool, dates: tuple[bool, bool], rng: np.random.Generator) -> Building:
    """One house or hall as long as its lot, with side wings and fittings."""
    half, width = lot.half_length, min(lot.half_length, rng.uniform(18, 28) if hall else rng.uniform(8.5, 12.5))
    main = replace(lot, half_width=width, eaves=rng.uniform(9, 15) if hall else rng.uniform(5, 7))
    flat = rng.random() < (0.75 if hall else 0.1)
    pitch = 0.0 if flat else rng.uniform(0.15, 0.3) if hall else rng.uniform(0.4, 0.7)
    wings = [main]
    for _ in range(rng.integers(0, 2 if hall else 3)):
        narrow = width * rng.uniform(0.45, 0.75)
        along = rng.choice([-1, 1]) * (half - narrow) * rng.uniform(0.6, 1)
        x, y = main.at(along, rng.choice([-1, 1]) * rng.uniform(0.3, 0.55) * width)
        wings.append(Wing(x, y, width, narrow, main.angle + math.pi / 2, main.eaves))
    for _ in range(rng.integers(2, 7) if flat and hall else rng.integers(2)):
        a, b = rng.uniform(-0.7, 0.7) * half, rng.uniform(-0.6, 0.6) * width
        side = rng.uniform(1.4, 3) if flat else 1.2
        top = main.eaves + (2.5 if flat else pitch * (width - abs(b)) + 1.5)
        wings.append(Wing(*main.at(a, b), side, side, main.angle, top))
    palette = HALL_ROOFS if hall else HOUSE_ROOFS
    colour, renewed = (palette[i] for i in rng.integers(len(palette), size=2))
    colours = colour, renewed if rng.random() < 0.06 else colour
    hip, pool, bare = rng.random(3) < (0.65, 0.12, 0.5)
    return Building(tuple(wings), kerb, hall, colours, pitch, hip, pool and not hall, bare, dates)


def _plant(
    streets: Streets,
    buildings: Sequence[Building],
    coarse: np.ndarray,
    lumps: np.ndarray,
    rng: np.random.Generator,
) -> list[Tree]:
    """Scatters trees, dense in woods and sparse between houses; none on streets or roofs."""
    n = len(coarse)
    x, y = rng.uniform(0, n, (2, n * n // 100))
    radius = rng.uniform(2.6, 6, x.shape) + 2 * (rng.random(x.shape) < 0.2)
    kerb, middle, kind = streets.land(*streets.from_canvas(x, y))
    pixel = y.astype(int), x.astype(int)
    chance = TREE_SHARE[kind] * (1 + 0.6 * coarse[pixel])
    chance[(kerb < 0.6 * radius) | (kind == POND) & (middle > 22)] = 0
    roofs = [footprints([b for b in buildings if b.dates[d]], n)[pixel] for d in (0, 1)]
    trees = []
    for i in np.flatnonzero(rng.random(x.shape) < chance):
        luck = rng.random()  # some trees are cut or planted between the dates
        dates = bool(luck > 0.06 and not roofs[0][i]), bool(luck < 0.94 and not roofs[1][i])
        window, u, v = around(Wing(x[i], y[i], radius[i], radius[i], 0), n, SCALE)
        dome = 1 - (u * u + v * v) / np.float32(radius[i] ** 2) - 0.3 * abs(lumps[window])
        dome = (2 + radius[i] * rng.uniform(0.9, 1.5)) * np.sqrt(np.maximum(dome, 0))
        trees.append(Tree(window, dome, rng.random() < 0.45, rng.normal(), dates))
    return trees


def around(wing: Wing, n: int, scale: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The wing's window of an (n * scale)^2 canvas, and there the coordinates along and across."""
    c, s = math.cos(wing.angle), math.sin(wing.angle)
    axes = []
    for centre, i, j in ((wing.y, s, c), (wing.x, c, s)):
        reach = abs(i) * wing.half_length + abs(j) * wing.half_width + 1
        low, high = math.floor((centre - reach) * scale), math.ceil((centre + reach) * scale)
        axes.append(np.arange(max(0, low), min(n * scale, high), dtype=np.float32))
    rows, cols = (slice(int(a[0]), int(a[-1]) + 1) if len(a) else slice(0, 0) for a in axes)
    y = (axes[0][:, None] + 0.5) / scale - np.float32(wing.y)
    x = (axes[1][None] + 0.5) / scale - np.float32(wing.x)
    return (rows, cols), c * x + s * y, c * y - s * x


def footprints(buildings: Sequence[Building], n: int) -> np.ndarray:
    """Bool (n, n), true where a roof covers the pixel's centre."""
    covered = np.zeros((n, n), bool)
    for wing in (wing for building in buildings for wing in building.wings):
        window, along, across = around(wing, n, 1)
        covered[window] |= (abs(along) <= wing.half_length) & (abs(across) <= wing.half_width)
    return covered
