"""Measures speed and memory: `python -m tools.benchmarks inference --device cuda`.

The cases of a suite run in turn, round by round; ratios are taken within a round. Numbers are medians, with quartiles
in brackets. float32 runs without TF32.
"""

import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

if __name__ == "__main__":  # python path/to/tools/benchmarks works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.benchmarks import suites
from tools.benchmarks.measuring import Measured, compared, interleaved, read_measured, table
from utils.console import errors_in_one_line
from utils.files import write_text
from utils.flags import Parser
from utils.machine import forget_peak, freed_memory_kept, pick_device
from utils.training.run_folder import git_commit

SUITES = "inference", "training", "memory", "loading", "prediction", "startup"
ROUNDS = 9
SHORT = {"inference": 3, "training": 2, "memory": 1, "loading": 3, "startup": 3}  # suites of --short -> rounds


def main(argv: Sequence[str] | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
    """Print a table for each suite, and write the Markdown file."""
    parser = Parser(prog="python -m tools.benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=("all", *SUITES), default="all", help="(default: all)")
    parser.add_argument("--short", action="store_true", help=f"only the main cases of {', '.join(SHORT)}, in minutes")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the results as a Markdown table")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with a file of --markdown")
    argv = sys.argv[1:] if argv is None else argv
    args, found = parser.parse_args(argv), dict[str, list[Measured]]()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with errors_in_one_line(), freed_memory_kept(), tempfile.TemporaryDirectory() as folder:
        earlier = read_measured(args.against) if args.against else None  # fails before minutes of measuring
        device = pick_device(args.device)
        for name in (SHORT if args.short else SUITES) if "all" in args.suites else args.suites:
            rounds = SHORT.get(name, ROUNDS) if args.short else ROUNDS
            found[name] = interleaved(getattr(suites, name)(Path(folder), device, args.short), rounds, clock)
            forget_peak()  # so that the next suite starts without this one's memory
            sys.stdout.write(table({name: found[name]}) + "\n")
            sys.stdout.flush()
        if earlier:
            sys.stdout.write(f"{compared(found, earlier)}that: {args.against}\n")
        if args.markdown:
            write_text(args.markdown, f"{table(found)}\n({about(shlex.join(argv), device)})\n")


def about(words: str, device: torch.device) -> str:
    """Command, machine and versions in one line."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", info)
    gpu = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    return (
        f"`python -m tools.benchmarks {words}`: median (quartiles) of interleaved rounds, ratios round by round; "
        f"{gpu}{name[1] if name else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
        f"{' with AMX' * ('amx_bf16' in info)}, {torch.get_num_threads()} threads; torch {torch.__version__}; "
        f"commit {git_commit()}"
    )


if __name__ == "__main__":
    main()
