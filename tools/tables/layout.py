"""Lays results out as a table: columns, rows, ranks of the best three, and footnotes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from datasets.catalog import CATALOG
from tools.tables.results import PROTOCOL, SCORES, Result
from utils.console import quantity
from utils.prediction.records import ImageSet

ABLATIONS = {  # kind of table -> title of a column: the setting it shows
    "amfnet": {
        "Encoder": "backbone", "BFAM": "bfam", "BFM": "bfm", "IAM": "iam", "Exchange": "channel_exchange",
        "Side losses": "deep_supervision",
    },
    "pfbs": {"Fixed-X": "fixed_epochs", "Linear-Y": "linear_epochs"},
    "attention": {"Column": "column", "Row": "row"},
    "loss": {"Loss": "loss", "Fixed-X": "fixed_epochs", "Linear-Y": "linear_epochs"},
}  # fmt: skip
PUBLISHED, OURS, OTHERS = range(3)  # parts of a table, in this order
COUNTED = (
    "FLOPs (G) of rows that are not published: multiply-adds of a pair of 256 x 256, both dates and attention "
    "included; papers may count otherwise"
)
Method = dict[str, Result]  # results of one row, by data set


@dataclass(frozen=True)
class Cell:
    """Text of a cell, its rank (1 best, 3 third, 0 none), and the numbers of its footnotes, counted from 1."""

    text: str
    rank: int = 0
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table; footnotes are numbered from 1."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: tuple[str, ...] = ()  # data set of each column, or ""; empty: no column has one
    notes: tuple[str, ...] = ()  # footnotes
    remarks: tuple[str, ...] = ()  # lines below the table that concern all rows
    parts: tuple[int, ...] = ()  # rows with a rule above them; ranks compare the rows of one part

    @property
    def names(self) -> list[str]:
        """Titles of the columns with their data sets."""
        groups = self.groups or ("",) * len(self.header)
        return [f"{group} {title}".strip() for group, title in zip(groups, self.header, strict=True)]


def plain_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], remarks: Sequence[str] = ()) -> Table:
    """A table of texts, without ranks and footnotes."""
    return Table(title, tuple(header), tuple(tuple(map(Cell, row)) for row in rows), remarks=tuple(remarks))


def build_table(results: Sequence[Result], kind: str, title: str) -> Table:
    """Lay results out: name, settings of an ablation, Para. (M), FLOPs (G), then the scores of each data set.

    Columns without a number are left out. Published rows come first, then ours, then those of ours that were scored on
    other images than most are, or than published rows of their data set. Published rows and ours are ranked separately;
    the third part has no ranks. Ranks follow the printed numbers, so equal numbers share one. A number with a footnote
    may be a misprint and has no rank. Settings are shown if `kind` is a key of ABLATIONS.
    """
    settings = ABLATIONS.get(kind, {})
    usual, unlike = _images(results)
    rows = sorted(_join_rows(results, tuple(settings.values())), key=lambda row: _part(row, unlike))
    parts = [_part(row, unlike) for row in rows]
    firsts = [next(iter(row.values())) for row in rows]
    notes: list[str] = []
    shared, differences = _protocol_notes(results)
    marks = [_numbers(notes, _row_notes(row, differences, unlike)) for row in rows]
    columns = [("", "Method", [Cell(first.name, 0, mark) for first, mark in zip(firsts, marks, strict=True)])]
    for head, key in settings.items():
        values = [first.settings.get(key, "") for first in firsts]
        columns.append(("", head, [Cell({"true": "yes", "false": "no"}.get(value, value)) for value in values]))
    for head, key in (("Para. (M)", "parameters"), ("FLOPs (G)", "flops")):
        counts = [next((n for each in row.values() if (n := getattr(each, key)) is not None), None) for row in rows]
        columns.append(("", head, [Cell("" if count is None else f"{count:.2f}") for count in counts]))
    for data in dict.fromkeys(result.data for result in results):
        for score, head in SCORES.items():
            columns.append((data, head, _score_cells([row.get(data) for row in rows], score, parts, notes)))
    columns = [column for column in columns if any(cell.text for cell in column[2])]
    groups, header, cells = zip(*columns, strict=True)
    scored_on = ", ".join(f"{images.pairs} pairs of {data}" for data, images in usual.items() if images.pairs)
    ours = f"Rows that are not published: scored on {scored_on}" if scored_on and PUBLISHED in parts else ""
    counted = COUNTED if any(result.flops and not result.published for result in results) else ""
    rules = tuple(place for place in range(1, len(parts)) if parts[place] != parts[place - 1])
    remarks = tuple(filter(None, [shared, ours, counted]))
    return Table(title, header, tuple(zip(*cells, strict=True)), groups, tuple(notes), remarks, rules)


def _images(results: Sequence[Result]) -> tuple[dict[str, ImageSet], Callable[[Result], str]]:
    """For each data set, the images that most of our rows were scored on; of equally many, the larger set.

    The function says why a row of ours is not ranked: scored on other images than these, or than published rows; or "".
    """
    counted: dict[str, Counter[ImageSet]] = {}
    for each in results:
        if not each.published:
            counted.setdefault(each.data, Counter())[each.images] += 1
    usual = {data: max(sets, key=lambda images: (sets[images], images.pairs)) for data, sets in counted.items()}
    known = {each.title: {counts.test for counts in each.counts} for each in CATALOG.values()}
    # pairs that the test split of a set with a published row may have; none: unknown
    published = {each.data: known.get(each.data, set()) for each in results if each.published}

    def unlike(result: Result) -> str:
        data, here, test = result.data, result.images.pairs, published.get(result.data, set())
        if result.published:
            return ""
        scored = f"not ranked: scored on {quantity(here, 'pair') if here else 'other pairs'} of {data}, "
        if (test and here not in test) or (data in published and result.protocol.get("split") in ("train", "val")):
            counts = " or ".join(map(str, sorted(test)))
            return scored + "published rows on its test split" + f" of {counts}" * bool(test)
        if result.images == usual[data]:
            return ""
        if here and (there := usual[data].pairs) and here != there:
            return scored + f"other rows on {there}"
        return f"not ranked: scored on other images or labels of {data} than other rows"

    return usual, unlike


def _part(row: Method, unlike: Callable[[Result], str]) -> int:
    """PUBLISHED, OURS, or OTHERS: not ranked, for its images on some data set."""
    if any(each.published for each in row.values()):
        return PUBLISHED
    return OTHERS if any(map(unlike, row.values())) else OURS


def _row_notes(row: Method, differences: Callable[[Result], str], unlike: Callable[[Result], str]) -> list[str]:
    """Footnotes of a row: sources, its own notes, other images, and what differs in its protocol."""
    texts = [f"as published: {each.published}" for each in row.values() if each.published]
    texts += [each.notes[""] for each in row.values() if "" in each.notes]
    texts += filter(None, map(unlike, row.values()))
    own = {data: text for data, each in row.items() if (text := differences(each))}
    texts += [text if len(set(own.values())) == 1 else f"{data}: {text}" for data, text in own.items()]
    return list(dict.fromkeys(texts))


def _join_rows(results: Sequence[Result], settings: Sequence[str]) -> list[Method]:
    """One row for a method on several data sets, or in several published tables that agree, with equal `settings`."""
    rows: list[Method] = []
    for result in results:
        for row in rows:
            first, there = next(iter(row.values())), row.get(result.data)
            alike = (first.name, bool(first.published)) == (result.name, bool(result.published))
            alike = alike and all(first.settings.get(key) == result.settings.get(key) for key in settings)
            if alike and (there is None or (result.published and _agree(there, result))):
                row[result.data] = _merged(there, result) if there else result
                break
        else:
            rows.append({result.data: result})
    return rows


def _agree(one: Result, other: Result) -> bool:
    """Return True if two results have equal scores and settings wherever both have one."""
    both = ((one.scores, other.scores), (one.settings, other.settings))
    return all(a[key] == b[key] for a, b in both for key in a.keys() & b.keys())


def _merged(one: Result, other: Result) -> Result:
    tables = ("scores", "settings", "protocol", "notes")
    merged: dict[str, Mapping] = {key: {**getattr(other, key), **getattr(one, key)} for key in tables}
    sources = "; ".join(dict.fromkeys([one.published, other.published]))
    parameters, flops = one.parameters or other.parameters, one.flops or other.flops
    return replace(one, published=sources, parameters=parameters, flops=flops, **merged)


def _score_cells(column: Sequence[Result | None], score: str, parts: Sequence[int], notes: list[str]) -> list[Cell]:
    """Cells of one score: percent with two decimals, ± deviation, ranks within a part; appends new notes."""
    texts = [f"{each.scores[score]:.2f}" if each and score in each.scores else "" for each in column]
    doubts = [each.notes.get(score, "") if each else "" for each in column]
    ranked = [part if text and not doubt else OTHERS for text, doubt, part in zip(texts, doubts, parts, strict=True)]
    cells = []
    for each, text, doubt, part in zip(column, texts, doubts, ranked, strict=True):
        rivals = [float(other) for other, of in zip(texts, ranked, strict=True) if of == part != OTHERS]
        rank = 1 + len({value for value in rivals if value > float(text)}) if len(rivals) > 1 else 0
        spread = f" ± {each.deviations[score]:.2f}" if each and score in each.deviations else ""
        cells.append(Cell(text + spread, rank if rank <= 3 else 0, _numbers(notes, [doubt] if doubt else [])))
    return cells


def _numbers(notes: list[str], texts: Sequence[str]) -> tuple[int, ...]:
    """Numbers of footnotes; new ones are appended to the list."""
    notes += [text for text in texts if text not in notes]
    return tuple(sorted(notes.index(text) + 1 for text in texts))


def _protocol_notes(results: Sequence[Result]) -> tuple[str, Callable[[Result], str]]:
    """A line on what all protocols share, and a function that describes the rest of one result's protocol."""
    seen = {key: {result.protocol.get(key, "") for result in results} for key in PROTOCOL}
    common = {key: values.pop() for key, values in seen.items() if len(values) == 1}
    line = ", ".join(PROTOCOL[key].format(value) for key, value in common.items() if value)

    def differences(result: Result) -> str:
        rest = {key: result.protocol.get(key, "(not stated)") for key in PROTOCOL if key not in common}
        return ", ".join(PROTOCOL[key].format(value) for key, value in rest.items() if value)

    return f"All rows: {line}" if line else "", differences
