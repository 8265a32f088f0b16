"""Draws a planned scene as it looks at one date: its season, sun, streets, cars, and the lean of its buildings.

Heights are drawn along with colours: shadows, lit roof halves and shaded crowns all follow from one height map
and one sun. Geometry is drawn SCALE times finer than the image and averaged down.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from datasets import scene_plan as kinds
from datasets.scene_plan import SCALE, Building, Plan, Wing, around, noise

CAR = 4.3, 1.9  # half sides
CARS = ((206, 206, 204), (230, 230, 230), (176, 178, 181), (62, 64, 67), (42, 43, 47), (146, 44, 38), (56, 76, 116))
CONCRETE, PAINT, GLASS, FENCE = (188, 182, 170), (222, 218, 206), (84, 88, 94), (92, 80, 66)
POOLS = ((92, 158, 172), (70, 140, 180), (70, 96, 84), (200, 196, 186))  # filled, and two ways to be empty
GREEN, STRAW, WATER, ASPHALT, LEAF, AUTUMN, TWIGS = np.array(
    [(80, 90, 54), (154, 139, 104), (50, 64, 62), (112, 110, 107), (50, 66, 40), (122, 98, 54), (104, 95, 84)],
    np.float32,
)
SOILS = np.array([(214, 196, 160), (186, 160, 126), (160, 118, 88), (140, 128, 112), (108, 92, 78)], np.float32)
CROPS = np.array(
    [(64, 84, 42), (104, 128, 58), (150, 150, 80), (172, 152, 116), (128, 104, 80), (190, 172, 138)], np.float32
)
# by kind of land: how green, how much bare soil, how rough
LUSH = np.array([0.1, 0.1, 0, -0.1, 0, 0.1, 0, -0.3, 0, -0.25, -0.1, 0, 0], np.float32)
BARE = np.array([-1.5, -1.4, -1.3, -0.2, -0.9, -1.3, -0.6, 1.3, -1.6, -0.9, -1.2, -2, -1.5], np.float32)
ROUGH = np.array([0.05, 0.05, 0.07, 0.06, 0.05, 0.05, 0.05, 0.07, 0.07, 0.13, 0.1, 0.05, 0.05], np.float32)


@dataclass(frozen=True)
class Canvas:
    """Drawing surfaces at SCALE: colour (2m, 2m, 3), height and light (2m, 2m) float32, changed (2m, 2m) bool."""

    colour: np.ndarray
    height: np.ndarray
    light: np.ndarray
    changed: np.ndarray  # roofs of buildings that stand at one date only


@dataclass(frozen=True)
class View:
    """Unit vector (x, y) towards the sun, its `slope` tan(elevation), and how far a height of 1 leans in the image."""

    x: float
    y: float
    slope: float
    lean: tuple[float, float]

    def on(self, direction: float, pitch: float) -> float:
        """Light on a roof that falls off towards `direction`, relative to level ground."""
        facing = self.x * math.cos(direction) + self.y * math.sin(direction)
        return min(1.5, max(0.15, 1 + pitch * facing / self.slope) / math.hypot(1, pitch))


def render(plan: Plan, date: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The scene in the light of one date, float32 (2m, 2m, 3), about 0 to 255, and where its roofs are a change."""
    turn, tilt, lean = rng.uniform(0, math.tau), rng.uniform(0, math.tau), max(0.0, rng.uniform(-0.3, 0.4))
    view = View(math.cos(turn), math.sin(turn), rng.uniform(0.7, 2.2), (lean * math.cos(tilt), lean * math.sin(tilt)))
    canvas = _pave(plan, date, _ground(plan, date, rng), rng)
    for building in plan.buildings:
        if building.dates[date]:
            _raise(building, date, view, canvas, plan)
    _grow(plan, date, view, canvas)
    horizon = canvas.height.copy()
    for step in (1, 2, 4, 8, 16, 32):  # each step doubles how far it has looked towards the sun
        dx, dy = round(step * view.x), round(step * view.y)
        rows, cols = (slice(max(0, -d), len(horizon) - max(0, d)) for d in (dy, dx))
        seen = horizon[rows.start + dy : rows.stop + dy, cols.start + dx : cols.stop + dx]
        np.maximum(horizon[rows, cols], seen - step * view.slope / (SCALE * plan.zoom), out=horizon[rows, cols])
    light = canvas.light * (horizon <= canvas.height + 0.3)
    ambient = rng.uniform(0.25, 0.5) if rng.random() < 0.9 else rng.uniform(0.6, 0.9)  # clear, or overcast
    blue = rng.uniform(0, 0.1)
    for channel, sky in enumerate((1 - blue, 1.0, 1 + blue)):  # shade is lit by the sky alone
        canvas.colour[..., channel] *= sky * ambient + (1 - ambient) * light
    return canvas.colour, canvas.changed


