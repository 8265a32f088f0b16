"""Ablation tables: the rows of both papers' ablations as flags of train_aux.py, and scenes drawn for them."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from datasets.layouts import list_images
from datasets.raster import read_label
from datasets.reading import MASKS
from tools import demo
from tools.tables.results import PAPERS, read_csv
from utils.console import UserError
from utils.files import write_text
from utils.training.config import TrainConfig, parse_train_config

log = logging.getLogger("ablation")

# settings like the demo's; the papers' suit thousands of tiles and days on a GPU
AMFNET = (  # 300 steps on the demo's 480 scenes
    "--recipe amfnet --backbone-weights none --augmentation hanet --loss hybrid --lr 1e-3 --epochs 5 --batch-size 8 "
    "--amp"
)
# 260 steps on SPARSE; ten epochs, so that the phases of PFBS have two or three
HANET = "--recipe hanet --linear-epochs 0 --schedule poly --lr 1e-3 --epochs 10 --batch-size 8 --amp"
SCENES = Path("demo/scenes")
SPARSE = Path("demo/sparse")  # change as rare as in WHU-CD, which HANet's ablations used
SPARSE_COUNTS = {"train": 700, "val": 120, "test": 240}  # drawn; 209, 45 and 65 are listed


@dataclass(frozen=True)
class Ablation:
    """A table of rows, each trained with its own flags."""

    title: str
    source: str  # of the rows
    kind: str  # of `tools.make_tables`, which also chooses the published rows
    scenes: Path  # drawn and used without --data-root
    flags: str  # of train_aux.py, for all rows
    rows: Mapping[str, str]  # flags of each row; 15/50 means 15 of 50 epochs, scaled to the length of the run


TABLES = {
    "amfnet-modules": Ablation(
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
    "hanet-pfbs": Ablation(
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
    "hanet-attention": Ablation(
        "Column and row attention of HANet", "HANet Table IV, without PFBS", "attention", SPARSE, HANET,
        {
            "Base": "--model-options column=false row=false",
            "+Col": "--model-options column=true row=false",
            "+Row": "--model-options column=false row=true",
            "+C/R": "--model-options column=true row=true",
        },
    ),
    "hanet-losses": Ablation(
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


def configs_of(table: Ablation, words: Sequence[str]) -> dict[str, TrainConfig]:
    """The settings of each row; precedence is the table's flags < words < the row's own flags.

    Args:
        table: of TABLES.
        words: flags of train_aux.py. Without them, the table's scenes and two seeds are used.

    Raises:
        UserError: a flag is out of range, or the run is too short for the phases of PFBS.
    """
    shared = [*table.flags.split(), "--data-root", str(table.scenes), "--seeds", "2", *words]
    epochs = parse_train_config(shared).epochs
    own = {row: [in_epochs(word, epochs) for word in flags.split()] for row, flags in table.rows.items()}
    return {row: parse_train_config([*shared, *flags]) for row, flags in own.items()}


def in_epochs(word: str, epochs: int) -> str:
    """X/N as epochs of a run; any other word unchanged; UserError for less than two, where Linear-Y equals Fixed-X."""
    if not re.fullmatch(r"\d+/\d+", word):
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
