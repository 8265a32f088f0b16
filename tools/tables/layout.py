"""Tables of results: what stands in a column, which three are best, and what a footnote has to say."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from tools.tables.results import PROTOCOL, SCORES, Result
from utils.prediction.records import ImageSet

ABLATIONS = {  # kind of table -> title of a column and the setting it shows
    "amfnet": {
        "Encoder": "backbone", "BFAM": "bfam", "BFM": "bfm", "IAM": "iam", "Exchange": "channel_exchange",
        "Side losses": "deep_supervision",
    },
    "pfbs": {"Fixed-X": "fixed_epochs", "Linear-Y": "linear_epochs"},
    "attention": {"Column": "column", "Row": "row"},
    "loss": {"Loss": "loss", "Fixed-X": "fixed_epochs", "Linear-Y": "linear_epochs"},
}  # fmt: skip
KINDS = ("comparison", *ABLATIONS)
PUBLISHED, OURS, OTHERS = range(3)  # parts of a table, in their order
COUNTED = (
    "FLOPs (G) of rows that are not published: multiply-adds of a pair of 256 x 256, both dates and attention "
    "included; papers may count otherwise"
)
_SHOWN = {"true": "yes", "false": "no"}


@dataclass(frozen=True)
class Cell:
    """A cell: its text, its rank (1 to 3, best first; 0: none) and the numbers of its footnotes, from 1 on."""

    text: str
    rank: int = 0
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: above it.
        groups: for each column the data set it belongs to, or nothing.
        header: titles of the columns.
        rows: a cell a column.
        notes: footnotes by number.
        remarks: lines below that concern all rows.
        parts: rows before which a rule stands; ranks are those of one part.
    """

    title: str
    groups: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    parts: tuple[int, ...] = ()


Row = dict[str, Result]  # a method's results by data set


def build_table(results: Sequence[Result], kind: str, title: str) -> Table:
    """Lay results out: name, settings of an ablation, Para. (M), FLOPs (G), then the scores of each data set.

    Columns without a number are left out. Published rows come first, then ours, then those of ours that were scored on
    other images than most are. The first two parts are ranked, each by itself; the third is not. Ranks are those of the
    printed numbers, so equal numbers share one; a number with a footnote of its own has none, for it may be a misprint.

    Args:
        results: in the order of the rows.
        kind: one of KINDS.
        title: above the table.
    """
    shown = ABLATIONS.get(kind, {})
    usual = usual_images(results)
    rows = sorted(join_rows(results, shown.values()), key=lambda row: part_of(row, usual))
    parts = [part_of(row, usual) for row in rows]
    notes: list[str] = []
    remark, differs = protocol_notes(results)
    names = [Cell(_first(row).name, 0, number(notes, row_notes(row, differs, usual))) for row in rows]
    columns = [("", "Method", names)]
    for head, key in shown.items():
        settings = [_first(row).settings.get(key, "") for row in rows]
        columns.append(("", head, [Cell(_SHOWN.get(text, text)) for text in settings]))
    for head, key in (("Para. (M)", "parameters"), ("FLOPs (G)", "flops")):
        values = [next((v for e in row.values() if (v := getattr(e, key)) is not None), None) for row in rows]
        columns.append(("", head, [Cell("" if value is None else f"{value:.2f}") for value in values]))
    for data in dict.fromkeys(result.data for result in results):
        for score, head in SCORES.items():
            columns.append((data, head, score_cells([row.get(data) for row in rows], score, parts, notes)))
    columns = [column for column in columns if any(cell.text for cell in column[2])]
    counted = any(result.flops and not result.published for result in results)
    groups, header, cells = zip(*columns, strict=True)
    scored_on = ", ".join(f"{images.pairs} pairs of {data}" for data, images in usual.items() if images.pairs)
    apart = f"Rows that are not published: scored on {scored_on}" if scored_on and PUBLISHED in parts else ""
    remarks = tuple(filter(None, [remark, apart, COUNTED * counted]))
    rules = tuple(place for place in range(1, len(parts)) if parts[place] != parts[place - 1])
    return Table(title, groups, header, tuple(zip(*cells, strict=True)), tuple(notes), remarks, rules)


def _first(row: Row) -> Result:
    return next(iter(row.values()))


def usual_images(results: Sequence[Result]) -> dict[str, ImageSet]:
    """For each data set, the images that most of our rows were scored on; of equally many, the larger set."""
    usual = {}
    for data in dict.fromkeys(result.data for result in results):
        counted = Counter(each.images for each in results if each.data == data and not each.published)
        if counted:
            usual[data] = max(counted, key=lambda images: (counted[images], images.pairs))
    return usual


def part_of(row: Row, usual: Mapping[str, ImageSet]) -> int:
    """PUBLISHED, OURS, or OTHERS: scored, on any data set, on other images than most of our rows."""
    if _first(row).published:
        return PUBLISHED
    return OURS if all(each.images == usual[data] for data, each in row.items()) else OTHERS