def _ground(plan: Plan, date: int, rng: np.random.Generator) -> np.ndarray:
    """Lawns, fields, soil and water of one date: float32 (m, m, 3)."""
    u, v, m = plan.u, plan.v, plan.size
    _, inside, kind, block = plan.land[date]
    lots = rng.normal(0, 0.13, (16, 16)).astype(np.float32)
    lots = lots[np.int32(u / 42 + 64) & 15, np.int32(2 * v / plan.streets.spacing + 64) & 15] * (kind < kinds.PARKING)
    patches, speckle = noise(rng, m, (60, 40, 20)), noise(rng, m, (2.2, 1.2))
    vigour = 0.45 + 0.4 * plan.seasons[date] + LUSH[kind] + lots + 0.16 * plan.coarse + 0.12 * plan.fine
    vigour += 0.12 * patches
    bare = 0.6 * plan.coarse.T + 0.3 * plan.fine + 0.5 * patches.T + BARE[kind] + rng.uniform(-0.5, 0.4)
    for building in plan.buildings:
        if building.bare and not building.dates[date]:
            main = building.wings[0]
            lot = main.box(0, 0, main.half_length + 7, main.half_width + 9)
            window, along, across = around(lot, m, plan.zoom)
            reach = np.maximum(abs(along) / lot.half_length, abs(across) / lot.half_width)
            edge = 4 - 4 * reach + 0.5 * plan.fine[window] + 0.3 * plan.coarse[window]
            bare[window] = np.maximum(bare[window], edge)
    shore = inside - 28 + 6 * plan.coarse + rng.uniform(-3, 3)
    shore[kind != kinds.POND] = -9
    tint = (rng.uniform(0.94, 1.06, (3, 3)) * rng.uniform(0.8, 1.2, (3, 1))).astype(np.float32)
    ground = _mix(STRAW * tint[0], GREEN * tint[1], vigour)
    soil = SOILS[rng.integers(len(SOILS))] * tint[2].mean() * (1 + 0.1 * plan.fine + 0.12 * patches)[..., None]
    ground = _mix(ground, soil, np.maximum(2.5 * bare, 1 - abs(shore) / 5))
    crops, turns = CROPS[rng.integers(len(CROPS), size=64)], rng.uniform(0, math.tau, 64).astype(np.float32)
    period = rng.uniform(0.5, 2, 64).astype(np.float32)
    lines = np.sin((u * np.cos(turns)[block] + v * np.sin(turns)[block]) * period[block])
    field = crops[block] * (1 + 0.08 * patches + (0.04 + 0.2 * np.sin(7 * turns)[block] ** 4) * lines)[..., None]
    ground = np.where((kind == kinds.FIELD)[..., None], field, ground)
    rough = ROUGH[kind] * rng.uniform(0.2, 2.5) * (0.8 * plan.grain + 0.6 * speckle)
    ground *= (1 + rng.uniform(0.02, 0.08) * plan.fine + 0.05 * plan.coarse.T + rough)[..., None]
    return _mix(ground, WATER * rng.uniform(0.7, 1.5) * tint[0], 0.7 * shore)


