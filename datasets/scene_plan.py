"""What a drawn scene holds at two dates, before any pixel: land, streets, buildings, trees, and which of them change.

Lengths and heights are in half metres. A plan covers n half metres a side, PAD of them beyond each border, so that
what stands there still casts its shadow into the image. `zoom` is the number of image pixels per half metre.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

SCALE, PAD = 2, 12  # fine pixels an image pixel; half metres beyond the border
HOUSES, ROWS, HAMLET, TOWN, HALLS, FLATS, PARKING, SITE, MEADOW, SCRUB, WOOD, FIELD, POND = range(13)  # kinds of land
MAIN_SHARE = (0.33, 0.07, 0.17, 0.09, 0.26, 0.08)  # of HOUSES to FLATS, as the kind that prevails
TREES = np.array([0.22, 0.1, 0.3, 0.06, 0.06, 0.25, 0.08, 0.02, 0.05, 0.6, 1.5, 0.01, 0.25])  # of the sites, by kind
SLATE, BROWN, TILE, BRIGHT = range(4)
ROOFS = (
    ((98, 93, 87), (86, 87, 90), (106, 96, 84), (78, 75, 74), (60, 62, 68), (120, 118, 116)),
    ((117, 109, 100), (124, 102, 86), (138, 128, 115), (112, 98, 82), (92, 80, 70)),
    ((146, 102, 82), (176, 112, 84), (160, 88, 66), (190, 136, 104), (132, 80, 64)),
    ((212, 210, 204), (190, 189, 182), (156, 157, 157), (128, 136, 144), (168, 157, 142), (236, 236, 232),
     (86, 112, 140), (62, 78, 108), (150, 70, 60)),
)  # fmt: skip
PADS = ((188, 182, 170), (150, 148, 146), (176, 150, 120), (96, 122, 78), (150, 90, 70), (84, 110, 130), (92, 90, 88))
Range = tuple[float, float]


@dataclass(frozen=True)
class Custom:
    """How a kind of quarter is built: ranges to draw from, of half lengths and half widths where a side is meant."""

    spacing: Range
    length: Range
    width: Range
    gap: Range
    setback: Range
    eaves: Range
    empty: float  # share of lots without a building
    flat: float  # share of flat roofs
    turn: float  # standard deviation of a building's direction against its street, radians
    roofs: tuple[float, float, float, float]  # shares of the palettes ROOFS


CUSTOMS = {
    HOUSES: Custom((80, 112), (10, 21), (9, 15), (3, 14), (7, 17), (5, 7), 0.07, 0.05, 0.06, (0.4, 0.35, 0.2, 0.05)),
    ROWS: Custom((60, 90), (5, 9), (8, 11), (0, 0.6), (5, 12), (8, 12), 0.08, 0.2, 0, (0.3, 0.2, 0.4, 0.1)),
    HAMLET: Custom((90, 170), (7, 28), (7, 15), (20, 110), (8, 34), (5, 8), 0.3, 0.1, 0.5, (0.25, 0.25, 0.2, 0.3)),
    TOWN: Custom((42, 70), (5, 13), (6, 13), (0, 1.5), (0, 2), (7, 18), 0.07, 0.5, 0.05, (0.2, 0.3, 0.25, 0.25)),
    HALLS: Custom((110, 250), (16, 80), (12, 56), (10, 40), (12, 30), (7, 15), 0.2, 0.55, 0.02, (0.15, 0.1, 0.05, 0.7)),
    FLATS: Custom((90, 150), (14, 38), (9, 14), (12, 40), (8, 20), (18, 40), 0.2, 0.75, 0.12, (0.3, 0.2, 0.2, 0.3)),
}


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


def plan_scene(rng: np.random.Generator, size: int, town: bool = False, zoom: float | None = None) -> Plan:
    """Draw what both dates share; `town`: streets of houses, of which many change; `zoom`: pixels to half a metre."""
    if zoom is None:
        zoom = 1.25 if town else float(np.clip(math.exp(rng.normal(0, 0.28)), 0.5, 1.7))
    m = size + 2 * round(PAD * zoom)
    n = m / zoom
    main = HOUSES if town else int(rng.choice(6, p=MAIN_SHARE))
    kinds, churn = _history(main, rng)
    if town:
        kinds, churn = np.full((2, 8, 8), main), rng.uniform(0.2, 0.6) * (rng.random() > 0.16)
    spacing, block = rng.uniform(*CUSTOMS[main].spacing), rng.uniform(150, 340)
    width = rng.uniform(6, 12) if main in (TOWN, HAMLET) else rng.uniform(11, 18)
    x, y = n / 2 + rng.uniform(-0.5, 0.5) * block, n / 2 + rng.uniform(-0.5, 0.5) * spacing
    bend, through = rng.uniform(-24, 24), rng.random(8) < 0.12
    streets = Streets(x, y, rng.uniform(0, math.tau), spacing, block, width, bend, kinds, through)
    coarse, fine, grain = noise(rng, m, (128, 64, 32, 16)), noise(rng, m, (9, 5, 2.5)), noise(rng, m, (2, 1.2))
    lumps, leafy = noise(rng, SCALE * m, (13 * zoom, 6 * zoom)), noise(rng, SCALE * m, (5, 3, 1.8))
    axis = (np.arange(m, dtype=np.float32) + 0.5) / np.float32(zoom)
    u, v = (a.astype(np.float32) for a in streets.from_canvas(axis[None], axis[:, None]))
    buildings, pads = _build(streets, n, churn, rng)
    season = rng.uniform(-1, 1)
    seasons = season, float(np.clip(season + rng.normal(0, 0.8), -1, 1))
    trees = _plant(streets, buildings, (coarse, lumps, leafy), zoom, rng)
    tracks = [_track(n, rng) for _ in range(rng.poisson(1 if (kinds > SITE).mean() > 0.4 else 0.2))]
    land = tuple(streets.land(u, v, date) for date in (0, 1))
    return Plan(
        m, zoom, streets, buildings, pads, tracks, trees, seasons, coarse, fine, grain, lumps, leafy, u, v, land
    )


def _history(main: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Kinds of land at both dates, (2, 8, 8), and the share of single buildings that come or go."""
    settled = np.where(rng.random((8, 8)) < 0.8, main, rng.integers(0, SITE, (8, 8)))
    country = rng.choice(rng.choice(5, 3, p=(0.24, 0.26, 0.22, 0.22, 0.06)), (8, 8), p=(0.6, 0.3, 0.1)) + MEADOW
    story = rng.choice(4, p=(0.3, 0.22, 0.37, 0.11))  # quiet, single buildings, quarters that grow, or are cleared
    share = rng.choice((0, 0.2, 0.6, 0.95), p=(0.25, 0.2, 0.25, 0.3)) if story == 0 else rng.choice((0.25, 0.6, 0.95))
    kinds = np.where(rng.random((8, 8)) < share, settled, country)
    other = np.where(rng.random((8, 8)) < 0.4, SITE, country.T)
    turned = (rng.random((8, 8)) < rng.uniform(0.3, 1)) & (kinds < SITE)
    if story == 2:
        before, after = np.where(turned, other, kinds), kinds
    elif story == 3:
        before, after = kinds, np.where(turned & (rng.random((8, 8)) < 0.4), other, kinds)
    else:
        before, after = kinds, kinds
    free = (rng.random((2, 8, 8)) < rng.choice((0, 0.3))) & (np.minimum(before, after) >= PARKING)
    before, after = (
        np.where(f, rng.integers(PARKING, POND + 1, (8, 8)), k) for f, k in zip(free, (before, after), strict=True)
    )
    return np.stack([before, after]), (0, rng.uniform(0.02, 0.25), rng.choice((0, 0.08)), 0.02)[story]


