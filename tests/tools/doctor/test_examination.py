"""The doctor: a healthy set has no finding, and each damage is found as what it is, among all others."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datasets.catalog import CATALOG, KnownCounts
from datasets.label_codes import decide_alone
from datasets.measurements import choose_reading, measure_statistics
from datasets.pairs import Pair, find_pairs
from datasets.reading import PixelFormat
from tools.doctor.examination import count_findings, examine, leak_findings, survey
from tools.doctor.findings import ERROR, WARNING

SIZE = 24


def noise(seed, size=(SIZE, SIZE)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def square(size=(SIZE, SIZE), value=255):
    label = np.zeros(size, np.uint8)
    label[2:8, 2:8] = value
    return label


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def fill(folder, seed, count=3, size=(SIZE, SIZE)):
    for n in range(count):
        save(folder / "A" / f"{n}.png", noise([seed, n, 0], size))
        save(folder / "B" / f"{n}.png", noise([seed, n, 1], size))
        save(folder / "label" / f"{n}.png", square(size))


@pytest.fixture
def root(tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        fill(tmp_path / split, seed)
    return tmp_path


def check(*roots, workers=2):
    results = [examine(split, workers) for root in roots for split in survey(root)]
    return results, [f for result in results for f in result.findings] + list(leak_findings(results, workers))


def kinds(root):
    return sorted(finding.kind for finding in check(root)[1])


def only(root, kind, severity):
    """The one finding there is."""
    (finding,) = check(root)[1]
    assert (finding.kind, finding.severity) == (kind, severity), finding
    assert finding.advice
    return finding


def test_healthy_set(root):
    results, findings = check(root)
    assert findings == []
    summary = results[0].summary()
    assert (summary["pairs"], summary["sizes"], summary["modes"]) == (3, {"24 x 24": 6}, {"RGB": 6})
    assert summary["changed_share"] == pytest.approx(36 / SIZE**2)
    assert (summary["changed_pixels"], summary["known_pixels"]) == (3 * 36, 3 * SIZE**2)
    assert summary["foreground_images"] == 3
    assert summary["label_values"] == {"0": pytest.approx(1 - 36 / 576), "255": pytest.approx(36 / 576)}
    measured = measure_statistics(find_pairs(root, "train"))
    np.testing.assert_allclose(summary["mean"], measured["mean"])
    np.testing.assert_allclose(summary["std"], measured["std"])


@pytest.mark.parametrize("codes", [(0, 1), (0, 255), (0, 100), (1,), (255,)])
def test_changed_is_what_the_label_reader_says(codes, tmp_path):
    fill(tmp_path, 0, count=1)
    values = np.full((SIZE, SIZE), codes[0], np.uint8)
    values[3:9] = codes[-1]
    save(tmp_path / "label" / "0.png", values)
    ((result,), _) = check(tmp_path)
    assert (
        result.changed
        == (values == codes[-1]).sum()
        == decide_alone([tmp_path / "label" / "0.png"], PixelFormat()).mask(values).sum()
    )


@pytest.mark.parametrize("role", ["A", "B", "label"])
def test_orphan(role, root):
    (root / "val" / role / "1.png").unlink()
    finding = only(root, "orphan", ERROR)
    assert str(root / "val" / role) in finding.where
    assert "'1'" in finding.what


def test_an_orphan_is_examined_all_the_same(root):
    (root / "val" / "B" / "1.png").unlink()
    (root / "val" / "A" / "1.png").write_bytes(b"no image")
    assert kinds(root) == ["orphan", "unreadable"]


def test_two_files_of_one_name(root):
    save(root / "train" / "A" / "1.bmp", noise(9))
    finding = only(root, "two files of one name", ERROR)
    assert finding.where.endswith(("1.bmp", "1.png"))


@pytest.mark.parametrize("role", ["A", "label"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_unreadable(damage, role, root):
    path = root / "test" / role / "2.png"
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}[damage])
    assert only(root, "unreadable", ERROR).where == str(path)


def test_sizes_in_a_pair(root):
    save(root / "val" / "label" / "0.png", square((SIZE, 16)))
    finding = only(root, "sizes in a pair", ERROR)
    assert "24 x 16 pixels, but" in finding.what
    assert "has 24 x 24: a pair differs in size" in finding.what


@pytest.mark.parametrize(("split", "kind", "severity"),
    [("train", "sizes of tiles", ERROR), ("val", "sizes of images", WARNING)])  # fmt: skip
def test_sizes_across_a_split(split, kind, severity, root):
    for role in ("A", "B"):
        save(root / split / role / "0.png", noise(role == "A", (16, 16)))
    save(root / split / "label" / "0.png", square((16, 16)))
    finding = only(root, kind, severity)
    assert finding.where == str(root / split / "A" / "0.png")
    assert finding.what == "16 x 16 in 2 images; most have 24 x 24"


def test_modes(root):
    save(root / "val" / "B" / "1.png", noise(7)[..., 0])
    _, findings = check(root)
    assert {f.kind: f.severity for f in findings} == {"modes in a pair": WARNING, "modes in the split": WARNING}
    assert findings[0].what == "before RGB, after L"


@pytest.mark.parametrize("codes", [(1, 2), (0, 2), (0, 76), (0, 127)])
def test_label_codes_that_do_not_fit_together(codes, root):
    """One label of the split is coded in another way than the others, which are 0 and 255."""
    low, high = codes
    save(root / "val" / "label" / "0.png", np.where(square() > 0, high, low).astype(np.uint8))
    finding = only(root, "label codes", ERROR)
    assert f"{high}: 2.08 %" in finding.what
    assert "more than two; pass --change-value N" in finding.what


def test_colours_are_codes_of_their_own(root):
    label = np.zeros((SIZE, SIZE, 3), np.uint8)
    label[2:8, 2:8] = (0, 0, 255)
    save(root / "val" / "label" / "0.png", label)
    assert "#0000ff: 2.08 %" in only(root, "label codes", ERROR).what


def test_grey_levels_need_a_flag(root):
    label = square()
    label[2, 2:8] = 90
    save(root / "val" / "label" / "0.png", label)
    assert "90: 0.35 %" in only(root, "label codes", ERROR).what
    result = examine(survey(root)[1], 1, reading=PixelFormat(change_from=128))
    assert result.findings == []
    assert result.changed == 3 * 36 - 6


def test_one_code_holds_for_a_split(root):
    for n in range(3):
        save(root / "val" / "label" / f"{n}.png", square(value=1))
    assert kinds(root) == []
    save(root / "val" / "label" / "0.png", square())
    assert only(root, "label codes", ERROR).where == "val"


def test_the_code_of_the_first_split_holds_for_the_others(root):
    for n in range(3):
        save(root / "val" / "label" / f"{n}.png", square(value=1))
    train, val, _ = survey(root)
    reading = examine(train, 1).reading
    assert reading.change_value == 255
    (finding,) = examine(val, 1, reading=reading).findings
    assert (finding.kind, "255 means changed in the first split" in finding.what) == ("label codes", True)


@pytest.mark.parametrize(
    ("split", "value", "found"),
    [
        ("train", 0, ["no change"]), ("test", 0, ["nothing to find"]), ("val", 1, ["all changed"] * 3),
        ("val", 255, ["all changed"] * 3),
    ],
)  # fmt: skip
def test_labels_of_one_value(split, value, found, root):
    for n in range(3):
        save(root / split / "label" / f"{n}.png", np.full((SIZE, SIZE), value, np.uint8))
    _, findings = check(root)
    assert [finding.kind for finding in findings] == found
    assert {finding.severity for finding in findings} == {ERROR if split == "train" else WARNING}


def test_unchanged_labels_among_others_are_healthy(root):
    save(root / "train" / "label" / "0.png", square(value=0))
    results, findings = check(root)
    assert findings == []
    assert results[0].foreground == 2


def test_constant_image_is_found_and_is_no_leak(root):
    for split in ("train", "test"):
        save(root / split / "A" / "0.png", np.full((SIZE, SIZE, 3), 7, np.uint8))
    assert kinds(root) == ["constant image"] * 2


def test_identical_dates(root):
    shutil.copy(root / "val" / "A" / "1.png", root / "val" / "B" / "1.png")
    assert only(root, "identical dates", WARNING).where == str(root / "val" / "A" / "1.png")


def test_leak_of_an_image_in_another_format_under_another_name(root):
    Image.open(root / "train" / "A" / "2.png").save(root / "test" / "B" / "0.bmp")
    (root / "test" / "B" / "0.png").unlink()
    finding = only(root, "leak", ERROR)
    assert finding.where == str(root / "test" / "B" / "0.bmp")
    assert finding.what == f"its pixels are also in train: {root / 'train' / 'A' / '2.png'}"


def test_same_counts_of_levels_are_no_leak(root):
    """A mirrored image has every level as often; its pixels are other ones."""
    save(root / "test" / "A" / "0.png", np.array(Image.open(root / "train" / "A" / "0.png"))[::-1])
    assert kinds(root) == []


def test_leak_of_a_tile(tmp_path):
    """A 256 tile of a larger image of another split, whatever the larger one's edges."""
    fill(tmp_path / "train", 0, count=2, size=(600, 520))
    fill(tmp_path / "test", 1, count=2, size=(256, 256))
    assert kinds(tmp_path) == []
    large = np.array(Image.open(tmp_path / "train" / "B" / "1.png"))
    save(tmp_path / "test" / "B" / "0.png", large[256:512, 256:512])
    finding = only(tmp_path, "leak", ERROR)
    assert finding.what == f"its pixels are also in train: {tmp_path / 'train' / 'B' / '1.png'}"
    (tmp_path / "test").rename(tmp_path / "last")
    (tmp_path / "train").rename(tmp_path / "test")
    (tmp_path / "last").rename(tmp_path / "train")
    assert only(tmp_path, "leak", ERROR).what.startswith("1 of its 4 windows are also in train")


