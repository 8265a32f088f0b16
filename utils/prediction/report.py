"""Writes report.html: one page that shows a whole prediction in any browser, without network or server.

Markup, style and scripts of the page are in report_page/. This module inserts the numbers, as JSON, and the thumbnails,
as base64 in inert script elements that the page decodes when they come near the screen. All text goes through the JSON
and is set as text, so no name, path or setting can become markup.
"""

import base64
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import numpy as np
from PIL import Image

from datasets.windows import Window
from utils.change_map import Colour, fitted
from utils.files import naming, written_whole

SIDE = 384  # pixels of a thumbnail's longer side, at most
PAIR_BYTES = 44_000  # of one pair's images; in base64 58,700 characters, below 60 kB
LAYER_BYTES = 8_000  # of the map and of the error map, each; both dates share the rest
DATE_BYTES = 20_000  # of a date of a series
QUALITIES = (85, 75, 65, 50, 35, 20)  # of JPEG, tried in this order
CHANGED = (255, 0, 170)  # magenta: rare in roofs and fields, and in no error map
STRIP = 512  # rows of an image that are read at a time, about
PAGE = Path(__file__).with_name("report_page")
PAGE_FILES = {
    "/*STYLE*/": "style.css", "/*SUMMARY*/": "summary.js", "/*GALLERY*/": "gallery.js", "/*SERIES*/": "series.js",
}  # fmt: skip