def noise(rng: np.random.Generator, n: int, wavelengths: Sequence[float]) -> np.ndarray:
    """Float32 (n, n) of mean 0 and variance 1; longer waves are stronger."""
    total = np.zeros((n, n), np.float32)
    for wave in wavelengths:
        box = (1, 1, 1 + n / wave, 1 + n / wave)
        knots = rng.standard_normal((math.ceil(n / wave) + 2,) * 2, dtype=np.float32)
        smooth = Image.fromarray(knots).resize((n, n), Image.Resampling.BICUBIC, box)
        total += np.asarray(smooth) * np.float32(wave**0.5)
    return (total - total.mean()) / total.std()


def _track(n: float, rng: np.random.Generator) -> tuple[list[tuple[float, float]], float]:
    """A dirt road that winds across the canvas."""
    turn, (x, y), points = rng.uniform(0, math.tau), rng.uniform(0, n, 2), []
    x, y = x - 0.7 * n * math.cos(turn), y - 0.7 * n * math.sin(turn)
    for bend in rng.normal(0, 0.09, int(1.6 * n / 8)):
        points.append((x, y))
        turn += bend
        x, y = x + 8 * math.cos(turn), y + 8 * math.sin(turn)
    return points, rng.uniform(2, 9)


def _build(streets: Streets, n: float, churn: float, rng: np.random.Generator) -> tuple[list[Building], list[Pad]]:
    """Line the streets with buildings, slabs and courts, and decide which of them change."""
    edge = (streets.spacing - streets.width) / 2  # from the middle of a row to the kerb
    rows, columns = (math.ceil(0.75 * n / step) + 1 for step in (streets.spacing, streets.block))
    grown = rng.uniform(0.4, 1)
    buildings: list[Building] = []
    pads: list[Pad] = []
    for row, column in itertools.product(range(-rows, rows), range(-columns, columns)):
        was, now = (int(kinds[row & 7, column & 7]) for kinds in streets.kinds)
        kind = was if was < PARKING else now
        u = (column - 0.5 * (row & 1)) * streets.block + streets.width / 2 + rng.uniform(4, 9)
        end = (column + 1 - 0.5 * (row & 1)) * streets.block - streets.width / 2 - 4
        if kind >= PARKING:
            for _ in range(rng.poisson(0.8 if kind == PARKING else 0.35)):
                place = streets.place(rng.uniform(u, end), (row + rng.uniform(0.25, 0.75)) * streets.spacing, 0, 0)
                pads.append(_pad(place, rng))
            continue
        custom = CUSTOMS[kind]
        setback = rng.uniform(*custom.setback)
        deep = setback + 1.2 * sum(custom.width) > edge  # one building from street to street
        for front in (1,) if deep else (-1, 1):
            at = u
            while at + 2 * (half := rng.uniform(*custom.length)) < end:
                width = min(half * rng.uniform(0.75, 1), rng.uniform(*custom.width), (edge - 3) if deep else edge / 2)
                across = 0.0 if deep else front * max(edge - setback - width + rng.normal(0, 1), width)
                lot = streets.place(at + half, (row + 0.5) * streets.spacing + across, half, width)
                lot = replace(lot, angle=lot.angle + rng.normal(0, custom.turn))
                at += 2 * half + rng.uniform(*custom.gap)
                if max(abs(lot.x - n / 2), abs(lot.y - n / 2)) > n / 2 + half:
                    continue
                luck, dates = rng.random(), (was < PARKING, now < PARKING)
                if rng.random() < churn:
                    dates = (False, True) if rng.random() < grown else (True, False)
                if luck > custom.empty:
                    buildings.append(_building(lot, front * edge - across, kind, dates, rng))
                    if dates[0] and dates[1] and rng.random() < 0.3 * churn:
                        part = rng.uniform(0.2, 0.6) * half
                        annexe = lot.box(rng.choice([-1, 1]) * (half + part), 0, part, rng.uniform(0.6, 1) * width)
                        buildings.append(replace(_building(annexe, 0, kind, (False, True), rng), kind=TOWN))
                elif luck < 0.5 * custom.empty:
                    pads.append(_pad(lot, rng))
    return buildings, pads


