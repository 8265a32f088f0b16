"""docs/figures.md has every figure below its command, and the gallery runs what the page says."""

import re
from pathlib import Path

import pytest
from PIL import Image

from tools import demo, gallery
from tools.make_figures import FIGURES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / gallery.PAGE


def test_every_kind_of_figure_is_on_the_page():
    assert {words[0] for module, words in gallery.commands(PAGE) if module == "tools.make_figures"} == set(FIGURES)


def test_every_picture_stands_below_its_command():
    text = PAGE.read_text(encoding="utf-8")
    drawn = [words[words.index("--output") + 1] for _, words in gallery.commands(PAGE) if "--output" in words]
    shown = re.findall(r"!\[.+\]\((figures/.+)\)", text)
    assert [f"docs/{path}" for path in shown] == drawn
    assert all(text.index(f"--output docs/{path}\n") < text.index(f"]({path})") for path in shown)


def test_commands_are_run_in_their_order_after_the_demo(tmp_path, monkeypatch):
    """A network whose demo has been predicted is not trained again."""
    monkeypatch.chdir(tmp_path)
    done = demo.run_folder("hanet") / "predict-test"
    done.mkdir(parents=True)
    (done / "metrics.json").write_text("{}")
    trained = []
    monkeypatch.setattr(demo, "main", lambda argv: trained.append(argv) or Path("first.png").write_bytes(b""))
    page = tmp_path / "page.md"
    page.write_text(
        "`python -m tools.make_figures pfbs --output no.png` is no command of a block\n"
        "```bash\npython -m tools.make_figures pfbs --epochs 3 --output first.png\n"
        "python -m tools.make_figures pfbs --output 'a second.png'\n```\n"
    )
    gallery.main(["--page", str(page)])
    assert trained == [["--model", "amfnet"]]
    assert {path.name for path in tmp_path.glob("*.png")} == {"first.png", "a second.png"}
    assert Image.open("first.png").size == Image.open("a second.png").size


@pytest.mark.parametrize(
    ("text", "message"), [(None, "no such page; call this from"), ("# Empty\n", "no line `python")]
)
def test_a_page_without_commands(text, message, tmp_path, capsys):
    page = tmp_path / "page.md"
    if text:
        page.write_text(text)
    with pytest.raises(SystemExit) as left:
        gallery.main(["--page", str(page)])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
