"""report.html: one page that shows a whole prediction in any browser, without network or server.

The page's markup, style and scripts are in utils/report_page/. This module puts in the numbers, as JSON, and the
thumbnails, as base64 in inert script elements that the page decodes when they come near the screen. All text goes
through the JSON and is set as text, so no name, path or setting can become markup.
"""

import base64
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import numpy as np
from PIL import Image

from datasets.windows import Window
from utils.change_map import fitted
from utils.console import UserError
from utils.files import naming, written_whole

SIDE = 384  # pixels of a thumbnail's longer side, at most
PAIR_BYTES = 44_000  # of one pair's images; base64 makes 58,700 characters of them, below 60 kB
LAYER_BYTES = 8_000  # of the map and of the error map, each; the two dates share the rest
QUALITIES = (85, 75, 65, 50, 35, 20)  # of JPEG, tried in this order
CURVE_POINTS = 200
CHANGED = (255, 0, 170)  # magenta: hardly a roof or field has it, and no error map
STRIP = 512  # rows of an image that are read at a time, about
PAGE = Path(__file__).with_name("report_page")
PARTS = {"/*STYLE*/": "style.css", "/*SUMMARY*/": "summary.js", "/*GALLERY*/": "gallery.js"}


@dataclass(frozen=True)
class ReportPair:
    """One pair of the gallery.

    Attributes:
        name: shown, and what the gallery is sorted and filtered by.
        row: `changed_share`, a fraction; with labels also `precision`, `recall`, `f1`, `iou` and the counts `tp`,
            `fp`, `fn`, `tn`.
        thumbnails: gives uint8 images of one height and width, when they are needed: `before` and `after` (H, W, 3),
            `map` (H, W) of 0 and 255, and with a label `error` (H, W, 3). They may be shrunk already.
    """

    name: str
    row: Mapping[str, float]
    thumbnails: Callable[[], Mapping[str, np.ndarray]]


