"""Layouts beyond split folders: lists, single pairs, folders of any name; and hints if none fits."""

import re

import pytest

from datasets.layouts import list_images
from datasets.pairs import find_pairs


def fill(root, folders, *names):
    """Make empty files in some folders, since no image is opened to find pairs."""
    for folder in folders.split():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).touch()


def parts(pair, root):
    return [path.relative_to(root).as_posix() for path in pair.files]


@pytest.mark.parametrize("place", ["list/{}.txt", "{}.txt", "lists/{}.txt"])
def test_text_files_of_paths(place, tmp_path):
    fill(tmp_path, "images", "1_2016.png", "1_2020.png", "2_2016.png", "2_2020.png")
    fill(tmp_path, "truth", "1.png", "2.png")
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
    fill(tmp_path, "a b c", "x y.png")
    fill(tmp_path, "b", "z.png")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("a/x y.png\tb/x y.png\tc/x y.png\nb/x y.png\tb/z.png\tc/x y.png\n" * 2)
    assert [p.name for p in find_pairs(pairs, "train")] == ["x y__x y", "x y__z"]
    pairs.write_text("a/x y.png\tb/x y.png\tb/z.png\na/x y.png\tb/x y.png\tc/x y.png\n")
    with pytest.raises(ValueError, match=r"pairs\.txt, line 2: a second pair of the name 'a_x y__b_x y'"):
        find_pairs(pairs, "train")
    pairs.write_text("a/x y.png\tb/x y.png\n")
    assert find_pairs(pairs, "test", labels=False)[0].label is None
    with pytest.raises(ValueError, match="every line must name the files before, after and label"):
        find_pairs(pairs, "train")
    pairs.write_text("a/x y.png\tb/Z.png\tc/x y.png\n")
    with pytest.raises(ValueError, match=r"pairs\.txt, line 1: .*b/Z\.png does not exist \(nearest: 'z\.png'\); mend"):
        find_pairs(pairs, "train")


@pytest.mark.parametrize(
    ("lines", "names"),
    [(("a/1 a/2", "a/2 a/3"), ["1__2", "2__3"]),
     (("a/1 a/2", "a/1 a/3"), ["1__2", "1__3"]),
     (("a/1 a/2", "b/1 b/3"), ["a_1", "b_1"]),
     (("a/1 a/2", "a/1 b/2", "b/1 b/3"), ["a_1__a_2", "a_1__b_2", "b_1__b_3"])],
)  # fmt: skip
@pytest.mark.parametrize("absolute", [False, True])
def test_an_image_in_many_pairs(lines, names, absolute, tmp_path):
    """The list lies two folders above the images, or elsewhere and has absolute paths."""
    fill(tmp_path / "some" / "towns", "a b", "1.png", "2.png", "3.png")
    listed = tmp_path / ("lists" if absolute else ".") / "pairs.txt"
    listed.parent.mkdir(exist_ok=True)
    start = f"{tmp_path}/lists/../some/towns" if absolute else "some/towns"
    rows = [[f"{start}/{cell}.png" for cell in line.split()] for line in lines]
    listed.write_text("".join("\t".join(row) + "\n" for row in rows))
    pairs = find_pairs(listed, "test", labels=False)
    assert [pair.name for pair in pairs] == names
    found = [[f"{path.parent.name}/{path.stem}" for path in pair.files] for pair in pairs]
    assert found == [line.split() for line in lines]


@pytest.mark.parametrize("name", ["../secret.png", "A/../../x.png", "..\\secret.png"])
def test_listed_names_stay_in_the_root(name, tmp_path):
    fill(tmp_path, "set/A set/B set/label", "1.png")
    fill(tmp_path, ".", "secret.png", "x.png")
    listed = tmp_path / "set" / "train.txt"
    for lines in (f"1.png\n{name}\n", f"A/1.png B/1.png label/1.png\nA/1.png {name} label/1.png\n"):
        listed.write_text(lines)
        with pytest.raises(ValueError, match=r"train\.txt, line 2: .* leaves the data set's folder"):
            find_pairs(tmp_path / "set", "train")


