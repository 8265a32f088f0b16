"""Plans what a drawn scene holds at two dates, before any pixel, and which of it changes; units as in scene_parts."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from datasets import scene_parts as kinds
from datasets.scene_parts import PAD, SCALE, Building, Pad, Plan, Streets, Tree, Wing, around, footprints, noise

MAIN_SHARE = (0.33, 0.07, 0.17, 0.09, 0.26, 0.08)  # of HOUSES to FLATS, as the kind that prevails
TREES = np.array([0.22, 0.1, 0.3, 0.06, 0.06, 0.25, 0.08, 0.02, 0.05, 0.6, 1.5, 0.01, 0.25])  # of the sites, by kind
ROOFS = (  # slate, brown, tile, bright
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


CUSTOMS = (  # of HOUSES to FLATS
    Custom((80, 112), (10, 21), (9, 15), (3, 14), (7, 17), (5, 7), 0.07, 0.05, 0.06, (0.4, 0.35, 0.2, 0.05)),
    Custom((60, 90), (5, 9), (8, 11), (0, 0.6), (5, 12), (8, 12), 0.08, 0.2, 0, (0.3, 0.2, 0.4, 0.1)),
    Custom((90, 170), (7, 28), (7, 15), (20, 110), (8, 34), (5, 8), 0.3, 0.1, 0.5, (0.25, 0.25, 0.2, 0.3)),
    Custom((42, 70), (5, 13), (6, 13), (0, 1.5), (0, 2), (7, 18), 0.07, 0.5, 0.05, (0.2, 0.3, 0.25, 0.25)),
    Custom((110, 250), (16, 80), (12, 56), (10, 40), (12, 30), (7, 15), 0.2, 0.55, 0.02, (0.15, 0.1, 0.05, 0.7)),
    Custom((90, 150), (14, 38), (9, 14), (12, 40), (8, 20), (18, 40), 0.2, 0.75, 0.12, (0.3, 0.2, 0.2, 0.3)),
)


def plan_scene(rng: np.random.Generator, size: int, town: bool = False, zoom: float | None = None) -> Plan:
    """Draw what both dates share; `town`: streets of houses, of which many change; `zoom`: pixels to half a metre."""
    if zoom is None:
        zoom = 1.25 if town else float(np.clip(math.exp(rng.normal(0, 0.28)), 0.5, 1.7))
    m = size + 2 * round(PAD * zoom)
    n = m / zoom
    main = kinds.HOUSES if town else int(rng.choice(6, p=MAIN_SHARE))
    quarters, churn = _history(main, rng)
    if town:
        quarters, churn = np.full((2, 8, 8), main), rng.uniform(0.2, 0.6) * (rng.random() > 0.16)
    spacing, block = rng.uniform(*CUSTOMS[main].spacing), rng.uniform(150, 340)
    width = rng.uniform(6, 12) if main in (kinds.TOWN, kinds.HAMLET) else rng.uniform(11, 18)
    x, y = n / 2 + rng.uniform(-0.5, 0.5) * block, n / 2 + rng.uniform(-0.5, 0.5) * spacing
    bend, through = rng.uniform(-24, 24), rng.random(8) < 0.12
    streets = Streets(x, y, rng.uniform(0, math.tau), spacing, block, width, bend, quarters, through)
    coarse, fine, grain = noise(rng, m, (128, 64, 32, 16)), noise(rng, m, (9, 5, 2.5)), noise(rng, m, (2, 1.2))
    lumps, leafy = noise(rng, SCALE * m, (13 * zoom, 6 * zoom)), noise(rng, SCALE * m, (5, 3, 1.8))
    axis = (np.arange(m, dtype=np.float32) + 0.5) / np.float32(zoom)
    u, v = (a.astype(np.float32) for a in streets.from_canvas(axis[None], axis[:, None]))
    buildings, pads = _build(streets, n, churn, rng)
    season = rng.uniform(-1, 1)
    seasons = season, float(np.clip(season + rng.normal(0, 0.8), -1, 1))
    trees = _plant(streets, buildings, (coarse, lumps, leafy), zoom, rng)
    tracks = [_track(n, rng) for _ in range(rng.poisson(1 if (quarters > kinds.SITE).mean() > 0.4 else 0.2))]
    land = tuple(streets.land(u, v, date) for date in (0, 1))
    return Plan(
        m, zoom, streets, buildings, pads, tracks, trees, seasons, coarse, fine, grain, lumps, leafy, u, v, land
    )


def _history(main: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Kinds of land at both dates, (2, 8, 8), and the share of single buildings that come or go."""
    settled = np.where(rng.random((8, 8)) < 0.8, main, rng.integers(0, kinds.SITE, (8, 8)))
    country = rng.choice(rng.choice(5, 3, p=(0.24, 0.26, 0.22, 0.22, 0.06)), (8, 8), p=(0.6, 0.3, 0.1)) + kinds.MEADOW
    story = rng.choice(4, p=(0.3, 0.22, 0.37, 0.11))  # quiet, single buildings, quarters that grow, or are cleared
    share = rng.choice((0, 0.2, 0.6, 0.95), p=(0.25, 0.2, 0.25, 0.3)) if story == 0 else rng.choice((0.25, 0.6, 0.95))
    quarters = np.where(rng.random((8, 8)) < share, settled, country)
    other = np.where(rng.random((8, 8)) < 0.4, kinds.SITE, country.T)
    turned = (rng.random((8, 8)) < rng.uniform(0.3, 1)) & (quarters < kinds.SITE)
    if story == 2:
        before, after = np.where(turned, other, quarters), quarters
    elif story == 3:
        before, after = quarters, np.where(turned & (rng.random((8, 8)) < 0.4), other, quarters)
    else:
        before, after = quarters, quarters
    free = (rng.random((2, 8, 8)) < rng.choice((0, 0.3))) & (np.minimum(before, after) >= kinds.PARKING)
    before, after = (
        np.where(f, rng.integers(kinds.PARKING, kinds.POND + 1, (8, 8)), k)
        for f, k in zip(free, (before, after), strict=True)
    )
    return np.stack([before, after]), (0, rng.uniform(0.02, 0.25), rng.choice((0, 0.08)), 0.02)[story]


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
        was, now = (int(quarters[row & 7, column & 7]) for quarters in streets.kinds)
        kind = was if was < kinds.PARKING else now
        u = (column - 0.5 * (row & 1)) * streets.block + streets.width / 2 + rng.uniform(4, 9)
        end = (column + 1 - 0.5 * (row & 1)) * streets.block - streets.width / 2 - 4
        if kind >= kinds.PARKING:
            for _ in range(rng.poisson(0.8 if kind == kinds.PARKING else 0.35)):
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
                luck, dates = rng.random(), (was < kinds.PARKING, now < kinds.PARKING)
                if rng.random() < churn:
                    dates = (False, True) if rng.random() < grown else (True, False)
                if luck > custom.empty:
                    buildings.append(_building(lot, front * edge - across, kind, dates, rng))
                    if dates[0] and dates[1] and rng.random() < 0.3 * churn:
                        part = rng.uniform(0.2, 0.6) * half
                        annexe = lot.box(rng.choice([-1, 1]) * (half + part), 0, part, rng.uniform(0.6, 1) * width)
                        buildings.append(replace(_building(annexe, 0, kind, (False, True), rng), kind=kinds.TOWN))
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
    large, flat = kind in (kinds.HALLS, kinds.FLATS), rng.random() < custom.flat
    pitch = 0.0 if flat else rng.uniform(0.1, 0.3) if large else rng.uniform(0.3, 0.75)
    wings = [main]
    for _ in range(rng.integers(0, 4 if kind in (kinds.HOUSES, kinds.HAMLET) else 2)):
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
    pool = pool and kind in (kinds.HOUSES, kinds.HAMLET)
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
        chance[(kerb < 0.5 * radius) | (kind == kinds.POND) & (middle > 22)] = 0
        roofs = footprints([b for b in buildings if b.dates[date]], m, zoom)[pixel]
        stands.append((luck < chance) & (spared | ~roofs) & (rng.random(x.shape) < 0.97))
    scrub, trees = kind == kinds.SCRUB, []
    for i in np.flatnonzero(stands[0] | stands[1]):
        r = radius[i] * (rng.uniform(0.4, 0.9) if scrub[i] else 1)
        window, u, v = around(Wing(x[i], y[i], r, r, 0), SCALE * m, SCALE * zoom)
        dome = 1 - (u * u + v * v) / np.float32(r**2) - 0.3 * abs(lumps[window]) - 0.12 * leafy[window]
        dome = (1 + r * rng.uniform(0.8, 1.5)) * np.sqrt(np.maximum(dome, 0))
        trees.append(Tree(window, dome, rng.random() < 0.45, rng.normal(), (bool(stands[0][i]), bool(stands[1][i]))))
    return trees
