"""Every setting of a training run, its flags, and the recipes; precedence is default < recipe < flag."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from utils.losses import LOSSES
from utils.runtime import choose
from utils.schedules import SCHEDULES


def _setting(
    default: object, text: str, choices: Sequence[str] | None = None, parse: Callable[[str], object] | None = None
) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices, "parse": parse or type(default)})


def _weights(word: str) -> tuple[float, ...] | str:
    try:
        return word if word == "balanced" else tuple(float(w) for w in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is neither numbers such as 0.5,0.4,0.3 nor balanced") from None


def _option(word: str) -> tuple[str, object]:
    """KEY=VALUE -> (key, value): true, 3 and 0.5 as JSON reads them, anything else stays a word."""
    key, equals, value = word.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE, such as backbone=resnet18")
    try:
        return key, json.loads(value.lower())
    except json.JSONDecodeError:
        return key, value


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the flags of train_aux.py are made from these fields."""

    data_root: Path = _setting(Path("data"), "data set: {train,val,test}/{A,B,label}, or A,B,label and list/*.txt")
    output: Path | None = _setting(None, "run folder (default: checkpoints/DATA-RECIPE)", parse=Path)
    recipe: str = _setting("amfnet", "settings of a published result, for all that no flag says")
    model: str = _setting("amfnet", "network: amfnet or hanet")
    model_options: dict[str, object] = _setting(
        None, "settings of the network: backbone=resnet18 iam=false ..., or width=20 row=false ...", parse=_option
    )
    backbone_weights: str = _setting("none", "start of the encoder: imagenet, none, or a torchvision .pth file")
    statistics: str = _setting(
        "none", "normalisation: none ([0, 1] as it is), train (measured), imagenet, or a set's name"
    )
    augmentation: str = _setting("amfnet", "joint augmentation: amfnet, hanet or none")
    fixed_epochs: int = _setting(0, "PFBS Fixed-X: epochs that see only images with change")
    linear_epochs: int = _setting(0, "PFBS Linear-Y: epochs over which the other images come in")
    pfbs_released: bool = _setting(False, "PFBS as HANet's released code indexes it, not as the paper says")
    loss: str = _setting("bce", "loss of each output", tuple(LOSSES))
    aux_weights: tuple[float, ...] | str = _setting(
        (0.5, 0.4, 0.3),
        "weights of the auxiliary outputs beside the main one's 1: 0.5,0.4,0.3, or balanced",
        parse=_weights,
    )
    optimizer: str = _setting("adam", "optimizer", ("adam", "adamw"))
    lr: float = _setting(1e-4, "base learning rate")
    weight_decay: float = _setting(0.0, "weight decay")
    schedule: str = _setting("poly", "learning rate over the epochs", tuple(SCHEDULES))
    epochs: int = _setting(100, "passes over the training split")
    batch_size: int = _setting(8, "pairs a step")
    num_workers: int = _setting(min(4, os.cpu_count() or 1), "processes that load data; 0 loads in the main one")
    device: str = _setting("auto", "auto, cpu, cuda or cuda:N")
    amp: bool = _setting(False, "mixed precision: bfloat16, or float16 on a GPU without it")
    seed: int = _setting(0, "of weights, sampling, augmentation and a held-out validation split")
    resume: bool = _setting(False, "go on from last.pt in the run folder")
    overwrite: bool = _setting(False, "start again in a run folder that holds a run")

    def loss_weights(self) -> tuple[float, ...] | str:
        """Weights of all outputs, main head first, or "balanced"."""
        return self.aux_weights if isinstance(self.aux_weights, str) else (1.0, *self.aux_weights)


@dataclass(frozen=True)
class PredictConfig:
    """Settings of a prediction; the flags of predict_batch.py are made from these fields."""

    checkpoint: Path = _setting(Path("best.pt"), "best.pt of a run; it says which network, statistics and threshold")
    data_root: Path = _setting(Path("data"), "data set, as in training; labels are optional")
    split: str = _setting("test", "which split of it")
    before: Path | None = _setting(None, "folder of the earlier images, in place of --data-root", parse=Path)
    after: Path | None = _setting(None, "folder of the later images", parse=Path)
    label: Path | None = _setting(None, "folder of the labels, if there are any", parse=Path)
    output: Path | None = _setting(
        None, "folder of the maps (default: predict-SPLIT beside the checkpoint)", parse=Path
    )
    threshold: float | None = _setting(None, "probability in [0, 1] over which a pixel is changed", parse=float)
    batch_size: int = _setting(8, "pairs at a time")
    num_workers: int = _setting(min(4, os.cpu_count() or 1), "processes that load data; 0 loads in the main one")
    device: str = _setting("auto", "auto, cpu, cuda or cuda:N")


RECIPES: dict[str, dict[str, object]] = {
    "amfnet": {  # train_aux.py as released with AMFNet, LEVIR-CD
        "model": "amfnet",
        "backbone_weights": "imagenet",
        "statistics": "none",
        "augmentation": "amfnet",
        "loss": "bce",
        "aux_weights": (0.5, 0.4, 0.3),
        "optimizer": "adam",
        "lr": 1e-4,
        "schedule": "poly",  # power 0.9, an epoch at a time
        "epochs": 200,
        "batch_size": 32,  # 16 for SYSU-CD and GZ-CD
    },
    "hanet": {  # HANet Sec. IV-A and the released code, LEVIR-CD
        "model": "hanet",
        "backbone_weights": "none",
        "statistics": "train",
        "augmentation": "hanet",
        "linear_epochs": 35,  # PFBS Linear-35, the released LEVIR-CD weights
        "loss": "hybrid",
        "optimizer": "adamw",  # Sec. IV-A says Adam, the code AdamW
        "lr": 5e-4,
        "weight_decay": 5e-4,
        "schedule": "step",  # halved every 8 epochs
        "epochs": 100,  # Sec. IV-A; the released settings file says 50
        "batch_size": 8,
    },
}

