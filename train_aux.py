#!/usr/bin/env python3
"""Trains a network on a data set of image pairs: one run, from flags to best.pt."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.catalog import STATISTICS, Statistics
from datasets.change_pairs import ChangePairs, check_sizes, same_size_batches
from datasets.label_counts import LabelCounts, count_changed
from datasets.layouts import has_split
from datasets.measurements import choose_reading, measure_statistics
from datasets.pairs import Pair, find_pairs, fingerprint, hold_out, refuse_inside
from datasets.pfbs import PFBSSampler
from datasets.reading import Reading, reading_from
from datasets.recognition import introduce, recognise, set_statistics
from datasets.tile_cache import TileCache, open_cache
from datasets.transforms import build_augmentation
from models import build_model
from utils.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from utils.config import FREE_ON_RESUME, TrainConfig, config_as_toml, parse_train_config, plain_config
from utils.engine import evaluate, train_one_epoch
from utils.input_scaling import scaling_from
from utils.losses import LOSSES, DeepSupervisionLoss
from utils.metrics import scores
from utils.run_log import link_best, write_run_log, write_text
from utils.runtime import amp_type, choose, errors_in_one_line, pick_device, seed_everything, show_log
from utils.schedules import SCHEDULES

log = logging.getLogger("train")
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
COUNTS = "label_counts.json"  # kept in the run folder
LOGGED = ("f1", "precision", "recall", "iou")


@dataclass(frozen=True)
class Data:
    """The two splits of a run and what was measured on them."""

    train: list[Pair]
    val: list[Pair]
    val_sizes: list[tuple[int, int]]
    selected_on: str
    changed: list[int]
    statistics: Statistics
    reading: Reading
    label_counts: LabelCounts
    caches: dict[str, TileCache]  # by split; a held-out val is in train's
    fingerprint: str


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line("interrupted; what whole epochs gave is kept: the same command with --resume goes on"):
        show_log()
        train(parse_train_config(argv))


def train(config: TrainConfig) -> Path:
    """Train one run and return its folder, which then holds best.pt."""
    device = pick_device(config.device)
    folder = run_folder(config)
    last = load_resumable(folder / "last.pt", config) if (config.resume and (folder / "last.pt").is_file()) else None
    seed_everything(config.seed)
    network = build_model(config.model, **config.network_options)
    data = open_data(config, network.size_divisor, last, folder)
    refuse_inside(folder, [*data.train, *data.val])
    if last is None and config.backbone_weights != "none":
        load_backbone(network, config)
    train_loader, sampler = training_loader(data, config, device)
    val_loader = loader_of(
        ChangePairs(data.val, reading=data.reading, cached=data.caches.get("val", data.caches.get("train"))),
        same_size_batches(data.val_sizes, config.batch_size), config, device,
    )  # fmt: skip
    network = network.to(device).to(memory_format=torch.channels_last)
    scaling = scaling_from(data.statistics).to(device)
    loss = DeepSupervisionLoss(LOSSES[config.loss], config.loss_weights())
    optimizer = OPTIMIZERS[config.optimizer](network.parameters(), config.lr, weight_decay=config.weight_decay)
    half = amp_type(device) if config.amp else None
    scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
    history = restore(last, network, optimizer, scaler) if last else []
    start_folder(folder, config, data, history)
    seen = [sampler.draws(epoch) // config.batch_size * config.batch_size for epoch in range(config.epochs)]
    with (
        tqdm(total=sum(seen), initial=sum(seen[: len(history)]), unit="pair", dynamic_ncols=True) as progress,
        logging_redirect_tqdm(),
    ):
        for epoch in range(len(history), config.epochs):
            started = time.perf_counter()
            progress.set_description(f"epoch {epoch + 1}/{config.epochs}")
            sampler.set_epoch(epoch)
            seed_everything(config.seed, epoch)
            lr = SCHEDULES[config.schedule](config.lr, epoch, config.epochs)
            for group in optimizer.param_groups:
                group["lr"] = lr
            counts, losses = train_one_epoch(
                network, train_loader, loss, optimizer, scaling, device, scaler, half, progress
            )
            val_counts, val_loss = evaluate(network, val_loader, loss, scaling, device, half)
            seconds = time.perf_counter() - started
            history.append(
                log_row(epoch + 1, lr, losses.tolist(), scores(counts), val_loss, scores(val_counts), seconds)
            )
            content = checkpoint_content(config, network, data, history)
            save_epoch(folder, content, optimizer, scaler, history)
    log_result(folder, config, data, history)
    return folder


def run_folder(config: TrainConfig) -> Path:
    """The folder of this run; an existing run in it is never touched unasked."""
    folder = config.output or Path("checkpoints") / f"{config.data_root.resolve().name}-{config.recipe}"
    exists = (folder / "last.pt").is_file()
    if config.resume and not exists:
        log.warning("%s: no last.pt yet, so this starts with the first epoch", folder)
    if exists and not (config.resume or config.overwrite):
        raise ValueError(
            f"{folder}: holds a run; --resume goes on with it, --overwrite starts again, --output names another folder"
        )
    return folder


def load_resumable(path: Path, config: TrainConfig) -> Checkpoint:
    """Read last.pt; settings that would compute something else than the run did are an error."""
    last, wanted = load_checkpoint(path), plain_config(config)
    if not {"config", "data", "optimizer", "scaler", "history"} <= last.keys():
        raise ValueError(f"{path}: not the last.pt of a run (best.pt cannot be resumed); start again with --overwrite")
    before = last["config"]
    names = [n for n in {**before, **wanted} if n not in FREE_ON_RESUME and before.get(n) != wanted.get(n)]
    if names:
        changes = "; ".join(f"{n}: {before.get(n)} there, {wanted.get(n)} here" for n in names)
        raise ValueError(f"{path}: made with other settings ({changes}); give the same ones, or another --output")
    return last


def load_backbone(network: nn.Module, config: TrainConfig) -> None:
    """Start the encoder from weights trained elsewhere; never from random ones unasked."""
    if not hasattr(network, "load_backbone"):
        raise ValueError(f"{config.model} has no encoder to load; use --backbone-weights none")
    network.load_backbone(config.backbone_weights)
    inflated = len(config.bands) not in (0, 3)
    how = f", the mean of its first filters for each of {len(config.bands)} bands" if inflated else ""
    log.info("encoder starts from %s%s", config.backbone_weights, how)


def open_data(config: TrainConfig, divisor: int, last: Checkpoint | None, folder: Path) -> Data:
    """Find, check and measure both splits before a single step is made."""
    name = recognise(config.data_root, config.data_name)
    pairs = find_pairs(config.data_root, "train", folders=config.folders)
    reading = reading_of(config, pairs, last)
    counts = LabelCounts(reading, folder / COUNTS)
    changed = count_changed(pairs, reading, counts)
    if has_split(config.data_root, "val"):
        train, val, selected_on = pairs, find_pairs(config.data_root, "val", folders=config.folders), "val"
        count_changed(val, reading, counts)
    else:
        train, val = hold_out(pairs, changed, config.seed)
        selected_on = "a held-out tenth of train"
        log.warning("no val split: %d training pairs (seed %d) are held out to choose best.pt", len(val), config.seed)
    size = check_sizes(train, divisor, alike=True, reading=reading, crop_size=config.crop_size)[0]
    val_sizes = check_sizes(val, divisor, alike=False, reading=reading)
    introduce(name, {"train": len(pairs)} | ({"val": len(val)} if selected_on == "val" else {}), size)
    changed_in = dict(zip(pairs, changed, strict=True))
    data = fingerprint([*train, *val])
    if last and last["data"] != data:
        raise ValueError("the data set is not the one last.pt was trained on (names or sizes of files differ)")
    statistics = last["statistics"] if last else statistics_of(config, train, reading, name)
    caches = caches_of(config, {"train": pairs} if val[0] in changed_in else {"train": train, "val": val}, reading)
    changed = [changed_in[pair] for pair in train]
    return Data(train, val, val_sizes, selected_on, changed, statistics, reading, counts, caches, data)


def caches_of(config: TrainConfig, splits: Mapping[str, Sequence[Pair]], reading: Reading) -> dict[str, TileCache]:
    """The decoded tiles of --cache, a file a split; none without it."""
    if config.cache is None:
        return {}
    refuse_inside(config.cache, [pair for pairs in splits.values() for pair in pairs], "--cache")
    return {split: open_cache(config.cache / f"{split}.tiles", pairs, reading) for split, pairs in splits.items()}


def reading_of(config: TrainConfig, pairs: Sequence[Pair], last: Checkpoint | None) -> Reading:
    """How the run reads its files; a resumed run reads them as it did."""
    if last:
        return reading_from(last["reading"])
    return choose_reading(pairs, config.bands, config.scale, config.change_value, config.ignore_value)


def statistics_of(config: TrainConfig, pairs: Sequence[Pair], reading: Reading, name: str) -> Statistics:
    """Mean and standard deviation a date and channel, by --statistics; `name` is the public set this is."""
    if config.statistics == "train":
        return measure_statistics(pairs, reading)
    by_set = config.statistics == "set"
    statistics = set_statistics(name) if by_set else choose(STATISTICS, config.statistics, "--statistics")
    if config.statistics == "none":
        return {name: [row[:1] * reading.channels for row in rows] for name, rows in statistics.items()}
    if reading.channels != 3:
        raise ValueError(
            f"--statistics {config.statistics}: of RGB, not of {reading.channels} bands; use train or none"
        )
    return statistics


def training_loader(data: Data, config: TrainConfig, device: torch.device) -> tuple[DataLoader, PFBSSampler]:
    """Augmented batches in the sampler's order; a last batch that is not full is left out."""
    augmentation = build_augmentation(config.augmentation, config.crop_size, config.time_swap, config.rotation_corners)
    pairs = ChangePairs(data.train, augmentation, data.reading, data.caches.get("train"))
    sampler = PFBSSampler(
        data.changed,
        config.fixed_epochs,
        config.linear_epochs,
        config.seed,
        released=config.pfbs_released,
        pool_only=config.pfbs_pool_only,
    )
    if len(sampler) < config.batch_size:  # no later epoch draws less than the first
        what = f"{len(sampler)} training pairs in the first epoch make no batch of {config.batch_size}"
        raise ValueError(f"{what}; lower --batch-size")
    return loader_of(pairs, BatchSampler(sampler, config.batch_size, drop_last=True), config, device), sampler


