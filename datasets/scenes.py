"""Drawn aerial scenes at two dates, with the buildings that changed: the demo's data.

A scene is planned once (streets, lots, buildings, trees, water) and rendered twice. Each date has
its own sun, season, cars and camera, so most pixels that differ are not a changed building, and a
network has to learn what a building looks like. Heights are drawn along with colours: shadows, lit
roof halves and shaded crowns all follow from one height map and one sun.

About half a metre a pixel. Lengths and heights are in pixels of the finished image. Geometry is
drawn SCALE times finer and averaged down, on a canvas of n = size + 2 PAD pixels a side, so that
what stands beyond the border still casts its shadow into the image.
"""

import itertools
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SCALE, PAD = 2, 8
HOUSES, HALLS, FIELD, WOOD, POND = range(5)  # what the land between streets holds
KIND_SHARE = (0.64, 0.14, 0.06, 0.1, 0.06)
TREE_SHARE = np.array([0.25, 0.07, 0.04, 1.2, 0.3])  # of the sites drawn, by kind
HOUSE_ROOFS = ((98, 93, 87), (117, 109, 100), (86, 87, 90), (138, 128, 115), (124, 102, 86),
               (146, 102, 82), (106, 96, 84), (152, 147, 140), (78, 75, 74))  # fmt: skip
HALL_ROOFS = ((212, 210, 204), (190, 189, 182), (156, 157, 157), (128, 136, 144), (168, 157, 142))
CAR = 4.3, 1.9  # half sides
CARS = ((206, 206, 204), (176, 178, 181), (62, 64, 67), (42, 43, 47), (146, 44, 38), (56, 76, 116))
CONCRETE, PAINT, POOL, GLASS = (188, 182, 170), (222, 218, 206), (92, 158, 172), (84, 88, 94)
GREEN, STRAW, SOIL, WATER, ASPHALT, LEAF, AUTUMN, TWIGS = np.array(
    [(80, 90, 54), (154, 139, 104), (172, 150, 120), (50, 64, 62), (112, 110, 107), (50, 66, 40), (122, 98, 54),
     (104, 95, 84)], np.float32)  # fmt: skip


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


@dataclass(frozen=True)
class Canvas:
    """Float32 drawing surfaces at SCALE: colour (2n, 2n, 3), height and light (2n, 2n)."""

    colour: np.ndarray
    height: np.ndarray
    light: np.ndarray


@dataclass(frozen=True)
class Sun:
    """Unit vector (x, y) towards the sun in the image plane; `slope` is tan(elevation)."""

    x: float
    y: float
    slope: float

    def on(self, direction: float, pitch: float) -> float:
        """Light on a roof that falls off towards `direction`, relative to level ground."""
        facing = self.x * math.cos(direction) + self.y * math.sin(direction)
        return min(1.45, max(0.15, 1 + pitch * facing / self.slope) / math.hypot(1, pitch))


