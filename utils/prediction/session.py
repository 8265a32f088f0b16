"""Runs a prediction from its settings to its summary: pairs, network, maps, scores, report."""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.image_check import Ranges, grouped
from datasets.label_codes import decide_to_predict
from datasets.layouts import FOLDERS, has_split
from datasets.measurements import overruled
from datasets.open_pair import OpenPair
from datasets.pairs import (
    Pair,
    find_pairs,
    fingerprint,
    image_marks,
    later_first,
    marks_in,
    match_pairs,
    refuse_broken_links,
    refuse_inside,
)
from datasets.pixel_size import metres_a_pixel, zoom_for
from datasets.raster import WindowedImage
from datasets.reading import MASKS, PixelFormat, as_rgb, labels_of, reading_from
from datasets.scenes import is_drawn
from datasets.series import Series, find_series
from utils.change_map import OVERLAY, PALETTES, draw_legend
from utils.console import UserError
from utils.files import written_whole
from utils.machine import freed_memory_kept, peak_used, pick_device
from utils.prediction.blending import BATCH
from utils.prediction.config import PredictConfig
from utils.prediction.map_jobs import MapJob, remove_recorded_shift
from utils.prediction.maps import MapSettings
from utils.prediction.pipeline import Pipeline
from utils.prediction.predictor import ChangePredictor
from utils.prediction.records import Record, Records
from utils.prediction.report import SIDE, shrunk
from utils.prediction.series import draw_change_dates
from utils.prediction.sharing import Process, predict_jobs
from utils.prediction.summary import write_page, write_summary
from utils.settings import DETECTOR, BandConfig

log = logging.getLogger("predict")
PROGRESS = "predicting {percentage:3.0f}% |{bar}| {n:.1f} of {total} pairs [{elapsed}, {remaining} left]"


def predict(config: PredictConfig) -> int:
    """Write every pair's maps, per_image.csv, metrics.json and report.html; return the number of pairs that failed."""
    process = Process.of_torchrun()
    series = find_series(config.series, config.pairs == "first") if config.series else []
    pairs = [pair for each in series for pair in each.pairs] or pairs_to_predict(config)
    beside = Path() if config.checkpoint == DETECTOR else config.checkpoint.parent
    output = config.output or beside / f"predict-{images_of(config, pairs)}"
    records, first = Records(output), process.rank == 0
    if first and not (config.skip_existing or config.overwrite):
        records.refuse_to_replace()
    predictor = ChangePredictor(
        config.checkpoint, process.device(pick_device(config.device)), config.tile_size, config.overlap,
        config.batch_size, config.tta, config.precision, config.backend,
    )  # fmt: skip
    reading = how_to_read(config, predictor, pairs)
    refuse_among_images(output, pairs, config)
    if predictor.about.get("drawn_scenes") and not is_drawn(pairs[0].before):
        log.warning(
            "this checkpoint was trained on the demo's drawn scenes: its maps of real images mean little; train on "
            "your own tiles, or import the authors' weights (python -m tools.import_weights)"
        )
    if not config.resample:
        predictor.pixel_size = None
    predictor.threshold = predictor.choose_threshold(config.threshold)
    settings = MapSettings(
        output, config.save, predictor.threshold, config.min_area, config.palette, config.pixel_size, config.register,
        config.origin, predictor.about.get("pixel_size"),
    )  # fmt: skip
    if first:
        log_network(config, predictor, reading, pairs[0])
        protocol = protocol_of(config, predictor, reading, settings, pairs)
        kept = {**protocol, "places": [each.place for each in series]}
        records.begin(kept, {pair.name: pair.stamp for pair in pairs}, config.skip_existing)
        write_legend(settings)
    process.meet()
    size, count = config.batch_size or BATCH, len(pairs)
    total = sum(map(len, process.groups(count, size)))
    progress = tqdm(total=total, bar_format=PROGRESS, dynamic_ncols=True, disable=not first)
    with freed_memory_kept(config.keep_memory), progress as bar, logging_redirect_tqdm():
        # rounding may make the shares of a pair slightly more than 1
        pipeline = Pipeline(predictor, config.num_workers, lambda part: bar.update(min(part, bar.total - bar.n)))
        make_job = partial(job_of, pairs, reading, settings, config.skip_existing, predictor.seen)
        predict_jobs(pipeline, make_job, count, size, process)
    log.info("peak memory: %.0f MB%s", peak_used(predictor.device), " of the GPU" * (predictor.device.type == "cuda"))
    return finish(config, pairs, reading, settings, protocol | predictor.turned_out(), series) if first else 0


