"""Writes the papers' tables, with rows of ours beside theirs: `python -m tools.make_tables comparison --runs NAME=DIR`.

KIND is comparison (methods on data sets) or an ablation: amfnet (its modules), pfbs (Fixed-X, Linear-Y), attention
(columns, rows), loss. Published rows are always marked. Footnotes name what differs between rows: split, window,
threshold, and the split that chose the epoch.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":  # python path/to/tools/make_tables.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.reading import labels_of
from tools.tables.layout import ABLATIONS, build_table
from tools.tables.results import PAPERS, SCORES, Result, averaged, read_csv, read_folder, read_published
from tools.tables.text import format_of, write_tables
from utils.console import UserError, choose, errors_in_one_line, show_log
from utils.flags import given_flags, named_path, setting, words
from utils.prediction.masks import mask_scores
from utils.settings import label_code

TITLES = {
    "comparison": "Comparison with other methods",
    "amfnet": "Ablation of AMFNet's modules",
    "pfbs": "Ablation of PFBS",
    "attention": "Ablation of column and row attention",
    "loss": "Ablation of the loss",
}


@dataclass(frozen=True)
class TableConfig:
    """Contents of a table; the flags are made from these fields."""

    kind: str = setting("comparison", ", ".join(TITLES))
    runs: list[tuple[str, Path]] = setting(
        (), "folders of predict_batch.py or train_aux.py; NAME@DATA=DIR names the data set; a pattern such as "
        "'NAME=RUN/seed-*/predict-test', or a NAME given twice, is averaged", parse=named_path,
    )  # fmt: skip
    masks: list[tuple[str, Path]] = setting((), "folders of masks, scored against --label", parse=named_path)
    label: Path | None = setting(None, "folder of the truth for --masks", parse=Path)
    change_value: int | str | None = setting(
        None, "label value (palette index, or colour '#rrggbb') that means changed", parse=label_code
    )
    ignore_value: int | str | None = setting(None, "label value that means unknown: not scored", parse=label_code)
    change_from: int | None = setting(None, "least grey level of labels that means changed", parse=int)
    published: tuple[str, ...] | None = setting(
        None, "the papers' tables to show, as docs/papers/tables.csv calls them, or none (default: by kind)",
        parse=words,
    )  # fmt: skip
    data: tuple[str, ...] = setting((), "data sets to show, such as LEVIR-CD,WHU-CD (default: all)", parse=words)
    output: Path | None = setting(None, "file to write: .md, .csv, .tex or .html (default: print)", parse=Path)


def main(argv: Sequence[str] | None = None) -> None:
    """Write one table."""
    with errors_in_one_line():
        show_log()
        config = TableConfig(**given_flags(TableConfig, str(__doc__), argv, positional=("kind",)))
        title = choose(TITLES, config.kind, "KIND")
        format_of(config.output)  # refuses a wrong suffix before anything is read
        write_tables([build_table(collect(config), config.kind, title)], config.output)


def collect(config: TableConfig) -> list[Result]:
    """Published results first, then ours, in the papers' order; UserError if there is nothing, or a name is unknown."""
    if bool(config.masks) != bool(config.label):
        raise UserError("--masks NAME=DIR and --label, the folder of the truth, go together")
    if config.published is None:
        results = read_published(kind=config.kind)
    else:
        results = read_published([name for name in config.published if name != "none"])
    results += mask_results(config) if config.masks else []
    alike: dict[tuple[str, str], list[Result]] = {}
    for each in (each for name, folder in config.runs for each in run_results(name, folder)):
        if config.kind in ABLATIONS and not each.settings:
            raise UserError(f"{each.name}: its checkpoint, which names the variant, is gone; predict again")
        alike.setdefault((each.name, each.data), []).append(each)
    results += [averaged(runs) for runs in alike.values()]
    titles = {row["data"] for row in read_csv(PAPERS / "scores.csv")}
    results = [replace(each, data=data_title(each.data, titles)) for each in results]
    there = list(dict.fromkeys(each.data for each in results))
    if unknown := [name for name in config.data if name not in there]:
        raise UserError(f"--data {unknown[0]}: no row has this data set; there are {', '.join(there) or 'none'}")
    results = [each for each in results if not config.data or each.data in config.data]
    if not results:
        raise UserError("nothing to show: name --runs, --masks or --published")
    return results


def run_results(name: str, folder: Path) -> list[Result]:
    """Results of one --runs: of a folder, or of all folders that match a pattern."""
    method, _, data = name.partition("@")
    folders = [folder]
    if "*" in str(folder) and not folder.is_dir():
        folders = sorted(Path(folder.anchor).glob(str(folder.relative_to(folder.anchor))))
        if not folders:
            raise FileNotFoundError(f"{folder}: no folder matches this pattern")
    return [read_folder(method, data, each) for each in folders]


def mask_results(config: TableConfig) -> list[Result]:
    """Scores of folders of masks."""
    assert config.label
    label = config.label.resolve()
    root = label.parent.parent if label.parent.name in ("train", "val", "test") else label.parent
    methods = {name.partition("@")[0]: (name.partition("@")[2] or root.name, path) for name, path in config.masks}
    if len(methods) < len(config.masks):
        raise UserError("--masks: two folders have one name; give each its own as NAME=DIR")
    results = []
    folders = {name: path for name, (_, path) in methods.items()}
    for name, found in mask_scores(config.label, folders, labels_of(config)).items():
        scored, labels = found.images.pairs, found.labels
        part = "" if scored == labels else f"; only {scored} of {labels} labels have a mask"
        scores, notes = {key: 100 * found.values[key] for key in SCORES}, {"": f"masks scored here{part}"}
        results.append(Result(name, methods[name][0], scores, notes=notes, images=found.images))
    return results


def data_title(name: str, titles: Iterable[str]) -> str:
    """The published data set that a folder's name, such as LEVIR-CD-256, begins with; else the name itself.

    LEVIR-CD+ is another set than LEVIR-CD.
    """
    found = [each for each in titles if re.match(re.escape(each) + "(?![a-z+])", name, re.I) and "," not in each]
    return name if name in titles else max(found, key=len, default=name)


if __name__ == "__main__":
    main()