def test_absolute_paths_must_exist(tmp_path):
    root = tmp_path / "set"
    fill(root, "A B label elsewhere", "1.png")
    fill(tmp_path, ".", "other.png")
    listed = root / "train.txt"
    for name in (root / "A" / "1.png", root / "label" / "1.png"):
        listed.write_text(f"{name}\n")
        assert [pair.name for pair in find_pairs(root, "train")] == ["1"]
    for name in (root / "elsewhere" / "1.png", "elsewhere/1.png", "/nowhere/A/1.png", "C:\\A\\1.png"):
        listed.write_text(f"1.png\n{name}\n")
        with pytest.raises(ValueError, match=r"train\.txt, line 2: .* names no image of A/B/label \("):
            find_pairs(root, "train")
    listed.write_text(f"A/1.png {tmp_path / 'other.png'} label/1.png\n")
    assert find_pairs(root, "train")[0].after == tmp_path / "other.png"
    for name in ("/nowhere/1.png", "C:\\x.png"):
        listed.write_text(f"A/1.png B/1.png label/1.png\nA/1.png {name} label/1.png\n")
        with pytest.raises(ValueError, match=r"train\.txt, line 2: .* does not exist; mend the path"):
            find_pairs(root, "train")


@pytest.fixture
def listed(tmp_path):
    """A data set, and what a list in it names."""
    names = "img 1.png", "img 2.png", "img.png", "#1.png", "p1.png", "a,b.png", "Zu\u0308rich.png"
    fill(tmp_path, "A B label", *names)

    def names_of(*lines, path="list/train.txt", labels=True):
        (tmp_path / "list").mkdir(exist_ok=True)
        (tmp_path / path).write_bytes("\n".join(lines).encode())
        return [pair.name for pair in find_pairs(tmp_path, "train", labels)]

    return names_of


@pytest.mark.parametrize(
    ("line", "name"),
    [("img 1.png", "img 1"), ("img 1", "img 1"), ('"img 1.png"', "img 1"), ("'img 1.png'", "img 1"),
     ("img 1.png\t0", "img 1"), ("img 1.png, 0", "img 1"), ("p1.png 0", "p1"), ("p1.png p1.png p1.png", "p1"),
     ("p1.jpg", "p1"), ("B\\p1.png", "p1"), ("./p1.png", "p1"), ("data/A/p1.png", "p1"), ("  p1.png\t", "p1"),
     ("a,b.png", "a,b"), ("#1.png", "#1"), ("Z\u00fcrich.png", "Zu\u0308rich"),
     ("A/p1.png B/img 1.png".replace(" ", "\t", 1), "p1"), ("A/p1.png, B/p1.png, label/p1.png", "p1"),
     ("A/a,b.png B/p1.png label/p1.png", "a,b"), ('"A/img 1.png" "B/img 1.png" "label/img 1.png"', "img 1"),
     ("A\\img 1.png\tB\\p1.png\tlabel\\p1.png", "img 1"),
     ("A/Z\u00fcrich.png B/Z\u00fcrich.png label/Zu\u0308rich.png", "Zu\u0308rich")],
)  # fmt: skip
def test_the_whole_line_is_a_name_before_its_columns_are(line, name, listed):
    without_label = line.count("/") == 2
    assert listed("# a comment of many words", line, "", line, labels=not without_label) == [name]


def test_a_list_of_paths_without_any_file_is_one_of_paths(tmp_path):
    fill(tmp_path, "images", "1.png")
    (tmp_path / "train.txt").write_text("imagery/1.png imagery/2.png truth/1.png\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 1: .*1\.png does not exist"):
        find_pairs(tmp_path, "train")


def test_names_that_only_some_file_systems_tell_apart(tmp_path):
    fill(tmp_path, "a", "Tile.png")
    fill(tmp_path, "b c", "tile.png")
    (tmp_path / "pairs.txt").write_text("a/Tile.png c/tile.png\nb/tile.png c/tile.png\n")
    pairs = find_pairs(tmp_path / "pairs.txt", "test", labels=False)
    assert [pair.name for pair in pairs] == ["a_Tile__c_tile", "b_tile__c_tile"]


