"""The data of a run: both splits found, checked and measured, and the loaders of their batches."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader

from datasets.catalog import STATISTICS, Statistics
from datasets.change_pairs import ChangePairs, check_sizes, same_size_batches
from datasets.held_out import hold_out, warn_of_overlap
from datasets.image_check import STUDIED, Ranges, seen_by, study
from datasets.label_codes import count_changed, decide
from datasets.label_counts import LabelCounts, collect
from datasets.layouts import has_split
from datasets.measurements import choose_reading, measure_statistics
from datasets.open_pair import OpenPair
from datasets.pairs import Pair, find_pairs, fingerprint, image_marks, marks_in, refuse_inside
from datasets.pfbs import PFBSSampler
from datasets.pixel_size import alike, metres_a_pixel
from datasets.reading import PixelFormat, labels_of, reading_from
from datasets.recognition import introduce, known_pixel_size, recognise, set_statistics
from datasets.tile_cache import TileCache, open_cache
from datasets.transforms import build_augmentation
from utils.checkpoint import Checkpoint
from utils.console import UserError, choose, quantity
from utils.training import distributed
from utils.training.config import TrainConfig
from utils.training.stopping import ignore_interrupt, starting_workers

log = logging.getLogger("train")
HELD_OUT = "pairs held out of train"
FEW = 5  # pairs of a validation split that are said to be few
COUNTS = "label_counts.json"  # kept in the run folder


@dataclass(frozen=True)
class Data:
    """The two splits of a run and what was measured on them."""

    train: list[Pair]
    val: list[Pair]
    val_sizes: list[tuple[int, int]]
    selected_on: str
    changed: list[int]  # changed pixels of each training pair
    statistics: Statistics
    reading: PixelFormat
    pixel_size: float | None  # metres; None: unknown
    seen: Ranges  # how the training images look, and those of the checkpoint that the run starts from
    tta: Sequence[str]  # test-time augmentation of the checkpoint that the run starts from
    label_counts: LabelCounts
    caches: dict[str, TileCache]  # by split; a held-out val is in train's
    fingerprint: str
    trained_on: list[str]  # marks of the pairs of train, and of those of the checkpoint that the run starts from
    chosen_on: list[str]  # marks of the pairs of val


def open_data(
    config: TrainConfig, divisor: int, last: Checkpoint | None, folder: Path, source: Checkpoint | None = None
) -> Data:
    """Find, check and measure both splits; images must have H and W that `divisor` divides.

    A resumed run, with its last.pt in `last`, reads and normalises its files as before.
    """
    name = recognise(config.data_root, config.data_name)
    pairs = find_pairs(config.data_root, "train", folders=config.folders)
    if last:
        reading = reading_from(last["reading"])
    else:
        reading = choose_reading(pairs, config.bands, config.scale, labels_of(config))
    counts = LabelCounts(reading, folder / COUNTS)
    reading = decide(collect(pairs, counts), reading)
    changed = dict(zip(pairs, count_changed(pairs, reading, counts), strict=True))
    if config.select_on == "test" or has_split(config.data_root, "val"):
        selected_on = config.select_on
        train, val = pairs, find_pairs(config.data_root, selected_on, folders=config.folders)
        count_changed(val, reading, counts)
        if selected_on == "test":
            log.warning("best.pt is chosen on the test split: its scores there flatter, and all output says so")
    else:
        train, val = hold_out(pairs, list(changed.values()), config.seed)
        selected_on = HELD_OUT
        log.warning(
            "no val split: best.pt is chosen on %s held out of train (seed %d)%s",
            quantity(len(val), "pair"), config.seed, "; so few that their scores say little" * (len(val) < FEW),
        )  # fmt: skip
    trained_on, chosen_on = {*image_marks(train), *marks_in(source or {})}, image_marks(val)
    if shared := len(trained_on & {*chosen_on} - {""}):
        log.warning(
            "%s: %s also in the training data, so its scores are optimistic", selected_on, quantity(shared, "pair")
        )
    size = check_sizes(train, divisor, alike=True, reading=reading, crop_size=config.crop_size)[0]
    val_sizes = check_sizes(val, divisor, alike=False, reading=reading)
    if selected_on == HELD_OUT:
        warn_of_overlap(train, val, size)
    introduce(name, {"train": len(pairs)} | ({"val": len(val)} if selected_on == "val" else {}), size)
    data = fingerprint([*train, *val])
    if last and last["data"] != data:
        raise UserError("the data set is not the one last.pt was trained on (names or sizes of files differ)")
    return Data(
        train=train,
        val=val,
        val_sizes=val_sizes,
        selected_on=selected_on,
        changed=[changed[pair] for pair in train],
        statistics=last["statistics"] if last else statistics_of(config, train, reading, name, source),
        reading=reading,
        pixel_size=pixel_size_of(config, pairs, reading, name, source),
        seen=(last or {}).get("seen") or looked_over(train, reading, source),
        tta=(last or source or {}).get("tta", []),
        label_counts=counts,
        caches=open_caches(config, pairs, [] if selected_on == HELD_OUT else val, reading),
        fingerprint=data,
        trained_on=sorted(trained_on | marks_in(last or {})),
        chosen_on=chosen_on,
    )


def pixel_size_of(
    config: TrainConfig, pairs: Sequence[Pair], reading: PixelFormat, name: str, source: Checkpoint | None
) -> float | None:
    """Metres per pixel of the training data: from --pixel-size, the georeferences of some pairs, or the catalog.

    Warns if these differ, or if `source`, the checkpoint that the run starts from, knows pixels of another size.
    """
    sizes = [size for each in pairs[:: -(-len(pairs) // STUDIED)] if (size := _georeferenced(each, reading))]
    found = config.pixel_size or (median_low(sizes) if sizes else known_pixel_size(name))
    if sizes and found and not alike(*sizes, found):
        given = f"; {config.pixel_size:g} m by --pixel-size" if config.pixel_size else ""
        log.warning(
            "pixel size: %.3g to %.3g m by the georeferences%s; predictions expect %.3g m",
            min(sizes), max(sizes), given, found,
        )  # fmt: skip
    start = (source or {}).get("pixel_size")
    if found is None:
        log.info(
            "pixel size: unknown%s; pass --pixel-size METRES, so that predictions can resample images of other sizes",
            f", that of {config.init_from} is {start:g} m" if start else "",
        )
    elif start and not alike(found, start):
        log.warning(
            "pixel size: %.3g m, but %s was trained on %g m; resample your images to that size, or train for longer",
            found, config.init_from, start,
        )  # fmt: skip
    return found


def _georeferenced(pair: Pair, reading: PixelFormat) -> float | None:
    with OpenPair(pair, reading) as opened:
        return metres_a_pixel(opened.grid)


def looked_over(train: Sequence[Pair], reading: PixelFormat, source: Checkpoint | None) -> Ranges:
    """Warn of dates that are no two images or seem swapped; return how the images of `source` and of these look."""
    lines, seen = study(train, reading, seen_by(source or {}))
    for line in lines:
        log.warning("%s", line)
    return seen


def open_caches(config: TrainConfig, train: list[Pair], val: list[Pair], reading: PixelFormat) -> dict[str, TileCache]:
    """The decoded tiles of --cache, one file for each split that has pairs; none without --cache."""
    if (folder := config.cache) is None:
        return {}
    refuse_inside(folder, [*train, *val], "--cache")
    splits = {split: pairs for split, pairs in (("train", train), ("val", val)) if pairs}
    return distributed.first_on_each_node(
        lambda: {split: open_cache(folder / f"{split}.tiles", pairs, reading) for split, pairs in splits.items()}
    )


def statistics_of(
    config: TrainConfig, pairs: Sequence[Pair], reading: PixelFormat, name: str, source: Checkpoint | None
) -> Statistics:
    """Mean and standard deviation by date and channel, by --statistics: of the public set `name`, of `source`, ..."""
    if config.statistics == "train":
        return measure_statistics(pairs, reading)
    if config.statistics == "checkpoint":
        assert source
        kept: Statistics = source["statistics"]
        if len(kept["mean"][0]) != reading.channels:
            raise UserError(
                f"--statistics checkpoint: {config.init_from} has those of {len(kept['mean'][0])} bands, "
                f"but the images have {reading.channels}; pass --statistics train"
            )
        return kept
    by_set = config.statistics == "set"
    statistics = set_statistics(name) if by_set else choose(STATISTICS, config.statistics, "--statistics")
    if config.statistics in ("none", "half"):  # the same for every band
        return {name: [row[:1] * reading.channels for row in rows] for name, rows in statistics.items()}
    if reading.channels != 3:
        raise UserError(f"--statistics {config.statistics}: of RGB, not of {reading.channels} bands; use train or none")
    return statistics


def training_loader(data: Data, config: TrainConfig, device: torch.device) -> tuple[DataLoader, PFBSSampler]:
    """Return the loader of augmented batches, this process's share of each step in `accumulate` parts, and its sampler.

    Raises:
        UserError: the batch does not split evenly, or the first epoch has no whole batch.
    """
    ranks = distributed.ranks()
    part, left = divmod(config.batch_size, ranks * config.accumulate)
    if left:
        raise UserError(
            f"--batch-size {config.batch_size} does not split into {config.accumulate} parts on {ranks} processes"
        )
    augmentation = build_augmentation(
        config.augmentation, config.crop_size, config.time_swap, config.rotation_corners, config.drawn
    )
    pairs = ChangePairs(data.train, augmentation, data.reading, data.caches.get("train"))
    sampler = PFBSSampler(
        data.changed,
        config.fixed_epochs,
        config.linear_epochs,
        config.seed,
        released=config.pfbs_released,
        pool_only=config.pfbs_pool_only,
        positions=config.epoch_steps * config.batch_size,
        rank=distributed.rank(),
        ranks=ranks,
    )
    if sampler.draws(0) * ranks < config.batch_size:  # no later epoch draws less than the first
        what = f"{sampler.draws(0) * ranks} training pairs in the first epoch make no batch of {config.batch_size}"
        raise UserError(f"{what}; lower --batch-size")
    batches: Any = BatchSampler(sampler, part, drop_last=True)  # type: ignore[arg-type]  # of draws, not of indices
    return Loader(pairs, batches, config.num_workers, device), sampler


def validation_loader(data: Data, config: TrainConfig, device: torch.device) -> DataLoader:
    """Batches of one image size each; every pair once, on one of the processes."""
    batches = same_size_batches(data.val_sizes, config.batch_size // config.accumulate)
    cache = data.caches.get("val", data.caches.get("train"))
    pairs = ChangePairs(data.val, reading=data.reading, cached=cache)
    return Loader(pairs, batches[distributed.rank() :: distributed.ranks()], config.num_workers, device)


class Loader(DataLoader):
    """A loader whose workers live as long as the run and ignore Ctrl-C; a worker's end is noticed between two steps."""

    def __init__(self, pairs: ChangePairs, batches: Iterable[Any], workers: int, device: torch.device) -> None:
        # a generator of its own, so that starting the loader draws nothing from the one that dropout uses
        super().__init__(
            pairs, None, sampler=batches, pin_memory=device.type == "cuda", generator=torch.Generator(),
            worker_init_fn=ignore_interrupt, num_workers=workers, persistent_workers=workers > 0,
        )  # fmt: skip

    def __iter__(self) -> Any:
        with starting_workers():
            return super().__iter__()


def batches_from(loader: DataLoader, sampler: PFBSSampler, draws_per_step: int, epoch: int, step: int) -> DataLoader:
    """Set the sampler to an epoch and a step, of `draws_per_step` draws each, and return the loader."""
    sampler.set_epoch(epoch, skip=step * draws_per_step)
    return loader
