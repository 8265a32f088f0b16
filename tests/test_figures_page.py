"""docs/figures.md has every figure below its command; `make figures` runs the commands."""

import re
import shlex
from pathlib import Path

from tools.make_figures import FIGURES

TEXT = (Path(__file__).parents[1] / "docs" / "figures.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S)  # the Makefile runs these, and no other blocks
COMMANDS = [shlex.split(line)[2:] for block in BLOCKS for line in block.splitlines()]


def test_every_kind_of_figure_is_on_the_page():
    assert {words[1] for words in COMMANDS if words[0] == "tools.make_figures"} == set(FIGURES)


def test_every_picture_stands_below_its_command():
    drawn = [words[words.index("--output") + 1] for words in COMMANDS if "--output" in words]
    shown = re.findall(r"!\[.+\]\((figures/.+)\)", TEXT)
    assert [f"docs/{path}" for path in shown] == drawn
    assert all(TEXT.index(f"--output docs/{path}\n") < TEXT.index(f"]({path})") for path in shown)
