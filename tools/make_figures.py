"""Draws the papers' figures from runs, masks, networks and data sets; PNG, PDF or SVG by --output's suffix."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":  # python path/to/tools/make_figures.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.figures.architecture import ArchitectureConfig, architecture
from tools.figures.comparison import ComparisonConfig, comparison
from tools.figures.counts import BalanceConfig, PfbsConfig, balance, pfbs
from tools.figures.heatmap import HeatmapConfig, heatmap
from tools.figures.paper import FigureConfig, known_suffix
from tools.figures.runs import CurvesConfig, PrecisionRecallConfig, curves, precision_recall_figure
from tools.figures.shifts import ShiftErrorsConfig, ShiftsConfig, shift_errors, shifts
from utils.console import errors_in_one_line, show_log
from utils.flags import Parser, given_flags

PROGRAM = "python -m tools.make_figures"
FIGURES: dict[str, tuple[type[FigureConfig], Callable]] = {
    "comparison": (ComparisonConfig, comparison),
    "heatmap": (HeatmapConfig, heatmap),
    "architecture": (ArchitectureConfig, architecture),
    "balance": (BalanceConfig, balance),
    "pfbs": (PfbsConfig, pfbs),
    "curves": (CurvesConfig, curves),
    "precision-recall": (PrecisionRecallConfig, precision_recall_figure),
    "shifts": (ShiftsConfig, shifts),
    "shift-errors": (ShiftErrorsConfig, shift_errors),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Draw one figure; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line():
        show_log()
        words = list(sys.argv[1:] if argv is None else argv)
        name = words[0] if words and words[0] in FIGURES else refuse(words[:1])
        settings, draw = FIGURES[name]
        given = given_flags(
            settings, str(draw.__doc__).splitlines()[0], words[1:], required=settings.REQUIRED, prog=f"{PROGRAM} {name}"
        )
        known_suffix(given["output"])  # refuses a wrong suffix before anything is read
        draw(settings(**given))


def refuse(words: Sequence[str]) -> NoReturn:
    """Leave with the list of figures, for --help, or with what is wrong with the first word."""
    lines = [f"  {name:<18}{str(draw.__doc__).splitlines()[0]}" for name, (_, draw) in FIGURES.items()]
    parser = Parser(
        prog=PROGRAM,
        description=__doc__,
        epilog="figures:\n" + "\n".join(lines) + f"\n\n{PROGRAM} FIGURE --help shows a figure's flags.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figure", choices=FIGURES, metavar="FIGURE", help="which figure")
    parser.parse_args([word for word in words if word in ("-h", "--help") or not word.startswith("-")])
    raise AssertionError("no figure was named, so the parser should have left")


if __name__ == "__main__":
    main()