def log_network(config: PredictConfig, predictor: ChangePredictor, reading: PixelFormat, pair: Pair) -> None:
    """Log which network predicts, what pixel size it expects, and what the first pair has."""
    name = "detector, the network of this repository" if config.checkpoint == DETECTOR else str(config.checkpoint)
    if (expected := predictor.about.get("pixel_size")) is None:
        log.info("network: %s", name)
        return
    log.info("network: %s, trained on pixels of %g m", name, expected)
    with suppress(UserError, OSError), OpenPair(pair, reading) as opened:  # its own job reports what is wrong
        found = config.pixel_size or metres_a_pixel(opened.grid)
        if found is None:
            log.info("pixel size: unknown; pass --pixel-size METRES if it is not about %g m", expected)
        elif zoom_for(found, predictor.pixel_size) != 1:
            log.info("pixel size: %.3g m; resampled to %g m for the network", found, expected)


def finish(
    config: PredictConfig,
    pairs: Sequence[Pair],
    reading: PixelFormat,
    settings: MapSettings,
    protocol: dict[str, Any],
    series: Sequence[Series],
) -> int:
    """Summarise the records of all processes; return the number of pairs that failed."""
    records = Records(settings.output)
    records.end()
    found = {pair.name: records.read(pair.name) or {"error": "left no record"} for pair in pairs}
    whole = {name: content for name, content in found.items() if "row" in content}
    failed = {name: content["error"] for name, content in found.items() if "error" in content}
    doubts = [(pair.name, remark) for pair in pairs if (remark := later_first(pair))]
    doubts += [(name, remark) for name, record in whole.items() for remark in record.get("remarks", ())]
    remarks = grouped(doubts)
    for remark in remarks:
        log.warning("%s", remark)
    if whole:
        write_summary(settings.output, whole, failed, protocol | {"remarks": remarks})
        about = draw_change_dates(series, whole, reading, settings.output) if series else {}
        if config.report:
            shown = {pair.name: partial(thumbnails, pair, reading, settings.output) for pair in pairs}
            write_page(settings, whole, lambda name: shown[name](whole[name]), about)
    if failed:
        name, error = next(iter(failed.items()))
        log.error("error: %d of %d pairs could not be predicted, first %s: %s", len(failed), len(pairs), name, error)
    return len(failed)


def pairs_to_predict(config: PredictConfig) -> list[Pair]:
    """Return one pair of files, the pairs of two or three folders, or those of a split of a data set.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        UserError: files and folders are mixed, or partners are missing.
    """
    given = {role: path for role in ("before", "after", "label") if (path := getattr(config, role))}
    if not given:
        return find_pairs(config.data_root, config.split, labels=False, folders=config.folders)
    if missing := [path for path in given.values() if not path.exists()]:
        raise FileNotFoundError(f"{missing[0]}: no such file or folder")
    if len({path.is_dir() for path in given.values()}) > 1:
        raise UserError("--before, --after and --label take either one image each or one folder each")
    for one, other in combinations(given, 2):
        if given[one].samefile(given[other]):
            log.warning("--%s %s: also given as --%s", other, given[other], one)
    before = given["before"]
    if before.is_dir():
        return match_pairs(**given)
    # a file named only "before" takes the name of its folder
    name = before.resolve().parent.name if before.stem.lower() in FOLDERS["before"] else before.stem
    return [Pair(name, **given)]


def refuse_among_images(output: Path, pairs: Sequence[Pair], config: PredictConfig) -> None:
    """Raise UserError if the maps would lie among images; beside single files, a folder of maps is allowed."""
    if config.series and config.series.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError(f"--output {output}: lies in {config.series}; name a folder outside it")
    if not config.before or config.before.is_dir():
        refuse_inside(output, pairs)
    elif any(output.resolve() in path.resolve().parents for path in vars(pairs[0]).values() if isinstance(path, Path)):
        raise UserError(f"--output {output}: holds the images; name a folder of its own for the maps")


