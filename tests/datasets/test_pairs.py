"""Finding pairs: every layout, nothing matched wrongly, every gap by its name."""

import numpy as np
import pytest
from PIL import Image

from datasets.layouts import has_split
from datasets.pairs import find_pairs, fingerprint, image_fingerprint, match_pairs


def fill(folder, names, value=0):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(folder / name)


def make(root, before="A", after="B", label="label", names=("b.png", "a.png")):
    for folder in (before, after, label):
        if folder:
            fill(root / folder, names)


@pytest.mark.parametrize(
    "folders",
    [("A", "B", "label"), ("A", "B", "OUT"), ("time1", "time2", "label"), ("Image1", "Image2", "label"),
     ("t1", "t2", "mask"), ("im1", "im2", "label"), ("before", "after", "change"), ("T1", "T2", "GT")],
)  # fmt: skip
def test_split_folders_of_every_set(folders, tmp_path):
    for split in ("train", "Test"):
        make(tmp_path / split, *folders)
    pairs = find_pairs(tmp_path, "test")
    assert [p.name for p in pairs] == ["a", "b"]
    assert [p.before.parent.name for p in pairs] == [folders[0]] * 2
    assert pairs[0].after == tmp_path / "Test" / folders[1] / "a.png"
    assert pairs[0].label == tmp_path / "Test" / folders[2] / "a.png"


def test_list_files(tmp_path):
    make(tmp_path, names=[f"{n}.png" for n in range(5)])
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.txt").write_text("\ufeff3.png 1\n0.png 0\n\n3.png 1\n", encoding="utf-8")
    (tmp_path / "list" / "test.txt").write_text("4\n")
    assert [p.name for p in find_pairs(tmp_path, "train")] == ["0", "3"]
    assert [p.name for p in find_pairs(tmp_path, "test")] == ["4"]
    assert not has_split(tmp_path, "val")
    with pytest.raises(FileNotFoundError, match="no split 'val'; there is train, test"):
        find_pairs(tmp_path, "val")
    (tmp_path / "list" / "val.txt").write_text("7.png\n")
    with pytest.raises(ValueError, match=r"val\.txt, line 1: '7\.png' names no image of A/B/label"):
        find_pairs(tmp_path, "val")


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_names_of_the_validation_split(name, tmp_path):
    make(tmp_path / "train")
    make(tmp_path / name)
    assert has_split(tmp_path, "val")
    assert find_pairs(tmp_path, "val")[0].before.parent.parent.name == name


def test_flat_folder_serves_any_split(tmp_path):
    make(tmp_path)
    assert len(find_pairs(tmp_path, "train")) == len(find_pairs(tmp_path, "test")) == 2


def test_label_is_optional_only_where_asked(tmp_path):
    make(tmp_path, label=None)
    assert [p.label for p in find_pairs(tmp_path, "test", labels=False)] == [None, None]
    with pytest.raises(FileNotFoundError, match=r"no folder for label \(looked for label as label, out, mask"):
        find_pairs(tmp_path, "test")


def test_suffixes_may_differ_in_kind_and_case(tmp_path):
    fill(tmp_path / "A", ["x.png"])
    fill(tmp_path / "B", ["x.JPG"])
    fill(tmp_path / "label", ["x.bmp"])
    (pair,) = find_pairs(tmp_path, "test")
    assert (pair.before.suffix, pair.after.suffix, pair.label.suffix) == (".png", ".JPG", ".bmp")


@pytest.mark.parametrize("gap", ["A", "B", "label"])
def test_orphans_are_named(gap, tmp_path):
    make(tmp_path, names=["a.png", "b.png", "c.png"])
    (tmp_path / gap / "b.png").unlink()
    with pytest.raises(ValueError, match=rf"{gap}: 1 of 3 names have no .* image, first 'b'"):
        find_pairs(tmp_path, "test", labels=False)


