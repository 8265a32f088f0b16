"""make_tables.py as a user runs it."""

import csv
import re

import numpy as np
import pytest

from tests.conftest import write_image
from tests.scripts import fails
from tests.tools.tables.test_results import COUNTS, best, predicted  # noqa: F401 (a fixture)
from tools.make_tables import data_title, main


def make(*argv):
    main([str(word) for word in argv])


def rows_of(path):
    return {row["Method"]: row for row in csv.DictReader(path.open(encoding="utf-8"))}


def test_ours_beside_the_published(best, tmp_path):  # noqa: F811
    out = predicted(tmp_path / "out", best, threshold=0.4)
    make("comparison", "--runs", f"Ours={out}", "--data", "LEVIR-CD", "--output", tmp_path / "new" / "t.csv")
    rows = rows_of(tmp_path / "new" / "t.csv")
    assert list(rows)[-1] == "Ours"
    assert rows["Ours"]["LEVIR-CD F1"] == "66.67"
    assert "threshold 0.4" in rows["Ours"]["notes"]
    assert "as published: HANet, Han et al., IEEE JSTARS 16, 2023, Table I; " in rows["HANet"]["notes"]
    assert "threshold 0.5" in rows["HANet"]["notes"]
    assert "epoch chosen on test" in rows["AMFNet"]["notes"]
    assert "as published" not in rows["Ours"]["notes"]
    assert not any("WHU" in name for name in rows["Ours"])


def test_seeds_are_averaged_by_a_pattern_or_a_name(best, tmp_path, capsys):  # noqa: F811
    for seed, counts in enumerate((COUNTS, COUNTS.T.contiguous())):
        predicted(tmp_path / f"seed-{seed}" / "predict-test", best, counts)
    make("attention", "--runs", f"Mine={tmp_path}/seed-*/predict-test", "--published", "none")
    said = capsys.readouterr().out
    assert "| Mine ¹ | yes | no | " in said
    assert " 66.67 ± 0.00 |" in said
    assert "mean ± standard deviation of 2 runs" in said
    folders = [f"Mine={tmp_path}/seed-{seed}/predict-test" for seed in (0, 1)]
    make("attention", "--runs", *folders, "--published", "none")
    assert capsys.readouterr().out == said


def test_masks_of_others(tmp_path, capsys):
    for name, value in (("label", 255), ("half", 255), ("none", 0)):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[: 4 if name == "label" else 2] = value
        for number in range(1 if name == "half" else 2):
            write_image(tmp_path / "CDD" / "test" / name / f"{number}.png", pixels)
    masks = [f"{name}={tmp_path / 'CDD' / 'test' / name}" for name in ("half", "none")]
    make("comparison", "--masks", *masks, "--label", tmp_path / "CDD" / "test" / "label", "--published", "none")
    said = capsys.readouterr().out
    assert "| Method | CDD F1 | CDD Pre. | CDD Rec. | CDD OA | CDD IoU |" in said
    assert "| half ²,³ | 66.67 | 100.00 | 50.00 | 75.00 | 50.00 |" in said
    assert "² masks scored here; only 1 of 2 labels have a mask" in said
    assert "³ not ranked: scored on 1 pair of CDD, other rows on 2" in said


def test_masks_and_predictions_of_the_same_images_are_ranked_together(best, tmp_path):  # noqa: F811
    """A label of 800 unchanged and 200 changed pixels, as that of the prediction."""
    pixels = np.zeros((25, 40), np.uint8)
    pixels[:5] = 255
    for name in ("label", "mask"):
        write_image(tmp_path / name / "a.png", pixels)
    flags = ["--runs", f"Ours@X={predicted(tmp_path / 'out', best)}", "--masks", f"Theirs@X={tmp_path / 'mask'}"]
    flags += ["--label", tmp_path / "label", "--published", "none", "--output"]
    make("comparison", *flags, tmp_path / "t.html")
    assert '<span style="color:#00f">66.67</span>' in (tmp_path / "t.html").read_text(encoding="utf-8")
    pixels[5] = 255
    write_image(tmp_path / "label" / "a.png", pixels)
    make("comparison", *flags, tmp_path / "t.html")
    text = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert "color:#" not in text.partition("<table>")[2]
    assert "not ranked: scored on other images or labels of X than other rows" in text


def test_masks_of_nine_methods(real_data, tmp_path):
    root = real_data / "levir_methods"
    masks = [f"{path.name}@LEVIR-CD={path}" for path in sorted((root / "masks").iterdir())]
    out = tmp_path / "t.tex"
    make("comparison", "--masks", *masks, "--label", root / "label", "--published", "none", "--output", out)
    text = out.read_text(encoding="utf-8")
    assert re.search(r"^BIT.*\\textcolor\{red\}\{93\.87\}", text, re.M)
    assert re.search(r"^CGNet.*\\textcolor\{blue\}\{93\.25\}", text, re.M)
    assert re.search(r"^FC-Siam-conc.*\\textbf\{92\.48\}", text, re.M)
    (row,) = re.findall(r"^STANet.*", text, re.M)  # with the best recall of all
    assert "95.54" in row and "color" not in row and "bf" not in row
    assert "not ranked: scored on 6 pairs of LEVIR-CD, other rows on 7" in text


def test_every_kind_shows_the_papers_own(capsys):
    heads = {"pfbs": "Fixed-X | Linear-Y", "attention": "Column | Row", "loss": "Loss | Fixed-X"}
    for kind, head in heads.items():
        make(kind)
        assert f"| Method | {head}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["amfnet"], "nothing to show: name --runs, --masks or --published"),
        (["comparison", "--runs", "A={here}"], "no metrics.json; train_aux.py writes it"),
        (["comparison", "--runs", "A={here}/x*"], "no folder matches this pattern"),
        (["comparison", "--masks", "A={here}"], "--label, the folder of the truth, go together"),
        (["comparison", "--data", "LEVIR"], "--data LEVIR: no row has this data set; there are WHU-CD, LEVIR-CD"),
        (["comparison", "--output", "t.doc"], "unknown suffix; use .md, .csv, .tex, .html"),
        (["comparison", "--published", "x"], "--published x: no such table; there are hanet-1, amfnet"),
        (["ablation"], "KIND ablation: not known; choose one of comparison, amfnet, pfbs, attention, loss"),
    ],
)
def test_errors_are_one_line(argv, says, tmp_path, capsys):
    fails(lambda: make(*(word.format(here=tmp_path) for word in argv)), capsys, says)


def test_an_ablation_needs_the_variant(best, tmp_path, capsys):  # noqa: F811
    out = predicted(tmp_path / "out", best)
    best.unlink()
    says = "A: its checkpoint, which names the variant, is gone"
    fails(lambda: make("attention", "--runs", f"A={out}"), capsys, says)


def test_data_sets_by_their_folders():
    titles = ["LEVIR-CD", "CDD", "LEVIR-CD, 20 % of train"]
    assert data_title("levir-cd-256", titles) == "LEVIR-CD"
    assert data_title("CDD", titles) == "CDD"
    for other in ("mine", "LEVIR-CD+", "CDDX"):
        assert data_title(other, titles) == other
