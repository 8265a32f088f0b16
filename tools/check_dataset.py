"""The doctor: says what is in a data set and everything that is wrong with it; exit code 1 where there are errors."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.catalog import KNOWN_COUNTS, guess_name
from datasets.doctor import Examination, count_findings, examine, leak_findings, survey
from datasets.findings import Finding, count_errors, finding_lines, percent
from datasets.pairs import Pair
from datasets.raster import read_image, read_label
from utils.figures import draw_grid, draw_shares, outlined
from utils.run_log import write_text
from utils.runtime import errors_in_one_line

SAMPLES = 8


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and the findings; leaves with 1 where training or scores would be wrong, 2 for wrong flags."""
    args = parse(argv)
    with errors_in_one_line():
        if args.num_workers < 0:
            raise ValueError(f"--num-workers {args.num_workers}: must be at least 0")
        workers = max(1, args.num_workers)
        results = examine_all(args.data_root, args.against, workers)
        findings = [finding for result in results.values() for finding in result.findings]
        findings += leak_findings(list(results.values()), workers)
        name = guess_name(args.data_root.resolve().name) if args.data_name == "auto" else args.data_name
        if name in KNOWN_COUNTS:
            own = (result for label, result in results.items() if ":" not in label)
            findings += [finding for result in own for finding in count_findings(result, name)]
        sys.stdout.write(report(args.data_root, results, findings))
        if args.json:
            write_text(args.json, as_json(args.data_root, results, findings))
        if args.output:
            draw(results, args.output)
    if count_errors(findings):
        raise SystemExit(1)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Flags -> settings."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python -m tools.check_dataset", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data-root", "--data_root", type=Path, required=True, metavar="ROOT", help="folder of the data set")
    add(
        "--against",
        type=Path,
        metavar="ROOT",
        help="another data set, checked alike; its splits may share no pixels with splits of another name here",
    )
    add(
        "--data-name",
        "--data_name",
        default="auto",
        choices=["auto", "none", *KNOWN_COUNTS],
        help="public set whose pair counts to expect (default: by the folder's name)",
    )
    add("--json", type=Path, metavar="FILE", help="write everything found, uncut")
    add("--output", type=Path, metavar="FOLDER", help="draw changed_share.png and samples.png there")
    add("--num-workers", "--num_workers", type=int, default=cores, metavar="N", help="threads (default: %(default)s)")
    return parser.parse_args(argv)  # fmt: skip


def examine_all(root: Path, against: Path | None, workers: int) -> dict[str, Examination]:
    """Examine the splits of one or two data sets; a split of the second is called NAME:SPLIT."""
    splits = {split.name: split for split in survey(root)}
    if against:
        splits |= {f"{against.resolve().name}:{split.name}": split for split in survey(against)}
    total = sum(len(split.files) for split in splits.values())
    with tqdm(total=total, unit="pair", desc="checking", dynamic_ncols=True) as progress:
        return {label: examine(split, workers, progress.update) for label, split in splits.items()}


def report(root: Path, results: dict[str, Examination], findings: Sequence[Finding]) -> str:
    """The table, a column a split, and the findings."""
    columns = {label: column(result) for label, result in results.items()}
    names = list(next(iter(columns.values())))
    rows = [["", *columns], *([name, *(cells[name] for cells in columns.values())] for name in names)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    errors = count_errors(findings)
    verdict = f"{root}: {counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}"
    return "\n".join([*table, "", *finding_lines(findings), verdict]) + "\n"


def counted(number: int, noun: str) -> str:
    """1 error, 2 errors."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def column(result: Examination) -> dict[str, str]:
    """One split's cells of the table."""
    about = result.summary()
    values = list(about["label_values"].items())
    values.sort(key=lambda item: -item[1])
    shown = ", ".join(f"{value}: {percent(share)}" for value, share in values[:3])
    share = about["changed_share"]
    cells = {
        "pairs": str(about["pairs"]),
        "size": in_short(about["sizes"]),
        "mode": in_short(about["modes"]),
        "label values": shown + (f" and {len(values) - 3} more" if len(values) > 3 else "") or "-",
        "changed": "-" if share is None else percent(share),
        "with change": "-" if share is None else f"{result.foreground} of {len(result.shares)}",
    }
    for kind in ("mean", "std"):
        for number, date in enumerate(("before", "after")):
            row = about[kind][number] if about[kind] else None
            cells[f"{kind} {date}"] = " ".join(f"{value:.3f}" for value in row) if row else "-"
    return cells


def in_short(counts: dict[str, int]) -> str:
    """The most frequent key, and how many others there are."""
    others = f" and {len(counts) - 1} more" if len(counts) > 1 else ""
    return next(iter(counts), "-") + others


def as_json(root: Path, results: dict[str, Examination], findings: Sequence[Finding]) -> str:
    """Table and findings as JSON text; shares, means and deviations are fractions."""
    errors = count_errors(findings)
    content = {
        "data_root": str(root),
        "errors": errors,
        "warnings": len(findings) - errors,
        "splits": {label: result.summary() for label, result in results.items()},
        "findings": [
            {"severity": f.severity, "kind": f.kind, "where": f.where, "what": f.what, "advice": f.advice}
            for f in findings
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def draw(results: dict[str, Examination], folder: Path) -> None:
    """Draw the changed shares and some pairs with their labels' outlines."""
    folder.mkdir(parents=True, exist_ok=True)
    shares = {label: list(result.shares.values()) for label, result in results.items() if result.shares}
    pairs = samples(list(results.values()))
    if shares:
        draw_shares(shares, folder / "changed_share.png")
    if pairs:
        draw_samples(pairs, folder / "samples.png")
    drawn = [str(folder / "changed_share.png")] * bool(shares) + [str(folder / "samples.png")] * bool(pairs)
    sys.stdout.write(f"pictures: {', '.join(drawn) or 'none, for no label shows a change'}\n")


def draw_samples(pairs: Sequence[Pair], path: Path) -> None:
    """Draw pairs with the outlines of their labels, and the labels."""
    columns: dict[str, list[np.ndarray]] = {"before": [], "after": [], "label": []}
    for pair in pairs:
        mask = read_label(pair.label)
        columns["before"].append(outlined(read_image(pair.before), mask))
        columns["after"].append(outlined(read_image(pair.after), mask))
        columns["label"].append(mask * 255)
    draw_grid(columns, path)


def samples(results: Sequence[Examination]) -> list[Pair]:
    """Up to SAMPLES pairs with change, from the smallest changed share to the largest, of all splits."""
    found = []
    for result in results:
        for name, share in result.shares.items():
            files = result.split.files[name]
            if share and all(files.get(role) in result.windows for role in ("before", "after")):
                found.append((share, Pair(name, files["before"], files["after"], files["label"])))
    found.sort(key=lambda item: item[0])
    places = np.linspace(0, len(found) - 1, min(SAMPLES, len(found))).round().astype(int)
    return [found[place][1] for place in places]


if __name__ == "__main__":
    main()
