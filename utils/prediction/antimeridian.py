"""Cuts polygons on the globe at 180 degrees of longitude, as GeoJSON requires (RFC 7946, section 3.1.9)."""

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
    polygons = [[loop] for loop in loops if signed_area(loop) > 0]  # a loop without area only touches the line
    for hole in whole:
        middle = hole[:2].mean(0)  # of an edge: rings share corners, but no edge
        next((polygon for polygon in polygons if _holds(polygon[0], middle)), polygons[0]).append(hole)
    return polygons


def signed_area(ring: Ring) -> float:
    """Return the area in a ring, positive if it runs counterclockwise."""
    x, y = (ring - ring[0]).T  # near 0, where rounding is small
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _split(ring: Ring) -> tuple[bool, list[np.ndarray]]:
    """Whether a ring crosses the line, and its parts between crossings, with longitudes from -180 to 180."""
    longitude, latitude = np.unwrap(ring[:, 0], period=360), ring[:, 1]
    turns = np.floor((longitude + 180) / 360)
    points = np.stack([longitude - 360 * turns, latitude], 1)
    parts, start = [], [points[0]]
    for at in range(1, len(ring)):
        if step := turns[at] - turns[at - 1]:  # 1 to the east, -1 to the west
            share = (step * 180 - points[at - 1, 0]) / (longitude[at] - longitude[at - 1])
            crossed = latitude[at - 1] + share * (latitude[at] - latitude[at - 1])
            parts.append([*start, np.array((step * 180, crossed))])
            start = [np.array((-step * 180, crossed))]
        start.append(points[at])
    if not parts:
        return False, [points]
    parts[0] = start[:-1] + parts[0]  # the last point is also the first
    return True, [np.array(part) for part in parts]


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
