"""The data of a run: both splits found, checked and measured, and the loaders of their batches."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader

from datasets.catalog import STATISTICS, Statistics
from datasets.change_pairs import ChangePairs, check_sizes, same_size_batches
from datasets.held_out import hold_out, warn_of_overlap
from datasets.label_codes import count_changed, decide
from datasets.label_counts import LabelCounts, collect
from datasets.layouts import has_split
from datasets.measurements import choose_reading, measure_statistics
from datasets.pairs import Pair, find_pairs, fingerprint, image_fingerprint, refuse_inside
from datasets.pfbs import PFBSSampler
from datasets.reading import PixelFormat, labels_of, reading_from
from datasets.recognition import introduce, recognise, set_statistics
from datasets.tile_cache import TileCache, open_cache
from datasets.transforms import build_augmentation
from utils.checkpoint import Checkpoint
from utils.console import UserError, choose
from utils.training import distributed
from utils.training.config import TrainConfig
from utils.training.stopping import ignore_interrupt, starting_workers

log = logging.getLogger("train")
HELD_OUT = "pairs held out of train"
COUNTS = "label_counts.json"  # kept in the run folder


@dataclass(frozen=True)
class Data:
    """The two splits of a run and what was measured on them."""

    train: list[Pair]
    val: list[Pair]
    val_sizes: list[tuple[int, int]]
    selected_on: str
    changed: list[int]
    statistics: Statistics
    reading: PixelFormat
    label_counts: LabelCounts
    caches: dict[str, TileCache]  # by split; a held-out val is in train's
    fingerprint: str
    trained_on: str  # fingerprint of the images of train, with those held out


def open_data(config: TrainConfig, divisor: int, last: Checkpoint | None, folder: Path) -> Data:
    """Find, check and measure both splits before a single step is made."""
    name = recognise(config.data_root, config.data_name)
    pairs = find_pairs(config.data_root, "train", folders=config.folders)
    reading = reading_of(config, pairs, last)
    counts = LabelCounts(reading, folder / COUNTS)
    reading = decide(collect(pairs, counts), reading)
    changed = count_changed(pairs, reading, counts)
    if config.select_on == "test" or has_split(config.data_root, "val"):
        selected_on = config.select_on
        train, val = pairs, find_pairs(config.data_root, selected_on, folders=config.folders)
        count_changed(val, reading, counts)
        if selected_on == "test":
            log.warning("best.pt is chosen on the test split: its scores there flatter, and all output says so")
    else:
        train, val = hold_out(pairs, changed, config.seed)
        selected_on = HELD_OUT
        log.warning("no val split: %d training pairs (seed %d) are held out to choose best.pt", len(val), config.seed)
    size = check_sizes(train, divisor, alike=True, reading=reading, crop_size=config.crop_size)[0]
    val_sizes = check_sizes(val, divisor, alike=False, reading=reading)
    if selected_on == HELD_OUT:
        warn_of_overlap(train, val, size)
    introduce(name, {"train": len(pairs)} | ({"val": len(val)} if selected_on == "val" else {}), size)
    changed_in = dict(zip(pairs, changed, strict=True))
    data = fingerprint([*train, *val])
    if last and last["data"] != data:
        raise UserError("the data set is not the one last.pt was trained on (names or sizes of files differ)")
    statistics = last["statistics"] if last else statistics_of(config, train, reading, name)
    caches = caches_of(config, {"train": pairs} if val[0] in changed_in else {"train": train, "val": val}, reading)
    changed = [changed_in[pair] for pair in train]
    seen = image_fingerprint(pairs)
    return Data(train, val, val_sizes, selected_on, changed, statistics, reading, counts, caches, data, seen)


def caches_of(config: TrainConfig, splits: Mapping[str, Sequence[Pair]], reading: PixelFormat) -> dict[str, TileCache]:
    """The decoded tiles of --cache, a file a split; none without it."""
    if config.cache is None:
        return {}
    refuse_inside(config.cache, [pair for pairs in splits.values() for pair in pairs], "--cache")
    files = {split: config.cache / f"{split}.tiles" for split in splits}
    return distributed.first_on_each_node(
        lambda: {split: open_cache(files[split], pairs, reading) for split, pairs in splits.items()}
    )


def reading_of(config: TrainConfig, pairs: Sequence[Pair], last: Checkpoint | None) -> PixelFormat:
    """How the run reads its files; a resumed run reads them as it did."""
    if last:
        return reading_from(last["reading"])
    return choose_reading(pairs, config.bands, config.scale, labels_of(config))


def statistics_of(config: TrainConfig, pairs: Sequence[Pair], reading: PixelFormat, name: str) -> Statistics:
    """Mean and standard deviation a date and channel, by --statistics; `name` is the public set this is."""
    if config.statistics == "train":
        return measure_statistics(pairs, reading)
    by_set = config.statistics == "set"
    statistics = set_statistics(name) if by_set else choose(STATISTICS, config.statistics, "--statistics")
    if config.statistics == "none":
        return {name: [row[:1] * reading.channels for row in rows] for name, rows in statistics.items()}
    if reading.channels != 3:
        raise UserError(f"--statistics {config.statistics}: of RGB, not of {reading.channels} bands; use train or none")
    return statistics


def training_loader(data: Data, config: TrainConfig, device: torch.device) -> tuple[DataLoader, PFBSSampler]:
    """Augmented batches in the sampler's order: of each step this process's share, in the parts it is worked through.

    Raises:
        UserError: the batch does not split evenly, or an epoch would have none.
    """
    ranks = distributed.ranks()
    if config.batch_size % (ranks * config.accumulate):
        raise UserError(
            f"--batch-size {config.batch_size} does not split into {config.accumulate} parts on {ranks} processes"
        )
    augmentation = build_augmentation(
        config.augmentation,
        config.crop_size,
        config.time_swap,
        config.rotation_corners,
        config.drawn,
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
    part = config.batch_size // (ranks * config.accumulate)
    return loader_of(pairs, _batches(sampler, part), config, device), sampler


def validation_loader(data: Data, config: TrainConfig, device: torch.device) -> DataLoader:
    """Batches of one size each; every pair once, on one of the processes."""
    batches = same_size_batches(data.val_sizes, config.batch_size // config.accumulate)[
        distributed.rank() :: distributed.ranks()
    ]
    cache = data.caches.get("val", data.caches.get("train"))
    return loader_of(ChangePairs(data.val, reading=data.reading, cached=cache), batches, config, device)


def _batches(sampler: PFBSSampler, size: int) -> BatchSampler:
    return BatchSampler(sampler, size, drop_last=True)  # type: ignore[arg-type]  # draws, not plain indices


class Loader(DataLoader):
    """A loader whose workers leave Ctrl-C to this process, and whose dead workers are noticed between steps."""

    def __iter__(self) -> Any:
        with starting_workers():
            return super().__iter__()


def loader_of(
    pairs: ChangePairs, batches: Iterable[Sequence[object]], config: TrainConfig, device: torch.device
) -> DataLoader:
    """A loader whose workers live as long as the run, and whose batches reach a GPU without waiting."""
    # with a generator of its own, starting a loader draws nothing from the one that dropout uses
    pin = device.type == "cuda"
    return Loader(
        pairs, None, sampler=batches, pin_memory=pin, generator=torch.Generator(), worker_init_fn=ignore_interrupt,
        num_workers=config.num_workers, persistent_workers=config.num_workers > 0,
    )  # fmt: skip


def batches_from(loader: DataLoader, sampler: PFBSSampler, a_step: int, epoch: int, step: int) -> DataLoader:
    """The loader, which then gives the batches of an epoch from a step on; a step takes `a_step` draws."""
    sampler.set_epoch(epoch, skip=step * a_step)
    return loader
