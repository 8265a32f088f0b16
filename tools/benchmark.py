"""Times what users wait for, against what it cannot be faster than: `python -m tools.benchmark loading prediction`.

The cases of a suite take turns, round by round, so that other work on the machine meets all of them; ratios are taken
within a round. Numbers are medians, with the lowest and highest round in brackets.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

import predict_batch
from datasets.catalog import STATISTICS
from datasets.change_pairs import ChangePairs, read_sample
from datasets.doctor import examine, survey
from datasets.pairs import Pair, find_pairs
from datasets.pfbs import PFBSSampler
from datasets.raster import PLAIN
from datasets.scenes import write_scenes
from datasets.tile_cache import TileCache, open_cache
from datasets.transforms import build_augmentation
from models import MODELS, build_model
from utils.checkpoint import save_checkpoint
from utils.predictor import BATCH, ChangePredictor
from utils.run_log import write_text
from utils.runtime import errors_in_one_line

DRAWN, COPIES = 64, 4  # pairs of 256 x 256 that are drawn, and how often each is written
PREDICTED = 64  # of these, in the suite of prediction
BATCHES = {"none": 8, "hanet": 8, "amfnet": 32, "open-cd": 8}  # an augmentation's batch size, by its recipe


@dataclass(frozen=True)
class Case:
    """One thing to time: each run goes through `pairs` pairs; its speed is compared with the case named by `base`."""

    name: str
    run: Callable[[], object]
    pairs: int
    base: str


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
                "pairs_per_second": [case.pairs / t.wall for t in own],
                "cpu_ms_per_pair": [1000 * t.cpu / case.pairs for t in own],
                "ratio": [scale * b.wall / t.wall for t, b in zip(own, base, strict=True)],
                "cpu_ratio": [scale * b.cpu / t.cpu for t, b in zip(own, base, strict=True)],
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as aligned text."""
    lines = [["", "pairs/s", "CPU ms/pair", "speed, times", "by CPU, times", "of"]]
    for row in rows:
        ratios = [spread(row[key], ".2f") for key in ("ratio", "cpu_ratio")] if row["case"] != row["base"] else ["", ""]
        numbers = [spread(row["pairs_per_second"], ".0f"), spread(row["cpu_ms_per_pair"], ".2f"), *ratios]
        lines.append([row["case"], *numbers, row["base"] if row["case"] != row["base"] else ""])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def spread(values: Sequence[float], form: str) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def drawn_pairs(folder: Path) -> list[Pair]:
    """Drawn scenes of 256 x 256 as PNG, as hard to decode as photographs (120 kB an image); drawn once a folder."""
    if not folder.exists():
        write_scenes(folder, {"train": DRAWN}, size=256)
        for path in list(folder.rglob("*.png")):
            for copy in range(1, COPIES):
                shutil.copyfile(path, path.with_name(f"{path.stem}_{copy}.png"))
    return find_pairs(folder, "train")


def decode(pairs: Iterable[Pair]) -> None:
    """What no loader can do without: Pillow decodes all files, and nothing is done with the pixels."""
    for pair in pairs:
        for path in (pair.before, pair.after, pair.label):
            with Image.open(path) as image:
                image.load()


def loading(folder: Path) -> list[Case]:
    """One worker of the training loader, from files and from a cache, against decoding in one process."""
    pairs = drawn_pairs(folder / "scenes")
    cache = open_cache(folder / "train.tiles", pairs, PLAIN)

    def load(name: str, cached: TileCache | None = None) -> Callable[[], None]:
        batches = BatchSampler(PFBSSampler([1] * len(pairs)), BATCHES[name], drop_last=False)
        dataset = ChangePairs(pairs, build_augmentation(name), cached=cached)
        loader: DataLoader = DataLoader(dataset, None, sampler=batches, num_workers=1, persistent_workers=True)

        def epoch() -> None:
            for _ in loader:
                pass

        return epoch

    cases = [Case("decoding", lambda: decode(pairs), len(pairs), "decoding")]
    for name in BATCHES:
        cases.append(Case(f"files, {name}", load(name), len(pairs), "decoding"))
    for name in BATCHES:
        cases.append(Case(f"cache, {name}", load(name, cache), len(pairs), f"files, {name}"))
    return cases


def doctor(folder: Path) -> list[Case]:
    """tools.check_dataset on a split, against decoding in as many threads."""
    pairs, threads = drawn_pairs(folder / "scenes"), os.cpu_count() or 1
    (split,) = survey(folder / "scenes")

    def decode_all() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, [[pair] for pair in pairs]))

    return [
        Case("decoding", decode_all, len(pairs), "decoding"),
        Case("doctor", lambda: examine(split, threads), len(pairs), "decoding"),
    ]


def prediction(folder: Path) -> list[Case]:
    """predict_batch.py from files to maps and report, against its network alone on pixels that are in memory."""
    pairs = drawn_pairs(folder / "scenes")[:PREDICTED]
    listed = folder / "scenes" / "predicted.txt"
    rows = ("\t".join(p.relative_to(listed.parent).as_posix() for p in (x.before, x.after, x.label)) for x in pairs)
    listed.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    pixels, cases = [read_sample(pair)[:2] for pair in pairs], []
    for name in MODELS:
        path = folder / f"{name}.pt"
        about = {"model": name, "options": {}, "statistics": STATISTICS["none"]}
        save_checkpoint(path, {**about, "weights": build_model(name).state_dict()})
        predictor = ChangePredictor(path)
        batches = [predictor.collate(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]

        def network(predictor: ChangePredictor = predictor, batches: list = batches) -> None:
            for batch in batches:
                predictor.probability(*batch).cpu()

        flags = ["--checkpoint", str(path), "--data-root", str(listed), "--output", str(folder / name)]
        cases.append(Case(f"network, {name}", network, len(pairs), f"network, {name}"))
        cases.append(Case(f"files, {name}", partial(predict_batch.main, flags), len(pairs), f"network, {name}"))
    return cases


SUITES: dict[str, Callable[[Path], list[Case]]] = {"loading": loading, "doctor": doctor, "prediction": prediction}


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
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }
    results: dict[str, Any] = {}
    with errors_in_one_line():
        with tempfile.TemporaryDirectory() as folder:
            for name in args.suites or SUITES:
                cases = SUITES[name](Path(folder))
                results[name] = summary(cases, interleaved(cases, args.rounds))
                del cases  # and with them their workers
                sys.stdout.write(f"{name}\n{table(results[name])}\n\n")
        if args.json:
            write_text(args.json, json.dumps({**machine, "rounds": args.rounds, "suites": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
