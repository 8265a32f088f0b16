"""Draws the ground of a planned scene at one date, and what lies about on it: streets, pools, fences, cars."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from datasets import scene_parts as kinds
from datasets.scene_parts import SCALE, Building, Plan, Wing, around, noise

CAR = 4.3, 1.9  # half sides
CARS = ((206, 206, 204), (230, 230, 230), (176, 178, 181), (62, 64, 67), (42, 43, 47), (146, 44, 38), (56, 76, 116))
CONCRETE, PAINT, GLASS, FENCE = (188, 182, 170), (222, 218, 206), (84, 88, 94), (92, 80, 66)
POOLS = ((92, 158, 172), (70, 140, 180), (70, 96, 84), (200, 196, 186))  # filled, and two ways to be empty
GREEN, STRAW, WATER, ASPHALT = np.array([(80, 90, 54), (154, 139, 104), (50, 64, 62), (112, 110, 107)], np.float32)
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


def _land(plan: Plan, date: int, rng: np.random.Generator) -> np.ndarray:
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
    ground = mix(STRAW * tint[0], GREEN * tint[1], vigour)
    soil = SOILS[rng.integers(len(SOILS))] * tint[2].mean() * (1 + 0.1 * plan.fine + 0.12 * patches)[..., None]
    ground = mix(ground, soil, np.maximum(2.5 * bare, 1 - abs(shore) / 5))
    crops, turns = CROPS[rng.integers(len(CROPS), size=64)], rng.uniform(0, math.tau, 64).astype(np.float32)
    period = rng.uniform(0.5, 2, 64).astype(np.float32)
    lines = np.sin((u * np.cos(turns)[block] + v * np.sin(turns)[block]) * period[block])
    field = crops[block] * (1 + 0.08 * patches + (0.04 + 0.2 * np.sin(7 * turns)[block] ** 4) * lines)[..., None]
    ground = np.where((kind == kinds.FIELD)[..., None], field, ground)
    rough = ROUGH[kind] * rng.uniform(0.2, 2.5) * (0.8 * plan.grain + 0.6 * speckle)
    ground *= (1 + rng.uniform(0.02, 0.08) * plan.fine + 0.05 * plan.coarse.T + rough)[..., None]
    return mix(ground, WATER * rng.uniform(0.7, 1.5) * tint[0], 0.7 * shore)


def mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours from `low` (share 0 and less) to `high` (1 and more), float32 (*share.shape, 3)."""
    share = np.clip(share, 0, 1).astype(np.float32)[..., None]
    return low + share * (high - low)


def _paint(colour: Sequence[float] | np.ndarray, light: float = 1) -> tuple[int, ...]:
    """A colour as Pillow takes it."""
    return tuple(min(255, int(channel * light)) for channel in colour)


def draw_ground(plan: Plan, date: int, rng: np.random.Generator) -> Canvas:
    """Draw the land, and on it tracks, streets, slabs, drives, parking and cars."""
    ground, scale, shape = _land(plan, date, rng), SCALE * plan.zoom, plan.lumps.shape
    large = Image.fromarray(np.uint8(ground.clip(0, 255))).resize(shape, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(large)
    soil = SOILS[rng.integers(len(SOILS))] * rng.uniform(0.8, 1.1)
    for points, width in plan.tracks:
        if rng.random() < 0.9:
            line = [(scale * x, scale * y) for x, y in points]
            draw.line(line, _paint(soil, rng.uniform(0.85, 1.1)), round(scale * width), "curve")
            if rng.random() < 0.4 and width > 4:
                draw.line(line, _paint(ground.mean((0, 1))), round(scale * width / 4), "curve")
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
            site.box(pad.place, _paint(colour, rng.uniform(0.85, 1.15)))
            if pad.lined:
                site.frame(pad.place, PAINT)
    _furnish(plan, date, site, _paint(ASPHALT, rng.uniform(0.6, 1.4)))
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
    paving = _paint(CONCRETE, rng.uniform(0.6, 1.25))
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
