"""Pairs are found in every layout, nothing is matched wrongly, and every gap is named."""

import numpy as np
import pytest

from datasets.layouts import has_split
from datasets.pairs import find_pairs, fingerprint, image_marks, marks_in, match_pairs
from tests.conftest import ROLES, write_image, write_pairs


@pytest.mark.parametrize(
    "folders",
    [("A", "B", "label"), ("A", "B", "OUT"), ("time1", "time2", "label"), ("Image1", "Image2", "label"),
     ("t1", "t2", "mask"), ("im1", "im2", "label"), ("before", "after", "change"), ("T1", "T2", "GT")],
)  # fmt: skip
def test_split_folders_of_every_set(folders, tmp_path):
    write_pairs(tmp_path / "train", folders=folders)
    pairs = write_pairs(tmp_path / "Test", folders=folders)
    assert find_pairs(tmp_path, "test") == pairs


def test_list_files(tmp_path):
    write_pairs(tmp_path, "01234")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.txt").write_text("\ufeff3.png 1\n0.png 0\n\n3.png 1\n", encoding="utf-8")
    assert [p.name for p in find_pairs(tmp_path, "train")] == ["0", "3"]
    assert not has_split(tmp_path, "val")


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_names_of_the_validation_split(name, tmp_path):
    write_pairs(tmp_path / "train")
    pairs = write_pairs(tmp_path / name)
    assert has_split(tmp_path, "val")
    assert find_pairs(tmp_path, "val") == pairs


def test_flat_folder_serves_any_split(tmp_path):
    assert write_pairs(tmp_path) == find_pairs(tmp_path, "train") == find_pairs(tmp_path, "test")


def test_label_is_optional_only_where_asked(tmp_path):
    assert write_pairs(tmp_path, folders=("A", "B")) == find_pairs(tmp_path, "test", labels=False)
    with pytest.raises(FileNotFoundError, match=r"no folder for label \(looked for label as label, out, mask"):
        find_pairs(tmp_path, "test")


@pytest.mark.parametrize(
    "names",
    [("x.png", "x.JPG", "x.bmp"), ("Zu\u0308rich.png", "Z\u00fcrich.png", "Z\u00fcrich.png")],
)
def test_suffixes_and_forms_of_unicode_may_differ(names, tmp_path):
    """MacOS stores accents apart (NFD), others do not (NFC)."""
    paths = [tmp_path / role / name for role, name in zip(ROLES, names, strict=True)]
    files = [write_image(path, np.zeros((8, 8), np.uint8)) for path in paths]
    (pair,) = find_pairs(tmp_path, "test")
    assert (pair.name, pair.files) == (names[0][:-4], files)


@pytest.mark.parametrize("gap", ROLES)
def test_orphans_are_named(gap, tmp_path):
    write_pairs(tmp_path, "abc")
    (tmp_path / gap / "b.png").unlink()
    with pytest.raises(ValueError, match=rf"{gap}: 1 of 3 names have no .* image, first 'b'"):
        find_pairs(tmp_path, "test", labels=False)


def test_an_empty_label_folder_is_no_labels(tmp_path, caplog):
    pairs = write_pairs(tmp_path, folders=("A", "B"))
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "a.npy").touch()
    with caplog.at_level("INFO"):
        assert find_pairs(tmp_path, "test", labels=False) == pairs
        assert match_pairs(*(tmp_path / role for role in ROLES)) == pairs
    assert sum("label: no images in the label folder" in message for message in caplog.messages) == 2
    with pytest.raises(ValueError, match=r"label: no images in the label folder \(\.png, .*; add the labels"):
        find_pairs(tmp_path, "test")


def test_broken_links_are_pairs_that_training_refuses(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / "B" / "a.png").unlink()
    (tmp_path / "B" / "a.png").symlink_to(tmp_path / "gone.png")
    pairs = find_pairs(tmp_path, "test", labels=False)
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert "a.png" in pairs[0].stamp
    assert [len(mark) for mark in image_marks(pairs)] == [0, 12]
    with pytest.raises(ValueError, match=r"B/a\.png: broken link to .*gone\.png; mend the link"):
        find_pairs(tmp_path, "test")
    (tmp_path / "test.txt").write_text("A/a.png B/a.png label/a.png\n")  # in a list, too
    assert [pair.name for pair in find_pairs(tmp_path, "test", labels=False)] == ["a"]


def test_images_in_inner_folders_are_pointed_at(tmp_path):
    write_pairs(tmp_path, folders=("A/city", "B/city", "label/city"))
    with pytest.raises(ValueError, match=r"A: no images here .*; those in .*A/city must lie in the folder itself"):
        find_pairs(tmp_path, "test")


def test_two_files_of_one_name(tmp_path):
    (pair, _) = write_pairs(tmp_path)
    pair.before.with_suffix(".jpg").touch()
    with pytest.raises(ValueError, match="a second file for the name 'a'"):
        find_pairs(tmp_path, "test")


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder; --data-root"):
        find_pairs(tmp_path / "nowhere", "test")
    with pytest.raises(FileNotFoundError, match="no folder for before and after and label.*there is nothing"):
        find_pairs(tmp_path, "test")
    for role in ROLES:
        (tmp_path / role).mkdir()
    with pytest.raises(ValueError, match="no images here"):
        find_pairs(tmp_path, "test")


def test_three_folders_by_hand(tmp_path):
    pairs = write_pairs(tmp_path, folders=("old", "new", "truth"))
    assert match_pairs(tmp_path / "old", tmp_path / "new", tmp_path / "truth") == pairs
    with pytest.raises(FileNotFoundError, match="missing: no such folder"):
        match_pairs(tmp_path / "old", tmp_path / "missing")


def test_marks_are_of_the_content(tmp_path):
    """Not of names; any byte of a small image counts, and with labels any byte of these."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    other = noise.copy()
    other[40, 40] = 0
    label = np.zeros((64, 64), np.uint8)
    write_pairs(tmp_path, {"a": (noise, noise, label), "b": (noise, noise, label + 255), "c": (noise, other, label)})
    pairs = find_pairs(tmp_path, "train")
    one, two, three = image_marks(pairs)
    assert one == two != three
    assert len(set(image_marks(pairs, labels=True))) == 3
    assert marks_in({"trained_on": [one, ""]}) == {one}
    assert marks_in({"trained_on": one}) == marks_in({}) == set()  # a text, of an older version


def test_fingerprint_follows_names_and_sizes(tmp_path):
    pairs = write_pairs(tmp_path)
    first = fingerprint(pairs)
    assert fingerprint(find_pairs(tmp_path, "train")) == first
    assert fingerprint(pairs[:1]) != first
    write_image(pairs[0].before, np.zeros((8, 8), np.uint8))
    assert fingerprint(pairs) != first


def test_real_layouts(real_data):
    """Published sets are found as they are distributed."""
    counts = {"levir": ("train", 53), "levir1024": ("test", 2), "dsifn": ("test", 10), "sztaki": ("test", 3)}
    counts["levir_methods"] = ("test", 7)
    assert {name: (split, len(find_pairs(real_data / name, split))) for name, (split, _) in counts.items()} == counts