def _pad(place: Wing, rng: np.random.Generator) -> Pad:
    """A slab, court or bed at a place; it may come, go or change its colour between the dates."""
    long, aspect = rng.uniform(3, 15), rng.uniform(0.3, 1)
    paint, repainted = (PADS[i] for i in rng.integers(len(PADS), size=2))
    other = (paint, None, repainted)[rng.choice(3, p=(0.5, 0.35, 0.15))]
    colours = (paint, other) if rng.random() < 0.5 else (other, paint)
    return Pad(replace(place, half_length=long, half_width=long * aspect), colours, rng.random() < 0.3)


def _building(lot: Wing, kerb: float, kind: int, dates: tuple[bool, bool], rng: np.random.Generator) -> Building:
    """One building as long as its lot, with side wings and fittings."""
    half, width, custom = lot.half_length, lot.half_width, CUSTOMS[kind]
    main = replace(lot, eaves=rng.uniform(*custom.eaves))
    large, flat = kind in (HALLS, FLATS), rng.random() < custom.flat
    pitch = 0.0 if flat else rng.uniform(0.1, 0.3) if large else rng.uniform(0.3, 0.75)
    wings = [main]
    for _ in range(rng.integers(0, 4 if kind in (HOUSES, HAMLET) else 2)):
        narrow = width * rng.uniform(0.4, 0.8)
        along = rng.choice([-1, 1]) * max(half - narrow, 0) * rng.uniform(0.4, 1)
        x, y = main.at(along, rng.choice([-1, 1]) * rng.uniform(0.25, 0.6) * width)
        wings.append(Wing(x, y, width * rng.uniform(0.7, 1), narrow, main.angle + math.pi / 2, main.eaves))
    for _ in range(rng.integers(1, 8) if flat and large else rng.integers(3)):
        a, b = rng.uniform(-0.7, 0.7) * half, rng.uniform(-0.6, 0.6) * width
        side = rng.uniform(1.2, 3) if flat else rng.uniform(0.8, 1.4)
        top = main.eaves + (2.5 if flat else pitch * (width - abs(b)) + 1.5)
        wings.append(Wing(*main.at(a, b), side, side, main.angle, top))
    palette = ROOFS[rng.choice(4, p=custom.roofs)]
    colour, renewed = (
        np.array(palette[i], np.float32) * rng.uniform(0.85, 1.15) + rng.normal(0, 5, 3)
        for i in rng.integers(len(palette), size=2)
    )
    colours = colour, renewed if rng.random() < 0.1 else colour * rng.uniform(0.92, 1.08)
    hip, seams, pool, bare = rng.random(4) < ((0.1 if large else 0.6), (0.8 if large else 0.2), 0.12, 0.5)
    lights = (
        *rng.uniform(5, 15, 2),
        rng.uniform(1, 2.6) * (rng.random() < (0.5 if large else 0.03)),
        rng.choice((50, 230)),
    )
    rough, panels = rng.uniform(0.005, 0.035 if large else 0.07), rng.random() < (0.12 if large else 0.05)
    grain = 0.15 * rng.random() ** 2
    pool = pool and kind in (HOUSES, HAMLET)
    return Building(
        tuple(wings), kerb, kind, colours, pitch, hip, seams, rough, grain, lights, panels, pool, bare, dates
    )


