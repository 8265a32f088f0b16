"""Comparison grids: known colours at known pixels, known F1, and the right scenes."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from datasets.windows import Window
from tests.conftest import write_image, write_pairs
from tests.scripts import fails, metrics_of, predict
from tools.figures import comparison as module
from tools.figures.grids import ComparedPair
from tools.make_figures import main

SIDE, GAP = 64, 6
WHITE, BLACK, RED, GREEN, CYAN = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 255, 255)
KNOWN = {  # of the real masks, all pixels together
    "FC-EF": 92.43, "FC-Siam-conc": 92.48, "FC-Siam-diff": 91.64, "DTCDSCN": 91.50, "STANet": 91.90, "BIT": 93.87,
    "ChangeFormer": 90.83, "HANet": 59.89, "CGNet": 93.25,
}  # fmt: skip


@pytest.fixture
def quarters(tmp_path):
    """Scenes of 64 x 64: in `one` the left half changed; `top` maps the upper half, `left` the truth."""
    left, top = np.zeros((2, SIDE, SIDE), np.uint8)
    left[:, : SIDE // 2] = top[: SIDE // 2] = 255
    dates = np.full((SIDE, SIDE, 3), 90, np.uint8), np.full((SIDE, SIDE, 3), 160, np.uint8)
    for name, truth in (("one", left), ("two", top), ("none", np.zeros_like(top))):
        write_pairs(tmp_path / "set", {name: (*dates, truth)})
        write_image(tmp_path / "top" / f"{name}.png", top if name != "none" else truth)
        write_image(tmp_path / "left" / "mask" / f"{name}.png", left if name == "one" else truth)
    return tmp_path


def draw(root, style, *flags, methods=("top", "left"), name="out.png"):
    words = ["comparison", "--data-root", root / "set", "--methods", *(f"{m}={root / m}" for m in methods)]
    words += ["--style", style, "--output", root / name, "--side", SIDE, *flags]
    main([str(word) for word in words])
    return np.array(Image.open(root / name).convert("RGB")) if name.endswith("png") else (root / name).read_bytes()


def cells(pixels, colour):
    """Top left corners of the solid pictures of a colour."""
    found = (pixels == colour).all(-1)
    return [(y, x) for y, x in np.argwhere(found) if found[y : y + SIDE, x : x + SIDE].sum() == SIDE * SIDE
            and not found[y - 1, x] and not found[y, x - 1]]  # fmt: skip


def corners(pixels, top, left):
    """Colours in the middle of the four quarters of a picture."""
    return [tuple(pixels[top + dy, left + dx].tolist()) for dy in (16, 48) for dx in (16, 48)]


def test_hanet_rows_hold_exact_colours(quarters):
    pixels = draw(quarters, "hanet", "--scenes", "one", "--no-zoom", "--palette", "hanet")
    ((top, left),) = cells(pixels, (90, 90, 90))
    assert cells(pixels, (160, 160, 160)) == [(top, left + SIDE + GAP)]
    label, first, last = (left + place * (SIDE + GAP) for place in (2, 3, 4))
    assert corners(pixels, top, label) == [WHITE, BLACK, WHITE, BLACK]
    assert corners(pixels, top, first) == [WHITE, RED, CYAN, BLACK]
    assert corners(pixels, top, last) == [WHITE, BLACK, WHITE, BLACK]
    yellow = np.argwhere((pixels == (255, 255, 0)).all(-1))  # round ours, and over none of its pixels
    assert yellow.min(0).tolist() < [top, last] and yellow.max(0).tolist() > [top + SIDE - 1, last + SIDE - 1]
    assert not (pixels[top : top + SIDE, last : last + SIDE] == (255, 255, 0)).all(-1).any()


def test_amfnet_groups_hold_exact_colours(quarters):
    pixels = draw(quarters, "amfnet", "--scenes", "one", "two", methods=("top", "left"))
    befores, afters = cells(pixels, (90, 90, 90)), cells(pixels, (160, 160, 160))
    assert len(befores) == len(afters) == 2
    (top, left), (below, same) = befores[0], afters[0]
    assert left == same and below >= top + SIDE
    assert corners(pixels, top, left + SIDE + GAP) == [WHITE, BLACK, WHITE, BLACK]  # a, the label
    assert corners(pixels, top, left + 2 * (SIDE + GAP)) == [WHITE, RED, GREEN, BLACK]  # b
    assert corners(pixels, below, left + SIDE + GAP) == [WHITE, BLACK, WHITE, BLACK]  # c, ours


def test_eleven_methods_make_two_rows_of_seven(quarters):
    """As published: T1 and a to f, T2 and g to l; l is ours."""
    words = ["comparison", "--data-root", quarters / "set", "--output", quarters / "out.png", "--side", SIDE]
    words += ["--scenes", "one", "--methods", *(f"m{n}={quarters / 'top'}" for n in range(10)), quarters / "left"]
    main([str(word) for word in words])
    pixels = np.array(Image.open(quarters / "out.png").convert("RGB"))
    ((top, left),), ((below, _),) = cells(pixels, (90, 90, 90)), cells(pixels, (160, 160, 160))
    for place in range(1, 7):
        x = left + place * (SIDE + GAP)
        assert corners(pixels, top, x)[1] == (BLACK if place == 1 else RED)  # a is the label
        assert corners(pixels, below, x)[1] == (BLACK if place == 6 else RED)
    assert pixels.shape[1] - left - 7 * (SIDE + GAP) < SIDE  # and no eighth


def test_vector_formats_keep_every_pixel(quarters):
    flags = ("hanet", "--scenes", "one", "--no-zoom")
    pixels = draw(quarters, *flags)
    assert draw(quarters, *flags, name="out.pdf").startswith(b"%PDF")
    svg = draw(quarters, *flags, name="out.svg").decode()
    inside = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", svg, re.S)[1])))
    found = np.array(inside.convert("RGB"))
    assert any((turned == pixels).all() for turned in (found, found[::-1]) if turned.shape == pixels.shape)


def test_a_box_is_enlarged_in_a_corner_that_leaves_it_free():
    label = np.zeros((70, 70, 3), np.uint8)
    label[:30, 40:] = 255  # busy
    scene = ComparedPair((label, label), [label, None], Window(5, 5, 10, 10))
    assert scene.corner() in (Window(40, 0, 30, 30), Window(40, 40, 30, 30))
    middle = ComparedPair((label, label), [label], Window(30, 30, 10, 10))
    assert middle.corner() != Window(0, 40, 30, 30)


def test_the_box_goes_where_methods_err():
    truth = np.zeros((70, 70), np.uint8)
    wrong = np.zeros((70, 70), bool)
    wrong[20:30, 41:51] = True
    assert module.worst_window(truth, [wrong, wrong]) == Window(20, 41, 10, 10)
    truth[:] = 255  # nothing is known, so nothing is wrong
    assert module.worst_window(truth, [wrong]) == Window(0, 0, 10, 10)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["best", "1"], ["two"]), (["worst", "2"], ["one", "two"]), (["most-different", "1"], ["one"]),
        (["best", "5"], ["two", "one"]),
    ],
)  # fmt: skip
def test_picks(quarters, capsys, words, shown):
    """By the last method, which is right about `two` and half right about `one`; `none` has no change to find."""
    alarm = np.zeros((SIDE, SIDE), np.uint8)
    alarm[:4, :4] = 255
    write_image(quarters / "top" / "none.png", alarm)
    draw(quarters, "amfnet", "--pick", *words, methods=("left", "top"))
    lines = [line.split(": ") for line in capsys.readouterr().err.splitlines()]
    assert [line[1] for line in lines if line[0] in ("I", "II", "III")] == shown


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--pick", "worst"], ["--pick worst", "worst 3"]),
        (["--scenes", "four"], ["four", "no such pair", "none"]),
        (["--boxes", "one=50,0,20", "--scenes", "one"], ["--boxes one", "64 x 64"]),
        (["--pick", "best", "13"], ["13 scenes", "12"]),
    ],
)
def test_what_cannot_be_drawn(quarters, capsys, flags, words):
    fails(lambda: draw(quarters, "hanet", *flags), capsys, *words)


def test_folders_and_files_that_do_not_fit(quarters, capsys):
    fails(lambda: draw(quarters, "hanet", methods=("nowhere",)), capsys, "nowhere", "no such folder")
    fails(lambda: draw(quarters, "hanet", name="out.gif"), capsys, "out.gif", ".svg")
    write_image(quarters / "others" / "x.png", np.zeros((4, 4), np.uint8))
    fails(lambda: draw(quarters, "hanet", methods=("others",)), capsys, "others", "no mask", "none.png")
    fails(lambda: draw(quarters, "hanet", methods=("x.pt",)), capsys, "x.pt", "no such checkpoint")
    (quarters / "run").mkdir()
    (quarters / "run" / "best.pt").touch()
    fails(lambda: draw(quarters, "hanet", methods=("run",)), capsys, "best.pt", "not a checkpoint")
    write_image(quarters / "top" / "one.png", np.zeros((4, 4), np.uint8))
    fails(lambda: draw(quarters, "hanet"), capsys, "one.png", "never resized")
    assert not (quarters / "out.gif").exists()


def test_checkpoints_and_runs_stand_for_their_masks(drawn_set, checkpoint, tmp_path, capsys):
    """Their F1 is that of predict_batch.py, and so is every pixel: they disagree nowhere."""
    predict("--checkpoint", checkpoint, "--data-root", drawn_set, "--output", tmp_path / "maps")
    f1 = metrics_of(tmp_path / "maps")["scores"]["f1"]
    capsys.readouterr()
    methods = [f"folder={tmp_path / 'maps'}", f"file={checkpoint}", f"run={checkpoint.parent}"]
    words = ["comparison", "--data-root", str(drawn_set), "--methods", *methods, "--style", "hanet", "--no-zoom"]
    main([*words, "--side", str(SIDE), "--pick", "best", "1", "--output", str(tmp_path / "out.png")])
    said = capsys.readouterr().err
    found = dict(re.findall(r"(\w+): F1 ([\d.]+)", said))
    assert found == dict.fromkeys(("folder", "file", "run"), f"{100 * f1:.2f}")
    assert "per_image.csv" not in said, "of a folder that is gone"
    pixels = np.array(Image.open(tmp_path / "out.png").convert("RGB"))
    columns = [pixels[:, GAP + n * (SIDE + GAP) :][:, :SIDE] for n in (3, 4, 5)]
    top = (pixels.shape[0] - SIDE) // 2
    rows = slice(top, top + SIDE // 2)  # within the pictures, whatever stands above and below
    assert (columns[0][rows] == columns[1][rows]).all() and (columns[0][rows] == columns[2][rows]).all()


def test_nine_methods_have_their_known_f1(real_data, tmp_path, capsys):
    root = real_data / "levir_methods"
    methods = [f"{name}={root / 'masks' / name}" for name in KNOWN]
    main(["comparison", "--data-root", str(root), "--methods", *methods, "--output", str(tmp_path / "out.png")])
    found = dict(re.findall(r"([\w-]+): F1 ([\d.]+)", capsys.readouterr().err))
    assert {name: float(value) for name, value in found.items()} == KNOWN
