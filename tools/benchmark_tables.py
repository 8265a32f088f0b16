"""What the benchmark found, as text: a table a suite, what it comes to, and two machines or commits side by side."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # case, base, note, unit, values and ratio by round, and what else was measured
UNITS = {"pairs/s": ("pairs/s", "speed, times"), "s": ("seconds", "speed, times"), "MB": ("MB", "memory, times less")}
NEEDED = {"case", "base", "unit", "values", "ratio"}
BF16 = " bf16"  # ends the name of a form that computes so


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned text, without the columns that none of them fills."""
    return aligned(_filled([["", *_titles(rows)], *([row["case"], *_cells(row)] for row in rows)]))


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells in columns."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def spread(values: Sequence[float], form: str, after: str = "") -> str:
    """Median (lowest to highest); one value alone."""
    median = f"{statistics.median(values):{form}}{after}"
    return median if len(values) == 1 else f"{median} ({min(values):{form}} to {max(values):{form}})"


def amount(row: Row) -> str:
    """The values of a row, with digits by their size; with the unit."""
    small = min(row["values"]) < 10
    form = {"pairs/s": ".1f" if small else ".0f", "s": ".2f", "MB": ".0f"}[row["unit"]]
    return spread(row["values"], form, f" {row['unit']}")


def _titles(rows: Sequence[Row]) -> list[str]:
    ratios = {UNITS[row["unit"]][1] for row in rows}
    return [
        "measured",
        "CPU ms/pair",
        ratios.pop() if len(ratios) == 1 else "times",
        "by CPU, times",
        "of",
        "of peak",
        "",
    ]


def _cells(row: Row) -> list[str]:
    own_base = row["case"] == row["base"]

    def ratio(key: str) -> str:
        return "" if own_base or not row.get(key) else spread(row[key], ".2f")

    peak = row.get("share_of_peak")
    share = spread(row["gflops"], ".0f", " GFLOP/s") if peak and own_base and row["case"].startswith("torch.mm") else ""
    return [
        amount(row),
        spread(row["cpu_ms_per_pair"], ".2f") if row.get("cpu_ms_per_pair") else "",
        ratio("ratio"),
        ratio("cpu_ratio"),
        "" if own_base else row["base"],
        share or (spread(peak, ".0%") if peak else ""),
        row.get("note", ""),
    ]


def _filled(lines: list[list[str]]) -> list[list[str]]:
    """Without columns that are empty below their title."""
    kept = [place for place in range(len(lines[0])) if not place or any(line[place] for line in lines[1:])]
    return [[line[place] for place in kept] for line in lines]


def headlines(suites: dict[str, list[Row]]) -> list[Row]:
    """What the suites come to, as rows: eager, the best backend of each precision, steps, memory, loading, startup."""
    lines = []
    for what, forms in _forms(suites.get("inference", [])).items():
        fp32 = {form: row for form, row in forms.items() if not form.endswith(BF16)}
        bf16 = {form: row for form, row in forms.items() if form.endswith(BF16)}
        if "torch" in forms:
            lines.append({**forms["torch"], "case": f"{what}: eager"})
        for title, chosen in (("best exact backend", fp32), ("bf16, best backend", bf16)):
            if chosen:
                best, row = max(chosen.items(), key=_median_ratio)
                lines.append({**row, "case": f"{what}: {title} ({best.removesuffix(BF16)})"})
    for what, forms in _forms(suites.get("training", [])).items():
        if "exact" in forms:
            lines.append({**forms["exact"], "case": f"training {what}"})
    for what, forms in _forms(suites.get("memory", [])).items():
        lines.append({**forms["exact"], "case": f"memory, {what}"})
    loading = {row["case"]: row for row in suites.get("loading", [])}
    for case, row in loading.items():
        if case.startswith("cache, ") and case != "cache, none":
            of_decoding = [a / b for a, b in zip(row["values"], loading["decoding"]["values"], strict=True)]
            name = case.replace("cache, ", "loading from the cache, augmentation ")
            lines.append({**row, "case": name, "base": "decoding", "ratio": of_decoding})
    lines += suites.get("startup", [])
    return [{key: value for key, value in line.items() if "cpu" not in key} for line in lines]