def draw_scene(seed: int | Sequence[int], size: int = 256) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws one scene at two dates; the same seed draws the same bytes.

    Returns:
        before, after: uint8 (size, size, 3) RGB; after is shifted by up to two pixels.
        mask: uint8 (size, size), 255 on the footprints of buildings that appeared or vanished, on
            the grid of before, else 0.
    """
    rng = np.random.default_rng(seed)
    plan = _plan(rng, size)
    changed = [b for b in plan.buildings if b.dates[0] != b.dates[1]]
    mask = np.uint8(255) * _footprints(changed, plan.n)[PAD:-PAD, PAD:-PAD]
    turn, reach = rng.uniform(0, math.tau), rng.uniform(0, 2 * SCALE)
    shift = int(reach * math.cos(turn)), int(reach * math.sin(turn))
    before = _photograph(_render(plan, 0, rng), (0, 0), size, rng)
    after = _photograph(_render(plan, 1, rng), shift, size, rng)
    return before, after, mask


def write_scenes(root: Path, counts: Mapping[str, int], size: int = 256, seed: int = 0) -> None:
    """Writes counts[SPLIT] scenes as root/SPLIT/{A,B,label}/scene_0000.png and on.

    Every scene has a seed of its own, which does not depend on the other splits. A split is drawn
    under a temporary name and renamed when complete.

    Raises:
        FileExistsError: a split's folder is already there; nothing has been drawn then.
    """
    for folder in (Path(root) / split for split in counts):
        if folder.exists():
            raise FileExistsError(f"{folder} already exists: delete it, or draw to another folder")
    for split, count in counts.items():
        partial = Path(root) / f".{split}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
        for name in ("A", "B", "label"):
            (partial / name).mkdir(parents=True)
        try:
            for index in range(count):
                images = draw_scene([seed, index, *split.encode()], size)
                for name, image in zip(("A", "B", "label"), images, strict=True):
                    Image.fromarray(image).save(partial / name / f"scene_{index:04d}.png")
            partial.rename(Path(root) / split)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _plan(rng: np.random.Generator, size: int) -> Plan:
    """Draws what both dates share."""
    n = size + 2 * PAD
    kinds = rng.choice(5, (8, 8), p=KIND_SHARE)
    kinds[[0, -1], [0, -1]] = rng.choice([HOUSES, HALLS], 2, p=(0.85, 0.15))  # in the middle
    spacing, block, width = rng.uniform(94, 108), rng.uniform(190, 340), rng.uniform(13, 18)
    x, y = n / 2 + rng.uniform(-0.5, 0.5) * block, n / 2 + rng.uniform(-0.5, 0.5) * spacing
    bend, angle = rng.uniform(-12, 12), rng.uniform(0, math.tau)
    streets = Streets(x, y, angle, spacing, block, width, bend, kinds)
    coarse, fine = _noise(rng, n, (128, 64, 32, 16)), _noise(rng, n, (9, 5, 2.5))
    lumps = _noise(rng, SCALE * n, (13, 6))
    axis = np.arange(n, dtype=np.float32) + 0.5
    u, v = streets.from_canvas(axis[None], axis[:, None])
    buildings = _build(streets, n, rng)
    season = rng.uniform(-1, 1)
    seasons = season, float(np.clip(season + rng.normal(0, 0.7), -1, 1))
    trees = _plant(streets, buildings, coarse, lumps, rng)
    land = (u, v, *streets.land(u, v))
    paths = [np.asarray(Image.fromarray(a).resize(lumps.shape, Image.Resampling.BILINEAR)) for a in land[2:4]]
    return Plan(n, streets, buildings, trees, seasons, coarse, fine, lumps, land, tuple(paths))


def _noise(rng: np.random.Generator, n: int, wavelengths: Sequence[float]) -> np.ndarray:
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
    roofs = [_footprints([b for b in buildings if b.dates[d]], n)[pixel] for d in (0, 1)]
    trees = []
    for i in np.flatnonzero(rng.random(x.shape) < chance):
        luck = rng.random()  # some trees are cut or planted between the dates
        dates = bool(luck > 0.06 and not roofs[0][i]), bool(luck < 0.94 and not roofs[1][i])
        window, u, v = _around(Wing(x[i], y[i], radius[i], radius[i], 0), n, SCALE)
        dome = 1 - (u * u + v * v) / np.float32(radius[i] ** 2) - 0.3 * abs(lumps[window])
        dome = (2 + radius[i] * rng.uniform(0.9, 1.5)) * np.sqrt(np.maximum(dome, 0))
        trees.append(Tree(window, dome, rng.random() < 0.45, rng.normal(), dates))
    return trees


def _around(wing: Wing, n: int, scale: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
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


def _footprints(buildings: Sequence[Building], n: int) -> np.ndarray:
    """Bool (n, n), true where a roof covers the pixel's centre."""
    covered = np.zeros((n, n), bool)
    for wing in (wing for building in buildings for wing in building.wings):
        window, along, across = _around(wing, n, 1)
        covered[window] |= (abs(along) <= wing.half_length) & (abs(across) <= wing.half_width)
    return covered


def _render(plan: Plan, date: int, rng: np.random.Generator) -> np.ndarray:
    """The scene in the light of one date: float32 (2n, 2n, 3), about 0 to 255."""
    turn = rng.uniform(0, math.tau)
    sun = Sun(math.cos(turn), math.sin(turn), rng.uniform(0.8, 1.9))
    canvas = _pave(plan, date, _ground(plan, date, rng), rng)
    for building in plan.buildings:
        if building.dates[date]:
            _raise(building, date, sun, canvas, plan)
    _grow(plan, date, sun, canvas)
    horizon = canvas.height.copy()
    for step in (1, 2, 4, 8, 16, 32):  # each step doubles how far it has looked towards the sun
        dx, dy = round(step * sun.x), round(step * sun.y)
        rows, cols = (slice(max(0, -d), len(horizon) - max(0, d)) for d in (dy, dx))
        seen = horizon[rows.start + dy : rows.stop + dy, cols.start + dx : cols.stop + dx]
        np.maximum(horizon[rows, cols], seen - step * sun.slope / SCALE, out=horizon[rows, cols])
    light = canvas.light * (horizon <= canvas.height + 0.3)
    ambient = rng.uniform(0.36, 0.54)
    for channel, sky in enumerate((0.94, 1.0, 1.08)):  # shade is lit by the blue sky alone
        canvas.colour[..., channel] *= sky * ambient + (1 - ambient) * light
    return canvas.colour


