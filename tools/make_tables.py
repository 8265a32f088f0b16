"""Writes the papers' tables, with rows of ours beside theirs: `python -m tools.make_tables comparison --runs NAME=DIR`.

KIND is comparison (methods on data sets) or an ablation: amfnet (its modules), pfbs (Fixed-X, Linear-Y), attention
(columns, rows), loss. Published rows always say that they are. What differs between rows (split, window, threshold, how
the epoch was chosen) is read from the files and said in footnotes.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":  # python path/to/tools/make_tables.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.reading import labels_of
from tools.tables.layout import ABLATIONS, KINDS, build_table
from tools.tables.results import SCORES, Result, averaged, published_tables, read_csv, read_folder, read_published
from tools.tables.text import FORMATS, format_of, write_tables
from utils.console import errors_in_one_line, show_log
from utils.flags import given_flags, named_path, setting
from utils.prediction.masks import mask_scores
from utils.settings import label_code

PAPERS = Path(__file__).parents[1] / "docs" / "papers"
TITLES = {
    "comparison": "Comparison with other methods",
    "amfnet": "Ablation of AMFNet's modules",
    "pfbs": "Ablation of PFBS",
    "attention": "Ablation of column and row attention",
    "loss": "Ablation of the loss",
}


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _kind(word: str) -> str:
    if word not in KINDS:
        raise argparse.ArgumentTypeError(f"no table is called {word!r}; choose of {', '.join(KINDS)}")
    return word


@dataclass(frozen=True)
class TableConfig:
    """What goes into a table; the flags are made from these fields."""

    kind: str = setting("comparison", f"{', '.join(KINDS)}", parse=_kind)
    runs: list[tuple[str, Path]] = setting(
        None,
        "folders of predict_batch.py or train_aux.py; NAME@DATA=DIR says the data set; a pattern such as "
        "'NAME=RUN/seed-*/predict-test', or a NAME given twice, is averaged",
        parse=named_path,
    )
    masks: list[tuple[str, Path]] = setting(None, "folders of masks, scored against --label", parse=named_path)
    label: Path | None = setting(None, "folder of the truth for --masks", parse=Path)
    change_value: int | str | None = setting(
        None, "label value (palette index, or colour '#rrggbb') that means changed", parse=label_code
    )
    ignore_value: int | str | None = setting(None, "label value that means unknown: not scored", parse=label_code)
    change_from: int | None = setting(None, "least grey level of labels that means changed", parse=int)
    published: tuple[str, ...] | None = setting(
        None, "the papers' tables to show, as docs/papers/tables.csv calls them, or none (default: by kind)",
        parse=_words,
    )  # fmt: skip
    data: tuple[str, ...] = setting((), "data sets to show, such as LEVIR-CD,WHU-CD (default: all)", parse=_words)
    title: str | None = setting(None, "of the table (default: by kind)", parse=str)
    output: Path | None = setting(None, "file to write; its suffix says the format (default: print)", parse=Path)
    format: str | None = setting(None, "format, where the suffix does not say it", tuple(FORMATS), str)


def main(argv: Sequence[str] | None = None) -> None:
    """Write one table."""
    with errors_in_one_line():
        show_log()
        config = TableConfig(**given_flags(TableConfig, str(__doc__), argv, positional=("kind",)))
        form = format_of(config.output, config.format)
        results = collect(config)
        table = build_table(results, config.kind, config.title or TITLES[config.kind])
        write_tables([table], config.output, form)


def collect(config: TableConfig) -> list[Result]:
    """The rows: published ones first, ours last, as the papers have it.

    Raises:
        FileNotFoundError: a folder lacks a file.
        ValueError: there is nothing to show, or a word is unknown.
    """
    if bool(config.masks) != bool(config.label):
        raise ValueError("--masks NAME=DIR and --label, the folder of the truth, go together")
    tables = config.published if config.published is not None else published_tables(PAPERS, config.kind)
    results = read_published(PAPERS, () if tables == ("none",) else tables)
    results += mask_results(config) if config.masks else []
    ours = [each for name, folder in config.runs or () for each in run_results(name, folder)]
    if config.kind in ABLATIONS:
        refuse_unsettled(ours)
    alike: dict[tuple[str, str], list[Result]] = {}
    for each in ours:
        alike.setdefault((each.name, each.data), []).append(each)
    results += [averaged(runs) for runs in alike.values()]
    titles = {row["data"] for row in read_csv(PAPERS / "scores.csv")}
    results = [replace(each, data=data_title(each.data, titles)) for each in results]
    there = list(dict.fromkeys(each.data for each in results))
    if unknown := [name for name in config.data if name not in there]:
        raise ValueError(f"--data {unknown[0]}: no row is of it; there are {', '.join(there) or 'none'}")
    results = [each for each in results if not config.data or each.data in config.data]
    if not results:
        raise ValueError("nothing to show: name --runs, --masks or --published")
    return results


def run_results(name: str, folder: Path) -> list[Result]:
    """The results of one --runs: of a folder, or of all that a pattern finds."""
    method, _, data = name.partition("@")
    folders = [folder]
    if "*" in str(folder):
        folders = sorted(Path(folder.anchor).glob(str(folder.relative_to(folder.anchor))))
        if not folders:
            raise FileNotFoundError(f"{folder}: no folder is called so")
    return [read_folder(method, data, each) for each in folders]


def refuse_unsettled(results: Iterable[Result]) -> None:
    """Raise ValueError where a row cannot say which variant it is."""
    for each in results:
        if not each.settings:
            raise ValueError(f"{each.name}: the checkpoint it was predicted with, which says the variant, is gone")


def mask_results(config: TableConfig) -> list[Result]:
    """Scores of folders of masks."""
    assert config.label
    label = config.label.resolve()
    root = label.parent.parent if label.parent.name in ("train", "val", "test") else label.parent
    folders = {name.partition("@")[0]: path for name, path in config.masks}
    named = {name.partition("@")[0]: name.partition("@")[2] for name, _ in config.masks}
    if len(folders) < len(config.masks):
        raise ValueError("--masks: two folders of one name; call them NAME=DIR")
    results = []
    for name, found in mask_scores(config.label, folders, labels_of(config)).items():
        scored, labels = found.images.pairs, found.labels
        part = "" if scored == labels else f"; only {scored} of {labels} labels have a mask"
        scores = {key: 100 * found.values[key] for key in SCORES}
        notes = {"": f"masks scored here{part}"}
        results.append(Result(name, named[name] or root.name, scores, notes=notes, images=found.images))
    return results


def data_title(name: str, titles: Iterable[str]) -> str:
    """A folder such as LEVIR-CD-256 by the published data set that its name begins with."""
    found = [title for title in titles if name.lower().startswith(title.lower()) and "," not in title]
    return name if name in titles else max(found, key=len, default=name)


if __name__ == "__main__":
    main()
