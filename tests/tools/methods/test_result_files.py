"""Which rows of a comparison differ by the bootstrap, what is read for it, and pictures that hold the numbers."""

import pytest
from matplotlib.axes import Axes

from tests.conftest import write_pairs
from tools.methods import significance
from tools.methods.result_files import draw_comparisons, draw_costs, draw_seeds, significant_differences
from tools.methods.significance import LEAST
from tools.methods.untrained import score_untrained
from tools.tables.results import Result, scored_images
from utils.files import write_csv
from utils.prediction.records import image_set
from utils.settings import BandConfig


def scored(folder, rows):
    """A folder with counts (tn, fp, fn, tp) of images by name, in any order."""
    folder.mkdir()
    keys = ("tn", "fp", "fn", "tp")
    write_csv(folder / "per_image.csv", [{"name": n, **dict(zip(keys, c, strict=True))} for n, c in rows.items()])
    return folder


def test_counts_are_by_name(tmp_path):
    images, counts = scored_images(scored(tmp_path / "a", {"b": (1, 2, 3, 4), "a": (5, 6, 7, 8)}))
    assert images == image_set([("a", 11, 15), ("b", 3, 7)])
    assert counts.tolist() == [[8, 6, 7], [4, 2, 3]]


def test_only_rows_of_the_same_images_are_significant_differences(tmp_path, monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 99)
    names = [f"{number:02}" for number in range(LEAST)]
    good, bad = dict.fromkeys(names, (90, 0, 0, 10)), dict.fromkeys(names, (80, 10, 9, 1)) | {"00": (81, 9, 9, 1)}
    rows = {
        "good": [scored(tmp_path / "g0", good), scored(tmp_path / "g1", good)],
        "bad": [scored(tmp_path / "b", bad)],
    }
    rows["other"] = [scored(tmp_path / "o", good | {"c": (90, 0, 0, 10)})]
    found, line = significant_differences(rows)
    assert [(each.row, each.other, each.significant) for each in found] == [("good", "bad", True)]
    tp, fp, fn = LEAST, 10 * LEAST - 1, 9 * LEAST
    assert found[0].mean == pytest.approx(100 - 200 * tp / (2 * tp + fp + fn))
    assert f"the noise of {LEAST} images" in line
    assert line.endswith("; these rows were scored on other images and are not compared: other")
    assert significant_differences({"good": rows["good"]}) == ([], "")
    few = {name: [scored(tmp_path / name, dict.fromkeys(names[1:], (1, 1, 1, 1)))] for name in ("x", "y")}
    assert significant_differences(few) == ([], f"No intervals of differences in F1: they need {LEAST} images or more")


def test_both_grids_are_drawn_from_masks(tmp_path):
    write_pairs(tmp_path / "set" / "test", ("a", "b", "c"), size=(32, 32))
    data = BandConfig(data_root=tmp_path / "set")
    rows = {name: tmp_path / name / "predict-test" for name in ("cva", "grey-difference")}
    for name, folder in rows.items():
        score_untrained(name, data, "test", folder)
    draw_comparisons(tmp_path, rows, data, "test")
    assert all((tmp_path / f"comparison-{style}.png").is_file() for style in ("amfnet", "hanet"))


def test_the_figure_holds_the_seeds(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *_, gid, **__: drawn.update({gid: (x, y)}))
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda *_, **__: None)
    draw_seeds({"one": [50.0, 60.0, 70.0], "two": [80.0, 90.0, 55.0]}, tmp_path / "figure.svg")
    assert drawn["one"] == ([50, 60, 70], [0, 0, 0]) and drawn["one mean"] == (60, 0)
    assert drawn["two"] == ([80, 90, 55], [1, 1, 1]) and drawn["two mean"] == (75, 1)


def test_f1_against_cost(tmp_path, monkeypatch):
    """A point with its deviation in both panels; a row without a network is a line at its F1."""
    drawn, genuine = {}, Axes.errorbar

    def errorbar(self, x, y, *_, yerr, gid, **how):
        drawn[gid] = (x, y, yerr)
        return genuine(self, x, y, yerr=yerr, gid=gid, **how)

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    rows = [Result("small", "X", {"f1": 50.0}, deviations={"f1": 2.0}, parameters=1.5, flops=4.0)]
    rows += [Result("large", "X", {"f1": 60.0}, parameters=26.0, flops=40.0), Result("cva", "X", {"f1": 20.0})]
    draw_costs(rows, tmp_path / "costs.svg")
    points = {"small parameters": (1.5, 50, 2), "small flops": (4, 50, 2)}
    assert drawn == {**points, "large parameters": (26, 60, 0), "large flops": (40, 60, 0)}
    text = (tmp_path / "costs.svg").read_text(encoding="utf-8")
    assert all(f">{name}</text>" in text for name in ("small", "large", "cva", "parameters (M)", "20"))
    assert 'id="cva parameters"' in text and 'id="cva flops"' in text
