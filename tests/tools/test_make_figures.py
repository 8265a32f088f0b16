"""make_figures as a whole: its figures and their help."""

import pytest

from tools.make_figures import FIGURES, main


def test_help_lists_every_figure(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_flags_and_wants_an_output(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python -m tools.make_figures {name} " in said
    assert "--output" in said
    with pytest.raises(SystemExit) as left:
        main([name])
    assert left.value.code == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["heat"], ["--output", "x.svg"]])
def test_no_figure(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert "FIGURE" in capsys.readouterr().err