def _ground(plan: Plan, date: int, rng: np.random.Generator) -> np.ndarray:
    """Lawns, fields, soil and water of one date: float32 (n, n, 3)."""
    u, v, _, inside, kind = plan.land
    lots = rng.normal(0, 0.1, (16, 16)).astype(np.float32)
    lots = lots[np.int32(u / 42 + 64) & 15, np.int32(2 * v / plan.streets.spacing + 64) & 15]
    patches = _noise(rng, plan.n, (60, 40, 20))
    vigour = 0.5 + 0.35 * plan.seasons[date] + lots + 0.16 * plan.coarse + 0.09 * plan.fine
    vigour += 0.1 * np.sin(u) * (kind == FIELD) + 0.1 * patches
    bare = 0.6 * plan.coarse.T + 0.25 * plan.fine + 0.5 * patches.T - 1.5
    for building in plan.buildings:
        if building.bare and not building.dates[date]:
            main = building.wings[0]
            lot = main.box(0, 0, main.half_length + 7, main.half_width + 9)
            window, along, across = _around(lot, plan.n, 1)
            reach = np.maximum(abs(along) / lot.half_length, abs(across) / lot.half_width)
            edge = 4 - 4 * reach + 0.5 * plan.fine[window] + 0.3 * plan.coarse[window]
            bare[window] = np.maximum(bare[window], edge)
    shore = inside - 28 + 6 * plan.coarse + rng.uniform(-3, 3)
    shore[kind != POND] = -9
    ground = _mix(STRAW, GREEN, vigour)
    ground = _mix(ground, SOIL * rng.uniform(0.8, 1.1), np.maximum(2.5 * bare, 1 - abs(shore) / 5))
    ground *= (1 + 0.07 * plan.fine + 0.05 * plan.coarse.T)[..., None]
    return _mix(ground, WATER * rng.uniform(0.8, 1.3), 0.7 * shore)


def _mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours from `low` (share 0 and less) to `high` (1 and more), float32 (*share.shape, 3)."""
    share = np.clip(share, 0, 1).astype(np.float32)[..., None]
    return low + share * (high - low)


def _pave(plan: Plan, date: int, ground: np.ndarray, rng: np.random.Generator) -> Canvas:
    """Draws streets, drives, parking and cars on the ground."""
    large = Image.fromarray(np.uint8(ground.clip(0, 255))).resize(plan.lumps.shape, Image.Resampling.BILINEAR)
    kerb, middle = plan.paths
    large.paste(CONCRETE, mask=Image.fromarray((kerb < 0.8) | ((kerb > 2.5) & (kerb < 4.5))))
    tar = ASPHALT * rng.uniform(0.8, 1.25)
    fine, street = np.array(large), kerb < 0
    fine[street] = tar * (1 + 0.04 * plan.lumps[street, None])
    rows, cols = np.nonzero(middle < 0.4 * (rng.random() < 0.7))  # some years without markings
    dash = (plan.land[0] + plan.land[1])[rows // SCALE, cols // SCALE] % 12 < 6
    fine[rows[dash], cols[dash]] = PAINT
    image, tops = Image.fromarray(fine), Image.new("F", large.size)
    draw, top = ImageDraw.Draw(image), ImageDraw.Draw(tops)
    cars = _traffic(plan.streets, plan.n, rng)
    for building in (b for b in plan.buildings if b.dates[date]):
        cars += _furnish(building, plan.streets, draw, tuple(np.int64(tar * 0.9)), rng)
    for car in cars:
        paint = CARS[rng.integers(len(CARS))]
        draw.polygon(car.corners(), paint)
        draw.polygon(car.box(-0.4, 0, 2.3, 1.7).corners(), GLASS)
        draw.polygon(car.box(-0.6, 0, 1.2, 1.5).corners(), paint)
        top.polygon(car.corners(), 2.5)
    return Canvas(np.asarray(image).astype(np.float32), np.array(tops), np.ones_like(plan.lumps))


def _traffic(streets: Streets, n: int, rng: np.random.Generator) -> list[Wing]:
    """Cars on the streets."""
    cars = []
    for _ in range(rng.integers(1, 3 + n // 18)):
        u, row, lane = rng.uniform(-0.7, 0.7) * n, rng.integers(-3, 4), rng.choice([-0.27, 0.27])
        cars.append(streets.place(u, row * streets.spacing + lane * streets.width, *CAR))
    return cars


def _furnish(
    building: Building, streets: Streets, draw: ImageDraw.ImageDraw, tar: tuple, rng: np.random.Generator
) -> list[Wing]:
    """Draws a house's drive and pool or a hall's parking; returns the cars that stand there."""
    main, cars = building.wings[0], []
    if not building.hall:
        side, half = math.copysign(1, building.kerb), building.kerb / 2
        draw.polygon(main.box(0.55 * main.half_length, half, 3.6, half).corners(), CONCRETE)
        if building.pool:
            for rim, colour in ((1, CONCRETE), (0, POOL)):
                draw.polygon(main.box(-2, -side * (main.half_width + 7), 5 + rim, 2.5 + rim).corners(), colour)
        if rng.random() < 0.3:
            x, y = main.at(0.55 * main.half_length, side * (main.half_width + 6))
            cars.append(Wing(x, y, *CAR, main.angle + math.pi / 2))
        return cars
    depth = (streets.spacing - streets.width) / 2 - 6
    draw.polygon(main.box(0, 0, main.half_length + 6, depth).corners(), tar)
    for side in (-1, 1):
        for along in np.arange(-main.half_length, main.half_length, 5.5):
            line = main.box(along, side * (depth - 4.5), 0.3, 4.5)
            draw.polygon(line.corners(), PAINT)
            if rng.random() < 0.3 and depth - main.half_width > 11:
                x, y = main.at(along + 2.75, side * (depth - 5))
                cars.append(Wing(x, y, *CAR, main.angle + side * math.pi / 2))
    return cars


def _raise(building: Building, date: int, sun: Sun, canvas: Canvas, plan: Plan) -> None:
    """Draws a building's roof, facet by facet in the light each gets."""
    roof_colour = np.array(building.colours[date], np.float32)
    for wing in building.wings:
        window, u, v = _around(wing, plan.n, SCALE)
        inside = (abs(u) <= wing.half_length) & (abs(v) <= wing.half_width)
        if not inside.any():
            continue
        u, v = u[inside], v[inside]
        end, side = wing.half_length - abs(u), wing.half_width - abs(v)
        on_end = (end < side) & building.hip
        inward = np.where(on_end, end, side)
        parapet = (np.minimum(end, side) < 1) & (building.pitch == 0)
        roof = wing.eaves + building.pitch * inward + parapet
        falls = [wing.angle + math.pi * turn for turn in (-0.5, 0.5, 1, 0)]
        lit = np.array([sun.on(fall, building.pitch) for fall in falls], np.float32)
        lit = lit[np.where(on_end, 2 + (u > 0), v > 0)]
        tint = 1 + 0.035 * plan.lumps[window][inside] + 0.03 * np.sin(2.4 * inward) + 0.08 * parapet
        top = roof > canvas.height[window][inside]
        inside[inside] = top
        canvas.height[window][inside], canvas.light[window][inside] = roof[top], lit[top]
        canvas.colour[window][inside] = roof_colour * tint[top, None]


