"""Settings as frozen dataclasses, and their command-line flags made from the fields, so that a name exists once."""

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

SEVERAL = {  # settings that take several words
    "model_options": "KEY=VALUE", "masks": "NAME=DIR", "methods": "NAME=PATH", "runs": "NAME=DIR", "found": "NAME=FILE",
    "checkpoints": "NAME=FILE", "scenes": "SCENE", "pick": "WORD", "boxes": "SCENE=LEFT,TOP,SIDE",
}  # fmt: skip
ALIASES = {"data_root": "dataroot", "epochs": "max_epochs", "output": "output_folder"}


class Parser(argparse.ArgumentParser):
    """A parser of flags in full, words joined by - or _ (--batch_size); its error names the flag nearest to a typo."""

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
    """A field of a settings class: its default, help text, the words it may be, and what turns a word into a value."""
    return field(default=default, metadata={"help": text, "choices": choices, "parse": parse or type(default)})


def keys_in(file: str, table: str) -> tuple[str, ...]:
    """Keys of a dict in a file of this project, read from its text: importing it may import PyTorch for seconds.

    Args:
        file: path from the project's root.
        table: annotated name that the dict literal is assigned to.
    """
    tree = ast.parse((Path(__file__).parents[1] / file).read_text(encoding="utf-8"))
    named = {ast.unparse(node.target): node.value for node in tree.body if isinstance(node, ast.AnnAssign)}
    return tuple(map(ast.literal_eval, named[table].keys))  # type: ignore[union-attr]


def given_flags(
    settings: type,
    description: str,
    argv: Sequence[str] | None,
    epilog: str = "",
    required: Collection[str] = (),
    by_recipe: Collection[str] = (),
    positional: Collection[str] = (),
    prog: str | None = None,
) -> dict[str, Any]:
    """The flags given, and no others, so that something else can fill the rest.

    Args:
        settings: a dataclass of `setting` fields.
        description: what the script does.
        argv: words of the command line; None: this process's.
        epilog: shown below the flags.
        required: settings that must be given.
        by_recipe: settings whose default is not the field's.
        positional: settings that are typed without a flag, and must be given.
        prog: what was typed to get here; None: the script's name.
    """
    parser = Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    for each in fields(settings):
        if each.name in positional:
            words_of = {"type": each.metadata["parse"], "metavar": each.name.upper(), "help": each.metadata["help"]}
            parser.add_argument(each.name, **words_of)
            continue
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
        if each.name in SEVERAL:
            options |= {"nargs": "+", "metavar": SEVERAL[each.name], "action": "extend"}
        parser.add_argument(*spellings, **options)
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


def _default(setting: Field, by_recipe: Collection[str]) -> str:
    """What the help says of a setting's default."""
    if setting.name in by_recipe:
        return " (default: by recipe)"
    default = ",".join(map(str, setting.default)) if isinstance(setting.default, tuple) else setting.default
    return "" if default in (None, False, "") else f" (default: {default})"


def _dashed(word: str) -> str:
    """--batch_size=8 -> --batch-size=8; words that are no flag stay."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else word


def at_least(config: object, **bounds: float) -> None:
    """Raise ValueError unless settings are finite numbers that reach these bounds."""
    for name, bound in bounds.items():
        value = getattr(config, name)
        if not bound <= value < math.inf:  # false for nan, too
            limit = f"at least {bound}" if value < bound else "a finite number"
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {limit}")
