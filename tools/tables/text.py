"""Tables as text: Markdown, CSV, LaTeX and HTML. The best is red, the second blue, the third bold in the last two."""

import csv
import html
import io
import logging
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from tools.tables.layout import Cell, Table
from utils.files import write_text

log = logging.getLogger(__name__)
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
TEX |= {">": r"\textgreater{}", "±": r"$\pm$"} | {each: "\\" + each for each in "&%$#_{}"}
TEX_RANKS = ("{}", r"\textcolor{{red}}{{{}}}", r"\textcolor{{blue}}{{{}}}", r"\textbf{{{}}}")
HTML_RANKS = ("{}", '<span style="color:#f00">{}</span>', '<span style="color:#00f">{}</span>', "<b>{}</b>")
RANKED = "Best of a column red, second blue, third bold."
RANKED_PARTS = "Best of a column red, second blue, third bold; only rows between the same two rules are compared."
PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Tables</title>
<style>
body {{ font: 14px sans-serif; margin: 2em }} table {{ border-collapse: collapse; border: solid; border-width: 2px 0 }}
th, td {{ padding: .2em .7em; text-align: right }} th:first-child, td:first-child {{ text-align: left }}
thead tr:last-child th {{ border-bottom: 1px solid }} .group {{ text-align: center; border-bottom: 1px solid #999 }}
p {{ margin: .3em 0; max-width: 60em }} caption {{ text-align: left; font-weight: bold; padding: .5em 0 }}
sup {{ line-height: 0 }} .part td {{ border-top: 1px solid }}
</style>
{}</html>
"""


def format_of(output: Path | None, form: str | None) -> str:
    """The format that is asked for, or that the file's suffix says; Markdown without either.

    Raises:
        ValueError: the suffix says none.
    """
    found = form or (output.suffix[1:].lower() if output else "md")
    if found not in FORMATS:
        raise ValueError(f"--output {output}: no format has this suffix; use .{', .'.join(FORMATS)}, or --format")
    return found


def write_tables(tables: Sequence[Table], output: Path | None, form: str) -> None:
    """Write tables into one file, whole or not at all, or print them."""
    text = as_text(tables, form)
    if output is None:
        sys.stdout.write(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, text)
    log.info("written: %s", output)


def as_text(tables: Sequence[Table], form: str) -> str:
    """All tables in one of the formats of FORMATS, the last line ended."""
    text = "\n".join(FORMATS[form](table) for table in tables)
    return PAGE.format(text) if form == "html" else text


def markdown(table: Table) -> str:
    """A title, a pipe table and its footnotes; colours are left out."""
    header = [f"{group} {title}".strip() for group, title in zip(table.groups, table.header, strict=True)]
    lines = [header, ["---", *["--:"] * (len(header) - 1)]]
    lines += [[_plain(cell.text or "-", cell.marks) for cell in row] for row in table.rows]
    pipes = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    notes = [_plain("", (place,)) + " " + note for place, note in enumerate(table.notes, 1)]
    below = "  \n".join([*notes, *table.remarks])
    return "\n".join([f"**{table.title}**", "", *pipes, *(["", below] if below else [])]) + "\n"


def _plain(text: str, marks: Sequence[int]) -> str:
    numbers = ",".join(map(str, marks)).translate(SUPERSCRIPT)
    return " ".join(filter(None, [text, numbers]))


def comma_separated(table: Table) -> str:
    """A header and a line a row; its last column holds the footnotes of the row, spelt out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [f"{group} {title}".strip() for group, title in zip(table.groups, table.header, strict=True)]
    writer.writerow([*header, "notes"])
    for row in table.rows:
        notes = [_named(name, cell, table.notes) for name, cell in zip(header, row, strict=True) if cell.marks]
        writer.writerow([*(cell.text for cell in row), "; ".join([*notes, *table.remarks])])
    return text.getvalue()


def _named(column: str, cell: Cell, notes: Sequence[str]) -> str:
    """The footnotes of a cell, with the name of its column unless they are of the row."""
    told = "; ".join(notes[mark - 1] for mark in cell.marks)
    return told if column == "Method" else f"{column} {told}"


def latex(table: Table) -> str:
    """A table over both columns of a paper; wants the packages booktabs and xcolor."""
    groups = [(name, len(list(columns))) for name, columns in groupby(table.groups)]
    rows = [[_tex(cell.text or "-", cell) for cell in row] for row in table.rows]
    lines = [r"\begin{table*}", r"\centering\footnotesize", rf"\caption{{{escaped(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule"]
    if len(groups) > 1:
        spans = [rf"\multicolumn{{{span}}}{{c}}{{{escaped(name)}}}" for name, span in groups]
        lines.append(" & ".join(spans) + r" \\")
    lines += [" & ".join(map(escaped, table.header)) + r" \\", r"\midrule"]
    for place, row in enumerate(rows):
        lines += [r"\midrule"] * (place in table.parts) + [" & ".join(row) + r" \\"]
    below = [rf"\textsuperscript{{{place}}} {escaped(note)}." for place, note in enumerate(table.notes, 1)]
    below += [f"{escaped(text)}." for text in table.remarks] + _ranking(table)
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += ["", r"\raggedright " + "\n".join(below)] if below else []
    return "% wants \\usepackage{booktabs,xcolor}\n" + "\n".join([*lines, r"\end{table*}"]) + "\n"


def _tex(text: str, cell: Cell) -> str:
    marks = rf"\textsuperscript{{{','.join(map(str, cell.marks))}}}" if cell.marks else ""
    return TEX_RANKS[cell.rank].format(escaped(text)) + marks


def escaped(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join(TEX.get(character, character) for character in text)


def webpage(table: Table) -> str:
    """A table element with its footnotes."""
    groups = [(html.escape(name), len(list(columns))) for name, columns in groupby(table.groups)]
    top = "".join(f'<th colspan="{span}"{" class=group" if name else ""}>{name}</th>' for name, span in groups)
    head = "".join(f"<th>{html.escape(title)}</th>" for title in table.header)
    rows = ["".join(f"<td>{_html(cell)}</td>" for cell in row) for row in table.rows]
    body = "\n".join(f"<tr{' class=part' * (n in table.parts)}>{row}</tr>" for n, row in enumerate(rows))
    above = f"<tr>{top}</tr>\n" if len(groups) > 1 else ""
    below = [f"<p><sup>{place}</sup> {html.escape(note)}</p>" for place, note in enumerate(table.notes, 1)]
    below += [f"<p>{html.escape(text)}</p>" for text in [*table.remarks, *_ranking(table)]]
    caption = f"<caption>{html.escape(table.title)}</caption>"
    whole = f"<table>{caption}\n<thead>\n{above}<tr>{head}</tr>\n</thead>\n<tbody>\n{body}\n</tbody></table>\n"
    return whole + "".join(f"{line}\n" for line in below)


def _html(cell: Cell) -> str:
    marks = f"<sup>{','.join(map(str, cell.marks))}</sup>" if cell.marks else ""
    return HTML_RANKS[cell.rank].format(html.escape(cell.text or "-")) + marks


def _ranking(table: Table) -> list[str]:
    """What the colours mean, if there are any."""
    ranked = any(cell.rank for row in table.rows for cell in row)
    return [RANKED_PARTS if table.parts else RANKED] if ranked else []


FORMATS: dict[str, Callable[[Table], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "tex": latex,
    "html": webpage,
}