def _grow(plan: Plan, date: int, sun: Sun, canvas: Canvas) -> None:
    """Draws the crowns: lumpy domes lit by their own slope, bare or in leaf."""
    crowns, tones, leaves = (np.zeros_like(canvas.height) for _ in range(3))
    for tree in (tree for tree in plan.trees if tree.dates[date]):
        window, new = tree.window, tree.dome > crowns[tree.window]
        leaf = 1 if tree.evergreen else 0.9 + plan.seasons[date] + 0.2 * tree.tone
        crowns[window][new], tones[window][new], leaves[window][new] = tree.dome[new], tree.tone, leaf
    crowns += (crowns > 0) * plan.lumps
    crowns *= (leaves > 0.4) | (plan.lumps > -0.2)  # bare crowns let the ground through
    down, right = np.gradient(crowns)
    new = crowns > canvas.height
    down, right, leaves = down[new], right[new], leaves[new]
    lit = np.clip(1 - (right * sun.x + down * sun.y) / sun.slope, 0, 2.2) / np.sqrt(1 + right**2 + down**2)
    shades = _mix(_mix(TWIGS, AUTUMN, 2.5 * leaves), LEAF, 2.5 * leaves - 1)
    canvas.colour[new] = shades * (1 + 0.1 * tones[new])[:, None]
    canvas.light[new], canvas.height[new] = 0.3 + 0.7 * lit, crowns[new]


def _photograph(scene: np.ndarray, shift: tuple[int, int], size: int, rng: np.random.Generator) -> np.ndarray:
    """What one date's camera makes of the rendered scene: uint8 (size, size, 3)."""
    top, left = (PAD * SCALE + s for s in shift)
    fine = scene[top : top + size * SCALE, left : left + size * SCALE]
    image = sum(fine[i::SCALE, j::SCALE] for i in range(SCALE) for j in range(SCALE))
    image *= np.float32(rng.uniform(0.96, 1.04, 3) * rng.uniform(0.85, 1.2) / (255 * SCALE**2))
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.88, 1.15))
    haze = rng.uniform(0, 0.14)
    image += np.float32(haze) * (np.array((0.72, 0.76, 0.8), np.float32) - image)
    image += rng.standard_normal((size, size, 1), np.float32) * np.float32(rng.uniform(0.006, 0.016))
    picture = Image.fromarray(np.uint8(np.clip(image * 255, 0, 255)))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6))))
