"""Rows of a comparison, each a name with flags of train_aux.py: those of --methods, and both papers' ablations."""

import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

from datasets.layouts import list_images
from datasets.names import nfc
from datasets.raster import read_label
from datasets.reading import MASKS
from models import MODELS
from tools import demo
from tools.methods.untrained import UNTRAINED
from tools.tables.results import PAPERS, read_csv
from utils.console import UserError, choose
from utils.files import write_text
from utils.flags import words as split_words
from utils.settings import DataConfig
from utils.training.config import TrainConfig, parse_train_config

log = logging.getLogger("compare")

# settings like the demo's; the papers' suit thousands of tiles and days on a GPU
AMFNET = (  # 320 steps on the demo's 320 scenes
    "--recipe amfnet --backbone-weights none --augmentation hanet --crop-size 128 --loss hybrid --lr 1e-3 --epochs 8 "
    "--batch-size 8 --amp"
)
# 260 steps on SPARSE; ten epochs, so that the phases of PFBS have two or three
HANET = "--recipe hanet --linear-epochs 0 --schedule poly --lr 1e-3 --crop-size 128 --epochs 10 --batch-size 8 --amp"
SCENES = Path("demo/scenes")
SPARSE = Path("demo/sparse")  # change as rare as in WHU-CD, which HANet's ablations used
SHARED = ("--output", "--output-folder", "--overwrite")  # flags that no row has for itself, beside those of DataConfig
PART = r"^\d+/\d+$"  # of the epochs of a run
SPARSE_COUNTS = {"train": 700, "val": 120, "test": 240}  # drawn; 209, 45 and 65 are listed


@dataclass(frozen=True)
class Comparison:
    """A table of rows, each trained with its own flags, or not trained."""

    title: str
    source: str  # of the rows
    kind: str  # of `tools.make_tables`, which also chooses the published rows
    scenes: Path  # drawn and used without --data-root
    flags: str  # of train_aux.py, for all rows
    rows: Mapping[str, str]  # flags of each row; 15/50 means 15 of 50 epochs, scaled to the length of the run

    @property
    def untrained(self) -> list[str]:
        """Names of the rows that no network is trained for."""
        return [name for name, flags in self.rows.items() if name in UNTRAINED and not flags]


TABLES = {
    "amfnet-modules": Comparison(
        "Modules of AMFNet",
        "the six networks that its authors released, xiaorong1 to xiaorong5 and xiaorong_aux",
        "amfnet", SCENES, AMFNET,
        {
            "Base": "--model-options bfam=false bfm=false iam=false deep_supervision=false",
            "+BFAM": "--model-options bfam=true bfm=false iam=false deep_supervision=false",
            "+BFM": "--model-options bfam=true bfm=true iam=false deep_supervision=false",
            "+IAM": "--model-options bfam=true bfm=true iam=true deep_supervision=false",
            "+exchange": "--model-options bfam=true bfm=true iam=true deep_supervision=false channel_exchange=true",
            "AMFNet": "--model-options bfam=true bfm=true iam=true deep_supervision=true channel_exchange=false",
        },
    ),
    "hanet-pfbs": Comparison(
        "Samplers of PFBS",
        "HANet Tables II and III, without axial attention; X and Y of Fig. 3, whose axis ends at 50 epochs",
        "pfbs", SPARSE, f"{HANET} --model-options column=false row=false",
        {
            "Normal": "--fixed-epochs 0 --linear-epochs 0",
            "Fixed-X": "--fixed-epochs 15/50 --linear-epochs 0",
            "Linear-Y": "--fixed-epochs 0 --linear-epochs 15/50",
            "Fixed-X Linear-Y": "--fixed-epochs 10/50 --linear-epochs 10/50",
        },
    ),
    "hanet-attention": Comparison(
        "Column and row attention of HANet", "HANet Table IV, without PFBS", "attention", SPARSE, HANET,
        {
            "Base": "--model-options column=false row=false",
            "+Col": "--model-options column=true row=false",
            "+Row": "--model-options column=false row=true",
            "+C/R": "--model-options column=true row=true",
        },
    ),
    "hanet-losses": Comparison(
        "Losses of HANet",
        "HANet Table VII, without axial attention: its Hybrid is the Base of Table II; X of Fig. 3",
        "loss", SPARSE, f"{HANET} --model-options column=false row=false",
        {
            "Hybrid": "--loss hybrid --fixed-epochs 0",
            "Focal": "--loss focal --fixed-epochs 0",
            "Hybrid + Fixed-X": "--loss hybrid --fixed-epochs 15/50",
            "Focal + Fixed-X": "--loss focal --fixed-epochs 15/50",
        },
    ),
}  # fmt: skip


def listing() -> str:
    """The tables with their rows and flags, as text."""
    lines = []
    for name, table in TABLES.items():
        lines += [f"{name}: {table.title} ({table.source})", f"  every row: {table.flags}"]
        lines += [f"  {row:<18}{flags}" for row, flags in table.rows.items()]
    return "\n".join(lines) + "\n"


