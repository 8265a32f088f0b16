"""Arrangements beyond split folders: lists of paths, single pairs, folders of any name; and hints on failure."""

import numpy as np
import pytest
from PIL import Image

from datasets.layouts import list_images
from datasets.pairs import find_pairs


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)


def parts(pair, root):
    return [path and path.relative_to(root).as_posix() for path in (pair.before, pair.after, pair.label)]


@pytest.mark.parametrize("place", ["list/{}.txt", "{}.txt", "lists/{}.txt"])
def test_text_files_of_paths(place, tmp_path):
    fill(tmp_path / "images", "1_2016.png", "1_2020.png", "2_2016.png", "2_2020.png")
    fill(tmp_path / "truth", "1.png", "2.png")
    for split, number in (("train", 1), ("test", 2)):
        path = tmp_path / place.format(split)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"images/{number}_2016.png images/{number}_2020.png truth/{number}.png\n\n")
    (pair,) = find_pairs(tmp_path, "test")
    assert pair.name == "2_2016"
    assert parts(pair, tmp_path) == ["images/2_2016.png", "images/2_2020.png", "truth/2.png"]
    with pytest.raises(FileNotFoundError, match="no split 'val'; there is train, test"):
        find_pairs(tmp_path, "val")


def test_a_text_file_as_the_data_set(tmp_path):
    fill(tmp_path / "a", "x y.png")
    fill(tmp_path / "b", "x y.png", "z.png")
    fill(tmp_path / "c", "x y.png")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("a/x y.png\tb/x y.png\tc/x y.png\nb/x y.png\tb/z.png\tc/x y.png\n" * 2)
    assert [p.name for p in find_pairs(pairs, "train")] == ["a_x y", "b_x y"]  # one stem, two folders
    pairs.write_text("a/x y.png\tb/x y.png\tc/x y.png\na/x y.png\tb/z.png\tc/x y.png\n")
    with pytest.raises(ValueError, match=r"pairs\.txt: a/x y\.png is in two pairs"):
        find_pairs(pairs, "train")
    pairs.write_text("a/x y.png\tb/x y.png\n")
    assert find_pairs(pairs, "test", labels=False)[0].label is None
    with pytest.raises(ValueError, match="every line must name the files before, after and label"):
        find_pairs(pairs, "train")
    pairs.write_text("a/x y.png\tb/gone.png\tc/x y.png\n")
    with pytest.raises(ValueError, match=r"pairs\.txt: 1 of 1 names have no after image, first 'x y'"):
        find_pairs(pairs, "train")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "A/../../x.png", "..\\secret.png", "C:\\x.png"])
def test_listed_names_stay_in_the_root(name, tmp_path):
    for folder in ("A", "B", "label"):
        fill(tmp_path / "set" / folder, "1.png")
    fill(tmp_path, "secret.png", "x.png")
    listed = tmp_path / "set" / "train.txt"
    listed.write_text(f"1.png\n{name}\n")
    with pytest.raises(ValueError, match=r"train\.txt: .* leaves the data set's folder"):
        find_pairs(tmp_path / "set", "train")
    listed.write_text(f"A/1.png B/1.png label/1.png\nA/1.png {name} label/1.png\n")
    with pytest.raises(ValueError, match=r"train\.txt: .* leaves the data set's folder"):
        find_pairs(tmp_path / "set", "train")


def test_a_folder_of_one_pair(tmp_path):
    fill(tmp_path / "beirut", "Before.tif", "after.tif", "label.png", "notes.png")
    (pair,) = find_pairs(tmp_path / "beirut", "test")
    assert pair.name == "beirut"
    assert parts(pair, tmp_path / "beirut") == ["Before.tif", "after.tif", "label.png"]
    (tmp_path / "beirut" / "label.png").unlink()
    assert find_pairs(tmp_path / "beirut", "test", labels=False)[0].label is None
    with pytest.raises(FileNotFoundError, match="no folder for"):
        find_pairs(tmp_path / "beirut", "test")


def test_folders_of_any_name(tmp_path):
    for split in ("train", "test"):
        for folder in ("images/2016", "images/2020", "truth"):
            fill(tmp_path / split / folder, f"{split}.png")
    names = {"before": "images/2016", "after": "images/2020", "label": "truth"}
    (pair,) = find_pairs(tmp_path, "test", folders=names)
    assert parts(pair, tmp_path) == ["test/images/2016/test.png", "test/images/2020/test.png", "test/truth/test.png"]
    absolute = {role: str(tmp_path / "train" / name) for role, name in names.items()}
    (pair,) = find_pairs(tmp_path, "train", folders=absolute)
    assert pair.name == "train"
    with pytest.raises(FileNotFoundError, match="no folder for after"):
        find_pairs(tmp_path, "test", folders=names | {"after": "images/2021"})


@pytest.mark.parametrize(("given", "meant"), [("masks/BTI", "BIT"), ("mask/BIT", "masks"), ("masks/SNUNet", "")])
def test_a_folder_that_is_not_there_names_the_nearest(given, meant, tmp_path):
    (tmp_path / "masks" / "BIT").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as error:
        list_images(tmp_path / given)
    assert str(error.value) == f"{tmp_path / given}: no such folder" + (f" (nearest: {meant!r})" if meant else "")


def test_what_may_have_been_meant_is_named(tmp_path):
    for folder in ("A", "B", "lable"):
        fill(tmp_path / "LEVIR-CD" / "train" / folder, "train_1.png", "train_2.png")
    root = tmp_path / "LEVIR-CD"
    with pytest.raises(
        FileNotFoundError, match="no folder for label .* there is A, B, lable; perhaps --label-dir lable"
    ):
        find_pairs(root, "train")
    with pytest.raises(FileNotFoundError, match=r"LEVIR_CD: no such folder \(nearest: 'LEVIR-CD'\); --data-root takes"):
        find_pairs(tmp_path / "LEVIR_CD", "train")
    with pytest.raises(FileNotFoundError, match="perhaps --data-root .*LEVIR-CD"):
        find_pairs(tmp_path, "train")
    (root / "train" / "lable").rename(root / "train" / "label")
    (root / "train" / "B" / "train_2.png").rename(root / "train" / "B" / "train_02.png")
    with pytest.raises(
        ValueError, match=r"A: 1 of 3 names have no before image, first 'train_02' \(nearest: 'train_2'"
    ):
        find_pairs(root, "train")