def _mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours from `low` (share 0 and less) to `high` (1 and more), float32 (*share.shape, 3)."""
    share = np.clip(share, 0, 1).astype(np.float32)[..., None]
    return low + share * (high - low)


def paint(colour: Sequence[float] | np.ndarray, light: float = 1) -> tuple[int, ...]:
    """A colour as Pillow takes it."""
    return tuple(min(255, int(channel * light)) for channel in colour)


def _pave(plan: Plan, date: int, ground: np.ndarray, rng: np.random.Generator) -> Canvas:
    """Draw tracks, streets, slabs, drives, parking and cars on the ground."""
    scale, shape = SCALE * plan.zoom, plan.lumps.shape
    large = Image.fromarray(np.uint8(ground.clip(0, 255))).resize(shape, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(large)
    soil = SOILS[rng.integers(len(SOILS))] * rng.uniform(0.8, 1.1)
    for points, width in plan.tracks:
        if rng.random() < 0.9:
            line = [(scale * x, scale * y) for x, y in points]
            draw.line(line, paint(soil, rng.uniform(0.85, 1.1)), round(scale * width), "curve")
            if rng.random() < 0.4 and width > 4:
                draw.line(line, paint(ground.mean((0, 1))), round(scale * width / 4), "curve")
    paths = (Image.fromarray(np.float32(a)).resize(shape, Image.Resampling.BILINEAR) for a in plan.land[date][:2])
    kerb, middle = map(np.asarray, paths)
    walks = rng.random(2) < 0.6
    if walks[0]:
        large.paste(CONCRETE, mask=Image.fromarray((kerb < 0.8) | ((kerb > 2.5) & (kerb < 4.5) & bool(walks[1]))))
    tar = ASPHALT * rng.uniform(0.6, 1.75) * rng.uniform(0.96, 1.04, 3)
    if rng.random() < 0.12 or (plan.land[date][2] == kinds.SITE).mean() > 0.3:
        tar = soil  # not yet paved
    fine, street = np.array(large), kerb < 0
    shade = 1 + 0.04 * plan.lumps[street, None] + rng.uniform(0, 0.08) * plan.leafy[street, None]
    shade += rng.uniform(0, 0.05) * np.cos(0.8 * middle[street, None])
    fine[street] = (tar * shade).clip(0, 255)
    rows, cols = np.nonzero(middle < 0.4 * (rng.random() < 0.5))  # some years without markings
    dash = (plan.u + plan.v)[rows // SCALE, cols // SCALE] % 12 < 6
    fine[rows[dash], cols[dash]] = PAINT
    tops = Image.new("F", large.size)
    site = _Site(ImageDraw.Draw(large := Image.fromarray(fine)), ImageDraw.Draw(tops), scale, rng)
    for pad in plan.pads:
        if (colour := pad.colours[date]) is not None:
            site.box(pad.place, paint(colour, rng.uniform(0.85, 1.15)))
            if pad.lined:
                site.frame(pad.place, PAINT)
    _furnish(plan, date, site, paint(ASPHALT, rng.uniform(0.6, 1.4)))
    surface = np.asarray(large) * (1 + np.float32(rng.uniform(0, 0.06)) * plan.leafy.T[..., None])
    return Canvas(surface, np.array(tops), np.ones_like(plan.lumps), np.zeros(shape, bool))


@dataclass(frozen=True)
class _Site:
    """Draws rectangles of the ground and small things that stand on it."""

    draw: ImageDraw.ImageDraw
    tops: ImageDraw.ImageDraw
    scale: float
    rng: np.random.Generator

    def box(self, wing: Wing, colour: tuple[int, ...], height: float = 0) -> None:
        corners = wing.corners(self.scale)
        self.draw.polygon(corners, colour)
        if height:
            self.tops.polygon(corners, height)

    def frame(self, wing: Wing, colour: tuple[int, ...], height: float = 0) -> None:
        corners = wing.corners(self.scale)
        self.draw.line([*corners, corners[0]], colour)
        if height:
            self.tops.line([*corners, corners[0]], height)

    def car(self, wing: Wing) -> None:
        """A car, or now and then a lorry or a container."""
        body = CARS[self.rng.integers(len(CARS))]
        if self.rng.random() < 0.06:
            self.box(replace(wing, half_length=self.rng.uniform(6, 12), half_width=2.5), body, 5)
            return
        self.box(wing, body, 2.5)
        self.box(wing.box(-0.4, 0, 2.3, 1.7), GLASS)
        self.box(wing.box(-0.6, 0, 1.2, 1.5), body)

    def parking(self, place: Wing, along: float, across: float, ahead: float, full: float) -> None:
        """A row of stalls from -along to along at `across`, entered from the side of `ahead`."""
        for at in np.arange(-along, along, 5.5):
            self.box(place.box(at, across, 0.3, 4.5), PAINT)
            if self.rng.random() < full:
                x, y = place.at(at + 2.75, across - 0.5 * ahead)
                self.car(Wing(x, y, *CAR, place.angle + ahead * math.pi / 2))


def _furnish(plan: Plan, date: int, site: _Site, tar: tuple[int, ...]) -> None:
    """Draw what lies about streets and buildings: drives, pools, sheds, fences, parking and cars."""
    rng, streets, n = site.rng, plan.streets, plan.size / plan.zoom
    land, full, fenced = streets.kinds[date], rng.uniform(0, 0.8), rng.random() < 0.5
    rows, columns = math.ceil(0.75 * n / streets.spacing) + 1, math.ceil(0.75 * n / streets.block) + 1
    for row in range(-rows, rows):
        for column in range(-columns, columns):
            if land[row & 7, column & 7] == kinds.PARKING:
                half = 0.5 * streets.block - streets.width / 2 - 5
                u, depth = (column + 0.5 - 0.5 * (row & 1)) * streets.block, (streets.spacing - streets.width) / 2 - 3
                place = streets.place(u, (row + 0.5) * streets.spacing, half, depth)
                site.box(place, tar)
                for number, across in enumerate(np.arange(-depth + 5, depth - 5, 15)):
                    site.parking(place, half - 4, across, 1 - 2 * (number % 2), full)
    for building in plan.buildings:
        if building.dates[date]:
            _around_building(building, site, tar, full, fenced)
        elif rng.random() < 1.5 / building.wings[0].half_length:  # a slab that waits for its house, or is left of it
            site.box(building.wings[0], CONCRETE)
    for _ in range(rng.integers(1, 3 + int(n) // 18)):
        u, row, lane = rng.uniform(-0.7, 0.7) * n, int(rng.integers(-rows, rows)), rng.choice([-0.27, 0.27])
        car = streets.place(u, row * streets.spacing + lane * streets.width, *CAR)
        at = int(car.y * plan.zoom), int(car.x * plan.zoom)
        if min(at) >= 0 and max(at) < plan.size and plan.land[date][0][at] < 0:
            site.car(car)


def _around_building(building: Building, site: _Site, tar: tuple[int, ...], full: float, fenced: bool) -> None:
    """Draw a house's drive, pool, shed and fence or a hall's parking."""
    main, rng = building.wings[0], site.rng
    side, half = math.copysign(1, building.kerb), building.kerb / 2
    if building.kind in (kinds.HALLS, kinds.FLATS):
        reach = max(abs(building.kerb) - 4, main.half_width + 2)
        if rng.random() < 0.3:
            return
        site.box(main.box(0, 0, main.half_length + 8, reach), tar)
        for front in (-1, 1):
            if reach - main.half_width > 11:
                site.parking(main, main.half_length, front * (reach - 5), front, full)
        return
    paving = paint(CONCRETE, rng.uniform(0.6, 1.25))
    if abs(building.kerb) > main.half_width:
        site.box(main.box(0.55 * main.half_length, half, rng.uniform(1.5, 4.5), abs(half)), paving)
    back = -side * main.half_width
    if rng.random() < 0.3:
        site.box(main.box(rng.uniform(-6, 6), back - 4 * side, rng.uniform(3, 7), rng.uniform(2, 5)), paving)
    if building.pool and rng.random() < 0.85:
        place, water = main.box(-2, back - 9 * side, 5, 2.8), POOLS[rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))]
        site.box(place.box(0, 0, 6.2, 4), paving)
        site.box(place, water)
    if rng.random() < 0.15:
        x, y = main.at(rng.uniform(-8, 8), back - 13 * side)
        site.box(Wing(x, y, rng.uniform(1.5, 3), rng.uniform(1.5, 2.5), main.angle), CARS[rng.integers(3)], 3.5)
    if fenced and building.kind == kinds.HOUSES:
        site.frame(main.box(0, back - 8 * side, main.half_length + 4, 12), FENCE, 2.5)
    if rng.random() < 0.3 and abs(building.kerb) > main.half_width + 10:
        x, y = main.at(0.55 * main.half_length, side * (main.half_width + 6))
        site.car(Wing(x, y, *CAR, main.angle + math.pi / 2))


def _raise(building: Building, date: int, view: View, canvas: Canvas, plan: Plan) -> None:
    """Draw a building's walls as far as it leans, and its roof, facet by facet in the light each gets."""
    pixels, scale = len(canvas.height), SCALE * plan.zoom
    for wing in building.wings:
        x, y = (wing.eaves * way for way in view.lean)
        for step in range(1, math.ceil(scale * math.hypot(x, y) / 2)):
            share = step / math.ceil(scale * math.hypot(x, y) / 2)
            window, u, v = around(replace(wing, x=wing.x + share * x, y=wing.y + share * y), pixels, scale)
            wall = (abs(u) <= wing.half_length) & (abs(v) <= wing.half_width)
            wall &= canvas.height[window] < share * wing.eaves
            canvas.height[window][wall] = share * wing.eaves
            canvas.colour[window][wall], canvas.light[window][wall] = 0.5 * building.colours[0] + 70, 0.5
        window, u, v = around(replace(wing, x=wing.x + x, y=wing.y + y), pixels, scale)
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
        lit = np.array([view.on(fall, building.pitch) for fall in falls], np.float32)
        lit = lit[np.where(on_end, 2 + (u > 0), v > 0)]
        seams = np.sin((0.8 + 40 * building.rough) * np.where(on_end, v, u) if building.seams else 2.4 * inward)
        rough = plan.lumps[window][inside] + plan.lumps.T[window][inside] * np.sign(seams)
        tint = 1 + building.rough * (rough + 0.6 * seams) + (0.05 + 6 * building.rough) * parapet
        tint += building.grain * plan.leafy[window][inside]
        top = roof > canvas.height[window][inside]
        colour = building.colours[date] * tint[:, None]
        if wing is building.wings[0]:
            _fit(building, wing, u, v, colour)
        inside[inside] = top
        canvas.height[window][inside], canvas.light[window][inside] = roof[top], lit[top]
        canvas.colour[window][inside] = colour[top]
        canvas.changed[window][inside] = building.dates[0] != building.dates[1]