def _plant(
    streets: Streets,
    buildings: Sequence[Building],
    waves: tuple[np.ndarray, np.ndarray, np.ndarray],
    zoom: float,
    rng: np.random.Generator,
) -> list[Tree]:
    """Scatter trees by the kind of land at each date; none on streets, few over roofs."""
    coarse, lumps, leafy = waves
    m = len(coarse)
    x, y = rng.uniform(0, m / zoom, (2, m * m // 90))
    radius = rng.uniform(2.4, 6, x.shape) * (1 + 0.7 * (rng.random(x.shape) < 0.15)) * rng.uniform(0.6, 1.2)
    pixel = (y * zoom).astype(int), (x * zoom).astype(int)
    clumps = np.clip(1 + rng.uniform(0.4, 1.4) * coarse[pixel], 0, None) * rng.uniform(0.5, 1.5)
    luck, spared = rng.random(x.shape), rng.random(x.shape) < 0.1
    stands = []
    for date in (0, 1):
        kerb, middle, kind, _ = streets.land(*streets.from_canvas(x, y), date)
        chance = TREES[kind] * clumps
        chance[(kerb < 0.5 * radius) | (kind == POND) & (middle > 22)] = 0
        roofs = footprints([b for b in buildings if b.dates[date]], m, zoom)[pixel]
        stands.append((luck < chance) & (spared | ~roofs) & (rng.random(x.shape) < 0.97))
    scrub, trees = kind == SCRUB, []
    for i in np.flatnonzero(stands[0] | stands[1]):
        r = radius[i] * (rng.uniform(0.4, 0.9) if scrub[i] else 1)
        window, u, v = around(Wing(x[i], y[i], r, r, 0), SCALE * m, SCALE * zoom)
        dome = 1 - (u * u + v * v) / np.float32(r**2) - 0.3 * abs(lumps[window]) - 0.12 * leafy[window]
        dome = (1 + r * rng.uniform(0.8, 1.5)) * np.sqrt(np.maximum(dome, 0))
        trees.append(Tree(window, dome, rng.random() < 0.45, rng.normal(), (bool(stands[0][i]), bool(stands[1][i]))))
    return trees


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
