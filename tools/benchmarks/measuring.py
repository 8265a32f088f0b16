"""Runs benchmark cases in interleaved rounds, and writes the results as tables."""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from utils.console import UserError


class Case(NamedTuple):
    """One thing to measure."""

    name: str
    run: Callable[[], object]  # with unit MB, it returns the memory used
    pairs: int = 1  # image pairs that a run processes
    base: str = ""  # name of the case to compare with; its own: none
    note: str = ""
    unit: str = "pairs/s"  # or s, of a run, or MB


class Measured(NamedTuple):
    """A case's numbers, one per round: in its unit, and as multiples of its base's speed or memory saved."""

    case: str
    base: str
    unit: str
    note: str
    values: list[float]
    ratio: list[float]


def interleaved(cases: Sequence[Case], rounds: int, clock: Callable[[], float]) -> list[Measured]:
    """Run the cases in turn, round by round, so that other load on the machine affects all of them.

    An additional first round warms up and is not counted. Memory is measured once.
    """
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            if case.unit == "MB":
                found[case.name] = found[case.name] or [float(str(case.run()))]
                continue
            started = clock()
            case.run()
            if number:
                found[case.name].append(clock() - started)
    rows, pairs = [], {case.name: case.pairs for case in cases}
    for name, _, count, base, note, unit in cases:
        values = [count / t for t in found[name]] if unit == "pairs/s" else found[name]
        bases = found[base] if base not in ("", name) else []
        ratio = [count / pairs[base] * b / t for b, t in zip(bases, found[name], strict=bool(bases))]
        rows.append(Measured(name, base, unit, note, values, ratio))
    return rows


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median (first to third quartile), with at least three digits; one value alone."""
    points = [statistics.median(values)]
    if len(values) > 1:
        points += statistics.quantiles(values, method="inclusive")[::2]
    digits = [0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 for value in points]
    median, *ends = (f"{value:.{count}f}" for value, count in zip(points, digits, strict=True))
    return f"{median} {unit}".strip() + (f" ({' to '.join(ends)})" if ends else "")


def table(suites: Mapping[str, Sequence[Measured]]) -> str:
    """A Markdown table with a line per case, which `compared` reads."""
    lines = [["suite", "case", "measured", "times", "of", "note"]]
    for suite, row in ((suite, row) for suite, rows in suites.items() for row in rows):
        ratio = [spread(row.ratio), row.base] if row.ratio else ["", ""]
        lines.append([suite, row.case, spread(row.values, row.unit), *ratio, row.note])
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells, the header's first, as a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in ruled]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)


def compared(suites: Mapping[str, Sequence[Measured]], earlier: Mapping[tuple[str, str], str]) -> str:
    """Both results side by side, with the gain in speed or memory of the new one."""
    lines = [["suite", "case", "this", "that", "this/that"]]
    for suite, row in ((suite, row) for suite, rows in suites.items() for row in rows):
        this, that = spread(row.values, row.unit), earlier.get((suite, row.case), "not measured")
        times = ""
        if that.split(" (")[0].endswith(f" {row.unit}"):
            ratio = statistics.median(row.values) / float(that.split()[0])
            times = f"{ratio if row.unit == 'pairs/s' else 1 / ratio:.2f}"
        lines.append([suite, row.case, this, that, times])
    return aligned(lines)


def read_measured(path: Path) -> dict[tuple[str, str], str]:
    """(suite, case) -> measured, from a table that `--markdown` wrote; UserError if there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines if line.startswith("| ")]
    found = {(suite, case): text for suite, case, text in rows if re.match(r"\d+(\.\d+)? (pairs/s|s|MB)\b", text)}
    if not found:
        raise UserError(f"{path}: has no table that python -m tools.benchmarks --markdown wrote")
    return found
