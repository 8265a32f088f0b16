"""Heat maps: the numbers of the networks, the published colours, and every map at its place."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.pairs import find_pairs
from datasets.raster import read_image, read_label
from datasets.reading import MASKS
from models import build_model
from tests.conftest import write_pairs
from tests.scripts import fails
from tools.figures.heatmap import coloured, heat_of, watched
from tools.make_figures import main
from utils.prediction.predictor import ChangePredictor

SIDE, GAP = 64, 6  # a sheet begins with one line of pixels


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return ChangePredictor(checkpoint, "cpu")


def heatmap(root, output, *flags):
    main(["heatmap", "--data-root", str(root), "--output", str(output), "--side", str(SIDE), *map(str, flags)])
    return np.array(Image.open(output).convert("RGB")) if output.suffix == ".png" else output.read_bytes()


def picture(pixels, column, top=GAP + 1):
    left = GAP + column * (SIDE + GAP)
    return pixels[top : top + SIDE, left : left + SIDE]


def changed_pairs(root):
    return [pair for pair in find_pairs(root, "test") if read_label(pair.label, MASKS).any()]


def logits(predictor, pair):
    return heat_of(predictor, (read_image(pair.before), read_image(pair.after))).logits


def test_hanets_maps_are_its_own_numbers(predictor):
    """At 50 x 60, which is filled up to 56 x 64 as in prediction, and cut off again."""
    draws = np.random.default_rng(0)
    dates = tuple(draws.integers(0, 256, (50, 60, 3), np.uint8) for _ in range(2))
    heat, network = heat_of(predictor, dates), predictor.model.network
    with torch.inference_mode():
        before, after = predictor.model.scaling(*predictor.collate([dates]))
        logits = network(before, after)[0]
        features = [[network.blocks[0](network.stem(x)) for x in (before, after)]]
        features.append([network.blocks[1](torch.nn.functional.avg_pool2d(x, 2)) for x in features[0]])
        parts = [han.pcs(*pair) for han, pair in zip(network.hans, features, strict=False)]
        cams = [han.cam(p).mean(1)[0] for han, p in zip(network.hans, parts, strict=False)]
        axials = [han.row(han.column(p)).mean(1)[0] for han, p in zip(network.hans, parts, strict=False)]
    np.testing.assert_allclose(heat.logits, logits[0, :, :50, :60], rtol=1e-4, atol=1e-5)
    assert list(heat.stages) == ["CAM", "axial attention"]
    for kind, wanted in (("CAM", cams), ("axial attention", axials)):
        assert [stride for stride, _ in heat.stages[kind]] == [1, 2, 4, 8]
        np.testing.assert_allclose(heat.stages[kind][0][1], wanted[0][:50, :60], rtol=1e-4, atol=1e-5)
        squares = wanted[1].repeat_interleave(2, 0).repeat_interleave(2, 1)
        np.testing.assert_allclose(heat.stages[kind][1][1], squares[:50, :60], rtol=1e-4, atol=1e-5)


def test_amfnets_modules_are_seen_and_left_alone():
    network = build_model("amfnet", backbone="resnet18").eval()
    before, after = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        with watched(network) as found:
            network(before, after)
        features = network.backbone.encode_both(before, after)
        dates = [bfam(*pair) for bfam, pair in zip(network.bfams, features, strict=True)]
        fused = [network.fuse(stage, *pair) for stage, pair in enumerate(features)]
    assert list(found) == ["BFAM T1", "BFAM T2", "BFM", "IAM"], "and not the CAM within IAM"
    for n, kind in enumerate(("BFAM T1", "BFAM T2")):
        for seen, pair in zip(found[kind].values(), dates, strict=True):
            torch.testing.assert_close(seen, pair[n].mean(1))
    for seen, whole in zip(found["IAM"].values(), fused, strict=True):
        torch.testing.assert_close(seen, whole.mean(1))
    assert [x.shape[-1] for x in found["BFM"].values()] == [16, 8, 4, 2]
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(("column", "kinds"), [(True, ["CAM", "axial attention"]), (False, ["CAM"])])
def test_ablations_show_what_they_have(column, kinds):
    network = build_model("hanet", width=4, row=False, column=column).eval()
    with torch.no_grad(), watched(network) as found:
        network(*torch.rand(2, 1, 3, 16, 16))
    assert list(found) == kinds
    assert all(len(maps) == 4 for maps in found.values())


def test_published_colours():
    """matplotlib's jet, reversed: the lowest logit is red, the highest blue; a constant is green."""
    low, high = coloured(np.array([[-3.0, 5.0]]), "jet_r")[0].tolist()
    assert (low, high) == ([127, 0, 0], [0, 0, 127])
    red, green, blue = coloured(np.zeros((1, 1)), "jet_r")[0, 0].tolist()
    assert green == 255 > max(red, blue)