def test_names_in_different_forms_of_unicode_belong_together(tmp_path):
    """macOS keeps accents apart (NFD), others do not (NFC)."""
    apart, together = "Zu\u0308rich.png", "Z\u00fcrich.png"
    for folder, name in (("A", apart), ("B", together), ("label", together)):
        fill(tmp_path / folder, [name])
    (pair,) = find_pairs(tmp_path, "test")
    assert pair.name == apart.removesuffix(".png")
    assert (pair.before.name, pair.after.name, pair.label.name) == (apart, together, together)


def test_an_empty_label_folder_is_no_labels(tmp_path, caplog):
    make(tmp_path, label=None)
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "a.npy").touch()
    with caplog.at_level("INFO"):
        assert [p.label for p in find_pairs(tmp_path, "test", labels=False)] == [None, None]
        assert [p.label for p in match_pairs(*(tmp_path / name for name in ("A", "B", "label")))] == [None, None]
    assert sum("label: no images in the label folder" in message for message in caplog.messages) == 2
    with pytest.raises(ValueError, match=r"label: no images in the label folder \(\.png, .*; add the labels"):
        find_pairs(tmp_path, "test")


def test_broken_links_are_pairs_that_training_refuses(tmp_path):
    make(tmp_path)
    (tmp_path / "B" / "a.png").unlink()
    (tmp_path / "B" / "a.png").symlink_to(tmp_path / "gone.png")
    pairs = find_pairs(tmp_path, "test", labels=False)
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert "a.png" in pairs[0].stamp
    assert fingerprint(pairs) != image_fingerprint(pairs)
    with pytest.raises(ValueError, match=r"B/a\.png: broken link to .*gone\.png; mend the link"):
        find_pairs(tmp_path, "test")
    (tmp_path / "test.txt").write_text("A/a.png B/a.png label/a.png\n")  # in a list, too
    assert [pair.name for pair in find_pairs(tmp_path, "test", labels=False)] == ["a"]


def test_images_in_inner_folders_are_pointed_at(tmp_path):
    make(tmp_path, "A/city", "B/city", "label/city")
    with pytest.raises(ValueError, match=r"A: no images here .*; those in .*A/city must lie in the folder itself"):
        find_pairs(tmp_path, "test")


def test_two_files_of_one_name(tmp_path):
    make(tmp_path)
    fill(tmp_path / "A", ["a.jpg"])
    with pytest.raises(ValueError, match="a second file for the name 'a'"):
        find_pairs(tmp_path, "test")


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder; --data-root"):
        find_pairs(tmp_path / "nowhere", "test")
    with pytest.raises(FileNotFoundError, match="no folder for before and after and label.*there is nothing"):
        find_pairs(tmp_path, "test")
    make(tmp_path, names=())
    with pytest.raises(ValueError, match="no images here"):
        find_pairs(tmp_path, "test")


def test_three_folders_by_hand(tmp_path):
    make(tmp_path, "old", "new", "truth")
    pairs = match_pairs(tmp_path / "old", tmp_path / "new", tmp_path / "truth")
    assert [p.label.parent.name for p in pairs] == ["truth"] * 2
    with pytest.raises(FileNotFoundError, match="missing: no such folder"):
        match_pairs(tmp_path / "old", tmp_path / "missing")


def test_fingerprint_follows_names_and_sizes(tmp_path):
    make(tmp_path)
    pairs = find_pairs(tmp_path, "train")
    first = fingerprint(pairs)
    assert fingerprint(find_pairs(tmp_path, "train")) == first
    assert fingerprint(pairs[:1]) != first
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(tmp_path / "A" / "a.png")
    assert fingerprint(pairs) != first


def test_real_layouts(real_data):
    """Published sets open under their own layout without a word about it."""
    counts = {
        "levir": ("train", 53), "levir1024": ("test", 2), "dsifn": ("test", 10), "sztaki": ("test", 3),
        "levir_methods": ("test", 7),
    }  # fmt: skip
    assert {name: (split, len(find_pairs(real_data / name, split))) for name, (split, _) in counts.items()} == counts
