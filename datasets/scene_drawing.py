"""Draws a planned scene as the camera of one date would see it: its season, sun, cars, haze and noise.

Heights are drawn along with colours: shadows, lit roof halves and shaded crowns all follow from one height map
and one sun. Geometry is drawn SCALE times finer than the image and averaged down.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from datasets.scene_plan import FIELD, PAD, POND, SCALE, Building, Plan, Streets, Wing, around, noise

CAR = 4.3, 1.9  # half sides
CARS = ((206, 206, 204), (176, 178, 181), (62, 64, 67), (42, 43, 47), (146, 44, 38), (56, 76, 116))
CONCRETE, PAINT, POOL, GLASS = (188, 182, 170), (222, 218, 206), (92, 158, 172), (84, 88, 94)
GREEN, STRAW, SOIL, WATER, ASPHALT, LEAF, AUTUMN, TWIGS = np.array(
    [(80, 90, 54), (154, 139, 104), (172, 150, 120), (50, 64, 62), (112, 110, 107), (50, 66, 40), (122, 98, 54),
     (104, 95, 84)], np.float32)  # fmt: skip


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


def render(plan: Plan, date: int, rng: np.random.Generator) -> np.ndarray:
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
    patches = noise(rng, plan.n, (60, 40, 20))
    vigour = 0.5 + 0.35 * plan.seasons[date] + lots + 0.16 * plan.coarse + 0.09 * plan.fine
    vigour += 0.1 * np.sin(u) * (kind == FIELD) + 0.1 * patches
    bare = 0.6 * plan.coarse.T + 0.25 * plan.fine + 0.5 * patches.T - 1.5
    for building in plan.buildings:
        if building.bare and not building.dates[date]:
            main = building.wings[0]
            lot = main.box(0, 0, main.half_length + 7, main.half_width + 9)
            window, along, across = around(lot, plan.n, 1)
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
        cars += _furnish(building, plan.streets, draw, tuple((tar * 0.9).astype(np.int64)), rng)
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
        window, u, v = around(wing, plan.n, SCALE)
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


def photograph(scene: np.ndarray, shift: tuple[int, int], size: int, rng: np.random.Generator) -> np.ndarray:
    """What one date's camera makes of the rendered scene: uint8 (size, size, 3)."""
    top, left = (PAD * SCALE + s for s in shift)
    fine = scene[top : top + size * SCALE, left : left + size * SCALE]
    image: Any = sum(fine[i::SCALE, j::SCALE] for i in range(SCALE) for j in range(SCALE))
    image *= np.float32(rng.uniform(0.96, 1.04, 3) * rng.uniform(0.85, 1.2) / (255 * SCALE**2))
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.88, 1.15))
    haze = rng.uniform(0, 0.14)
    image += np.float32(haze) * (np.array((0.72, 0.76, 0.8), np.float32) - image)
    image += rng.standard_normal((size, size, 1), np.float32) * np.float32(rng.uniform(0.006, 0.016))
    picture = Image.fromarray(np.uint8(np.clip(image * 255, 0, 255)))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6))))
