"""Cuts polygons on the globe at 180 degrees of longitude, as GeoJSON requires (RFC 7946, section 3.1.9)."""

from itertools import pairwise

import numpy as np

Ring = np.ndarray  # float (n, 2), longitude and latitude in degrees; the first point is also the last


def cut(rings: list[Ring]) -> list[list[Ring]]:
    """Cut a polygon where it crosses 180 degrees of longitude.

    Args:
        rings: the outline counterclockwise, then its holes clockwise. A step of more than 180 degrees of longitude
            means the short way round. The polygon may contain a pole.

    Returns:
        Polygons in the same form, with longitudes from -180 to 180; several if the polygon crosses the line.
    """
    parts = [_split(ring) for ring in rings]
    whole = [shifted for crosses, (shifted, *_) in parts if not crosses]
    loops = _joined([chain for crosses, chains in parts if crosses for chain in chains])
    if not loops:
        return [whole]
    loops = [part for loop in loops for part in _apart(loop)]
    polygons = [[loop] for loop in loops if signed_area(loop) > 0]  # a loop without area only touches the line
    for hole in [*whole, *(loop for loop in loops if signed_area(loop) < 0)]:
        middle = hole[:2].mean(0)  # of an edge: rings share corners, but no edge
        next((polygon for polygon in polygons if _holds(polygon[0], middle)), polygons[0]).append(hole)
    return polygons


def signed_area(ring: Ring) -> float:
    """Return the area in a ring, positive if it runs counterclockwise."""
    x, y = (ring - ring[0]).T  # near 0, where rounding is small
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _split(ring: Ring) -> tuple[bool, list[np.ndarray]]:
    """Whether a ring has edges on both sides of the line, and its parts on each, with longitudes from -180 to 180.

    An edge on the line is of the side on its left, where the inside is.
    """
    points = np.stack([np.unwrap(ring[:, 0], period=360), ring[:, 1]], 1)
    edges = []
    for start, end in zip(points[:-1], points[1:], strict=True):
        west, east = sorted((start[0], end[0]))
        line = 360 * np.ceil((west - 180) / 360) + 180  # the first that is not west of the edge
        if west < line < east:
            share = (line - start[0]) / (end[0] - start[0])
            middle = np.array((line, start[1] + share * (end[1] - start[1])))
            edges += [(start, middle), (middle, end)]
        else:
            edges.append((start, end))
    shifted = []
    for start, end in edges:
        on_line = start[0] == end[0] and start[0] % 360 == 180
        inside = np.sign(start[1] - end[1]) if on_line else 0  # east of an edge to the south
        turn = np.floor(((start[0] + end[0]) / 2 + inside + 180) / 360)
        shifted.append(np.stack([start, end]) - (360 * turn, 0))
    begins = [at for at, (start, _) in enumerate(shifted) if abs(start[0] - shifted[at - 1][1, 0]) > 180]
    parts = []
    for begin, stop in pairwise([*begins, begins[0] + len(shifted)] if begins else [0, len(shifted)]):
        chain = [shifted[at % len(shifted)] for at in range(begin, stop)]
        parts.append(np.stack([chain[0][0], *(end for _, end in chain)]))
    return bool(begins), parts


def _joined(chains: list[np.ndarray]) -> list[Ring]:
    """Close chains that begin and end on the line; their inside is on the left."""
    rings = []
    while chains:
        ring, *chains = chains
        number = -1
        while number:
            way, number = _along(ring[-1], [ring[0], *(chain[0] for chain in chains)])
            ring = np.concatenate([ring, way, chains.pop(number - 1)[1:] if number else way[:0]])
        rings.append(ring)
    return rings


def _apart(ring: Ring) -> list[Ring]:
    """Divide a ring at points that it visits several times."""
    rings, path, place = list[Ring](), list[tuple[float, float]](), dict[tuple[float, float], int]()
    for point in map(tuple, ring.tolist()):
        if (at := place.get(point)) is not None:
            rings.append(np.array([*path[at:], point]))
            for left in path[at:]:
                del place[left]
            del path[at:]
        place[point] = len(path)
        path.append(point)
    return [*rings, np.array(path)]


def _along(end: np.ndarray, starts: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """The way along the line from the end of a chain to the next start, (n, 2), and the number of that start.

    It goes north in the east and south in the west. If no start comes before the pole, the polygon contains the pole,
    and the way crosses to the other side there.
    """
    side = np.sign(end[0])
    ahead = [n for n, start in enumerate(starts) if side * start[0] > 0 and side * (start[1] - end[1]) >= 0]
    if ahead:
        number = min(ahead, key=lambda n: side * starts[n][1])
        return starts[number][None], number
    other = [n for n, start in enumerate(starts) if side * start[0] < 0]
    number = max(other, key=lambda n: side * starts[n][1])
    return np.array([(side * 180, side * 90), (-side * 180, side * 90), starts[number]]), number


def _holds(outline: Ring, point: np.ndarray) -> bool:
    """Return True if a point lies within an outline."""
    edges = np.concatenate([outline[:-1], outline[1:]], 1)
    x, y, x2, y2 = edges[(edges[:, 1] > point[1]) != (edges[:, 3] > point[1])].T
    return bool((x + (point[1] - y) / (y2 - y) * (x2 - x) > point[0]).sum() % 2)
