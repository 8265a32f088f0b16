"""A prediction from its settings to its summary: pairs, network, maps, scores, report."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.label_codes import decide_to_predict
from datasets.layouts import FOLDERS, has_split
from datasets.measurements import overruled
from datasets.open_pair import OpenPair
from datasets.pairs import (
    Pair,
    find_pairs,
    fingerprint,
    image_fingerprint,
    match_pairs,
    refuse_broken_links,
    refuse_inside,
)
from datasets.raster import WindowedImage
from datasets.reading import MASKS, PixelFormat, as_rgb, labels_of, reading_from
from datasets.scenes import is_drawn
from utils.change_map import OVERLAY, PALETTES, draw_legend
from utils.console import UserError
from utils.files import written_whole
from utils.machine import freed_memory_kept, peak_used, pick_device
from utils.prediction.blending import BATCH
from utils.prediction.config import PredictConfig
from utils.prediction.map_jobs import MapJob
from utils.prediction.maps import MapSettings
from utils.prediction.predictor import ChangePredictor
from utils.prediction.records import Records
from utils.prediction.report import SIDE, shrunk
from utils.prediction.sharing import Share, predict_jobs
from utils.prediction.summary import write_page, write_summary
from utils.settings import BandConfig

log = logging.getLogger("predict")


def predict(config: PredictConfig, share: Share) -> int:
    """Write every pair's maps, per_image.csv, metrics.json and report.html; returns how many pairs failed."""
    with freed_memory_kept(config.keep_memory):
        return predict_all(config, share)


def predict_all(config: PredictConfig, share: Share) -> int:
    """As `predict`, with memory as it is."""
    pairs = pairs_to_predict(config)
    output = config.output or config.checkpoint.parent / f"predict-{images_of(config, pairs)}"
    records = Records(output)
    if share.rank == 0 and not (config.skip_existing or config.overwrite):
        records.refuse_to_replace()
    predictor = ChangePredictor(
        config.checkpoint, share.device(pick_device(config.device)), config.tile_size, config.overlap,
        config.batch_size, config.tta, config.precision, config.backend,
    )  # fmt: skip
    reading = how_to_read(config, predictor, pairs)
    refuse_among_images(output, pairs, config)
    warn_of_drawn_scenes(predictor.about, pairs)
    predictor.threshold = predictor.choose_threshold(config.threshold)
    settings = MapSettings(output, config.save, predictor.threshold, config.min_area, config.palette)
    size, count = config.batch_size or BATCH, len(pairs)
    make_job = partial(job_of, pairs, reading, settings, config.skip_existing)
    if share.rank == 0:
        protocol = protocol_of(config, predictor, reading, settings, pairs)
        records.begin(protocol, {pair.name: pair.stamp for pair in pairs}, config.skip_existing)
        write_legend(settings)
    share.meet()
    form = "predicting {percentage:3.0f}% |{bar}| {n:.1f} of {total} pairs [{elapsed}, {remaining} left]"
    total = sum(map(len, share.groups(count, size)))
    with tqdm(total=total, bar_format=form, dynamic_ncols=True, disable=share.rank > 0) as bar, logging_redirect_tqdm():
        predict_jobs(predictor, make_job, count, size, share, config.num_workers, partial(advance, bar))
    log.info("peak memory: %.0f MB%s", peak_used(predictor.device), " of the GPU" * (predictor.device.type == "cuda"))
    return 0 if share.rank > 0 else finish(config, pairs, reading, settings, protocol | predictor.turned_out())


def finish(
    config: PredictConfig, pairs: Sequence[Pair], reading: PixelFormat, settings: MapSettings, protocol: dict[str, Any]
) -> int:
    """Sum up what all processes have left on record; returns how many pairs failed."""
    records, output = Records(settings.output), settings.output
    records.end()
    found = {pair.name: records.read(pair.name) or {"error": "left no record"} for pair in pairs}
    whole = {name: content for name, content in found.items() if "row" in content}
    log_remarks(whole)
    failed = {name: content["error"] for name, content in found.items() if "error" in content}
    if whole:
        write_summary(output, whole, failed, protocol)
    if whole and config.report:
        done = [pair for pair in pairs if pair.name in whole]
        pictures = {p.name: partial(thumbnails, p, reading, output, whole[p.name]["files"]) for p in done}
        write_page(settings, whole, pictures)
    if failed:
        name, error = next(iter(failed.items()))
        log.error("error: %d of %d pairs could not be predicted, first %s: %s", len(failed), len(pairs), name, error)
    return len(failed)


def log_remarks(whole: Mapping[str, Mapping[str, Any]]) -> None:
    """Log what is wrong with pairs, each remark once, from their records."""
    named: dict[str, list[str]] = defaultdict(list)
    for name, content in whole.items():
        for remark in content.get("remarks", ()):
            named[remark].append(name)
    for remark, (first, *others) in named.items():
        log.warning("%s%s: %s", first, f" and {len(others)} more pairs" if others else "", remark)


def warn_of_drawn_scenes(about: Mapping[str, Any], pairs: Sequence[Pair]) -> None:
    """Warn if the checkpoint knows only drawn scenes, and the images are others."""
    if about.get("drawn_scenes") and not is_drawn(pairs[0].before):
        log.warning(
            "this checkpoint was trained on the demo's drawn scenes: its maps of real images mean little; train on "
            "tiles of your own, or import the authors' weights (python -m tools.import_weights)"
        )