def _median_ratio(item: tuple[str, Row]) -> float:
    return statistics.median(item[1]["ratio"])


def _forms(rows: Iterable[Row]) -> dict[str, dict[str, Row]]:
    """Rows that are compared with a plain form: by what they do, then by form."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        what, _, form = row["case"].rpartition(", ")
        if row["base"] == f"{what}, plain" and form != "plain":
            found.setdefault(what, {})[form] = row
    return found


def markdown(found: Row) -> str:
    """The headlines as a pipe table, with all that has to be said of them below."""
    lines = [["", "times", "of", "measured", "of the machine's peak"]]
    for row in headlines(found["suites"]):
        own_base, peak = row["case"] == row["base"], row.get("share_of_peak")
        base = "plain form" if row["base"].endswith(", plain") else row["base"]
        ratio = [] if own_base else [spread(row["ratio"], ".2f"), base]
        lines.append([row["case"], *(ratio or ["", ""]), amount(row), spread(peak, ".0%") if peak else ""])
    shown = _filled(lines)
    pipes = ["| " + " | ".join(line) + " |" for line in shown]
    pipes.insert(1, "|" + "---|" * len(shown[0]))
    return "\n".join(pipes) + f"\n\n({measured_with(found)})\n"


def measured_with(found: Row) -> str:
    """Command, rounds, machine, versions and the machine's peak, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    peaks = {
        row["case"]: statistics.median(row["gflops"])
        for rows in found["suites"].values()
        for row in rows
        if row["case"].startswith("torch.mm") and row.get("gflops")
    }
    counts = {len(row["values"]) for rows in found["suites"].values() for row in rows if row["unit"] != "MB"}
    rounds = " or ".join(map(str, sorted(counts)))
    reached = "; ".join(f"{name}: {value:.0f} GFLOP/s" for name, value in peaks.items())
    kept = "kept on all sides" if found["freed_memory_kept"] else "given back as the platform does"
    return (
        f"`{found['command']}`: medians of {rounds} interleaved rounds, lowest and highest in brackets, "
        f"ratios round by round; {found['machine']}, {found['cores']} cores, {found['threads']} threads; {versions}; "
        f"freed memory {kept}" + (f"; the machine's peak by {reached}" if reached else "")
    )


def read_results(path: Path) -> Row:
    """What `--json` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: something else wrote it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [row for rows in found["suites"].values() for row in rows]
        known = all(row.keys() >= NEEDED and row["unit"] in UNITS and row["values"] for row in rows)
        measured_with(found)
    except (ValueError, LookupError, TypeError, AttributeError):
        known = False
    if not known:
        raise ValueError(f"{path}: not a file that python -m tools.benchmark --json wrote")
    return dict(found)


def compared(here: Row, there: Row, name: str) -> str:
    """Both side by side, case by case: medians, and how many times faster or smaller the first is.

    Args:
        here: what was measured now.
        there: what was read.
        name: what to call it.
    """
    lines = [["", "this", "that", "this/that", "ratio to the base, this", "that"]]
    others = {(suite, row["case"]): row for suite, rows in there["suites"].items() for row in rows}
    alone = 0
    for suite, rows in here["suites"].items():
        for row in rows:
            other = others.get((suite, row["case"]))
            if other is None or other["unit"] != row["unit"]:
                alone += 1
                continue
            this, that = (statistics.median(each["values"]) for each in (row, other))
            times = this / that if row["unit"] == "pairs/s" else that / this
            ratios = [
                "" if row["case"] == row["base"] else f"{statistics.median(each['ratio']):.2f}" for each in (row, other)
            ]
            lines.append([f"{suite}: {row['case']}", amount(row), amount(other), f"{times:.2f}", *ratios])
    said = f"this: {measured_with(here)}\nthat, {name}: {measured_with(there)}\n"
    more = f"{alone} cases of this are not in that\n" if alone else ""
    return f"{said}{aligned(lines)}\nthis/that: how many times as fast, or how many times less memory\n{more}\n"
