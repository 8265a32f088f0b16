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


def setting(
    default: object, text: str, choices: Sequence[str] | None = None, parse: Callable[[str], object] | None = None
) -> Any:
    """A field of a settings class: its default, help text, the words it may be, and what turns a word into a value."""
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


def _bands(word: str) -> tuple[int, ...]:
    try:
        bands = tuple(int(band) for band in word.split(","))
    except ValueError:
        bands = ()
    if not bands or min(bands) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no list of bands counted from 1, such as 4,3,2")
    return bands


def _scale(word: str) -> str:
    try:
        fits = word in ("auto", "percentile") or float(word) > 0
    except ValueError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError(f"{word!r} is neither auto nor percentile nor a number above 0, such as 10000")
    return word


@dataclass(frozen=True)
class DataConfig:
    """Where a data set lies, how its folders are called, and how its labels are coded."""

    data_root: Path = setting(Path("data"), "data set: {train,val,test}/{A,B,label}, or A,B,label and list/*.txt, ...")
    before_dir: str | None = setting(None, "name of the earlier images' folder, where it is no usual one", parse=str)
    after_dir: str | None = setting(None, "name of the later images' folder", parse=str)
    label_dir: str | None = setting(None, "name of the labels' folder", parse=str)
    change_value: int | None = setting(None, "label value (or palette index) that means changed", parse=int)
    ignore_value: int | None = setting(None, "label value that means unknown: not trained on, not scored", parse=int)

    @property
    def folders(self) -> dict[str, str | None]:
        """Names of folders by role, where they are given."""
        return {"before": self.before_dir, "after": self.after_dir, "label": self.label_dir}


@dataclass(frozen=True)
class ReadConfig(DataConfig):
    """The same, which public set it is, and how images become 8-bit channels."""

    data_name: str = setting("auto", "public set this is: levir, whu, ..., generic; auto tells by folder and layout")
    bands: tuple[int, ...] = setting((), "bands to read, counted from 1, such as 4,3,2 (default: RGB)", parse=_bands)
    scale: str = setting(
        "auto",
        "values to 0..255: percentile (2nd to 98th of all pixels), a number (what becomes 255), or auto: 8 bits as "
        "they are, percentile for more",
        parse=_scale,
    )


@dataclass(frozen=True)
class TrainConfig(ReadConfig):
    """Settings of one run; the flags of train_aux.py are made from these fields."""

    output: Path | None = setting(None, "run folder (default: checkpoints/DATA-RECIPE)", parse=Path)
    recipe: str = setting("amfnet", "settings of a published result, for all that no flag says")
    model: str = setting("amfnet", "network: amfnet or hanet")
    model_options: dict[str, object] = setting(
        None, "settings of the network: backbone=resnet18 iam=false ..., or width=20 row=false ...", parse=_option
    )
    backbone_weights: str = setting("none", "start of the encoder: imagenet, none, or a torchvision .pth file")
    statistics: str = setting(
        "none",
        "normalisation: none ([0, 1] as it is), train (measured), imagenet, a public set's name (levir, whu, ...), or "
        "set: the name of the set this is",
    )
    augmentation: str = setting("amfnet", "joint augmentation: amfnet, hanet, open-cd or none")
    crop_size: int = setting(0, "side in pixels of random crops, none filled to 3/4 by one class (0: whole tiles)")
    time_swap: bool = setting(False, "exchange the dates of every second training pair, at random")
    rotation_corners: str | None = setting(
        None, "label of corners that a rotation uncovers (default: open-cd ignored, else unchanged)",
        ("unchanged", "ignored"), str,
    )  # fmt: skip
    fixed_epochs: int = setting(0, "PFBS Fixed-X: epochs that see only images with change")
    linear_epochs: int = setting(0, "PFBS Linear-Y: epochs over which the other images come in")
    pfbs_released: bool = setting(False, "PFBS as HANet's released code indexes it, not as the paper says")
    pfbs_pool_only: bool = setting(False, "PFBS epochs that draw each open image once: early epochs are shorter")
    loss: str = setting("bce", "loss of each output", tuple(LOSSES))
    aux_weights: tuple[float, ...] | str = setting(
        (0.5, 0.4, 0.3),
        "weights of the auxiliary outputs beside the main one's 1: 0.5,0.4,0.3, or balanced",
        parse=_weights,
    )
    optimizer: str = setting("adam", "optimizer", ("adam", "adamw"))
    lr: float = setting(1e-4, "base learning rate")
    weight_decay: float = setting(0.0, "weight decay")
    schedule: str = setting("poly", "learning rate over the epochs", tuple(SCHEDULES))
    epochs: int = setting(100, "passes over the training split")
    batch_size: int = setting(8, "pairs a step")
    num_workers: int = setting(min(4, os.cpu_count() or 1), "processes that load data; 0 loads in the main one")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    amp: bool = setting(False, "mixed precision: bfloat16, or float16 on a GPU without it")
    seed: int = setting(0, "of weights, sampling, augmentation and a held-out validation split")
    cache: Path | None = setting(None, "folder for decoded tiles, read in place of the files from then on", parse=Path)
    resume: bool = setting(False, "go on from last.pt in the run folder")
    overwrite: bool = setting(False, "start again in a run folder that holds a run")

    @property
    def network_options(self) -> dict[str, object]:
        """What the network is built with, channels for the bands included."""
        channels = {"in_channels": len(self.bands)} if len(self.bands) not in (0, 3) else {}
        return {**(self.model_options or {}), **channels}

    def loss_weights(self) -> tuple[float, ...] | str:
        """Weights of all outputs, main head first, or "balanced"."""
        return self.aux_weights if isinstance(self.aux_weights, str) else (1.0, *self.aux_weights)