def loader_of(
    pairs: ChangePairs, batches: Iterable[Sequence[object]], config: TrainConfig, device: torch.device
) -> DataLoader:
    """A loader whose workers live as long as the run, and whose batches reach a GPU without waiting."""
    workers = {"num_workers": config.num_workers, "persistent_workers": config.num_workers > 0}
    # with a generator of its own, starting a loader draws nothing from the one that dropout uses
    pin = device.type == "cuda"
    return DataLoader(pairs, None, sampler=batches, pin_memory=pin, generator=torch.Generator(), **workers)


def restore(
    last: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> list[dict[str, float]]:
    """Put a run back to where last.pt left it; returns its history."""
    network.load_state_dict(last["weights"])
    optimizer.load_state_dict(last["optimizer"])
    scaler.load_state_dict(last["scaler"])
    log.info("resuming after epoch %d", len(last["history"]))
    return last["history"]


def start_folder(folder: Path, config: TrainConfig, data: Data, history: Sequence[dict[str, float]]) -> None:
    """Make the run folder and write config.toml; a run to be overwritten loses nothing before its first epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    write_text(folder / "config.toml", config_as_toml(config, data=data.fingerprint))
    write_text(folder / COUNTS, data.label_counts.as_text())
    if history:
        write_run_log(folder, history)


def log_row(
    epoch: int, lr: float, losses: Sequence[float], train_scores: Mapping[str, float],
    val_loss: float, val_scores: Mapping[str, float], seconds: float,
) -> dict[str, float]:  # fmt: skip
    """One line of log.csv, also logged; losses are of the main head unless they say aux."""
    row = {"epoch": epoch, "lr": lr, "train_loss": losses[0]}
    row |= {f"train_loss_aux{i}": value for i, value in enumerate(losses[1:], start=1)}
    row |= {f"train_{name}": train_scores[name] for name in LOGGED}
    row |= {"val_loss": val_loss, **{f"val_{name}": val_scores[name] for name in LOGGED}, "seconds": seconds}
    percent = ", ".join(f"{name} {100 * val_scores[name]:.2f}" for name in LOGGED)
    log.info("epoch %d: loss %.4f, val loss %.4f, val %s, %.1f s", epoch, losses[0], val_loss, percent, seconds)
    return row


def checkpoint_content(
    config: TrainConfig, network: nn.Module, data: Data, history: Sequence[Mapping[str, float]]
) -> Checkpoint:
    """What best.pt holds: all that a prediction, and a reader, needs to know."""
    return {
        "model": config.model,
        "options": config.network_options,
        "weights": {name: value.contiguous() for name, value in network.state_dict().items()},
        "statistics": data.statistics,
        "reading": data.reading.as_plain(),
        "threshold": 0.5,
        "recipe": config.recipe,
        "config": plain_config(config),
        "epoch": len(history),
        "scores": history[-1],
        "selected_on": data.selected_on,
        "data": data.fingerprint,
    }


def save_epoch(
    folder: Path, content: Checkpoint, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler,
    history: Sequence[dict[str, float]],
) -> None:  # fmt: skip
    """Write the epoch's files; the logs come after last.pt, which can redraw them."""
    if all(history[-1]["val_f1"] > row["val_f1"] for row in history[:-1]):
        save_checkpoint(folder / "best.pt", content)
        link_best(folder, history[-1])
    states = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict(), "history": list(history)}
    save_checkpoint(folder / "last.pt", content | states)
    try:
        write_run_log(folder, history)
    except OSError as error:  # a log that is open elsewhere must not end the run
        log.warning("the logs of epoch %d could not be written: %s", len(history), error)


def log_result(folder: Path, config: TrainConfig, data: Data, history: Sequence[dict[str, float]]) -> None:
    """Write metrics.json and say what came out and how to go on."""
    best = max(history, key=lambda row: row["val_f1"])
    metrics = {"selected_on": data.selected_on, "recipe": config.recipe, "best": best}
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    log.info("best val F1 %.2f at epoch %d: %s", 100 * best["val_f1"], best["epoch"], folder / "best.pt")
    log.info("curves: %s", folder / "curves.png")
    split = "test" if has_split(config.data_root, "test") else "val"
    if has_split(config.data_root, split):
        flags = f"--checkpoint {folder / 'best.pt'} --data-root {config.data_root} --split {split}"
        log.info("next: python predict_batch.py %s", flags)


if __name__ == "__main__":
    main()