def images_of(config: PredictConfig, pairs: Sequence[Pair]) -> str:
    """Return what the maps show: the split, "all" of a set without splits, or the name of --before or --series."""
    if config.series:
        return config.series.resolve().stem if config.series.is_file() else config.series.resolve().name
    if config.before:
        return config.before.resolve().name if config.before.is_dir() else pairs[0].name
    return config.split if has_split(config.data_root, config.split) else "all"


def how_to_read(config: BandConfig, predictor: ChangePredictor, pairs: Sequence[Pair]) -> PixelFormat:
    """Return how the checkpoint reads files, with --bands, --scale and label codes where they are given.

    Raises:
        UserError: the number of bands is not the network's, or labels have other codes.
    """
    reading = overruled(reading_from(predictor.about.get("reading")), pairs, config.bands, config.scale)
    reading = labels_of(config, reading)
    if reading.channels != predictor.channels:
        raise UserError(f"{reading.channels} bands, but this network takes {predictor.channels}; say which: --bands")
    return decide_to_predict(pairs, reading)


def protocol_of(
    config: PredictConfig,
    predictor: ChangePredictor,
    reading: PixelFormat,
    settings: MapSettings,
    pairs: Sequence[Pair],
) -> dict[str, Any]:
    """Return everything that the maps depend on, as plain values."""
    about = predictor.about
    known, chosen = marks_in(about), marks_in(about, "chosen_on")
    marks = image_marks(pairs) if known or chosen else []
    return {
        "checkpoint": str(config.checkpoint),
        "checkpoint_sha256": hashlib.sha256(config.checkpoint.read_bytes()).hexdigest(),
        **{name: about.get(name) for name in ("model", "recipe", "epoch", "selected_on")},
        "images": str(config.series or config.before or config.data_root),
        "after": str(config.after) if config.before else None,
        "split": images_of(config, pairs),
        "pairs": len(pairs),
        "series": config.pairs if config.series else None,
        "data": fingerprint(pairs),
        "selected_on_these": any(mark in chosen for mark in marks),
        "trained_on_these": sum(mark in known for mark in marks),
        "reading": reading.as_plain(),
        "pixel_size": config.pixel_size,
        "network_pixel_size": predictor.pixel_size,
        "tile_size": config.tile_size,
        "overlap": predictor.overlap,
        "tta": predictor.tta,
        "precision": config.precision,
        "backend": predictor.model.backend,
        "origin": config.origin,
        "tuned": config.threshold == "tuned",
        **{name: getattr(settings, name) for name in ("threshold", "min_area", "save", "palette", "register")},
    }


def job_of(
    pairs: Sequence[Pair], reading: PixelFormat, settings: MapSettings, resume: bool, seen: Ranges, number: int
) -> MapJob:  # fmt: skip
    """Return the job of a pair; in a resumed run, it is done if its record says so."""
    pair = pairs[number]

    def open_pair() -> OpenPair:
        refuse_broken_links(pair)
        return OpenPair(pair, reading)

    done = resume and Records(settings.output).done(pair.name, pair.stamp)
    return MapJob(pair.name, open_pair, settings, done, pair.stamp, seen)


def write_legend(settings: MapSettings) -> None:
    """Write legend.png if any map has colours."""
    if {"error", "overlay"} & set(settings.save):
        with written_whole(settings.output / "legend.png") as path:
            draw_legend({**PALETTES[settings.palette].legend(), "changed": OVERLAY}).save(path, format="PNG")


def thumbnails(pair: Pair, reading: PixelFormat, output: Path, record: Record) -> dict[str, np.ndarray]:
    """Return small pictures of a pair for its report: both dates, the map, and the error map if there is one."""
    with OpenPair(pair, reading) as opened:
        remove_recorded_shift(opened.after, record["row"])
        images = {"before": shrunk(lambda window: as_rgb(opened.before.read(window)), opened.size, SIDE)}
        images["after"] = shrunk(opened.picture, opened.size, SIDE)
    for kind, folder in (("map", "mask"), ("error", "error")):
        if (path := f"{folder}/{pair.name}.png") in record["files"]:
            with WindowedImage(output / path, MASKS, label=kind == "map", alone=True) as image:
                images[kind] = shrunk(image.read, image.size, SIDE, mixed=kind == "map")
    return images
