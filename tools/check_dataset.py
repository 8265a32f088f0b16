"""Reports what is in a data set and everything that is wrong with it; exit code 1 if there are errors."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

if __name__ == "__main__":  # python path/to/tools/check_dataset.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.measurements import choose_reading
from datasets.pairs import Pair
from datasets.reading import PixelFormat, labels_of
from datasets.recognition import introduction, recognise
from tools.doctor.examination import Examination, Split, count_findings, examine, leak_findings, survey
from tools.doctor.findings import Finding, count_errors, finding_lines, percent
from tools.doctor.pictures import draw_pictures
from utils.console import errors_in_one_line, show_log
from utils.files import write_text
from utils.flags import at_least, given_flags, setting
from utils.settings import ReadConfig


@dataclass(frozen=True)
class CheckConfig(ReadConfig):
    """Settings of a check; the flags are made from these fields."""

    against: Path | None = setting(
        None, "another data set, checked alike; its splits may share no pixels with splits of another name", parse=Path
    )
    json: Path | None = setting(None, "file for everything found, uncut", parse=Path)
    output: Path | None = setting(None, "folder for changed_share.png and samples.png", parse=Path)
    num_workers: int = setting(os.cpu_count() or 1, "threads")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and the findings; exit code 1 if training or scores would be wrong, 2 for wrong flags."""
    with errors_in_one_line():
        show_log()
        config = CheckConfig(**given_flags(CheckConfig, str(__doc__), argv, required=("data_root",)))
        at_least(config, num_workers=0)
        workers, name = max(1, config.num_workers), recognise(config.data_root, config.data_name)
        results = examine_all(config, workers)
        findings = [finding for result in results.values() for finding in result.findings]
        findings += leak_findings(list(results.values()), workers)
        own = [result for label, result in results.items() if ":" not in label]
        findings += [finding for result in own for finding in count_findings(result, name)]
        pairs = {result.split.name: len(result.split.complete) for result in own}
        about = introduction(name, pairs, own[0].usual_size)
        sys.stdout.write(report(config.data_root, results, findings, about))
        if config.json:
            write_text(config.json, as_json(config.data_root, results, findings, name))
        if config.output:
            drawn = ", ".join(map(str, draw_pictures(results, config.output)))
            sys.stdout.write(f"pictures: {drawn or 'none, for no label shows a change'}\n")
    if count_errors(findings):
        raise SystemExit(1)


def examine_all(config: CheckConfig, workers: int) -> dict[str, Examination]:
    """Examine the splits of one or two data sets; a split of the second is called NAME:SPLIT."""
    found = {"": survey(config.data_root, config.folders)}
    if config.against:
        found[f"{config.against.resolve().name}:"] = survey(config.against, config.folders)
    total = sum(len(split.files) for splits in found.values() for split in splits)
    results = {}
    with tqdm(total=total, unit="pair", desc="checking", dynamic_ncols=True) as progress:
        for prefix, splits in found.items():
            reading = reading_of(config, splits[0])
            for split in splits:
                results[prefix + split.name] = result = examine(split, workers, progress.update, reading)
                reading = result.reading  # the codes of the first split hold for the others
    return results


def reading_of(config: CheckConfig, split: Split) -> PixelFormat:
    """How the files of a data set are read."""
    pairs = [Pair(name, split.files[name]["before"], split.files[name]["after"]) for name in split.complete]
    return choose_reading(pairs, config.bands, config.scale, labels_of(config), lenient=True)


def report(root: Path, results: dict[str, Examination], findings: Sequence[Finding], about: str) -> str:
    """The table, a column a split, a line about the set, and the findings."""
    columns = {label: column(result) for label, result in results.items()}
    names = list(next(iter(columns.values())))
    rows = [["", *columns], *([name, *(cells[name] for cells in columns.values())] for name in names)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    errors = count_errors(findings)
    counts = ((errors, "error"), (len(findings) - errors, "warning"))
    verdict = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    return "\n".join([*table, "", about, *finding_lines(findings), f"{root}: {verdict}"]) + "\n"


def column(result: Examination) -> dict[str, str]:
    """One split's cells of the table."""
    about = result.summary()
    values = sorted(about["label_values"].items(), key=lambda item: -item[1])
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
    """The most frequent key, and the number of others."""
    others = f" and {len(counts) - 1} more" if len(counts) > 1 else ""
    return next(iter(counts), "-") + others


def as_json(root: Path, results: dict[str, Examination], findings: Sequence[Finding], name: str) -> str:
    """Table and findings as JSON text; shares, means and deviations are fractions."""
    errors = count_errors(findings)
    content = {
        "data_root": str(root),
        "data_name": name,
        "errors": errors,
        "warnings": len(findings) - errors,
        "splits": {label: result.summary() for label, result in results.items()},
        "findings": [{"severity": f.severity, **asdict(f), "advice": f.advice} for f in findings],
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    main()
