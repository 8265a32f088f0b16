#!/usr/bin/env python3
"""Draws change maps of image pairs with a trained network, and scores them, or masks from elsewhere, against labels."""

if __name__ == "__main__":  # --help and wrong flags are answered before PyTorch is imported, which takes seconds
    from utils.console import errors_in_one_line, interrupts_in_one_line
    from utils.predict_config import parse_predict_config

    interrupts_in_one_line()
    with errors_in_one_line():
        parse_predict_config(None)

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.label_counts import decide_alone, decide_to_predict, mask_reading
from datasets.layouts import FOLDERS, has_split, list_images
from datasets.lists import nfc
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
from datasets.raster import WindowedImage, read_label
from datasets.reading import IGNORE, MASKS, Reading, as_rgb, labels_of, reading_from, with_codes
from datasets.scenes import is_drawn
from datasets.threads import threaded
from utils.change_map import OVERLAY, PALETTES, draw_legend
from utils.config import BandConfig
from utils.console import errors_in_one_line, show_log
from utils.files import written_whole
from utils.map_jobs import MapJob
from utils.maps import MapSettings
from utils.memory import freed_memory_kept, peak_used
from utils.metrics import SCORES, count_pixels, scores
from utils.pipeline import first_batch
from utils.predict_config import PredictConfig, parse_predict_config
from utils.predictor import ChangePredictor
from utils.previews import shrunk
from utils.records import ImageSet, Records, image_set
from utils.report import SIDE
from utils.run_log import score_table, write_csv
from utils.runtime import pick_device
from utils.sharing import Share, predict_jobs
from utils.summary import write_page, write_summary
from utils.tiling import BATCH

