"""Settings as frozen dataclasses, and command-line flags made from their fields."""

import argparse
import ast
import itertools
import math
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any

from utils.console import UserError, nearest

SEVERAL: dict[str, str | tuple[str, ...]] = {  # settings that take several words
    "model_options": "KEY=VALUE", "masks": "NAME=DIR", "methods": "NAME=PATH", "runs": "NAME=DIR", "found": "NAME=FILE",
    "checkpoints": "NAME=FILE", "scenes": "SCENE", "pick": "WORD", "boxes": "SCENE=LEFT,TOP,SIDE",
    "origin": ("X", "Y"),
}  # fmt: skip
METAVARS = {"init_from": "CHECKPOINT", "freeze_encoder": "EPOCHS", "change_from": "LEVEL", "pixel_size": "METRES"}
ALIASES = {"data_root": "dataroot", "epochs": "max_epochs", "output": "output_folder"}


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations: --batch_size is --batch-size, and the error of a typo names the nearest flag."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, words: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """The flags of a command line; None: this process's."""
        words = [_dashed(word) for word in (sys.argv[1:] if words is None else words)]
        known = self._option_string_actions
        for word in itertools.takewhile(lambda word: word != "--", words):
            flag = word.partition("=")[0]
            if re.match("--?[A-Za-z]{2}", flag) and " " not in flag and flag not in known:
                self.error(f"{flag}: no such flag{nearest(flag, known)}")
        return super().parse_args(words)


def setting(
    default: object, text: str, choices: Sequence[str] | None = None, parse: Callable[[str], object] | None = None
) -> Any:
    """A field of a settings class: default, help text, allowed words, and the function from a word to a value."""
    return field(default=default, metadata={"help": text, "choices": choices, "parse": parse or type(default)})


def keys_in(file: str, table: str) -> tuple[str, ...]:
    """Keys of an annotated dict in a file, whose path is from the project's root.

    They are read from its text: importing it may import PyTorch for seconds.
    """
    tree = ast.parse((Path(__file__).parents[1] / file).read_text(encoding="utf-8"))
    named = {ast.unparse(node.target): node.value for node in tree.body if isinstance(node, ast.AnnAssign)}
    return tuple(map(ast.literal_eval, named[table].keys))  # type: ignore[union-attr]


def given_flags(
    settings: Any,
    description: str,
    argv: Sequence[str] | None,
    required: Collection[str] = (),
    positional: Collection[str] = (),
    **options: Any,
) -> dict[str, Any]:
    """The flags given, and no others, so that a recipe or a config file can fill the rest.

    Args:
        settings: a dataclass of `setting` fields; if it has a set BY_RECIPE, recipes give the defaults of these fields.
        description: what the script does.
        argv: words of the command line; None: this process's.
        required: settings that must be given.
        positional: settings that are typed without a flag, and must be given.
        options: of argparse.ArgumentParser, such as `prog` and `epilog`.
    """
    options |= {"formatter_class": argparse.RawDescriptionHelpFormatter, "argument_default": argparse.SUPPRESS}
    parser = Parser(description=description, **options)
    by_recipe = getattr(settings, "BY_RECIPE", ())
    for each in fields(settings):
        text, choices = each.metadata["help"], each.metadata["choices"]
        if each.name in positional:
            parser.add_argument(each.name, type=each.metadata["parse"], metavar=each.name.upper(), help=text)
            continue
        flag: dict[str, Any] = {"dest": each.name, "required": each.name in required}
        default = " (default: by recipe)" if each.name in by_recipe else _default(each)
        flag["help"] = text if "(default: " in text else text + default
        if isinstance(each.default, bool):
            flag["action"] = argparse.BooleanOptionalAction
        else:
            metavar = None if choices else METAVARS.get(each.name, each.name.split("_")[-1].upper())
            flag |= {"type": each.metadata["parse"], "choices": choices, "metavar": metavar}
        if each.name in SEVERAL:
            flag |= {"nargs": "+", "metavar": SEVERAL[each.name], "action": "extend"}
        names = [name.replace("_", "-") for name in (each.name, ALIASES.get(each.name)) if name]
        parser.add_argument(*(f"--{name}" for name in names), **flag)
    given = vars(parser.parse_args(argv))
    if "model_options" in given:
        given["model_options"] = dict(given["model_options"])
    return given


def words(text: str) -> tuple[str, ...]:
    """a, b -> ("a", "b")."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def named_path(word: str) -> tuple[str, Path]:
    """NAME=PATH, or PATH, which is then called by its last part, without .json."""
    name, equals, path = word.rpartition("=")
    return (name, Path(path)) if equals else (Path(word).resolve().name.removesuffix(".json"), Path(word))


def _default(setting: Field) -> str:
    default = ",".join(map(str, setting.default)) if isinstance(setting.default, tuple) else setting.default
    return "" if default in (None, False, "") else f" (default: {default})"


def _dashed(word: str) -> str:
    """--batch_size=8 -> --batch-size=8; words that are no flag stay."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else word


def at_least(config: object, **bounds: float) -> None:
    """Raise UserError unless settings are finite numbers that reach these bounds."""
    for name, bound in bounds.items():
        value = getattr(config, name)
        if not bound <= value < math.inf:  # false for nan, too
            limit = f"at least {bound}" if value < bound else "a finite number"
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {limit}")
