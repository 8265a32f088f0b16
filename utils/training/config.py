"""Settings of training and their flags; precedence is default < recipe < config file < flag."""

import argparse
import json
import math
import os
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import tomli_w

from models import MODELS
from utils.console import UserError, choose
from utils.flags import at_least, given_flags, keys_in, setting
from utils.settings import ReadConfig, find_checkpoint
from utils.training.recipes import RECIPES
from utils.training.schedules import SCHEDULES


def _weights(word: str) -> tuple[float, ...] | str:
    try:
        return word if word == "balanced" else tuple(float(w) for w in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is neither numbers such as 0.5,0.4,0.3 nor balanced") from None


def network_option(word: str) -> tuple[str, object]:
    """KEY=VALUE -> (key, value): true, 3 and 0.5 as JSON reads them, anything else as text."""
    key, equals, value = word.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE, such as backbone=resnet18")
    try:
        plain = json.loads(value.lower())
    except json.JSONDecodeError:
        return key, value
    return key, value if plain is None else plain  # TOML has no null


AMP_TYPES = ("auto", "bf16", "fp16")
OF_ONE_RUN = {"output", "resume", "overwrite", "config", "list_recipes", "seeds"}  # --config does not repeat these
PATHS = {"data_root", "cache", "init_from"}  # settings that config.toml keeps and that are paths


@dataclass(frozen=True)
class TrainConfig(ReadConfig):
    """Settings of one run; the flags of train_aux.py are made from these fields."""

    BY_RECIPE: ClassVar = frozenset().union(*RECIPES.values())  # settings that a recipe gives

    output: Path | None = setting(
        None, "run folder (default: checkpoints/DATA-RECIPE; -MODEL is added if the recipe is for others)", parse=Path
    )
    config: Path | None = setting(None, "config.toml of a run to repeat; flags override it", parse=Path)
    recipe: str = setting("amfnet", "named settings; flags override them (default: the network's)")
    list_recipes: bool = setting(False, "print all recipes as a table, and exit")
    model: str = setting("amfnet", f"network: {', '.join(MODELS)}")
    model_options: dict[str, object] = setting(
        None, "options of the network: backbone=resnet18 iam=false, or width=20 row=false, ...", parse=network_option
    )
    backbone_weights: str = setting("none", "weights of the encoder at the start: imagenet, none, or a .pth file")
    init_from: Path | None = setting(
        None, "checkpoint, run folder or detector to start from; it also gives network and options that no flag sets",
        parse=Path,
    )  # fmt: skip
    freeze_encoder: int = setting(0, "epochs in which the encoder keeps its weights")
    statistics: str = setting(
        "none",
        "mean and deviation to normalise by: none ([0, 1] stays), half ([-1, 1]), train (measured), imagenet, a public "
        "set's name (levir, whu, ...), set: those of the set that is recognised, or checkpoint: those of --init-from",
    )
    augmentation: str = setting("amfnet", "of both dates together: amfnet, hanet, open-cd, ours, colours or none")
    crop_size: int = setting(0, "side of random crops in pixels, redrawn if one class fills 3/4 (0: whole tiles)")
    time_swap: bool = setting(False, "exchange the dates of every second training pair, at random")
    drawn: float = setting(0.0, "probability that a drawn scene, as in the demo, replaces a training pair")
    rotation_corners: str | None = setting(
        None, "label of corners that a rotation uncovers (default: open-cd and ours ignored, else unchanged)",
        ("unchanged", "ignored"), str,
    )  # fmt: skip
    fixed_epochs: int = setting(0, "PFBS Fixed-X: epochs that draw only images with change")
    linear_epochs: int = setting(0, "PFBS Linear-Y: epochs over which the other images come in")
    pfbs_released: bool = setting(False, "PFBS as HANet's released code indexes it, not as the paper describes it")
    pfbs_pool_only: bool = setting(False, "PFBS epochs draw every available image once: early epochs are shorter")
    zero_heads: bool = setting(False, "start the last layers at 0: every pixel is undecided")
    loss: str = setting("bce", "loss of each output", keys_in("utils/training/losses.py", "LOSSES"))
    aux_weights: tuple[float, ...] | str = setting(
        (0.5, 0.4, 0.3),
        "weights of the auxiliary outputs, the main one's is 1: 0.5,0.4,0.3, or balanced",
        parse=_weights,
    )
    select_on: str = setting("val", "split that chooses best.pt; with test, all output is marked", ("val", "test"))
    ema: float = setting(0.0, "decay of an average of the weights, such as 0.999; best.pt then holds the average")
    optimizer: str = setting("adam", "optimizer", ("adam", "adamw", "sgd"))
    momentum: float | None = setting(None, "momentum of sgd; without one, 0", parse=float)
    lr: float = setting(1e-4, "base learning rate")
    weight_decay: float = setting(0.0, "weight decay")
    schedule: str = setting("poly", "learning rate over the epochs", tuple(SCHEDULES))
    warmup_steps: int = setting(0, "steps in which the learning rate rises to its base")
    epochs: int = setting(100, "passes over the training split")
    epoch_steps: int = setting(0, "steps an epoch; 0: as many as one pass over the training split has")
    batch_size: int = setting(8, "pairs a step, of all processes together")
    accumulate: int = setting(1, "parts in which the batch of a step is computed, to save memory")
    num_workers: int = setting(min(4, os.cpu_count() or 1), "processes that load data; 0 loads in the main one")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    amp: bool = setting(False, "mixed precision")
    amp_type: str = setting("auto", "type of mixed precision; auto: bf16, or fp16 on a GPU without it", AMP_TYPES)
    compile: bool = setting(False, "torch.compile the network; where that fails, train without it and warn")
    deterministic: bool = setting(False, "equal bits in every run on the same device; slower on a GPU")
    sync_bn: bool = setting(False, "batch normalisation over the pairs of all processes")
    seed: int = setting(0, "seed of weights, sampling, augmentation and a held-out validation split")
    seeds: int = setting(1, "runs with so many seeds, from --seed on, each in its own folder; reports their mean")
    cache: Path | None = setting(
        None, "folder for decoded tiles, which later runs read in place of the files", parse=Path
    )
    save_minutes: float = setting(15.0, "minutes between two writes of last.pt within an epoch; 0: no such writes")
    resume: bool = setting(False, "continue from last.pt in the run folder, by default with the settings of that run")
    overwrite: bool = setting(False, "start again in a run folder that holds a run")

    @property
    def folder(self) -> Path:
        """The run folder."""
        other = "" if RECIPES.get(self.recipe, {}).get("model") == self.model else f"-{self.model}"
        return self.output or Path("checkpoints") / f"{self.data_root.resolve().name}-{self.recipe}{other}"

    @property
    def network_options(self) -> dict[str, object]:
        """What the network is built with, channels for the bands included."""
        channels = {"in_channels": len(self.bands)} if len(self.bands) not in (0, 3) else {}
        return {**(self.model_options or {}), **channels}

    def loss_weights(self) -> tuple[float, ...] | str:
        """Weights of all outputs, main head first, or "balanced"."""
        return self.aux_weights if isinstance(self.aux_weights, str) else (1.0, *self.aux_weights)


# what may differ between a run and its resumption without changing what is computed
FREE_ON_RESUME = {
    "data_root", "data_name", "output", "config", "num_workers", "device", "cache", "resume", "overwrite", "recipe",
    "seeds", "save_minutes",
}  # fmt: skip


def parse_train_config(argv: Sequence[str] | None) -> TrainConfig:
    """Flags -> settings; the recipe, by default the network's own, fills what neither they nor --config set.

    With --resume, the run's own config.toml is the --config, unless a flag names another, a recipe or a network.

    Raises:
        UserError: an unknown recipe or network, a number out of range, or two flags that contradict each other.
    """
    about, epilog = "Train a change-detection network on pairs of images.", f"recipes: {', '.join(RECIPES)}"
    given = given_flags(TrainConfig, about, argv, epilog=epilog)
    if given.get("resume") and not given.keys() & {"config", "recipe", "model"}:
        settings = TrainConfig(**given).folder / "config.toml"
        given |= {"config": settings} if settings.is_file() else {}
    if "config" in given:
        given = {**read_config(given["config"]), **given}
    if "recipe" not in given:
        given["recipe"] = recipe = "fine-tune" if "init_from" in given else given.get("model", TrainConfig.model)
        if recipe not in RECIPES:
            choose(MODELS, recipe, "--model")
            raise UserError(f"no recipe is named after --model {recipe}; pass one, for example --recipe equal")
    merged = {**choose(RECIPES, given["recipe"], "--recipe"), **given}
    if "init_from" in merged:
        merged["backbone_weights"] = given.get("backbone_weights", "none")
    elif not merged.get("model"):
        raise UserError(f"--recipe {given['recipe']} is for any network; name one, for example --model bit")
    config = TrainConfig(**merged)
    _check(config)
    if config.init_from and "model" not in given:
        config = _with_network_of(config, config.init_from)
    return config


def _with_network_of(config: TrainConfig, init_from: Path) -> TrainConfig:
    """Take model and options from a checkpoint; --model-options overrides single options."""
    from utils.checkpoint import load_checkpoint  # imports PyTorch

    content = load_checkpoint(find_checkpoint(init_from))
    options = {name: value for name, value in content["options"].items() if name != "in_channels"}  # follows --bands
    return replace(config, model=content["model"], model_options={**options, **(config.model_options or {})})


def _check(config: TrainConfig) -> None:
    """Raise UserError for a number out of range, a path that config.toml cannot hold, or flags that contradict."""
    at_least(
        config, epochs=1, batch_size=1, num_workers=0, seed=0, fixed_epochs=0, linear_epochs=0, lr=0, weight_decay=0,
        warmup_steps=0, epoch_steps=0, accumulate=1, seeds=1, save_minutes=0, ema=0, crop_size=0, freeze_encoder=0,
    )  # fmt: skip
    weights = () if isinstance(config.aux_weights, str) else config.aux_weights
    if not all(0 <= weight < math.inf for weight in weights):
        raise UserError(f"--aux-weights {','.join(map(str, weights))}: must be finite numbers of at least 0")
    for name, value in (("ema", config.ema), ("momentum", config.momentum or 0.0)):
        if not 0 <= value < 1:
            raise UserError(f"--{name} {value}: must be at least 0 and below 1, such as 0.99")
    if not 0 <= config.drawn <= 1:
        raise UserError(f"--drawn {config.drawn}: a probability, from 0 to 1")
    if config.batch_size % config.accumulate:
        raise UserError(f"--batch-size {config.batch_size} does not split into --accumulate {config.accumulate} parts")
    if config.init_from and config.backbone_weights != "none":
        raise UserError("--init-from gives all weights, the encoder's too: pass --backbone-weights none with it")
    if config.statistics == "checkpoint" and not config.init_from:
        raise UserError("--statistics checkpoint takes those of --init-from, which is not given")
    root = config.data_root.resolve()
    if config.folder.resolve() == (root.parent if root.is_file() else root):
        raise UserError(f"--output {config.folder}: holds the data set, whose lists would be replaced; name another")
    if config.resume and config.overwrite:
        raise UserError("--resume continues a run and --overwrite starts it again: give one of them")
    if config.pfbs_released and config.pfbs_pool_only:
        raise UserError("--pfbs-released fills an epoch that --pfbs-pool-only shortens: give one of them")
    for name in PATHS:
        if any("\ud800" <= letter <= "\udfff" for letter in str(getattr(config, name) or "")):
            raise UserError(f"--{name.replace('_', '-')}: the name of this path is not UTF-8; rename or link it")


def recipe_table() -> str:
    """The recipes as text: one line each, with the settings in which they differ most."""
    columns = ("model", "statistics", "augmentation", "loss", "optimizer", "lr", "schedule", "epochs", "batch_size")
    rows: list[tuple[str, ...]] = [("recipe", *columns, "PFBS")]
    for name, recipe in RECIPES.items():
        config = replace(TrainConfig(), **recipe)  # type: ignore[arg-type]
        sampler = f"{config.fixed_epochs} + {config.linear_epochs}"
        shown = {**asdict(config), "model": recipe.get("model", "any")}
        rows.append((name, *(str(shown[column]) for column in columns), sampler))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{w:<{n}}" for w, n in zip(row, widths, strict=True)).rstrip() for row in rows)


def plain_config(config: TrainConfig) -> dict[str, object]:
    """A config as primitives, without settings that are None: what a checkpoint and config.toml hold."""
    values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items() if v is not None}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def config_as_toml(config: TrainConfig, **extra: object) -> str:
    """The resolved config, and more keys to keep with it, as TOML text."""
    return tomli_w.dumps({**plain_config(config), **extra})


def read_config(path: Path) -> dict[str, Any]:
    """Settings from a file that `config_as_toml` wrote, without those of one run alone, such as --output.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no TOML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--config {path}: no such file; every run folder has a config.toml")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: no TOML as a run's config.toml has it ({error})") from None
    kept = {each.name for each in fields(TrainConfig)} - OF_ONE_RUN
    settings = {name: Path(v) if name in PATHS else v for name, v in found.items() if name in kept}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