def of_methods(methods: Sequence[str]) -> Comparison:
    """The comparison of --methods, with the settings of `equal` and three seeds unless flags say otherwise.

    A word has names of networks and of UNTRAINED, separated by commas, or is NAME=FLAGS, a row with flags of its own.
    UserError: a name is unknown, or no name of a folder; or two rows have one name, or there is none.
    """
    rows: dict[str, str] = {}
    for word in methods:
        name, equals, flags = word.partition("=")
        for each in [name.strip()] if equals else split_words(word):
            if not equals:
                choose({**MODELS, **dict.fromkeys(UNTRAINED, "")}, each, "--methods")
                flags = "" if each in UNTRAINED else f"--model {each}"
            if row_folder(Path(), each) == Path() or "@" in each or each.startswith("_"):
                what = "has no name of a row, which has letters or digits, no '@', and no '_' at its start"
                raise UserError(f"--methods: {word!r} {what}")
            if row_folder(Path(), each) in [row_folder(Path(), row) for row in rows]:
                raise UserError(f"--methods: two rows would have the folder {row_folder(Path(), each)}; rename one")
            rows[each] = flags
    if not rows:
        raise UserError("--methods names no method; see --help")
    return Comparison("Comparison of methods", "", "comparison", SCENES, "--recipe equal --seeds 3", rows)


def row_folder(folder: Path, row: str) -> Path:
    """Folder of a row's runs, by its letters and digits, of any script, in lower case."""
    return folder / re.sub(r"[\W_]+", "-", nfc(row).lower()).strip("-")


def configs_of(table: Comparison, words: Sequence[str]) -> dict[str, TrainConfig]:
    """The settings of each row; precedence is the table's flags < words, flags of train_aux.py < the row's own flags.

    UserError: a flag is out of range; a row has data or an output of its own, or flags that are no words; or the run is
    too short for the phases of PFBS.
    """
    shared, common = _shared_words(table, words), shared_config(table, words)
    configs = {}
    for row, flags in table.rows.items():
        if row in table.untrained:
            configs[row] = common
            continue
        own = _own_words(row, flags)
        try:
            epochs = parse_train_config([*shared, *(re.sub(PART, "1", word) for word in own)]).epochs
        except SystemExit:  # argparse has said what is wrong
            raise UserError(f"the flags of the row {row!r} are not those of train_aux.py: {flags}") from None
        configs[row] = parse_train_config([*shared, *(in_epochs(word, epochs) for word in own)])
        for name in (each.name for each in fields(DataConfig)):
            if getattr(configs[row], name) != getattr(common, name):
                raise UserError(
                    f"--methods: --{name.replace('_', '-')} of {row!r} holds for all rows; give it beside --methods"
                )
    return configs


def shared_config(table: Comparison, words: Sequence[str]) -> TrainConfig:
    """The settings that are not a row's own, those of some network; an untrained row has its data from them."""
    return parse_train_config([*_shared_words(table, words), "--model", next(iter(MODELS))])


def _shared_words(table: Comparison, words: Sequence[str]) -> list[str]:
    return ["--data-root", str(table.scenes), "--seeds", "2", *table.flags.split(), *words]


def _own_words(row: str, flags: str) -> list[str]:
    """Split the flags of a row as a shell does."""
    try:
        found = shlex.split(flags)
    except ValueError as error:
        raise UserError(f"--methods: the flags of {row!r} are not complete: {error}") from error
    if taken := [word for word in found if word.partition("=")[0].replace("_", "-") in SHARED]:
        raise UserError(f"--methods: {taken[0]} of {row!r} holds for all rows; give it beside --methods")
    return found


def in_epochs(word: str, epochs: int) -> str:
    """X/N as epochs of a run; any other word unchanged; UserError for less than two, where Linear-Y equals Fixed-X."""
    if not re.match(PART, word):
        return word
    share = Fraction(word)
    if round(share * epochs) < 2:
        fits = next(n for n in range(epochs, 1000) if round(share * n) >= 2)
        raise UserError(f"--epochs {epochs}: too few for a phase of PFBS over {word} of them; give {fits} or more")
    return str(round(share * epochs))


def draw(scenes: Path) -> None:
    """Draw the missing scenes of SCENES or SPARSE.

    SPLIT.txt of SPARSE lists all scenes without change, and so many others that their share is that of WHU-CD.
    """
    demo.draw_missing(scenes, SPARSE_COUNTS if scenes == SPARSE else demo.COUNTS)
    (example,) = read_csv(PAPERS / "hanet_fig3.csv")
    share = int(example["foreground"]) / int(example["images"])
    for split in SPARSE_COUNTS if scenes == SPARSE else ():
        if (scenes / f"{split}.txt").is_file():
            continue
        changed = {path.name: bool(read_label(path, MASKS).any()) for path in list_images(scenes / split / "label")}
        without = [name for name, has in changed.items() if not has]
        wanted = round(len(without) * share / (1 - share))
        names = sorted(without + [name for name, has in changed.items() if has][:wanted])
        log.info("%s: %d scenes, %d of them with change", split, len(names), len(names) - len(without))
        write_text(scenes / f"{split}.txt", "".join(f"{name}\n" for name in names))