log = logging.getLogger("predict")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2, a bad pair among others exit code 1."""
    share = Share.of_torchrun()
    with errors_in_one_line("interrupted; the same command with --skip-existing (not --overwrite) goes on"):
        show_log(quiet=share.rank > 0)
        config = parse_predict_config(argv)
        failed = score_masks(config) if config.masks else predict(config, share)
    if failed:
        raise SystemExit(1)


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
        if predictor.undecided:
            settle_backend(predictor, records, config.skip_existing, map(make_job, range(min(size, count))))
        protocol = protocol_of(config, predictor, reading, settings, pairs)
        records.begin(protocol, {pair.name: pair.stamp for pair in pairs}, config.skip_existing)
        write_legend(settings)
    share.meet()
    if predictor.undecided:
        predictor.use_backend(str(records.backend()))  # what the first process chose
    form = "predicting {percentage:3.0f}% |{bar}| {n:.1f} of {total} pairs [{elapsed}, {remaining} left]"
    total = sum(map(len, share.groups(count, size)))
    with tqdm(total=total, bar_format=form, dynamic_ncols=True, disable=share.rank > 0) as bar, logging_redirect_tqdm():
        predict_jobs(predictor, make_job, count, size, share, config.num_workers, partial(advance, bar))
    log.info("peak memory: %.0f MB%s", peak_used(predictor.device), " of the GPU" * (predictor.device.type == "cuda"))
    return 0 if share.rank > 0 else finish(config, pairs, reading, settings, protocol | predictor.turned_out())


def finish(
    config: PredictConfig, pairs: Sequence[Pair], reading: Reading, settings: MapSettings, protocol: dict[str, Any]
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


def settle_backend(predictor: ChangePredictor, records: Records, go_on: bool, jobs: Iterable[MapJob]) -> None:
    """Decide what `auto` is: what made the maps that are there and stay, or else whatever the first pairs say.

    It holds for all that is in the protocol's folder, so where none of these can be read it is the usual one.
    """
    before = records.backend() if go_on else None
    if before:
        predictor.use_backend(before)
    elif batch := first_batch(predictor, jobs):
        predictor.choose_backend(*batch)
    else:
        predictor.use_backend(predictor.model.backend)


def advance(bar: tqdm, share: float) -> None:
    """Move the bar by a share of a pair, of which rounding may make a little more than one."""
    bar.update(min(share, bar.total - bar.n))


def pairs_to_predict(config: PredictConfig) -> list[Pair]:
    """One pair of files, the pairs of two or three folders, or of a split of a data set.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ValueError: files and folders are mixed, or partners are missing.
    """
    given = [path for path in (config.before, config.after, config.label) if path]
    if not given:
        return find_pairs(config.data_root, config.split, labels=False, folders=config.folders)
    if missing := [path for path in given if not path.exists()]:
        raise FileNotFoundError(f"{missing[0]}: no such file or folder")
    if len({path.is_dir() for path in given}) > 1:
        raise ValueError("--before, --after and --label take either one image each or one folder each")
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
        raise ValueError(f"--output {output}: holds the images; name a folder of its own for the maps")


def images_of(config: PredictConfig, pairs: Sequence[Pair]) -> str:
    """What the maps are of, in a word: the split, "all" of a set without splits, or the folder or pair of --before."""
    if config.before:
        return config.before.resolve().name if config.before.is_dir() else pairs[0].name
    return config.split if has_split(config.data_root, config.split) else "all"


def how_to_read(config: BandConfig, predictor: ChangePredictor, pairs: Sequence[Pair]) -> Reading:
    """As the checkpoint says; --bands, --scale and the label codes overrule it.

    Raises:
        ValueError: that makes other than as many channels as the network takes, or labels are coded otherwise.
    """
    reading = overruled(reading_from(predictor.about.get("reading")), pairs, config.bands, config.scale)
    reading = with_codes(reading, config.change_value, config.ignore_value, config.change_from)
    if reading.channels != predictor.channels:
        raise ValueError(f"{reading.channels} bands, but this network takes {predictor.channels}; say which: --bands")
    return decide_to_predict(pairs, reading)


def protocol_of(
    config: PredictConfig, predictor: ChangePredictor, reading: Reading, settings: MapSettings, pairs: Sequence[Pair]
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


def job_of(pairs: Sequence[Pair], reading: Reading, settings: MapSettings, go_on: bool, number: int) -> MapJob:
    """The job of a pair, done already if its record says so and the run goes on."""
    pair = pairs[number]
    done = go_on and Records(settings.output).done(pair.name, pair.stamp)
    return MapJob(pair.name, partial(open_pair, pair, reading), settings, done, pair.stamp)


def open_pair(pair: Pair, reading: Reading) -> OpenPair:
    """Open a pair; see `OpenPair`.

    Raises:
        ValueError: also a broken link.
    """
    refuse_broken_links(pair)
    return OpenPair(pair, reading)


def write_legend(settings: MapSettings) -> None:
    """Write legend.png where any map has colours."""
    if {"error", "overlay"} & set(settings.save):
        with written_whole(settings.output / "legend.png") as path:
            draw_legend({**PALETTES[settings.palette].legend(), "changed": OVERLAY}).save(path, format="PNG")


def thumbnails(pair: Pair, reading: Reading, output: Path, files: Collection[str]) -> dict[str, np.ndarray]:
    """Small pictures of a pair for its report: both dates, the map, and the error map if there is one."""
    with OpenPair(pair, reading) as scene:
        images = {"before": shrunk(lambda window: as_rgb(scene.read(window)[0]), scene.size, SIDE)}
        images["after"] = shrunk(scene.picture, scene.size, SIDE)
    for kind, folder in (("map", "mask"), ("error", "error")):
        if (path := f"{folder}/{pair.name}.png") in files:
            with WindowedImage(output / path, MASKS, label=kind == "map") as image:
                images[kind] = shrunk(image.read, image.size, SIDE, mixed=kind == "map")
    return images


def score_masks(config: PredictConfig) -> int:
    """Score folders of masks against labels of the same names, a line a folder; returns 0.

    Raises:
        ValueError: two folders of one name, or what `mask_scores` raises.
    """
    assert config.label
    if len(dict(config.masks)) < len(config.masks):
        raise ValueError("--masks: two folders of one name; call them NAME=DIR")
    found = mask_scores(config.label, dict(config.masks), labels_of(config), config.num_workers or 1)
    table = {name: scored.values for name, scored in found.items()}
    log.info("%s", score_table(table, SCORES))
    if config.output:
        config.output.mkdir(parents=True, exist_ok=True)
        write_csv(config.output / "scores.csv", [{"masks": name, **row} for name, row in table.items()])
        log.info("scores, as fractions: %s", config.output / "scores.csv")
    return 0


class ScoredMasks(NamedTuple):
    """Scores of a folder of masks over all pixels, the images that they are of, and the number of labels."""

    values: dict[str, float]
    images: ImageSet
    labels: int


def mask_scores(label: Path, folders: Mapping[str, Path], reading: Reading, workers: int = 1) -> dict[str, ScoredMasks]:
    """Score folders of masks against the labels of the same names.

    Raises:
        ValueError: no mask that has a label, or sizes that differ.
    """
    labels = {nfc(path.stem): path for path in list_images(label)}
    reading = decide_alone(list(labels.values()), reading)

    def counts_of(paths: tuple[Path, Path], how: Reading) -> torch.Tensor:
        mask, truth = read_label(paths[0], how), read_label(paths[1], reading)
        if mask.shape != truth.shape:
            sizes = " and ".join("{} x {}".format(*each.shape) for each in (mask, truth))
            raise ValueError(f"{paths[0]}: mask and label differ in size, {sizes}")
        truth[mask == IGNORE] = IGNORE
        return count_pixels(torch.from_numpy(mask == 1), torch.from_numpy(truth))

    found = {}
    for name, folder in folders.items():
        both = [(path, labels[nfc(path.stem)]) for path in list_images(folder) if nfc(path.stem) in labels]
        if not both:
            raise ValueError(f"{folder}: no mask is called like a label of {label}")
        if len(both) < len(labels):
            log.warning("%s: masks of %d of %d labels; only these are scored", name, len(both), len(labels))
        how = mask_reading([path for path, _ in both])
        counts = list(threaded(partial(counts_of, how=how), both, workers))
        images = image_set((path.stem, *each.sum(1).tolist()) for (path, _), each in zip(both, counts, strict=True))
        found[name] = ScoredMasks(scores(torch.stack(counts).sum(0)), images, len(labels))
    return found


if __name__ == "__main__":
    main()
