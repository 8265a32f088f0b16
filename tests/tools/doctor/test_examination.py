"""The doctor: a healthy set has no finding, and each damage is found as what it is, among all others."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from datasets.label_codes import decide_alone
from datasets.measurements import choose_reading, measure_statistics
from datasets.pairs import Pair, find_pairs
from datasets.raster import read_label
from datasets.reading import MASKS, PixelFormat
from datasets.scenes import draw_scene
from tests.conftest import write_image, write_pairs
from tools.doctor.examination import examine, leak_findings, survey
from tools.doctor.findings import ERROR, KINDS, WARNING
from tools.doctor.pair_facts import edges_in_common

SIZE = (24, 24)


def noise(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def square(size=SIZE, value=255):
    label = np.zeros(size, np.uint8)
    label[2:8, 2:8] = value
    return label


@pytest.fixture
def root(tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        write_pairs(tmp_path / split, "012", SIZE, seed=seed)
    return tmp_path


def relabel(root, split, pixels, names="012"):
    for name in names:
        write_image(root / split / "label" / f"{name}.png", pixels)


def check(*roots, workers=2):
    results = [examine(split, workers) for root in roots for split in survey(root)]
    return results, [f for result in results for f in result.findings] + list(leak_findings(results))


def kinds(root):
    return sorted(finding.kind for finding in check(root)[1])


def only(root, kind, severity):
    """The one finding there is."""
    (finding,) = check(root)[1]
    assert (finding.kind, finding.severity) == (kind, severity), finding
    return finding


def test_healthy_set(root):
    results, findings = check(root)
    assert findings == []
    summary = results[0].summary()
    labels = np.stack([read_label(pair.label, MASKS) for pair in find_pairs(root, "train")])
    assert (summary["pairs"], summary["sizes"], summary["modes"]) == (3, {"24 x 24": 6}, {"RGB": 6})
    assert (summary["changed_pixels"], summary["known_pixels"]) == (labels.sum(), labels.size)
    assert summary["changed_share"] == summary["label_values"]["255"] == pytest.approx(labels.mean())
    assert summary["label_values"]["0"] == pytest.approx(1 - labels.mean())
    assert summary["foreground_images"] == 3
    relabel(root, "val", square(value=0), "0")
    assert check(root)[0][1].summary()["foreground_images"] == 2
    measured = measure_statistics(find_pairs(root, "train"))
    np.testing.assert_allclose(summary["mean"], measured["mean"])
    np.testing.assert_allclose(summary["std"], measured["std"])


@pytest.mark.parametrize("codes", [(0, 1), (0, 255), (0, 100), (1,), (255,)])
def test_changed_is_what_the_label_reader_says(codes, tmp_path):
    values = np.full(SIZE, codes[0], np.uint8)
    values[3:9] = codes[-1]
    (pair,) = write_pairs(tmp_path, {"0": (noise(0), noise(1), values)})
    ((result,), _) = check(tmp_path)
    assert result.changed == (values == codes[-1]).sum() == decide_alone([pair.label], PixelFormat()).mask(values).sum()


def cropped(content):
    return content[: len(content) // 2]


DAMAGE = {  # what is done to a healthy set; the one finding's kind, severity, and words of its place and description
    "no before": (lambda r: (r / "val/A/1.png").unlink(), "orphan", ERROR, "val/A", "no before image for '1'"),
    "no after": (lambda r: (r / "val/B/1.png").unlink(), "orphan", ERROR, "val/B", "no after image for '1'"),
    "no label": (lambda r: (r / "val/label/1.png").unlink(), "orphan", ERROR, "val/label", "no label image for '1'"),
    "doubled": (
        lambda r: write_image(r / "train/A/1.bmp", noise(9)), "two files of one name", ERROR, "train/A/1.", "'1'",
    ),
    "cut image": (
        lambda r: (r / "test/A/2.png").write_bytes(cropped((r / "test/A/2.png").read_bytes())), "unreadable", ERROR,
        "test/A/2.png", "damaged",
    ),
    "text": (lambda r: (r / "test/A/2.png").write_bytes(b"hello"), "unreadable", ERROR, "test/A/2.png", ""),
    "empty label": (lambda r: (r / "test/label/2.png").write_bytes(b""), "unreadable", ERROR, "test/label/2.png", ""),
    "sizes in a pair": (
        lambda r: relabel(r, "val", square((24, 16)), "0"), "sizes in a pair", ERROR, "val/A/0.png",
        "has 24 x 24: a pair differs in size",
    ),
    "sizes of tiles": (
        lambda r: write_pairs(r / "train", "0", (16, 16), seed=9), "sizes of tiles", ERROR, "train/A/0.png",
        "16 x 16 in 2 images; most have 24 x 24",
    ),
    "sizes of images": (
        lambda r: write_pairs(r / "val", "0", (16, 16), seed=9), "sizes of images", WARNING, "val/A/0.png", "16 x 16",
    ),
    "colours": (
        lambda r: relabel(r, "val", square()[..., None] * np.uint8([0, 0, 1]), "0"), "label codes", ERROR, "val",
        "#0000ff: 2.08 %",
    ),
    "copied date": (
        lambda r: shutil.copy(r / "val/A/1.png", r / "val/B/1.png"), "identical dates", WARNING, "val/A/1.png", "same",
    ),
    "copied image": (
        lambda r: shutil.copy(r / "train/A/2.png", r / "test/B/0.png"), "leak", ERROR, "test/B/0.png",
        "its pixels are also in train: ",
    ),
    "empty split": (
        lambda r: [path.unlink() for path in (r / "val").glob("*/*")], "no pairs", ERROR, "val", "no complete pair",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_nothing_else(damage, root):
    harm, kind, severity, where, what = DAMAGE[damage]
    harm(root)
    finding = only(root, kind, severity)
    assert where in finding.where
    assert what in finding.what


SEVERAL = {  # what is done to a healthy set, and the kinds of all findings
    "an orphan is decoded": (
        lambda r: [(r / "val/B/1.png").unlink(), (r / "val/A/1.png").write_bytes(b"no image")],
        ["orphan", "unreadable"],
    ),
    "a constant image is no leak": (
        lambda r: [write_image(r / s / "A/0.png", np.full((*SIZE, 3), 7, np.uint8)) for s in ("train", "test")],
        ["constant image"] * 2,
    ),
    "a mirrored image is no leak": (
        lambda r: write_image(r / "test/A/0.png", np.array(Image.open(r / "train/A/0.png"))[::-1]), [],
    ),
    "one code holds for a split": (lambda r: relabel(r, "val", square(value=1)), []),
    "an unchanged label among others": (lambda r: relabel(r, "train", square(value=0), "0"), []),
}  # fmt: skip


@pytest.mark.parametrize("harm", SEVERAL)
def test_findings_are_these_alone(harm, root):
    SEVERAL[harm][0](root)
    assert kinds(root) == SEVERAL[harm][1]


def test_modes(root):
    write_image(root / "val" / "B" / "1.png", noise(7)[..., 0])
    _, findings = check(root)
    assert {f.kind: f.severity for f in findings} == {"modes in a pair": WARNING, "modes in the split": WARNING}
    assert findings[0].what == "before RGB, after L"


@pytest.mark.parametrize("codes", [(1, 2), (0, 1), (0, 2), (0, 76), (0, 127)])
def test_label_codes_that_do_not_fit_together(codes, root):
    """One label of the split has other codes than the others, which have 0 and 255."""
    low, high = codes
    relabel(root, "val", np.where(square() > 0, high, low).astype(np.uint8), "0")
    finding = only(root, "label codes", ERROR)
    assert finding.where == "val" and f"{high}: 2.08 %" in finding.what
    assert "more than two; pass --change-value N" in finding.what


def test_grey_levels_need_a_flag(root):
    label = square()
    label[2, 2:8] = 90
    relabel(root, "val", square(), "12")
    relabel(root, "val", label, "0")
    assert "90: 0.35 %" in only(root, "label codes", ERROR).what
    result = examine(survey(root)[1], 1, reading=PixelFormat(change_from=128))
    assert result.findings == []
    assert result.changed == 3 * 36 - 6


def test_the_code_of_the_first_split_holds_for_the_others(root):
    relabel(root, "val", square(value=1))
    train, val, _ = survey(root)
    reading = examine(train, 1).reading
    assert reading.change_value == 255
    (finding,) = examine(val, 1, reading=reading).findings
    assert (finding.kind, "255 means changed in another split" in finding.what) == ("label codes", True)


@pytest.mark.parametrize(
    ("split", "value", "found"),
    [
        ("train", 0, ["no change"]), ("test", 0, ["nothing to find"]), ("val", 1, ["all changed"] * 3),
        ("val", 255, ["all changed"] * 3),
    ],
)  # fmt: skip
def test_labels_of_one_value(split, value, found, root):
    relabel(root, split, np.full(SIZE, value, np.uint8))
    _, findings = check(root)
    assert [finding.kind for finding in findings] == found
    assert {finding.severity for finding in findings} == {ERROR if split == "train" else WARNING}


def test_leak_of_an_image_in_another_format_under_another_name(root):
    Image.open(root / "train" / "A" / "2.png").save(root / "test" / "B" / "0.bmp")
    (root / "test" / "B" / "0.png").unlink()
    finding = only(root, "leak", ERROR)
    assert finding.where == str(root / "test" / "B" / "0.bmp")
    assert finding.what == f"its pixels are also in train: {root / 'train' / 'A' / '2.png'}"


def test_leak_of_a_tile(tmp_path):
    """A 256 tile of a larger image of another split, whose size is no multiple of 256."""
    train, test = (write_pairs(tmp_path / s, "01", size) for s, size in (("train", (600, 520)), ("test", (256, 256))))
    assert kinds(tmp_path) == []
    write_image(test[0].after, np.array(Image.open(train[1].after))[256:512, 256:512])
    assert only(tmp_path, "leak", ERROR).what == f"its pixels are also in train: {train[1].after}"
    for split, other in (("test", "last"), ("train", "test"), ("last", "train")):
        (tmp_path / split).rename(tmp_path / other)
    assert only(tmp_path, "leak", ERROR).what.startswith("1 of its 4 windows are also in train")


def test_everything_at_once(root):
    """Every damage is found beside the others."""
    (root / "train" / "A" / "0.png").write_bytes(b"")
    (root / "train" / "B" / "1.png").unlink()
    shutil.rmtree(root / "val" / "B")
    shutil.rmtree(root / "test" / "label")
    shutil.copy(root / "test" / "A" / "1.png", root / "test" / "B" / "1.png")
    found = kinds(root)
    assert found == ["identical dates", "layout", "nothing to score", "orphan", "unreadable"]
    assert all(KINDS[kind][1] for kind in found)


def test_shifted_dates(tmp_path):
    """Two pairs of three are moved by 3 rows and 4 columns; metres come from --pixel-size or a georeference."""
    scene, label = draw_scene(1, 140)[0], square((128, 128))
    before, moved = scene[:128, :128], scene[3:131, 4:132]
    write_pairs(
        tmp_path, {"a": (before, moved, label), "b": (before, before[::-1], label), "c": (before, moved, label)}
    )
    finding = only(tmp_path, "shifted dates", WARNING)
    assert (finding.where, finding.what) == ("all", "median 5.0 px, largest 5.0 px (a); reliable in 2 of 3 pairs")
    (result,) = [examine(split, 1, pixel_size=0.5) for split in survey(tmp_path)]
    found = result.summary()["shift"]
    assert (found["measured"], found["reliable"]) == (3, 2)
    assert found["median_pixels"] == pytest.approx(5, abs=0.1)
    assert found["largest_metres"] == pytest.approx(2.5, abs=0.05)
    assert "median 5.0 px = 2.5 m" in result.findings[0].what


def test_a_leak_whose_partner_has_a_gap(root):
    """What is unknown in the other date takes nothing from the image that is compared."""
    (first, *_), target = sorted((root / "train" / "A").iterdir()), root / "val"
    shutil.copy2(first, target / "A" / "copy.png")
    for folder in ("B", "label"):
        shutil.copy2(root / "train" / folder / first.name, target / folder / "copy.png")
    after = np.array(Image.open(root / "train" / "B" / first.name).convert("RGBA"))
    after[:9, :, 3] = 0
    Image.fromarray(after).save(root / "train" / "B" / first.name)
    assert str(target / "A" / "copy.png") in [f.where for f in check(root)[1] if f.kind == "leak"]


def test_folders_of_unlike_places(tmp_path):
    """As of numbers that are off by some; the same scenes in order have no finding."""
    scenes = [draw_scene(seed, 128, town=True)[:2] for seed in range(12)]
    label = square((128, 128))
    for folder, off in (("same", 0), ("off", 1)):
        pairs = {f"{n:02}": (scenes[n][0], scenes[(n + off) % 12][1], label) for n in range(12)}
        write_pairs(tmp_path / folder, pairs)
    assert "unlike dates" not in [finding.kind for finding in check(tmp_path / "same")[1]]
    (finding,) = [finding for finding in check(tmp_path / "off")[1] if finding.kind == "unlike dates"]
    assert re.fullmatch(r"no edges in common in ([4-9]|1[012]) of 12 pairs, first \d\d", finding.what)
    known = np.ones((128, 128), bool)
    known[:40, :60] = False
    gaps = [[np.where(known[..., None], date, 0) for date in (scenes[n][0], scenes[n - 1][1])] for n in range(12)]
    likeness, naive = zip(*[(edges_in_common(*dates, known), edges_in_common(*dates)) for dates in gaps], strict=True)
    assert np.median(likeness) < 0.05 < np.median(naive)  # the border of a gap is an edge in both dates


def test_missing_labels_are_told_as_in_training(root):
    for split in ("train", "val"):
        (root / split / "label").rename(root / split / "lables")
        with pytest.raises(FileNotFoundError, match="perhaps --label-dir lables") as raised:
            find_pairs(root, split)
        assert str(raised.value) in [f.what for f in check(root)[1]]
    results, findings = check(root)
    assert [f.kind for f in findings] == ["no labels", "nothing to score"]
    assert results[0].summary()["changed_share"] is None


@pytest.mark.parametrize("line", ["../A/1.png", "A/1.png B/1.png"])
def test_a_list_that_cannot_be_read(line, tmp_path):
    write_pairs(tmp_path, "012", SIZE)
    (tmp_path / "train.txt").write_text("A/0.png B/0.png label/0.png\n" * ("B/" in line) + line)
    assert str(tmp_path / "train.txt") in only(tmp_path, "list", ERROR).what


def test_flat_and_listed_sets(tmp_path):
    write_pairs(tmp_path, "012", SIZE)
    assert [(split.name, len(split.complete)) for split in survey(tmp_path)] == [("all", 3)]
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.txt").write_text("0.png\n1.png\n")
    (tmp_path / "list" / "test.txt").write_text("1.png\n7.png\n")
    assert kinds(tmp_path) == ["leak", "leak", "orphan"]  # 1 is in both, 7 nowhere


def test_the_number_of_threads_changes_nothing(root):
    shutil.copy(root / "train" / "A" / "1.png", root / "val" / "B" / "1.png")
    (one, first), (many, second) = check(root, workers=1), check(root, workers=7)
    assert first == second
    assert [r.summary() for r in one] == [r.summary() for r in many]


def test_real_sets(real_data):
    """The leak between whole images and tiles cut from them, shifts, and grey values in one label of three."""
    _, findings = check(real_data / "levir1024", real_data / "levir")
    assert [f.kind for f in findings] == ["shifted dates"] * 3 + ["leak"] * 2 * 2 * 16
    (result,), findings = check(real_data / "sztaki")
    assert [f.kind for f in findings] == ["label codes"]
    assert "more than two; pass" in findings[0].what
    assert examine(result.split, 1, reading=PixelFormat(change_from=128)).findings == []


def test_real_odd_codes(real_data):
    """Codes 1 and 2 are an error until one of them is named as changed; 16 bits are read without a flag."""
    (split,) = survey(real_data / "oscd_beirut")
    files = split.files["oscd_beirut"]
    pair = Pair("oscd_beirut", files["before"], files["after"])
    findings = examine(split, 1, reading=choose_reading([pair])).findings
    assert [f.kind for f in findings] == ["label codes"]
    result = examine(split, 1, reading=choose_reading([pair], labels=PixelFormat(change_value=2, named=True)))
    assert result.findings == []
    assert result.changed == (np.array(Image.open(files["label"])) == 2).sum()
    assert list(result.summary()["modes"]) == ["3 x uint16"]


def test_unknown_pixels_are_not_counted(tmp_path):
    """Codes 0, 1 and 255 mix two codings, unless 255 is named as unknown."""
    label = np.zeros((16, 16), np.uint8)
    label[:4], label[12:] = 1, 255
    write_pairs(tmp_path, {str(n): (noise(n, label.shape), noise(9 + n, label.shape), label) for n in range(2)})
    (split,) = survey(tmp_path)
    assert [f.kind for f in examine(split, 1).findings] == ["label codes"]
    result = examine(split, 1, reading=PixelFormat(ignore_value=255))
    assert (result.findings, result.summary()["changed_share"]) == ([], 4 / 12)
