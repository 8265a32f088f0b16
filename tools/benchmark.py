"""Times what users wait for, against what it cannot be faster than: `python -m tools.benchmark loading prediction`.

The cases of a suite take turns, round by round, so that other work on the machine meets all of them; ratios, and shares
of what this machine makes of a product of matrices, are taken within a round. Numbers are medians, with the lowest and
highest round in brackets. Where the C library is glibc, it keeps freed memory in all of them. Memory is taken once a
case, in a process of its own that keeps none.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":  # python path/to/tools/benchmark.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import network_suites, suites
from tools.benchmark_tables import compared, headlines, markdown, read_results, table
from tools.figures.bars import draw_ratios
from tools.figures.paper import known_suffix
from tools.suites import Case, Setting
from utils.console import errors_in_one_line
from utils.files import write_text
from utils.flags import Parser
from utils.machine import forget_peak, freed_memory_kept, pick_device
from utils.training.run_folder import git_commit

SUITES = {**network_suites.NETWORKS, **suites.SUITES, "memory": network_suites.memory}
ROUNDS = 9
BRIEF = {"inference": 3, "training": 2, "memory": 1, "loading": 3, "startup": 3}  # suites of --short and their rounds


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
    """CPU time by process id: of this one, of all children that ended (0), and, on Linux, of living ones."""
    ended = os.times()
    seconds = {os.getpid(): time.process_time(), 0: ended.children_user + ended.children_system}
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.is_file():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            seconds[child.pid or 0] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


def summary(cases: Sequence[Case], timings: dict[str, list[Timing]]) -> list[dict[str, Any]]:
    """Of each case and by round: speed, CPU time, both as multiples of the base's, and the share of the peak."""
    rows = []
    by_name = {case.name: case for case in cases}
    for case in cases:
        own, base = timings[case.name], timings[case.base]
        scale = case.pairs / by_name[case.base].pairs
        row: dict[str, Any] = {
            "case": case.name,
            "base": case.base,
            "note": case.note,
            "unit": case.unit,
            "values": [t.wall if case.unit == "s" else case.pairs / t.wall for t in own],
            "cpu_ms_per_pair": [1000 * t.cpu / case.pairs for t in own],
            "ratio": [scale * b.wall / t.wall for t, b in zip(own, base, strict=True)],
            "cpu_ratio": [scale * b.cpu / t.cpu if t.cpu else 0.0 for t, b in zip(own, base, strict=True)],
        }
        if case.peak:
            peak, most = timings[case.peak], by_name[case.peak].operations
            row["gflops"] = [case.operations * case.pairs / t.wall / 1e9 for t in own]
            done = case.operations * case.pairs / most
            row["share_of_peak"] = [done * p.wall / t.wall for t, p in zip(own, peak, strict=True)]
        rows.append(row)
    return rows


def peaks(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Of each case of memory: the MB that its run returns, and how many times less they are than its base's."""
    found: dict[str, Any] = {case.name: case.run() for case in cases}
    return [
        {
            "case": case.name,
            "base": case.base,
            "note": case.note,
            "unit": case.unit,
            "values": [found[case.name]],
            "ratio": [found[case.base] / found[case.name]],
        }
        for case in cases
    ]


def about_machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on and with."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    said = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line) if info.exists() else {}
    said = {key.strip(): value.strip() for key, value in said.items()}
    name = said.get("model name", name)
    units = [title for flag, title in (("amx_bf16", "AMX"), ("avx512f", "AVX-512")) if flag in said.get("flags", "")]
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    versions = {}
    for package in ("torch", "onnxruntime", "openvino", "pillow"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "machine": " with ".join(filter(None, [name, " and ".join(units)])),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": git_commit(),
    }


def measure(names: Sequence[str], rounds: int | None, device: torch.device, brief: bool) -> dict[str, Any]:
    """Run suites, printing a table after each; all of it without TF32, which on a GPU is no float32.

    Args:
        names: of SUITES.
        rounds: of each; None: as many as are usual.
        device: what computes.
        brief: only the cases of `--short`.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    results: dict[str, Any] = {}
    with freed_memory_kept() as kept, tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"freed memory is {'kept' if kept else 'given back as the platform does'}, on all sides\n\n")
        for name in names:
            cases = SUITES[name](Setting(Path(folder), device, brief))
            timed, usual = all(case.unit != "MB" for case in cases), BRIEF.get(name, ROUNDS) if brief else ROUNDS
            results[name] = summary(cases, interleaved(cases, rounds or usual)) if timed else peaks(cases)
            del cases  # and with them their workers and networks
            forget_peak()  # or the next suite would have all this memory to hold beside its own
            sys.stdout.write(f"{name}\n{table(results[name])}\n\n")
            sys.stdout.flush()
    words = [*(["--short"] if brief else []), *(names if tuple(names) != tuple(BRIEF) else [])]
    words += [*(["--rounds", str(rounds)] if rounds else []), "--device", str(device)]
    command = " ".join(["python -m tools.benchmark", *words])
    return {**about_machine(device), "command": command, "freed_memory_kept": kept, "suites": results}


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table a suite, and what they come to."""
    args = parse(argv)
    with errors_in_one_line():
        earlier = read_results(args.against) if args.against else None  # before minutes are spent
        if args.picture:
            known_suffix(args.picture)
        if args.read:
            found = read_results(args.read)
            for name, rows in found["suites"].items():
                sys.stdout.write(f"{name}\n{table(rows)}\n\n")
        else:
            found = measure(args.suites, args.rounds, pick_device(args.device), args.short)
        if lines := headlines(found["suites"]):
            sys.stdout.write(f"in short\n{table(lines)}\n\n")
        if earlier:
            sys.stdout.write(compared(found, earlier, str(args.against)))
        if args.json:
            write_text(args.json, json.dumps(found, indent=1) + "\n")
        if args.markdown:
            write_text(args.markdown, markdown(found))
        if args.picture:
            draw_ratios(found["suites"], args.picture, found["machine"])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags; wrong ones leave with exit code 2."""
    parser = Parser(prog="python -m tools.benchmark", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)} (default: all)")
    parser.add_argument("--short", action="store_true", help=f"in minutes: the main cases of {', '.join(BRIEF)}")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"(default: {ROUNDS}; with --short 3 at most)")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's numbers")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: show what --json wrote")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="compare with what --json wrote elsewhere or before"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what it comes to as a Markdown table")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw all ratios as bars: .png, .svg or .pdf")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.suites if name not in SUITES]:
        parser.error(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    args.suites = args.suites or list(BRIEF if args.short else SUITES)
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds: at least 1")
    return args


if __name__ == "__main__":
    main()