@dataclass(frozen=True)
class PredictConfig(DataConfig):
    """Settings of a prediction; the flags of predict_batch.py are made from these fields."""

    checkpoint: Path = setting(Path("best.pt"), "best.pt of a run; it says which network, statistics and threshold")
    split: str = setting("test", "which split of it")
    before: Path | None = setting(None, "folder of the earlier images, in place of --data-root", parse=Path)
    after: Path | None = setting(None, "folder of the later images", parse=Path)
    label: Path | None = setting(None, "folder of the labels, if there are any", parse=Path)
    output: Path | None = setting(None, "folder of the maps (default: predict-SPLIT beside the checkpoint)", parse=Path)
    threshold: float | None = setting(None, "probability in [0, 1] over which a pixel is changed", parse=float)
    batch_size: int = setting(8, "pairs at a time")
    num_workers: int = setting(min(4, os.cpu_count() or 1), "processes that load data; 0 loads in the main one")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


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
FREE_ON_RESUME = {"data_root", "data_name", "output", "num_workers", "device", "cache", "resume", "overwrite", "recipe"}


def parse_train_config(argv: Sequence[str] | None) -> TrainConfig:
    """Flags -> settings; the recipe, by default the network's own, fills what no flag says.

    Raises:
        ValueError: an unknown recipe or network, a number out of range, or two flags that contradict each other.
    """
    recipes = "\n".join(f"  {name}: {_summary(settings)}" for name, settings in RECIPES.items())
    given = given_flags(
        TrainConfig, "Train a change-detection network on pairs of images.", argv, f"recipes:\n{recipes}"
    )
    recipe = given.setdefault("recipe", given.get("model", TrainConfig.recipe))
    config = TrainConfig(**{**choose(RECIPES, recipe, "--recipe"), **given})
    at_least(
        config, epochs=1, batch_size=1, num_workers=0, seed=0, fixed_epochs=0, linear_epochs=0, lr=0, weight_decay=0,
        crop_size=0,
    )  # fmt: skip
    if config.resume and config.overwrite:
        raise ValueError("--resume goes on with a run and --overwrite starts it again: give one of them")
    if config.pfbs_released and config.pfbs_pool_only:
        raise ValueError("--pfbs-released says how to fill an epoch that --pfbs-pool-only cuts short: give one of them")
    return config


def parse_predict_config(argv: Sequence[str] | None) -> PredictConfig:
    """Flags -> settings; a run folder stands for its best.pt.

    Raises:
        ValueError: a number out of range, or flags that do not go together.
    """
    given = given_flags(PredictConfig, "Draw change maps with a trained network.", argv)
    config = PredictConfig(**given)
    at_least(config, batch_size=1, num_workers=0)
    if ("before" in given) != ("after" in given) or ("label" in given and "before" not in given):
        raise ValueError("--before and --after go together, and --label goes with them: the folders of a set of pairs")
    if "before" in given and given.keys() & {"data_root", "split"}:
        raise ValueError("--before and --after stand in place of --data-root and --split: give one or the other")
    if config.threshold is not None and not 0 <= config.threshold <= 1:
        raise ValueError(f"--threshold {config.threshold}: must lie in [0, 1]")
    return replace(config, checkpoint=config.checkpoint / "best.pt") if config.checkpoint.is_dir() else config


def at_least(config: DataConfig, **bounds: int) -> None:
    """Raise ValueError unless settings reach these bounds."""
    for name, bound in bounds.items():
        if getattr(config, name) < bound:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(config, name)}: must be at least {bound}")


def given_flags(
    settings: type, description: str, argv: Sequence[str] | None, epilog: str = "", required: Collection[str] = ()
) -> dict[str, Any]:
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
    for each in fields(settings):
        names = [name for name in (each.name, ALIASES.get(each.name)) if name]
        spellings = [f"--{name.replace('_', '-')}" for name in names]
        options: dict[str, Any] = {
            "dest": each.name,
            "help": each.metadata["help"] + _default(each, by_recipe),
        }
        if isinstance(each.default, bool):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": each.metadata["parse"], "choices": each.metadata["choices"]}
            options["metavar"] = None if options["choices"] else each.name.split("_")[-1].upper()
        options["required"] = each.name in required
        if each.name == "model_options":
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
    return "" if setting.default in (None, False, ()) else f" (default: {setting.default})"


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