def write_report(
    path: Path,
    pairs: Iterable[ReportPair],
    about: Mapping[str, Any],
    curve: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the page whole or not at all; the pixels of one pair are in memory at a time.

    Args:
        path: the page.
        pairs: what the gallery shows, in its first order; read once.
        about: `title`; `scores`, fractions of all pairs together; `protocol`, settings, shown as they come; `legend`,
            what each colour (RGB) of the error maps means. Each may be missing.
        curve: `precision` and `recall`, both (N,), in the order of `threshold`, (N,) or one fewer.

    Raises:
        UserError: images of a pair that do not fit each other.
    """
    head, middle, tail = _template()
    rows: list[dict[str, object]] = []
    with naming(path), tempfile.TemporaryFile("w+", dir=path.parent, encoding="ascii") as pixels:
        for pair in pairs:
            size, images = _encoded(pair)
            pixels.write(f'<script type="text/plain" id="pixels-{len(rows)}">{" ".join(images)}</script>\n')
            rows.append({**pair.row, "name": pair.name, "size": size})
        pixels.seek(0)
        data = {**about, "pairs": rows, "curve": _thinned(curve), "changed": CHANGED}
        with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as page:
            # numbers before pictures: the page is there, and can be sorted, long before it has been read to its end
            page.write(f'{head}<script type="application/json" id="data">{_json(data)}</script>{middle}')
            copyfileobj(pixels, page)
            page.write(tail)


def _template() -> tuple[str, str, str]:
    """The page up to its numbers, from there to its pictures, and the rest."""
    text = (PAGE / "page.html").read_text(encoding="utf-8")
    for mark, name in PARTS.items():
        text = text.replace(mark, (PAGE / name).read_text(encoding="utf-8"))
    head, rest = text.split("<!--DATA-->")
    middle, tail = rest.split("<!--PIXELS-->")
    return head, middle, tail


def _encoded(pair: ReportPair) -> tuple[tuple[int, int], list[str]]:
    """A pair's (width, height) in the page, and its images in base64: before, after, map and, if any, error map."""
    images = {name: Image.fromarray(pixels) for name, pixels in _checked(pair).items()}
    full = images["before"].size
    sizes = [fitted(full, min(max(full), SIDE) // part or 1) for part in (1, 2, 4)]
    layers = [_first_within(LAYER_BYTES, (_map_png(images["map"], size) for size in sizes))]
    if "error" in images:
        layers.append(_first_within(LAYER_BYTES, (_error_png(images["error"], size) for size in sizes)))
    room = (PAIR_BYTES - sum(map(len, layers))) // 2
    dates = [_first_within(room, _jpegs(images[date], sizes)) for date in ("before", "after")]
    return sizes[0], [base64.b64encode(data).decode() for data in dates + layers]


def _checked(pair: ReportPair) -> dict[str, np.ndarray]:
    """The pair's images, if they fit each other."""
    given = pair.thumbnails()
    images = {name: np.ascontiguousarray(given[name]) for name in ("before", "after", "map", "error") if name in given}
    for name, pixels in images.items():
        wanted = images["before"].shape[:2] + ((3,) if name != "map" else ())
        if pixels.shape != wanted or pixels.dtype != np.uint8:
            raise UserError(f"{pair.name}: {name} is {pixels.dtype} {pixels.shape}; a report takes uint8 {wanted}")
    return images


def _first_within(limit: int, attempts: Iterable[bytes]) -> bytes:
    """The first attempt that is small enough, otherwise the last one."""
    data = b""
    for data in attempts:
        if len(data) <= limit:
            break
    return data


def _jpegs(image: Image.Image, sizes: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    for size in sizes:
        small = image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)
        for quality in QUALITIES:
            yield _saved(small, "JPEG", quality=quality)


def _map_png(changed: Image.Image, size: tuple[int, int]) -> bytes:
    """The changed pixels in one colour, as opaque as their share of a thumbnail's pixel, in 16 steps rounded up."""
    share = np.asarray(changed.resize(size, Image.Resampling.BOX), np.uint16)
    image = Image.fromarray(((share + 16) // 17).astype(np.uint8))
    image.putpalette(CHANGED * 16)
    return _saved(image, "PNG", bits=4, transparency=bytes(range(0, 256, 17)))


def _error_png(error: Image.Image, size: tuple[int, int]) -> bytes:
    """The error map in its own colours, black (rightly unchanged) left transparent."""
    small = error.resize(size, Image.Resampling.NEAREST)  # a mixture of its colours would mean something else
    found = small.getcolors(16)
    if found is None:
        raise UserError("an error map of more than 16 colours: they should be those of one palette")
    colours = sorted(np.array([colour for _, colour in found]).tolist())
    codes = np.asarray(small.convert("RGBX")).view(">u4")[..., 0]  # one number a pixel, in the order of the colours
    index = np.searchsorted(np.unique(codes), codes)
    image = Image.fromarray(index.astype(np.uint8))
    image.putpalette([level for colour in colours for level in colour])
    alpha = bytes(255 * any(colour) for colour in colours)
    return _saved(image, "PNG", bits=4, transparency=alpha)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _thinned(curve: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
    """At most CURVE_POINTS points, evenly along the line that is seen; thresholds often crowd in one of its corners."""
    if curve is None:
        return None
    count = min(len(curve["recall"]), len(curve["threshold"]))
    points = {name: np.asarray(curve[name], float)[:count] for name in ("precision", "recall", "threshold")}
    known = np.isfinite(list(points.values())).all(0)
    known &= points["precision"] + points["recall"] > 0  # both are 0 where nothing is found: 0/0 is no point of a curve
    points = {name: values[known] for name, values in points.items()}
    if not known.any():
        return None
    steps = np.hypot(np.diff(points["recall"]), np.diff(points["precision"]))
    way = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], CURVE_POINTS)).clip(max=len(way) - 1))
    return {name: values[kept] for name, values in points.items()}


def _json(content: object) -> str:
    """JSON in ASCII that cannot end or open a script element, whatever text is in it."""
    return json.dumps(_plain(content), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    """What JSON knows: no number is null, floats have six digits, and all else is said as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def shrunk(read: Callable[[Window], np.ndarray], size: tuple[int, int], side: int, mixed: bool = True) -> np.ndarray:
    """An image whose longer side has at least `side` and fewer than twice as many pixels; a smaller one as it is.

    Args:
        read: gives a window, uint8 (h, w) or (h, w, channels); windows come from the top down.
        size: (height, width) of the image.
        side: in pixels.
        mixed: whether a pixel is the mean of those it stands for; otherwise it is the first of them, as colours with a
            meaning want it.
    """
    height, width = size
    factor = min(max(size) // side, height, width)
    if factor < 2:
        return read(Window(0, 0, height, width))
    rows, strips = max(1, STRIP // factor) * factor, []
    for top in range(0, height // factor * factor, rows):
        count = min(rows, height // factor * factor - top)
        pixels = read(Window(top, 0, count, width))[:, : width // factor * factor]
        if mixed:
            blocks = pixels.reshape(count // factor, factor, -1, factor, *pixels.shape[2:])
            strips.append(blocks.mean((1, 3)).round().astype(np.uint8))
        else:
            strips.append(pixels[::factor, ::factor])
    return np.concatenate(strips)
