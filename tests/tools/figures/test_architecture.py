"""Drawn networks: every module in its place, readable, and another drawing for another network."""

import itertools
import re
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.scripts import fails
from tools.costs import count_parameters
from tools.figures.architecture import Drawing, arrange, draw
from tools.figures.paper import PAGE, STYLE, broken
from tools.figures.trace import blank_network, trace
from tools.make_figures import main

NETWORKS = {
    "amfnet": {"backbone": "resnet18"},
    "hanet": {"width": 8},
    "wide": {"backbone": "resnet50", "bfam": False},
    "bare": {"backbone": "resnet18", "bfam": False, "bfm": False, "iam": False, "deep_supervision": False},
    "without attention": {"width": 8, "column": False, "row": False},
}


@pytest.fixture(scope="module", params=NETWORKS)
def drawing(request):
    options = NETWORKS[request.param]
    return Drawing(trace(blank_network("hanet" if "width" in options else "amfnet", **options)), 72 * PAGE)


def svg(path, *words):
    main(["architecture", *words, "--output", str(path)])
    return path.read_text(encoding="utf-8")


def written(text):
    root = ElementTree.fromstring(text)
    return ["".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_no_arrow_crosses_a_box(drawing):
    ways = list(drawing.arrows())
    assert len(ways) == sum(len(box.sources) for box in drawing.boxes.values())
    for source, target, way in ways:
        assert not drawing.crossed(way, source, target), (source, target)


def test_text_is_inside_its_box_and_nowhere_clipped(drawing):
    """At print size, with the letters that are drawn."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(drawing.width / 72, drawing.height / 72), dpi=144)
        renderer = FigureCanvasAgg(figure).get_renderer()
        draw(figure, drawing, "AMFNet (backbone=resnet50, bfam=False, deep_supervision=False), 26.55 M parameters.")
        (axes,) = figure.axes
        extents = {text: text.get_window_extent(renderer) for text in axes.texts}
        rectangles = {p.get_gid(): p.get_window_extent(renderer) for p in axes.patches if isinstance(p, Rectangle)}
    assert min(text.get_fontsize() for text in extents) >= 6
    for first, second in itertools.combinations(extents.values(), 2):
        assert not first.padded(-1).overlaps(second.padded(-1))
    for text, extent in extents.items():
        assert extent.x0 > 0 and extent.y0 > 0 and extent.x1 < figure.bbox.x1 and extent.y1 < figure.bbox.y1, text
    for name, lines in drawing.lines.items():
        held = [t.get_text() for t, e in extents.items() if rectangles[name].padded(1).contains(e.x0, e.y0)
                and rectangles[name].padded(1).contains(e.x1, e.y1)]  # fmt: skip
        assert held == [line for line, _ in lines]


def test_boxes_do_not_overlap_and_stand_by_stride(drawing):
    for first, second in itertools.combinations(drawing.boxes, 2):
        (x, y), (u, v) = drawing.centres[first], drawing.centres[second]
        (w, h), (p, q) = drawing.sizes[first], drawing.sizes[second]
        assert abs(x - u) > (w + p) / 2 or abs(y - v) > (h + q) / 2, (first, second)
    bands = {stride: (top, bottom) for stride, top, bottom in drawing.bands}
    for name, box in drawing.boxes.items():
        if box.role != "output":
            assert bands[box.stride][0] < drawing.centres[name][1] < bands[box.stride][1]


def test_places_follow_the_data(drawing):
    places = arrange(list(drawing.boxes.values()))
    for box in drawing.boxes.values():
        for source in box.sources:
            if places[source].band == places[box.name].band:
                assert places[source].column < places[box.name].column


def test_the_drawing_is_that_of_the_network(tmp_path):
    found = written(svg(tmp_path / "a.svg", "--model", "hanet", "--model-options", "width=20"))
    assert {"20 ch, 1/1", "160 ch, 1/8", "reduce", "PCS", "hans.3.pcs"} <= set(found)
    assert not any(line.startswith("320 ch") for line in found)
    parameters = count_parameters(blank_network("hanet", width=20))
    assert f"HANet (width=20), {parameters / 1e6:.2f} M parameters." in found


def test_other_backbone_other_drawing_and_no_bfam_no_box(tmp_path):
    text = svg(tmp_path / "b.svg", "--model-options", "backbone=resnet18", "bfam=false")
    found = written(text)
    assert found.count("2 BasicBlock") == 4 and "6 BasicBlock" not in found
    assert "BFAM" not in found and "BFM" in found
    assert re.search(r'id="backbone\.layer1 to bfms\.0"', text)
    assert [b.kind for b in trace(blank_network("amfnet")) if "layer3" in b.name] == ["6 BasicBlock"]


def test_texts_break_where_they_may():
    assert broken("one two-three", r"(?<=[- ])", lambda line: len(line) < 9) == ["one two-", "three"]
    assert broken("one two", r"(?<=[- ])", lambda line: len(line) < 8) == ["one two"]


def test_what_cannot_be_drawn(tmp_path, capsys):
    def call(*words):
        return lambda: main(["architecture", "--output", str(tmp_path / "x.svg"), *words])

    fails(call("--width", "2"), capsys, "--width 2")
    fails(call("--model-options", "width=20"), capsys, "width")
    fails(call("--model", "hanet", "--model-options", "width=6"), capsys, "multiple of 4")
    assert not list(tmp_path.iterdir())
