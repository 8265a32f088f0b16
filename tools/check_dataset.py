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
from datasets.reading import labels_of
from datasets.recognition import introduction, known_pixel_size, recognise
from tools.doctor.examination import Examination, count_findings, examine, leak_findings, shift_text, survey
from tools.doctor.findings import KINDS, Finding, count_errors, finding_lines
from tools.doctor.pictures import draw_pictures
from utils.console import errors_in_one_line, show_log
from utils.files import write_text
from utils.flags import at_least, given_flags, setting
from utils.settings import ReadConfig


@dataclass(frozen=True)
class CheckConfig(ReadConfig):
    """Settings of a check; the flags are made from these fields."""

    against: Path | None = setting(
        None, "second data set to check; its splits must not share pixels with splits of another name", parse=Path
    )
    json: Path | None = setting(None, "JSON file for all findings and the table", parse=Path)
    output: Path | None = setting(None, "folder for changed_share.png and samples.png", parse=Path)
    num_workers: int = setting(os.cpu_count() or 1, "threads")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and the findings; exit code 1 if there are errors in the data, 2 for wrong flags."""
    with errors_in_one_line():
        show_log()
        config = CheckConfig(**given_flags(CheckConfig, str(__doc__), argv, required=("data_root",)))
        at_least(config, num_workers=0)
        workers, name = max(1, config.num_workers), recognise(config.data_root, config.data_name)
        results = examine_all(config, workers, config.pixel_size or known_pixel_size(name))
        findings = [finding for result in results.values() for finding in result.findings]
        findings += leak_findings(list(results.values()))
        own = [result for label, result in results.items() if ":" not in label]
        findings += [finding for result in own for finding in count_findings(result, name)]
        pairs = {result.split.name: len(result.split.complete) for result in own}
        about = introduction(name, pairs, own[0].usual_size)
        sys.stdout.write(report(config.data_root, results, findings, about))
        if config.json:
            write_text(config.json, as_json(config.data_root, results, findings, name))
        if config.output:
            drawn = ", ".join(map(str, draw_pictures(results, config.output)))
            sys.stdout.write(f"pictures: {drawn or 'none, since no label has a change'}\n")
    if count_errors(findings):
        raise SystemExit(1)


def examine_all(config: CheckConfig, workers: int, pixel_size: float | None) -> dict[str, Examination]:
    """Examine the splits of one or two data sets by name, NAME:SPLIT of the second; the first has this pixel size."""
    found = {"": survey(config.data_root, config.folders)}
    if config.against:
        found[f"{config.against.resolve().name}:"] = survey(config.against, config.folders)
    total = sum(len(split.files) for splits in found.values() for split in splits)
    results = {}
    with tqdm(total=total, unit="pair", desc="checking", dynamic_ncols=True) as progress:
        for prefix, splits in found.items():
            files = [splits[0].files[name] for name in splits[0].complete]
            pairs = [Pair("", each["before"], each["after"]) for each in files]
            reading = choose_reading(pairs, config.bands, config.scale, labels_of(config), lenient=True)
            for split in splits:
                metres = config.pixel_size if prefix else pixel_size
                results[prefix + split.name] = result = examine(split, workers, progress.update, reading, metres)
                reading = result.reading  # the codes of the first split hold for the others
    return results


def report(root: Path, results: dict[str, Examination], findings: Sequence[Finding], about: str) -> str:
    """The table with a column per split, a line about the set, and the findings."""
    cells = {label: column(result) for label, result in results.items()}
    columns = [["", *next(iter(cells.values()))], *([label, *of.values()] for label, of in cells.items())]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    table = ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
    errors = count_errors(findings)
    counts = ((errors, "error"), (len(findings) - errors, "warning"))
    verdict = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    return "\n".join([*table, "", about, *finding_lines(findings), f"{root}: {verdict}"]) + "\n"


def column(result: Examination) -> dict[str, str]:
    """Cells of a split by the name of their row."""
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
        "with change": "-" if share is None else f"{about['foreground_images']} of {len(result.shares)}",
    }
    if found := about["shift"]:
        cells["shift"] = f"{shift_text(found, 'median')} ({found['reliable']} of {found['measured']})"
    else:
        cells["shift"] = "-"
    for kind in ("mean", "std"):
        for number, date in enumerate(("before", "after")):
            row = about[kind][number] if about[kind] else None
            cells[f"{kind} {date}"] = " ".join(f"{value:.3f}" for value in row) if row else "-"
    return cells


def in_short(counts: dict[str, int]) -> str:
    """The first key, which is the most frequent one, and the number of the others."""
    return next(iter(counts), "-") + (f" and {len(counts) - 1} more" if len(counts) > 1 else "")


def percent(share: float) -> str:
    """A fraction in percent."""
    return f"{100 * share:.2f} %" if share == 0 or share >= 5e-5 else "< 0.01 %"


def as_json(root: Path, results: dict[str, Examination], findings: Sequence[Finding], name: str) -> str:
    """Table and findings as JSON text; shares, means and deviations are fractions."""
    errors = count_errors(findings)
    content = {
        "data_root": str(root),
        "data_name": name,
        "errors": errors,
        "warnings": len(findings) - errors,
        "splits": {label: result.summary() for label, result in results.items()},
        "findings": [{"severity": f.severity, **asdict(f), "advice": KINDS[f.kind][1]} for f in findings],
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    main()