def advance(bar: tqdm, share: float) -> None:
    """Move the bar by a share of a pair, of which rounding may make a little more than one."""
    bar.update(min(share, bar.total - bar.n))


def pairs_to_predict(config: PredictConfig) -> list[Pair]:
    """One pair of files, the pairs of two or three folders, or of a split of a data set.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        UserError: files and folders are mixed, or partners are missing.
    """
    given = [path for path in (config.before, config.after, config.label) if path]
    if not given:
        return find_pairs(config.data_root, config.split, labels=False, folders=config.folders)
    if missing := [path for path in given if not path.exists()]:
        raise FileNotFoundError(f"{missing[0]}: no such file or folder")
    if len({path.is_dir() for path in given}) > 1:
        raise UserError("--before, --after and --label take either one image each or one folder each")
    for one, other in combinations([role for role in ("before", "after", "label") if getattr(config, role)], 2):
        if getattr(config, one).samefile(path := getattr(config, other)):
            log.warning("--%s %s: also given as --%s", other, path, one)
    before, after, label = config.before, config.after, config.label
    assert before and after
    if before.is_dir():
        return match_pairs(before, after, label)
    # a file that is only called "before" goes by the name of its folder
    name = before.resolve().parent.name if before.stem.lower() in FOLDERS["before"] else before.stem
    return [Pair(name, before, after, label)]


def refuse_among_images(output: Path, pairs: Sequence[Pair], config: PredictConfig) -> None:
    """Keep maps apart from what is read; beside two files that were named they may lie, in a folder of their own."""
    if not config.before or config.before.is_dir():
        refuse_inside(output, pairs)
    elif any(
        output.resolve() in path.resolve().parents for path in (config.before, config.after, config.label) if path
    ):
        raise UserError(f"--output {output}: holds the images; name a folder of its own for the maps")


def images_of(config: PredictConfig, pairs: Sequence[Pair]) -> str:
    """What the maps are of, in a word: the split, "all" of a set without splits, or the folder or pair of --before."""
    if config.before:
        return config.before.resolve().name if config.before.is_dir() else pairs[0].name
    return config.split if has_split(config.data_root, config.split) else "all"


def how_to_read(config: BandConfig, predictor: ChangePredictor, pairs: Sequence[Pair]) -> PixelFormat:
    """As the checkpoint says; --bands, --scale and the label codes overrule it.

    Raises:
        UserError: that makes other than as many channels as the network takes, or labels are coded otherwise.
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
    """All that decides what the maps are, as plain values."""
    about = predictor.about
    return {
        "checkpoint": str(config.checkpoint),
        "checkpoint_sha256": hashlib.sha256(config.checkpoint.read_bytes()).hexdigest(),
        **{name: about.get(name) for name in ("model", "recipe", "epoch", "selected_on")},
        "images": str(config.before or config.data_root),
        "after": str(config.after) if config.before else None,
        "split": images_of(config, pairs),
        "pairs": len(pairs),
        "data": fingerprint(pairs),
        "trained_on_these": image_fingerprint(pairs) == about.get("trained_on"),
        "reading": reading.as_plain(),
        "tile_size": config.tile_size,
        "overlap": predictor.overlap,
        "tta": config.tta,
        "precision": config.precision,
        "backend": predictor.model.backend,
        **{name: getattr(settings, name) for name in ("threshold", "min_area", "save", "palette")},
    }


def job_of(pairs: Sequence[Pair], reading: PixelFormat, settings: MapSettings, go_on: bool, number: int) -> MapJob:
    """The job of a pair, done already if its record says so and the run goes on."""
    pair = pairs[number]
    done = go_on and Records(settings.output).done(pair.name, pair.stamp)
    return MapJob(pair.name, partial(open_pair, pair, reading), settings, done, pair.stamp)


def open_pair(pair: Pair, reading: PixelFormat) -> OpenPair:
    """Open a pair; see `OpenPair`.

    Raises:
        UserError: also a broken link.
    """
    refuse_broken_links(pair)
    return OpenPair(pair, reading)


def write_legend(settings: MapSettings) -> None:
    """Write legend.png where any map has colours."""
    if {"error", "overlay"} & set(settings.save):
        with written_whole(settings.output / "legend.png") as path:
            draw_legend({**PALETTES[settings.palette].legend(), "changed": OVERLAY}).save(path, format="PNG")


def thumbnails(pair: Pair, reading: PixelFormat, output: Path, files: Collection[str]) -> dict[str, np.ndarray]:
    """Small pictures of a pair for its report: both dates, the map, and the error map if there is one."""
    with OpenPair(pair, reading) as scene:
        images = {"before": shrunk(lambda window: as_rgb(scene.read(window)[0]), scene.size, SIDE)}
        images["after"] = shrunk(scene.picture, scene.size, SIDE)
    for kind, folder in (("map", "mask"), ("error", "error")):
        if (path := f"{folder}/{pair.name}.png") in files:
            with WindowedImage(output / path, MASKS, label=kind == "map") as image:
                images[kind] = shrunk(image.read, image.size, SIDE, mixed=kind == "map")
    return images
