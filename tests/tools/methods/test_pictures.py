"""Pictures of a comparison hold its numbers."""

from tools.methods.pictures import draw_costs, draw_seeds
from tools.tables.results import Result


def test_the_figure_holds_the_seeds(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda self, x, y, *_, gid, **__: drawn.update({gid: (x, y)}))
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda *_, **__: None)
    draw_seeds({"one": [50.0, 60.0, 70.0], "two": [80.0, 90.0, 55.0]}, tmp_path / "figure.svg")
    assert drawn["one"] == ([50, 60, 70], [0, 0, 0]) and drawn["one mean"] == (60, 0)
    assert drawn["two"] == ([80, 90, 55], [1, 1, 1]) and drawn["two mean"] == (75, 1)


def test_f1_against_cost(tmp_path, monkeypatch):
    """A point with its deviation in both panels; a row without a network is a line at its F1."""
    drawn = {}

    def errorbar(self, x, y, *_, yerr, gid, **how):
        drawn[gid] = (x, y, yerr)
        return genuine(self, x, y, yerr=yerr, gid=gid, **how)

    from matplotlib.axes import Axes

    genuine = Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", errorbar)
    rows = [Result("small", "X", {"f1": 50.0}, deviations={"f1": 2.0}, parameters=1.5, flops=4.0)]
    rows += [Result("large", "X", {"f1": 60.0}, parameters=26.0, flops=40.0), Result("cva", "X", {"f1": 20.0})]
    draw_costs(rows, tmp_path / "costs.svg")
    points = {"small parameters": (1.5, 50, 2), "small flops": (4, 50, 2)}
    assert drawn == {**points, "large parameters": (26, 60, 0), "large flops": (40, 60, 0)}
    text = (tmp_path / "costs.svg").read_text(encoding="utf-8")
    assert all(f">{name}</text>" in text for name in ("small", "large", "cva", "parameters (M)", "20"))
    assert 'id="cva parameters"' in text and 'id="cva flops"' in text