def row_notes(row: Row, differs: Callable[[Result], str], usual: Mapping[str, ImageSet]) -> list[str]:
    """The footnotes of a row: its sources, what its files tell, its images and protocol where they differ from others'.

    Args:
        row: of the table.
        differs: gives what differs in the protocol of a result.
        usual: images of the ranked rows, by data set.
    """
    texts = [f"as published: {each.published}" for each in row.values() if each.published]
    texts += [each.notes[""] for each in row.values() if "" in each.notes]
    if part_of(row, usual) == OTHERS:
        texts += [other_images(each, usual[data]) for data, each in row.items() if each.images != usual[data]]
    own = {data: text for data, each in row.items() if (text := differs(each))}
    same = len(set(own.values())) == 1
    texts += [text if same else f"{data}: {text}" for data, text in own.items()]
    return list(dict.fromkeys(texts))


def other_images(result: Result, usual: ImageSet) -> str:
    """The footnote of a result that was scored on other images than the ranked rows."""
    here, there = result.images.pairs, usual.pairs
    if here and there and here != there:
        return f"not ranked: scored on {here} pair{'s' * (here > 1)} of {result.data}, other rows on {there}"
    return f"not ranked: scored on other images or labels of {result.data} than other rows"


def join_rows(results: Sequence[Result], settings: Collection[str] = ()) -> list[Row]:
    """One row for a method on several data sets, or in several published tables that agree.

    Args:
        results: in the order of the rows.
        settings: those that a row can show one value of only.
    """
    rows: list[Row] = []
    for result in results:
        for row in rows:
            first, there = _first(row), row.get(result.data)
            alike = (first.name, bool(first.published)) == (result.name, bool(result.published))
            alike = alike and all(first.settings.get(key) == result.settings.get(key) for key in settings)
            if not alike or (there and not (result.published and _agree(there, result))):
                continue
            row[result.data] = _merged(there, result) if there else result
            break
        else:
            rows.append({result.data: result})
    return rows


def _agree(one: Result, other: Result) -> bool:
    """Whether two results say the same wherever both say something."""
    both = ((one.scores, other.scores), (one.settings, other.settings))
    return all(a[key] == b[key] for a, b in both for key in a.keys() & b.keys())


def _merged(one: Result, other: Result) -> Result:
    return replace(
        one,
        published="; ".join(dict.fromkeys([one.published, other.published])),
        parameters=one.parameters or other.parameters,
        flops=one.flops or other.flops,
        scores={**other.scores, **one.scores},
        settings={**other.settings, **one.settings},
        protocol={**other.protocol, **one.protocol},
        notes={**other.notes, **one.notes},
    )


def score_cells(column: Sequence[Result | None], score: str, parts: Sequence[int], notes: list[str]) -> list[Cell]:
    """The cells of one score: percent with two decimals, of several runs ± deviation; the best three of a part ranked.

    Args:
        column: a result a row.
        score: a key of SCORES.
        parts: the part of each row, as `part_of` tells it.
        notes: footnotes; those of a cell are added.
    """
    texts = ["" if each is None or score not in each.scores else f"{each.scores[score]:.2f}" for each in column]
    spreads = [f" ± {each.deviations[score]:.2f}" if each and score in each.deviations else "" for each in column]
    doubts = [each.notes.get(score, "") if each else "" for each in column]
    ranked = [part if text and not doubt else OTHERS for text, doubt, part in zip(texts, doubts, parts, strict=True)]
    ranks = [0] * len(texts)
    for part in (PUBLISHED, OURS):
        values = {place: float(texts[place]) for place, each in enumerate(ranked) if each == part}
        best = sorted(set(values.values()), reverse=True)[:3] if len(values) > 1 else []
        for place, value in values.items():
            ranks[place] = best.index(value) + 1 if value in best else 0
    return [
        Cell(text + spread, rank, number(notes, [doubt] if doubt else []))
        for text, spread, rank, doubt in zip(texts, spreads, ranks, doubts, strict=True)
    ]


def number(notes: list[str], texts: Sequence[str]) -> tuple[int, ...]:
    """The numbers of footnotes; new ones are added to the list."""
    notes += [text for text in texts if text not in notes]
    return tuple(sorted(notes.index(text) + 1 for text in texts))


def protocol_notes(results: Sequence[Result]) -> tuple[str, Callable[[Result], str]]:
    """What holds for all results in a line, and what says of one in what it differs from others."""
    seen = {key: {result.protocol.get(key, "") for result in results} for key in PROTOCOL}
    common = {key: values.pop() for key, values in seen.items() if len(values) == 1}
    line = ", ".join(PROTOCOL[key].format(value) for key, value in common.items() if value)

    def differs(result: Result) -> str:
        told = {key: result.protocol.get(key) or "(not stated)" for key in PROTOCOL if key not in common}
        return ", ".join(PROTOCOL[key].format(value) for key, value in told.items())

    return f"All rows: {line}" if line else "", differs