def _fit(building: Building, wing: Wing, u: np.ndarray, v: np.ndarray, colour: np.ndarray) -> None:
    """Put roof lights or solar panels on a roof."""
    along, across, size, brightness = building.lights
    colour[(u % along < size) & (v % across < size)] = brightness
    if not building.panels:
        return
    panels = (v > (0.12 if building.hip else -0.9) * wing.half_width) & (v < 0.8 * wing.half_width)
    panels &= abs(u) < 0.7 * wing.half_length
    colour[panels] = (42, 52, 84)
    colour[panels & ((u % 3.2 < 0.5) | (v % 2 < 0.4))] = (92, 100, 120)


def _grow(plan: Plan, date: int, view: View, canvas: Canvas) -> None:
    """Draw the crowns: lumpy domes lit by their own slope, bare or in leaf."""
    crowns, tones, leaves = (np.zeros_like(canvas.height) for _ in range(3))
    for tree in (tree for tree in plan.trees if tree.dates[date]):
        window, new = tree.window, tree.dome > crowns[tree.window]
        leaf = 1 if tree.evergreen else 0.9 + plan.seasons[date] + 0.2 * tree.tone
        crowns[window][new], tones[window][new], leaves[window][new] = tree.dome[new], tree.tone, leaf
    crowns += (crowns > 0) * (0.8 * plan.lumps + 0.35 * plan.leafy)
    crowns *= (leaves > 0.4) | (plan.lumps > -0.2)  # bare crowns let the ground through
    down, right = np.gradient(crowns)
    new = crowns > canvas.height
    down, right, leaves = down[new], right[new], leaves[new]
    lit = np.clip(1 - (right * view.x + down * view.y) / view.slope, 0, 3) / np.sqrt(1 + right**2 + down**2)
    shades = _mix(_mix(TWIGS, AUTUMN, 2.5 * leaves), LEAF, 2.5 * leaves - 1)
    canvas.colour[new] = shades * (1 + 0.12 * tones[new] + 0.2 * plan.leafy[new])[:, None]
    canvas.light[new], canvas.height[new] = 0.3 + 0.7 * lit, crowns[new]
