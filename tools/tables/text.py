"""Writes tables as Markdown, CSV, LaTeX or HTML; in the last two, the best is red, the second blue, the third bold."""

import csv
import html
import io
import logging
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from tools.tables.layout import Cell, Table
from utils.console import UserError
from utils.files import write_text

log = logging.getLogger(__name__)
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
TEX = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "±": r"$\pm$", **{each: "\\" + each for each in "&%$#_{}"},
    "[": "{[}",  # after a line break, it would begin an option
})  # fmt: skip
TEX_RANKS = ("{}", r"\textcolor{{red}}{{{}}}", r"\textcolor{{blue}}{{{}}}", r"\textbf{{{}}}")
HTML_RANKS = ("{}", '<span style="color:#f00">{}</span>', '<span style="color:#00f">{}</span>', "<b>{}</b>")
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


def format_of(output: Path | None) -> str:
    """The format of a file by its suffix; Markdown without a file; UserError for an unknown suffix."""
    found = output.suffix[1:].lower() if output else "md"
    if found not in FORMATS:
        raise UserError(f"--output {output}: unknown suffix; use .{', .'.join(FORMATS)}")
    return found


def write_tables(tables: Sequence[Table], output: Path | None) -> None:
    """Write tables into one file, in the format of its suffix, or print them."""
    text = as_text(tables, format_of(output))
    if output is None:
        sys.stdout.write(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, text)
    log.info("written: %s", output)


def as_text(tables: Sequence[Table], form: str) -> str:
    """All tables in one of the formats of FORMATS, with a newline at the end."""
    text = "\n".join(FORMATS[form](table) for table in tables)
    return PAGE.format(text) if form == "html" else text


def markdown(table: Table) -> str:
    """A title, a pipe table and its footnotes, without colours."""
    lines = [table.names, ["---", *["--:"] * (len(table.header) - 1)]]
    lines += [[_plain(cell.text or "-", cell.marks) for cell in row] for row in table.rows]
    pipes = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    notes = [_plain("", (place,)) + " " + note for place, note in enumerate(table.notes, 1)]
    below = "  \n".join([*notes, *table.remarks])
    return "\n".join([f"**{table.title}**", "", *pipes, *(["", below] if below else [])]) + "\n"


def _plain(text: str, marks: Sequence[int]) -> str:
    numbers = ",".join(map(str, marks)).translate(SUPERSCRIPT)
    return " ".join(filter(None, [text, numbers]))


def comma_separated(table: Table) -> str:
    """A header and a line per row; the last column has the text of the row's footnotes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.names, "notes"])
    for row in table.rows:
        notes = [
            ("" if name == "Method" else f"{name} ") + "; ".join(table.notes[mark - 1] for mark in cell.marks)
            for name, cell in zip(table.names, row, strict=True)
            if cell.marks
        ]
        writer.writerow([*(cell.text for cell in row), "; ".join([*notes, *table.remarks])])
    return text.getvalue()


def latex(table: Table) -> str:
    """A table over both columns of a paper; it needs the packages booktabs and xcolor."""
    lines = [r"\begin{table*}", r"\centering\footnotesize", rf"\caption{{{escaped(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule"]
    if groups := _groups(table):
        spans = [rf"\multicolumn{{{span}}}{{c}}{{{escaped(name)}}}" for name, span in groups]
        lines.append(" & ".join(spans) + r" \\")
    lines += [" & ".join(map(escaped, table.header)) + r" \\", r"\midrule"]
    for place, row in enumerate(table.rows):
        cells = [_marked(cell, TEX_RANKS, escaped, r"\textsuperscript{{{}}}") for cell in row]
        lines += [r"\midrule"] * (place in table.parts) + [" & ".join(cells) + r" \\"]
    below = [rf"\textsuperscript{{{place}}} {escaped(note)}." for place, note in enumerate(table.notes, 1)]
    below += [f"{escaped(text)}." for text in [*table.remarks, *_ranking(table)]]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += ["", r"\raggedright " + "\n".join(below)] if below else []
    return "% needs \\usepackage{booktabs,xcolor}\n" + "\n".join([*lines, r"\end{table*}"]) + "\n"


def escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return text.translate(TEX)


def webpage(table: Table) -> str:
    """A table element with its footnotes."""
    lines = [f"<table><caption>{html.escape(table.title)}</caption>", "<thead>"]
    if groups := _groups(table):
        spans = [(f'<th colspan="{span}"{" class=group" if name else ""}>', name) for name, span in groups]
        lines.append("<tr>" + "".join(f"{tag}{html.escape(name)}</th>" for tag, name in spans) + "</tr>")
    lines += ["<tr>" + "".join(f"<th>{html.escape(title)}</th>" for title in table.header) + "</tr>", "</thead>"]
    lines.append("<tbody>")
    for place, row in enumerate(table.rows):
        cells = [f"<td>{_marked(cell, HTML_RANKS, html.escape, '<sup>{}</sup>')}</td>" for cell in row]
        lines.append(f"<tr{' class=part' * (place in table.parts)}>{''.join(cells)}</tr>")
    lines.append("</tbody></table>")
    lines += [f"<p><sup>{place}</sup> {html.escape(note)}</p>" for place, note in enumerate(table.notes, 1)]
    lines += [f"<p>{html.escape(text)}</p>" for text in [*table.remarks, *_ranking(table)]]
    return "\n".join(lines) + "\n"


def _groups(table: Table) -> list[tuple[str, int]]:
    """Data sets of the columns with their numbers of columns; empty if all columns have one data set."""
    groups = [(name, len(list(columns))) for name, columns in groupby(table.groups)]
    return groups if len(groups) > 1 else []


def _marked(cell: Cell, ranks: Sequence[str], escape: Callable[[str], str], mark: str) -> str:
    """A cell's text in the colour of its rank, with the numbers of its footnotes."""
    marks = mark.format(",".join(map(str, cell.marks))) if cell.marks else ""
    return ranks[cell.rank].format(escape(cell.text or "-")) + marks


def _ranking(table: Table) -> list[str]:
    """Meaning of the colours, if there are any."""
    parts = "; only rows between the same two rules are compared" * bool(table.parts)
    ranked = any(cell.rank for row in table.rows for cell in row)
    return [f"Best of a column red, second blue, third bold{parts}"] if ranked else []


FORMATS = {"md": markdown, "csv": comma_separated, "tex": latex, "html": webpage}