@pytest.mark.parametrize("path", ["list/train.TXT", "Train.txt", "list/TRAIN.txt"])
def test_lists_are_found_in_any_case(path, listed):
    assert listed("p1.png", path=path) == ["p1"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [(("p1.png", "img 3.png"), "line 2: 'img 3.png' names no image of A/B/label (nearest: 'img 2')"),
     (("img 3",), "line 1: 'img 3' names no image of A/B/label (nearest: 'img 2')"),
     (("p1.png img.png",), "line 1: 'p1.png img.png' is no image, and its columns are different ones"),
     (("p1.png;img.png",), "line 1: 'p1.png;img.png' names no image of A/B/label (there is '#1')"),
     (("image", "p1.png"), "line 1: 'image' names no image of A/B/label (there is '#1'); mend or remove the line"),
     (("name,label", "p1.png,1"), "line 1: 'name,label' names no image"),
     (("P1.PNG",), "line 1: 'P1.PNG' names no image of A/B/label (nearest: 'p1')"),
     (("A/img 1.png B/img 1.png label/img 1.png",), "line 1: 6 columns, but a line names at most before, after and"),
     (("p1.png\t\t1",), "line 1: column 2 is empty"),
     (("A/p1.png\tB/p1.png\tlabel/p1.png", "A/p1.png\t\tlabel/p1.png"), "line 2: column 2 is empty"),
     (("A/p1.png\tB/p1.png\tlabel/p1.png", "\tB/p1.png\tlabel/p1.png"), "line 2: column 1 is empty"),
     (("A/p1.png\tB/p1.png\tlabel/p1.png", "A/img.png\tB/img.png\t"), "columns here: 2, in the first line: 3"),
     (("before,after,label", "A/p1.png,B/p1.png,label/p1.png"), "line 1: {}/before does not exist"),
     (("A/p2.png B/p2.png label/p2.png",), "line 1: 'A/p2.png B/p2.png label/p2.png' names no image"),
     ((" ",), "the list is empty"), (("# nothing",), "the list is empty")],
)  # fmt: skip
def test_lines_that_name_no_pair_are_named(lines, says, listed, tmp_path):
    with pytest.raises(ValueError, match=re.escape(says.format(tmp_path))):
        listed(*lines)


def test_a_folder_of_one_pair(tmp_path):
    root = tmp_path / "beirut"
    fill(root, ".", "Before.tif", "after.tif", "label.png", "notes.png")
    (pair,) = find_pairs(root, "test")
    assert pair.name == "beirut"
    assert parts(pair, root) == ["Before.tif", "after.tif", "label.png"]
    (root / "label.png").unlink()
    assert find_pairs(root, "test", labels=False)[0].label is None
    with pytest.raises(FileNotFoundError, match="no folder for"):
        find_pairs(root, "test")


def test_folders_of_any_name(tmp_path):
    for split in ("train", "test"):
        fill(tmp_path / split, "images/2016 images/2020 truth", f"{split}.png")
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
    root = tmp_path / "LEVIR-CD"
    fill(root / "train", "A B lable", "train_1.png", "train_2.png")
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


def test_names_that_differ_by_a_date_get_the_line_of_a_list(tmp_path):
    fill(tmp_path, "set/A", "city_2018.png", "port_2018.png")
    fill(tmp_path, "set/B", "city_2024.png", "port_2024.png")
    fill(tmp_path, "set/label", "city.png", "port.png")
    with pytest.raises(ValueError, match="names differ by a date or a word") as raised:
        find_pairs(tmp_path / "set", "train")
    line = "A/city_2018.png B/city_2024.png label/city.png"
    assert repr(line) in str(raised.value)
    (tmp_path / "set" / "pairs.txt").write_text(line)
    assert [pair.name for pair in find_pairs(tmp_path / "set" / "pairs.txt", "train")] == ["city_2018"]
    fill(tmp_path, "flat", "old town-2024-07-01.png", "old town-2018-06.png", "old town.png")
    with pytest.raises(FileNotFoundError, match=re.escape("'old town-2018-06.png, old town-2024-07-01.png, old town.")):
        find_pairs(tmp_path / "flat", "train")
    fill(tmp_path, "words", "7_pre.png", "7_post.png", "8_pre.png")
    with pytest.raises(FileNotFoundError, match="'7_pre.png 7_post.png'"):
        find_pairs(tmp_path / "words", "test", labels=False)
    fill(tmp_path / "folders", "x_2024 x_2018 label", "1.png")
    with pytest.raises(FileNotFoundError, match="perhaps --before-dir x_2018 --after-dir x_2024"):
        find_pairs(tmp_path / "folders", "test")


def test_names_that_are_only_missing_get_no_line_of_a_list(tmp_path):
    fill(tmp_path, "A B", "x_2018_0000.png")
    fill(tmp_path, "A", "x_2018_0256.png")
    with pytest.raises(ValueError, match="first 'x_2018_0256'; add the files or remove their partners"):
        find_pairs(tmp_path, "test", labels=False)
