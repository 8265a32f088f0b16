"""Curves of runs: the numbers of the log, read back from the SVG."""

import json

import numpy as np
import pytest

from tests.scripts import fails
from tests.tools.figures.test_counts import line_points
from tools.figures.runs import iterations, read_curve, read_log, smooth
from tools.make_figures import main
from utils.metrics import LEVELS

F1 = [0.1, 0.5, 0.3, 0.6]


def made_scores(count):
    return [F1[epoch % len(F1)] for epoch in range(count)]


def made_run(folder, pairs=(64, 64, 32, 64)):
    """A run of so many epochs with a batch size of 8, and a precision-recall curve of three thresholds."""
    folder.mkdir(parents=True)
    scores = ["loss", "precision", "recall", "f1"]
    names = ["epoch", *(f"{split}_{score}" for split in ("train", "val") for score in scores)]
    epochs = enumerate(zip(made_scores(len(pairs)), pairs, strict=True), 1)
    rows = [[epoch, *([f1] * 8), 2.0, count / 2] for epoch, (f1, count) in epochs]
    lines = [",".join([*names, "seconds", "pairs_per_second"]), *(",".join(map(str, row)) for row in rows)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    (folder / "config.toml").write_text("batch_size = 8\n")
    table = "threshold,precision,recall,f1\n0.25,0.5,1,0.6667\n0.5,0.75,0.75,0.75\n0.75,1,0.25,0.4\n"
    (folder / "precision_recall.csv").write_text(table)
    (folder / "metrics.json").write_text('{"tuned_threshold": 0.5}')
    return folder


def affine(drawn, meant):
    """Whether drawn places are those meant, but for a scale and a shift."""
    slope, shift = np.polyfit(meant, drawn, 1)
    return slope > 0 and np.allclose(slope * np.asarray(meant) + shift, drawn, atol=1e-3)


def test_curves_hold_the_log(tmp_path):
    run = made_run(tmp_path / "run")
    main(["curves", "--runs", f"one={run}", "--smoothing", "0.5", "--output", str(tmp_path / "out.svg")])
    svg = (tmp_path / "out.svg").read_text()
    for split in ("train", "val"):
        raw, bold = line_points(svg, f"one, {split} f1 raw"), line_points(svg, f"one, {split} f1")
        assert affine(raw[:, 0], [8, 16, 20, 28])
        assert affine(np.concatenate([raw[:, 1], bold[:, 1]]), [*F1, *smooth(F1, 0.5)])


def test_iterations_and_epochs(tmp_path):
    run = made_run(tmp_path / "run")
    assert iterations(run, read_log(run)).tolist() == [8, 16, 20, 28]
    main(["curves", "--runs", str(run), "--against", "epoch", "--output", str(tmp_path / "out.svg")])
    assert affine(line_points((tmp_path / "out.svg").read_text(), "run, val loss")[:, 0], [1, 2, 3, 4])


@pytest.mark.parametrize(("count", "weight"), [(1, 0), (19, 0), (20, 0.6)])
def test_short_runs_are_not_smoothed_unasked(count, weight, tmp_path):
    """With dots, so that a single epoch is seen as well."""
    run, values = made_run(tmp_path / "run", [64] * count), made_scores(count)
    main(["curves", "--runs", f"one={run}", "--output", str(tmp_path / "out.svg")])
    svg = (tmp_path / "out.svg").read_text()
    raw, bold = line_points(svg, "one, val f1 raw"), line_points(svg, "one, val f1")
    assert len(raw) == len(bold) == count
    drawn = svg.partition('id="one, val f1">')[2].partition("</g>")[0]
    assert drawn.count("<use ") == (count if count < 20 else 0)
    if count > 1:
        assert affine(np.concatenate([raw[:, 1], bold[:, 1]]), [*values, *smooth(np.array(values), weight)])


def test_smoothing_starts_with_the_values_themselves():
    assert smooth([4.0, 4.0, 4.0], 0.9) == pytest.approx([4, 4, 4])
    assert smooth([1.0, 3.0], 0.5) == pytest.approx([1, (0.25 * 1 + 0.5 * 3) / 0.75])
    assert smooth([1.0, 3.0], 0).tolist() == [1, 3]


def test_precision_recall_holds_the_curve_and_the_threshold(tmp_path):
    run = made_run(tmp_path / "run")
    main(["precision-recall", "--runs", f"one={run}", f"two={run}", "--output", str(tmp_path / "out.svg")])
    svg = (tmp_path / "out.svg").read_text()
    points = line_points(svg, "one")
    assert affine(points[:, 0], [1, 0.75, 0.25])
    assert affine(points[:, 1], [0.5, 0.75, 1])
    assert "one: F1 75.00 at 0.5<" in svg and "two: F1 75.00 at 0.5<" in svg
    assert "F1 90<" in svg


def test_the_curve_of_a_prediction(tmp_path):
    """Three pixels: two changed of probability 0.9 and 0.2, one unchanged of 0.5."""
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_text(json.dumps({"levels": {"900": [0, 1], "500": [1, 0], "200": [0, 1]}}))
    (tmp_path / "metrics.json").write_text(json.dumps({"protocol": {"threshold": 0.4}}))
    curve, threshold = read_curve(tmp_path)
    assert (threshold, len(curve["f1"])) == (0.4, LEVELS - 1)
    at = {t: int(np.abs(curve["threshold"] - t).argmin()) for t in (0.1, 0.4, 0.7)}
    assert [curve["precision"][k] for k in at.values()] == pytest.approx([2 / 3, 1 / 2, 1])
    assert [curve["recall"][k] for k in at.values()] == pytest.approx([1, 1 / 2, 1 / 2])
    (tmp_path / "records" / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="no pair has a label"):
        read_curve(tmp_path)


@pytest.mark.parametrize(
    ("figure", "lacking", "words"),
    [
        ("curves", "log.csv", ["log.csv", "no such file", "train_aux.py"]),
        ("curves", "config.toml", ["config.toml", "--against epoch"]),
        ("precision-recall", "precision_recall.csv", ["precision_recall.csv", "prediction"]),
        ("precision-recall", "metrics.json", ["metrics.json", "when it ends"]),
    ],
)
def test_a_run_that_lacks_a_file(tmp_path, capsys, figure, lacking, words):
    run = made_run(tmp_path / "run")
    (run / lacking).unlink()
    fails(lambda: main([figure, "--runs", str(run), "--output", str(tmp_path / "out.png")]), capsys, *words)
    assert not (tmp_path / "out.png").exists()


def test_what_curves_refuse(tmp_path, capsys):
    run, out = made_run(tmp_path / "run"), ["--output", str(tmp_path / "out.png")]
    fails(lambda: main(["curves", "--runs", str(run), str(run), *out]), capsys, "two paths have one name")
    fails(lambda: main(["curves", "--runs", str(run), "--smoothing", "1", *out]), capsys, "--smoothing 1")
    old = (run / "log.csv").read_text().replace(",pairs_per_second", "")
    (run / "log.csv").write_text(
        "\n".join(line.rpartition(",")[0] if k else line for k, line in enumerate(old.splitlines()))
    )
    fails(lambda: main(["curves", "--runs", str(run), *out]), capsys, "pairs_per_second", "--against epoch")
    (run / "log.csv").write_text("epoch,val_f1\n1,0.5\n")
    fails(lambda: main(["curves", "--runs", str(run), *out]), capsys, "no column 'train_loss'")