def test_leak_between_two_sets(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(root / "train", other / "test")
    shutil.copytree(root / "val", other / "val")
    _, findings = check(root, other)
    assert [f.kind for f in findings] == ["leak"] * 6  # train again as test; val as val is no leak
    assert all("also in train" in f.what for f in findings)


def test_everything_at_once(root):
    """Nothing hides anything else."""
    (root / "train" / "A" / "0.png").write_bytes(b"")
    (root / "train" / "B" / "1.png").unlink()
    shutil.rmtree(root / "val" / "B")
    shutil.rmtree(root / "test" / "label")
    shutil.copy(root / "test" / "A" / "1.png", root / "test" / "B" / "1.png")
    assert kinds(root) == ["identical dates", "layout", "nothing to score", "orphan", "unreadable"]


def test_split_without_a_pair(root):
    for path in (root / "val").glob("*/*"):
        path.unlink()
    assert kinds(root) == ["no pairs"]


def test_training_split_without_labels(root):
    shutil.rmtree(root / "train" / "label")
    results, findings = check(root)
    assert [f.kind for f in findings] == ["no labels"]
    assert results[0].summary()["changed_share"] is None


def test_missing_labels_are_told_as_in_training(root):
    for split in ("train", "val"):
        (root / split / "label").rename(root / split / "lables")
        with pytest.raises(FileNotFoundError, match="perhaps --label-dir lables") as raised:
            find_pairs(root, split)
        assert str(raised.value) in [f.what for f in check(root)[1]]
    assert kinds(root) == ["no labels", "nothing to score"]


@pytest.mark.parametrize("line", ["../A/1.png", "A/1.png B/1.png"])
def test_a_list_that_cannot_be_read_is_spoken_of_as_a_list(line, tmp_path):
    fill(tmp_path, 0)
    (tmp_path / "train.txt").write_text("A/0.png B/0.png label/0.png\n" * ("B/" in line) + line)
    finding = only(tmp_path, "list", ERROR)
    assert str(tmp_path / "train.txt") in finding.what
    assert "list" in finding.advice
    assert "folders" not in finding.advice


def test_flat_and_listed_sets(tmp_path):
    fill(tmp_path, 0)
    assert [(split.name, len(split.complete)) for split in survey(tmp_path)] == [("all", 3)]
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.txt").write_text("0.png\n1.png\n")
    (tmp_path / "list" / "test.txt").write_text("1.png\n7.png\n")
    _, findings = check(tmp_path)
    assert sorted(f.kind for f in findings) == ["leak", "leak", "orphan"]  # 1 is in both, 7 nowhere


def test_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder for before and after"):
        survey(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        survey(tmp_path / "nowhere")


def test_the_number_of_threads_changes_nothing(root):
    shutil.copy(root / "train" / "A" / "1.png", root / "val" / "B" / "1.png")
    (one, first), (many, second) = check(root, workers=1), check(root, workers=7)
    assert first == second
    assert [r.summary() for r in one] == [r.summary() for r in many]


def test_pair_counts(root, monkeypatch):
    results, _ = check(root)
    assert [f for result in results for f in count_findings(result, "levir")] == []  # nothing known of 24 x 24
    counts = KnownCounts(SIZE, 3, 9, 3), KnownCounts(SIZE, 4, 8, 4, certain=False)
    monkeypatch.setitem(CATALOG, "levir", replace(CATALOG["levir"], counts=counts))
    (finding,) = [f for result in results for f in count_findings(result, "levir")]
    assert (finding.kind, finding.where) == ("pair count", "val")
    assert finding.what == "3 pairs of 24 x 24; LEVIR-CD is known to have 9 or 8 (uncertain)"


def test_real_sets(real_data):
    """The leak between whole images and tiles cut from them, and grey values in one label of three."""
    _, findings = check(real_data / "levir1024", real_data / "levir")
    assert {f.kind for f in findings} == {"leak"}
    assert len(findings) == 2 * 2 * 16
    (result,), findings = check(real_data / "sztaki")
    assert [f.kind for f in findings] == ["label codes"]
    assert "more than two; pass" in findings[0].what
    assert examine(result.split, 1, reading=PixelFormat(change_from=128)).findings == []


def test_real_odd_codes(real_data):
    """Codes 1 and 2 are an error until one of them is said to mean changed; 16 bits are read without a flag."""
    (split,) = survey(real_data / "oscd_beirut")
    files = split.files["oscd_beirut"]
    pair = Pair("oscd_beirut", files["before"], files["after"])
    findings = examine(split, 1, reading=choose_reading([pair])).findings
    assert [f.kind for f in findings] == ["label codes"]
    result = examine(split, 1, reading=choose_reading([pair], labels=PixelFormat(change_value=2, named=True)))
    assert result.findings == []
    assert result.changed == (np.array(Image.open(files["label"])) == 2).sum()
    assert list(result.modes) == ["3 x uint16"]


def test_unknown_pixels_are_not_counted(tmp_path):
    """Codes 0, 1 and 255 mix two codings, unless 255 is said to mean unknown."""
    for number in range(2):
        label = np.zeros((16, 16), np.uint8)
        label[:4], label[12:] = 1, 255
        for folder, pixels in (("A", label[..., None] + np.uint8([number, 1, 2])), ("B", label + 1), ("label", label)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    (split,) = survey(tmp_path)
    assert "label codes" in {f.kind for f in examine(split, 1).findings}
    result = examine(split, 1, reading=PixelFormat(ignore_value=255))
    assert "label codes" not in {f.kind for f in result.findings}
    assert result.changed_share == 4 / 12