def write_report(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    thumbnails: Callable[[str], Mapping[str, np.ndarray]],
    about: Mapping[str, Any],
    curve: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the page whole or not at all; the pixels of one pair are in memory at a time.

    Args:
        path: the page.
        rows: the gallery, in its first order: of each pair `name` and `changed_share`, a fraction; with labels also
            `precision`, `recall`, `f1`, `iou`, `tp`, `fp`, `fn`, `tn`.
        thumbnails: returns a pair's uint8 images of one height and width, by its name: `before` and `after` (H, W, 3),
            `map` (H, W) of 0 and 255, and with a label `error` (H, W, 3).
        about: each of these is optional: `title`; `scores`, fractions of all pairs together; `protocol`, settings;
            `legend`, colours (RGB) of the error maps by meaning; `compared`, how the dates of series are, in words;
            `places`, of each series `name`, `dates`, of the later dates `meanings`, `colours` and `shares`, and
            `pictures`, which returns its uint8 images, `dates` (H, W, 3) and `maps` (H, W) of the later ones.
        curve: `precision`, `recall` and `threshold`, each (N,), finite.
    """
    head, middle, tail = _template()
    pairs: list[dict[str, object]] = []
    places: list[dict[str, object]] = []
    with naming(path), tempfile.TemporaryFile("w+", dir=path.parent, encoding="ascii") as pixels:
        for number, row in enumerate(rows):
            size, images = _encoded(thumbnails(row["name"]))
            pixels.write(f'<script type="text/plain" id="pixels-{number}">{" ".join(images)}</script>\n')
            pairs.append({**row, "size": size})
        for number, place in enumerate(about.get("places", ())):
            size, images = _encoded_dates(**place["pictures"](), colours=place["colours"])
            pixels.write(f'<script type="text/plain" id="dates-{number}">{" ".join(images)}</script>\n')
            places.append({**place, "size": size, "pictures": None})
        pixels.seek(0)
        data = {**about, "pairs": pairs, "places": places, "curve": _drawn_part(curve or {}), "changed": CHANGED}
        with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as page:
            # numbers before pictures, so that the page works before it is loaded to its end
            page.write(f'{head}<script type="application/json" id="data">{_json(data)}</script>{middle}')
            copyfileobj(pixels, page)
            page.write(tail)


def _template() -> list[str]:
    """The page up to its numbers, from there to its pictures, and the rest."""
    text = (PAGE / "page.html").read_text(encoding="utf-8")
    for mark, name in PAGE_FILES.items():
        text = text.replace(mark, (PAGE / name).read_text(encoding="utf-8"))
    return text.replace("<!--DATA-->", "<!--PIXELS-->").split("<!--PIXELS-->")


def _encoded(thumbnails: Mapping[str, np.ndarray]) -> tuple[tuple[int, int], list[str]]:
    """(width, height) of a pair in the page, and its images in base64: before, after, map and, if any, error map."""
    images = {name: Image.fromarray(np.ascontiguousarray(pixels)) for name, pixels in thumbnails.items()}
    sizes = _sizes(images["before"].size)
    layers = [_first_within(LAYER_BYTES, (_map_png(images["map"], size) for size in sizes))]
    if "error" in images:
        layers.append(_first_within(LAYER_BYTES, (_error_png(images["error"], size) for size in sizes)))
    room = (PAIR_BYTES - sum(map(len, layers))) // 2
    dates = [_first_within(room, _jpegs(images[date], sizes)) for date in ("before", "after")]
    return sizes[0], [base64.b64encode(data).decode() for data in dates + layers]


def _encoded_dates(
    dates: Sequence[np.ndarray], maps: Sequence[np.ndarray], colours: Sequence[Colour]
) -> tuple[tuple[int, int], list[str]]:
    """(width, height) of a place in the page, and its images in base64: all dates, then the maps of the later ones."""
    sizes = _sizes(Image.fromarray(dates[0]).size)
    images = [_first_within(DATE_BYTES, _jpegs(Image.fromarray(date), sizes)) for date in dates]
    for pixels, colour in zip(map(Image.fromarray, maps), colours, strict=True):
        images.append(_first_within(LAYER_BYTES, (_map_png(pixels, size, colour) for size in sizes)))
    return sizes[0], [base64.b64encode(data).decode() for data in images]


def _sizes(full: tuple[int, int]) -> list[tuple[int, int]]:
    """(width, height) in which an image is tried."""
    return [fitted(full, min(max(full), SIDE) // part or 1) for part in (1, 2, 4)]


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


def _map_png(changed: Image.Image, size: tuple[int, int], colour: Colour = CHANGED) -> bytes:
    """The changed pixels in one colour; opacity is their share of a thumbnail's pixel, in 16 steps rounded up."""
    share = np.asarray(changed.resize(size, Image.Resampling.BOX), np.uint16)
    image = Image.fromarray(((share + 16) // 17).astype(np.uint8))
    image.putpalette(colour * 16)
    return _saved(image, "PNG", bits=4, transparency=bytes(range(0, 256, 17)))


def _error_png(error: Image.Image, size: tuple[int, int]) -> bytes:
    """The error map in its own colours, at most 16; black (rightly unchanged) is transparent."""
    small = error.resize(size, Image.Resampling.NEAREST)  # colours are classes, and must not be mixed
    codes, index = np.unique(np.asarray(small.convert("RGBX")).view(">u4")[..., 0], return_inverse=True)
    colours = codes.astype(">u4").view(np.uint8).reshape(-1, 4)[:, :3]
    image = Image.fromarray(index.reshape(size[::-1]).astype(np.uint8))
    image.putpalette(colours.tobytes())
    return _saved(image, "PNG", bits=4, transparency=bytes(255 * colours.any(1).astype(np.uint8)))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _drawn_part(curve: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The points of a curve at which anything is found; elsewhere precision and recall are 0. None without points."""
    found = curve["precision"] + curve["recall"] > 0 if curve else np.zeros(1)
    return {name: values[found] for name, values in curve.items()} if found.any() else None


def _json(content: object) -> str:
    """JSON in ASCII that cannot end or open a script element: floats with six digits, null for NaN and infinity."""
    text = json.dumps(content, default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value))
    plain = json.loads(text, parse_float=lambda word: float(f"{float(word):.6g}"), parse_constant=lambda word: None)
    return json.dumps(plain, separators=(",", ":")).replace("<", "\\u003c")


def shrunk(read: Callable[[Window], np.ndarray], size: tuple[int, int], side: int, mixed: bool = True) -> np.ndarray:
    """Return an image with its longer side shrunk to `side` up to twice as many pixels; a smaller one as it is.

    Args:
        read: returns a window, uint8 (h, w) or (h, w, channels); it is called from the top down.
        size: (height, width) of the image.
        side: in pixels.
        mixed: whether a pixel is the mean of a block; otherwise it is the block's first, for colours that are classes.
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
