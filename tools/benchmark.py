"""Times what users wait for, against what it cannot be faster than: `python -m tools.benchmark loading prediction`.

The cases of a suite take turns, round by round, so that other work on the machine meets all of them; ratios are taken
within a round. Numbers are medians, with the lowest and highest round in brackets. Where the C library is glibc, it
keeps freed memory in all of them. The suite of memory takes each case once, in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
import torch

from tools import network_suites, suites
from tools.suites import Case
from utils.console import errors_in_one_line
from utils.memory import keep_freed_memory
from utils.run_log import write_text

TIMED = {**suites.SUITES, **network_suites.NETWORKS}
SUITES = {**TIMED, "memory": network_suites.memory}


@dataclass(frozen=True)
class Timing:
    """Seconds of one run: on the clock, and of CPU in the busiest process, which bounds the speed."""

    wall: float
    cpu: float


def interleaved(cases: Sequence[Case], rounds: int) -> dict[str, list[Timing]]:
    """Run all cases once untimed, then `rounds` times in turn."""
    timings: dict[str, list[Timing]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            before, started = cpu_seconds(), time.perf_counter()
            case.run()
            wall, after = time.perf_counter() - started, cpu_seconds()
            if number:
                timings[case.name].append(Timing(wall, max(after[pid] - before.get(pid, 0) for pid in after)))
    return timings


def cpu_seconds() -> dict[int, float]:
    """CPU time of this process and, on Linux, of its living children, to a hundredth of a second, by process id."""
    seconds = {os.getpid(): time.process_time()}
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.is_file():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            seconds[child.pid or 0] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


def summary(cases: Sequence[Case], timings: dict[str, list[Timing]]) -> list[dict[str, Any]]:
    """Of each case: pairs a second, CPU milliseconds a pair, and speed as a multiple of its base's, all by round."""
    rows = []
    for case in cases:
        own, base = timings[case.name], timings[case.base]
        scale = case.pairs / next(other.pairs for other in cases if other.name == case.base)
        rows.append(
            {
                "case": case.name,
                "base": case.base,
                "note": case.note,
                "pairs_per_second": [case.pairs / t.wall for t in own],
                "cpu_ms_per_pair": [1000 * t.cpu / case.pairs for t in own],
                "ratio": [scale * b.wall / t.wall for t, b in zip(own, base, strict=True)],
                "cpu_ratio": [scale * b.cpu / t.cpu for t, b in zip(own, base, strict=True)],
            }
        )
    return rows


def peaks(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Of each case of memory: the MB that its run returns, and how many times less they are than its base's."""
    found = {case.name: case.run() for case in cases}
    return [
        {
            "case": case.name,
            "base": case.base,
            "megabytes": found[case.name],
            "ratio": [found[case.base] / found[case.name]],
        }
        for case in cases
    ]


def peak_table(rows: Sequence[dict[str, Any]]) -> str:
    """The peaks as aligned text."""
    lines = [["", "MB above the loaded network", "memory, times less", "of"]]
    for row in rows:
        against = [f"{row['ratio'][0]:.2f}", row["base"]] if row["case"] != row["base"] else ["", ""]
        lines.append([row["case"], f"{row['megabytes']:.0f}", *against])
    return aligned(lines)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as aligned text."""
    lines = [["", "pairs/s", "CPU ms/pair", "speed, times", "by CPU, times", "of"]]
    for row in rows:
        ratios = [spread(row[key], ".2f") for key in ("ratio", "cpu_ratio")] if row["case"] != row["base"] else ["", ""]
        few = min(row["pairs_per_second"]) < 10
        numbers = [
            spread(row["pairs_per_second"], ".1f" if few else ".0f"),
            spread(row["cpu_ms_per_pair"], ".2f"),
            *ratios,
        ]
        base = row["base"] if row["case"] != row["base"] else ""
        lines.append([row["case"], *numbers, ", ".join(filter(None, [base, row["note"]]))])
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells in columns."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def spread(values: Sequence[float], form: str) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table a suite."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark", description=__doc__, allow_abbrev=False)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's numbers")
    args = parser.parse_args(argv)
    unknown = [name for name in args.suites if name not in SUITES]
    if unknown or args.rounds < 1:
        parser.error(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}" if unknown else "--rounds: at least 1")
    kept = keep_freed_memory()
    sys.stdout.write(f"freed memory is {'kept' if kept else 'given back as the platform does'}, on all sides\n\n")
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "freed_memory_kept": kept,
    }
    results: dict[str, Any] = {}
    with errors_in_one_line():
        with tempfile.TemporaryDirectory() as folder:
            for name in args.suites or SUITES:
                cases = SUITES[name](Path(folder))
                if name in TIMED:
                    results[name] = summary(cases, interleaved(cases, args.rounds))
                    text = table(results[name])
                else:
                    results[name] = peaks(cases)
                    text = peak_table(results[name])
                del cases  # and with them their workers
                sys.stdout.write(f"{name}\n{text}\n\n")
        if args.json:
            write_text(args.json, json.dumps({**machine, "rounds": args.rounds, "suites": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
