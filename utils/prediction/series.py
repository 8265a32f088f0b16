"""Draws the change-date map of a place: for each pixel, the first date of a series at which it is changed."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.open_pair import OpenPair
from datasets.pairs import Pair
from datasets.raster import WindowedImage
from datasets.reading import MASKS, PixelFormat, as_rgb
from datasets.series import Series
from datasets.windows import Grid, Window
from utils.change_map import NOT_COUNTED, date_colours, draw_legend
from utils.console import UserError
from utils.files import write_csv, written_whole
from utils.prediction.geotiff import BLOCK, GeoTiff
from utils.prediction.map_jobs import remove_recorded_shift
from utils.prediction.png_stream import PngStream
from utils.prediction.records import CHANGE_DATES, Record, Whole
from utils.prediction.report import SIDE, shrunk

log = logging.getLogger("predict")
MAP, PLACED_MAP, LEGEND = CHANGE_DATES
NEVER, UNKNOWN = 0, 255  # in a change-date map; otherwise the number of a date, the second date being 1
INDICES = PixelFormat(change_value=1, named=True)  # reads the numbers of a map, not its colours
COMPARED = {  # how, by whether it is with the first date
    False: "Each date is compared with the one before it. A colour marks the first date with such a change.",
    True: "Each date is compared with the first one. A colour marks the first date that differs from it, even if later "
    "ones do not.",
}


def draw_change_dates(found: Sequence[Series], whole: Whole, reading: PixelFormat, output: Path) -> dict[str, Any]:
    """Write the change-date map and legend of every place of which all pairs are in `whole`, and change_dates.csv.

    Returns:
        What `write_report` shows of them, `compared` and `places`.

    Raises:
        OSError: a file cannot be written.
    """
    for name in CHANGE_DATES:
        (output / name).parent.mkdir(exist_ok=True)
    places, rows = [], []
    for series in found:
        try:
            if missing := [pair.name for pair in series.pairs if pair.name not in whole]:
                raise UserError(f"{missing[0]} could not be predicted")
            counts = _draw(series, whole, reading, output)
        except UserError as error:
            log.warning("%s: no change-date map, since %s", series.place, error)
            continue
        dates, shares = series.dates, counts / max(1, counts[:UNKNOWN].sum())
        for value, date in enumerate(["never", *dates[1:]]):
            rows.append([series.place, value, date, counts[value], shares[value]])
        rows.append([series.place, UNKNOWN, "unknown", counts[UNKNOWN], ""])
        shown = {"meanings": series.meanings, "colours": date_colours(len(dates) - 1)}
        shown |= {"shares": shares[1 : len(dates)], "pictures": partial(_pictures, series, whole, reading, output)}
        places.append({"name": series.place, "dates": dates, **shown})
    if rows:
        columns = ("place", "value", "date", "pixels", "share")
        write_csv(output / "change_dates.csv", [dict(zip(columns, row, strict=True)) for row in rows])
        log.info("change-date maps: %s, %s", (output / MAP).parent, output / "change_dates.csv")
    return {"compared": COMPARED[found[0].against_first], "places": places}


def _draw(series: Series, whole: Whole, reading: PixelFormat, output: Path) -> np.ndarray:
    """Write PLACE.png, on a grid PLACE.tif, and the legend; return the number of pixels of each value, (256,)."""
    with WindowedImage(series.images[0], reading) as first:
        grid, (height, width) = first.grid, first.size
    colours, palette, counts = date_colours(len(series.images) - 1), np.zeros((256, 3), np.uint8), np.zeros(256, int)
    palette[1 : len(colours) + 1], palette[UNKNOWN] = colours, NOT_COUNTED
    with ExitStack() as stack:
        maps: list[Any] = []
        for pair in series.pairs:
            maps.append(stack.enter_context(_open_map(pair, grid, whole[pair.name], reading, output)))
            if maps[-1].size != (height, width):
                raise UserError(f"{pair.before} has another size than the first date, which has no georeference")
        file = stack.enter_context(written_whole(output / MAP.format(series.place)))
        streams: list[PngStream | GeoTiff] = [PngStream(file, (height, width), colours=palette)]
        stack.callback(streams[0].abandon)
        if grid:
            file = stack.enter_context(written_whole(output / PLACED_MAP.format(series.place)))
            streams.append(GeoTiff(file, grid, UNKNOWN, colours=palette))
            stack.callback(streams[1].abandon)
        for top in range(0, height, BLOCK):
            window = Window(top, 0, min(BLOCK, height - top), width)
            numbers = first_changes([image.mask(window) for image in maps])
            counts += np.bincount(numbers.ravel(), minlength=256)
            for stream in streams:
                stream.write(numbers)
        for stream in streams:
            stream.close()
    legend = dict(zip(series.meanings, colours, strict=True))
    with written_whole(output / LEGEND.format(series.place)) as path:
        draw_legend({**legend, "never changed": (0, 0, 0), "unknown": NOT_COUNTED}).save(path, format="PNG")
    return counts


def first_changes(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return of each pixel the number of the first mask in which it is changed, uint8 (h, w), from 1 on.

    Masks are (h, w) of 0, 1 and IGNORE. Of pixels that none knows the number is UNKNOWN, of all others NEVER.
    """
    numbers = np.full(masks[0].shape, UNKNOWN, np.uint8)
    for number, mask in enumerate(masks, 1):
        numbers[(numbers == UNKNOWN) & (mask == 0)] = NEVER
        numbers[((numbers == UNKNOWN) | (numbers == NEVER)) & (mask == 1)] = number
    return numbers


def _open_map(
    pair: Pair, grid: Grid | None, record: Record, reading: PixelFormat, output: Path
) -> WindowedImage | OpenPair:
    """Open the map of a pair on the first date's grid; its `mask` is IGNORE where a date is unknown."""
    if grid and (geo := f"geo/{pair.name}.tif") in record["files"]:
        return WindowedImage(output / geo, MASKS, label=True, onto=grid)
    labels = replace(reading, change_value=MASKS.change_value, ignore_value=None, change_from=None)
    opened = OpenPair(replace(pair, label=output / "mask" / f"{pair.name}.png"), labels)  # the dates tell what is known
    remove_recorded_shift(opened.after, record["row"])
    return opened


def _pictures(series: Series, whole: Whole, reading: PixelFormat, output: Path) -> dict[str, list[np.ndarray]]:
    """Small pictures of a place: uint8 `dates` (h, w, 3), and `maps` (h, w), 255 where a later date is first."""

    def shown(image: WindowedImage, window: Window) -> np.ndarray:
        return as_rgb(image.read(window))

    def by_date(image: WindowedImage, window: Window) -> np.ndarray:
        return np.uint8(255) * (image.read(window)[..., None] == np.arange(1, len(series.images), dtype=np.uint8))

    dates, grid = [], None
    for number, path in enumerate(series.images):
        with WindowedImage(path, reading, onto=grid) as image:
            if number:
                remove_recorded_shift(image, whole[series.pairs[number - 1].name]["row"])
            else:
                grid = image.grid
            dates.append(shrunk(partial(shown, image), image.size, SIDE))
    with WindowedImage(output / MAP.format(series.place), INDICES, label=True) as image:
        maps = shrunk(partial(by_date, image), image.size, SIDE)
    return {"dates": dates, "maps": list(np.moveaxis(maps, -1, 0))}
