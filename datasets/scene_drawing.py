"""Draws a planned scene as it looks at one date: its season, sun, streets, cars, and the lean of its buildings.

Heights are drawn along with colours: shadows, lit roof halves and shaded crowns all follow from one height map
and one sun. Geometry is drawn SCALE times finer than the image and averaged down.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from datasets.scene_ground import Canvas, draw_ground, mix
from datasets.scene_parts import SCALE, Building, Plan, Wing, around

LEAF, AUTUMN, TWIGS = np.array([(50, 66, 40), (122, 98, 54), (104, 95, 84)], np.float32)


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
    canvas = draw_ground(plan, date, rng)
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
    shades = mix(mix(TWIGS, AUTUMN, 2.5 * leaves), LEAF, 2.5 * leaves - 1)
    canvas.colour[new] = shades * (1 + 0.12 * tones[new] + 0.2 * plan.leafy[new])[:, None]
    canvas.light[new], canvas.height[new] = 0.3 + 0.7 * lit, crowns[new]