def test_columns_of_several_networks(drawn_set, checkpoint, predictor, tmp_path, capsys):
    pixels = heatmap(drawn_set, tmp_path / "a.png", "--checkpoints", f"one={checkpoint}", f"run={checkpoint.parent}")
    pairs = changed_pairs(drawn_set)[:3]
    assert re.findall(r"from the top: (.*)", capsys.readouterr().err) == [", ".join(pair.name for pair in pairs)]
    assert (picture(pixels, 0) == read_image(pairs[0].before)).all()
    assert (picture(pixels, 1) == read_image(pairs[0].after)).all()
    assert (picture(pixels, 2)[..., 0] == 255 * read_label(pairs[0].label, MASKS)).all()
    values = logits(predictor, pairs[0])[0]
    for column in (3, 4):
        assert picture(pixels, column)[values == values.min()].tolist() == [[127, 0, 0]]
        assert picture(pixels, column)[values == values.max()].tolist() == [[0, 0, 127]]
    assert (pixels == [127, 0, 0]).all(-1).sum() >= 2 * len(pairs)


def test_stages_and_the_other_colours(drawn_set, checkpoint, predictor, tmp_path):
    pair = changed_pairs(drawn_set)[1]
    flags = ("--checkpoints", f"net={checkpoint}", "--scenes", pair.name, "--stages", "--colours", "viridis")
    flags += ("--evidence", "difference")
    pixels = heatmap(drawn_set, tmp_path / "a.png", *flags)
    assert pixels.shape[1] == 6 * (SIDE + GAP) + GAP, "two pictures of the pair, and four scales"
    squares = picture(pixels, 5).reshape(8, 8, 8, 8, 3)
    assert (squares == squares[:, :1, :, :1]).all(), "an eighth of the side"
    assert not (picture(pixels, 4).reshape(8, 8, 8, 8, 3) == squares).all()
    unchanged, changed = logits(predictor, pair)
    values = unchanged - changed
    wanted = coloured(values, "viridis_r")
    below = [top for top in range(GAP + SIDE, pixels.shape[0] - SIDE) if (picture(pixels, 1, top) == wanted).all()]
    assert len(below) == 1, "the network's own map stands below T2"
    assert wanted[values == values.min()].tolist() == [[253, 231, 36]]
    assert (picture(pixels, 0, below[0])[..., 0] == 255 * read_label(pair.label, MASKS)).all()


def test_pdf_and_images_without_labels(checkpoint, tmp_path, capsys):
    write_pairs(tmp_path / "bare", ["one"], folders=("A", "B"))
    flags = ("--checkpoints", checkpoint)
    fails(lambda: heatmap(tmp_path / "bare", tmp_path / "x.pdf", *flags), capsys, "no pair", "--scenes")
    assert heatmap(tmp_path / "bare", tmp_path / "x.pdf", *flags, "--scenes", "one").startswith(b"%PDF")


def test_what_cannot_be_drawn(drawn_set, checkpoint, tmp_path, capsys, predictor, monkeypatch):
    def call(*words, name="x.png"):
        return lambda: heatmap(drawn_set, tmp_path / name, "--checkpoints", *words)

    fails(call(checkpoint, "--scenes", "nobody"), capsys, "nobody", "no such pair")
    fails(call(f"a={checkpoint}", f"a={checkpoint}"), capsys, "--checkpoints", "NAME=PATH")
    fails(call(tmp_path), capsys, "best.pt", "no such checkpoint")
    fails(call(checkpoint, name="x.gif"), capsys, ".svg")
    monkeypatch.setattr("utils.prediction.predictor.TorchNetwork.at_once", 64 * 63)
    fails(call(checkpoint), capsys, "64 x 64", "prepare_tiles")
    assert not list(tmp_path.iterdir())
