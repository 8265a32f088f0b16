"""Style of figures for a paper with two columns, their common setting, and how they are written to files."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from utils.console import UserError
from utils.files import written_whole
from utils.flags import setting

if TYPE_CHECKING:  # matplotlib is imported only to draw
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.5, 7.16  # inches; IEEE's one and two columns
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's
NO_DATE = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}  # equal figures give equal bytes
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "figures",
    "pdf.fonttype": 42,  # TrueType, which publishers accept
    "savefig.dpi": 300,
}


@dataclass(frozen=True)
class FigureConfig:
    """What every figure's settings have; the flags are made from the fields."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("output",)
    output: Path = setting(None, ".png, .pdf or .svg to write", parse=Path)


@contextmanager
def chart(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """An empty matplotlib figure, written to `path` at the end of the block; width and height are in inches."""
    suffix = known_suffix(path)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            figure.savefig(partial, format=suffix[1:], metadata=NO_DATE[suffix])


def save_sheet(sheet: Image.Image, path: Path, width: float) -> None:
    """Write an image at a printed width in inches, lossless and without smoothing."""
    if known_suffix(path) == ".png":
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            sheet.save(partial, format="PNG", dpi=(sheet.width / width,) * 2)
        return
    with chart(path, width, width * sheet.height / sheet.width) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.imshow(sheet, interpolation="none", aspect="auto")


def known_suffix(path: Path) -> str:
    """The suffix of a figure in lower case; UserError unless it is .png, .pdf or .svg."""
    suffix = path.suffix.lower()
    if suffix not in NO_DATE:
        raise UserError(f"{path}: figures are written as {', '.join(NO_DATE)}; choose one by the suffix")
    return suffix


def unique_names(flag: str, named: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Paths by name; UserError if two have one name."""
    if len(dict(named)) < len(named):
        raise UserError(f"{flag}: two paths have one name; give each its own as NAME=PATH")
    return dict(named)


def broken(text: str, places: str, fits: Callable[[str], bool]) -> list[str]:
    """A text in lines that fit, broken only where the regular expression `places` matches."""
    lines = [""]
    for part in re.split(places, text):
        if lines[-1] and not fits((lines[-1] + part).strip()):
            lines.append("")
        lines[-1] += part
    return [line.strip() for line in lines]