ALIASES = {"data_root": "dataroot", "epochs": "max_epochs", "output": "output_folder"}
# what may differ between a run and its resumption without changing what is computed
FREE_ON_RESUME = {"data_root", "output", "num_workers", "device", "resume", "overwrite", "recipe"}


def parse_train_config(argv: Sequence[str] | None) -> TrainConfig:
    """Flags -> settings; the recipe, by default the network's own, fills what no flag says.

    Raises:
        ValueError: an unknown recipe or network, a number out of range, or two flags that contradict each other.
    """
    recipes = "\n".join(f"  {name}: {_summary(settings)}" for name, settings in RECIPES.items())
    given = _flags(TrainConfig, "Train a change-detection network on pairs of images.", argv, f"recipes:\n{recipes}")
    recipe = given.setdefault("recipe", given.get("model", TrainConfig.recipe))
    config = TrainConfig(**{**choose(RECIPES, recipe, "--recipe"), **given})
    _at_least(
        config, epochs=1, batch_size=1, num_workers=0, seed=0, fixed_epochs=0, linear_epochs=0, lr=0, weight_decay=0
    )
    if config.resume and config.overwrite:
        raise ValueError("--resume goes on with a run and --overwrite starts it again: give one of them")
    return config


def parse_predict_config(argv: Sequence[str] | None) -> PredictConfig:
    """Flags -> settings; a run folder stands for its best.pt.

    Raises:
        ValueError: a number out of range, or flags that do not go together.
    """
    given = _flags(PredictConfig, "Draw change maps with a trained network.", argv)
    config = PredictConfig(**given)
    _at_least(config, batch_size=1, num_workers=0)
    if ("before" in given) != ("after" in given) or ("label" in given and "before" not in given):
        raise ValueError("--before and --after go together, and --label goes with them: the folders of a set of pairs")
    if "before" in given and given.keys() & {"data_root", "split"}:
        raise ValueError("--before and --after stand in place of --data-root and --split: give one or the other")
    if config.threshold is not None and not 0 <= config.threshold <= 1:
        raise ValueError(f"--threshold {config.threshold}: must lie in [0, 1]")
    return replace(config, checkpoint=config.checkpoint / "best.pt") if config.checkpoint.is_dir() else config


def _at_least(config: TrainConfig | PredictConfig, **bounds: int) -> None:
    for name, bound in bounds.items():
        if getattr(config, name) < bound:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(config, name)}: must be at least {bound}")


def _flags(settings: type, description: str, argv: Sequence[str] | None, epilog: str = "") -> dict[str, Any]:
    """The flags given, and no others, so that a recipe can fill the rest; words join by - or _ (--batch_size)."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=description,
        epilog=epilog,
        formatter_class=formatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    by_recipe = set().union(*RECIPES.values()) if settings is TrainConfig else ()
    for setting in fields(settings):
        names = [name for name in (setting.name, ALIASES.get(setting.name)) if name]
        spellings = [f"--{name.replace('_', '-')}" for name in names]
        options: dict[str, Any] = {
            "dest": setting.name,
            "help": setting.metadata["help"] + _default(setting, by_recipe),
        }
        if isinstance(setting.default, bool):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": setting.metadata["parse"], "choices": setting.metadata["choices"]}
            options["metavar"] = None if options["choices"] else setting.name.split("_")[-1].upper()
        if setting.name == "model_options":
            options |= {"nargs": "+", "metavar": "KEY=VALUE", "action": "extend"}
        parser.add_argument(*spellings, **options)
    words = sys.argv[1:] if argv is None else argv
    given = vars(parser.parse_args([_dashed(word) for word in words]))
    if "model_options" in given:
        given["model_options"] = dict(given["model_options"])
    return given


def _default(setting: Field, by_recipe: Collection[str]) -> str:
    """What the help says of a setting's default."""
    if setting.name in by_recipe:
        return " (default: by recipe)"
    return "" if setting.default in (None, False) else f" (default: {setting.default})"


def _dashed(word: str) -> str:
    """--batch_size=8 -> --batch-size=8; words that are no flag stay."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else word


def _summary(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{key.replace('_', '-')} {value}" for key, value in settings.items())


def plain_config(config: TrainConfig) -> dict[str, object]:
    """A config as primitives, without what is not set: what a checkpoint and config.toml hold."""
    values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items() if v is not None}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def config_as_toml(config: TrainConfig, **extra: object) -> str:
    """The resolved config, and whatever else is worth keeping, as TOML text."""

    def value(v: object) -> str:
        if isinstance(v, dict):
            return "{" + ", ".join(f"{k} = {value(x)}" for k, x in v.items()) + "}"
        return json.dumps(v)

    return "".join(f"{k} = {value(v)}\n" for k, v in {**plain_config(config), **extra}.items())
