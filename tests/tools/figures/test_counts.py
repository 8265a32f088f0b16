"""Balance and PFBS: what is drawn is what was counted."""

import json
import re

import numpy as np
import pytest

from datasets.pfbs import PFBSSampler
from tests.scripts import fails
from tools.figures.counts import PfbsConfig as Settings
from tools.figures.counts import changed_pixels, images_seen
from tools.make_figures import main
from tools.tables.results import PAPERS, read_csv


def line_points(svg, name):
    """Points of the line of this id, in the SVG's own units, y upwards."""
    path = re.search(rf'<g id="{re.escape(name)}">\s*<path d="([^"]+)"', svg)[1]
    return np.array([float(word) for word in re.findall(r"-?[\d.]+", path)]).reshape(-1, 2) * (1, -1)


def test_pool_sizes_of_the_papers_example(drawn_set):
    """WHU-CD: 4536 tiles, 1200 with change; Linear-15 adds 3336 // 15 = 222 an epoch, F10-L10 adds 333."""
    changed = changed_pixels(Settings())
    assert (len(changed), sum(changed)) == (4536, 1200)
    assert images_seen(PFBSSampler(changed), 1).tolist() == [[1200, 3336]]
    linear = images_seen(PFBSSampler(changed, linear_epochs=15), 17).sum(1)
    assert linear[[0, 1, 14, 15, 16]].tolist() == [1200, 1422, 1200 + 14 * 222, 4536, 4536]
    both = images_seen(PFBSSampler(changed, fixed_epochs=10, linear_epochs=10), 21).sum(1)
    assert both[[0, 9, 10, 11, 20]].tolist() == [1200, 1200, 1533, 1866, 4536]
    assert len(changed_pixels(Settings(data_root=drawn_set))) == 12


def test_the_figure_of_samplers_holds_these_sizes(tmp_path):
    main(["pfbs", "--epochs", "20", "--output", str(tmp_path / "pfbs.svg")])
    svg = (tmp_path / "pfbs.svg").read_text()
    assert {"normal", "Fixed-15", "Linear-15", "Fixed-10 Linear-10"} <= set(re.findall(r'<g id="([^"]+)"', svg))
    jump = line_points(svg, "Fixed-15")
    heights = np.unique(jump[:, 1].round(3))
    assert len(heights) == 2  # 1200, then 4536
    (where,) = np.flatnonzero(np.diff(jump[:, 1]) > 0)
    start, end = jump[0, 0], jump[-1, 0]
    assert (jump[where, 0] - start) / (end - start) == pytest.approx(15 / 20, abs=1e-3)
    normal = line_points(svg, "normal")
    assert len(np.unique(normal[:, 1])) == 1
    assert "with change</text>" in svg  # text stays text


def as_found(path, **splits):
    about = {name: {"changed_pixels": c, "known_pixels": k} for name, (c, k) in splits.items()}
    path.write_text(json.dumps({"splits": about}))
    return path


def test_bars_are_as_high_as_the_counts(tmp_path, monkeypatch):
    bars = {}

    def bar(self, places, heights, *_, label, **options):
        bars[label] = (list(heights), options["hatch"])

    monkeypatch.setattr("matplotlib.axes.Axes.bar", bar)
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda *_, **__: None)
    found = as_found(tmp_path / "mine.json", train=(7, 60), test=(3, 40), **{"other:test": (7, 7)})
    main(["balance", "--found", str(found), "--output", str(tmp_path / "out.svg")])
    assert bars["changed, measured"] == ([10], None)
    assert bars["unchanged, measured"] == ([90], None)
    assert bars["changed, published"][1] == "////"
    published = read_csv(PAPERS / "hanet_fig2.csv")
    assert bars["unchanged, published"][0] == [int(row["unchanged"]) for row in published]
    text = (tmp_path / "out.svg").read_text()
    for word in ("mine", "10.00 %", "4.65 %", "21.83 %"):
        assert word in text


def test_what_balance_refuses(tmp_path, capsys):
    out = ["--output", str(tmp_path / "out.png")]
    fails(lambda: main(["balance", "--no-published", *out]), capsys, "nothing to draw")
    fails(lambda: main(["balance", "--found", "no.json", *out]), capsys, "no.json", "check_dataset --json")
    (tmp_path / "old.json").write_text('{"splits": {"train": {"changed_share": 0.1}}}')
    fails(lambda: main(["balance", "--found", str(tmp_path / "old.json"), *out]), capsys, "no counts of pixels")
    nothing = as_found(tmp_path / "none.json", train=(0, 0))
    fails(lambda: main(["balance", "--found", str(nothing), *out]), capsys, "no labels")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ["hanet_fig2", "hanet_fig3"])
def test_published_numbers_have_a_source_and_whole_rows(name):
    first, header, *_ = (PAPERS / f"{name}.csv").read_text().splitlines()
    assert first.startswith("# source: ")
    rows = read_csv(PAPERS / f"{name}.csv")
    assert rows and all(list(row) == header.split(",") and None not in row.values() for row in rows)
