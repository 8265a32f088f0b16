"""Series of folders and lists: places, the order of their dates, names of pairs, and what is refused."""

import re

import pytest

from datasets.series import MOST, find_series
from tests.datasets.test_layouts import fill


def shown(root, against_first=False):
    return {
        series.place: [(pair.name, pair.before.name, pair.after.name) for pair in series.pairs]
        for series in find_series(root, against_first)
    }


def test_a_folder_a_place_its_dates_in_order_of_numbers(tmp_path, caplog):
    caplog.set_level("INFO")
    fill(tmp_path, "bay .hidden", "t10.png", "t2.png", "t1.tif", "notes.txt")
    fill(tmp_path, "cape", "2018.png", "2021.png")
    fill(tmp_path, "empty")
    assert shown(tmp_path) == {
        "bay": [("bay_t1__t2", "t1.tif", "t2.png"), ("bay_t2__t10", "t2.png", "t10.png")],
        "cape": [("cape_2018__2021", "2018.png", "2021.png")],
    }
    assert "order of dates in bay: t1, t2, t10" in caplog.text
    assert [name for name, _, _ in shown(tmp_path, True)["bay"]] == ["bay_t1__t2", "bay_t1__t10"]
    assert list(shown(tmp_path / "bay")) == ["bay"]


def test_what_a_date_means_depends_on_what_it_is_compared_with(tmp_path):
    fill(tmp_path, ".", "2015.png", "2018.png", "2021.png")
    words = {first: find_series(tmp_path, first)[0].meanings for first in (False, True)}
    assert words[False] == ["2018: changed since 2015", "2021: changed since 2018"]
    assert words[True] == ["2018: first differs from 2015", "2021: first differs from 2015"]


def test_a_list_above_its_images(tmp_path):
    """A place a line; images of one name are told apart by their folders, here of dates."""
    fill(tmp_path, "in/2015 in/2018 in/2021", "bay.png", "big cape.png")
    listed = tmp_path / "places.txt"
    rows = "bay in/2015/bay.png in/2018/bay.png\n# comment\nbig cape, in/2021/big cape.png, {}/in/2015/big cape.png\n"
    listed.write_text(rows.format(tmp_path))
    assert shown(listed) == {
        "bay": [("bay_2015_bay__2018_bay", "bay.png", "bay.png")],
        "big cape": [("big cape_2021_big cape__2015_big cape", "big cape.png", "big cape.png")],
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [("bay 1.png 4.png", "line 1: {}/4.png does not exist; a line of a list names a place"),
     ("1.png 2.png 3.png", "line 1: '1.png' is no new name of a place"),
     ("some/bay 1.png 2.png", "line 1: 'some/bay' is no new name of a place"),
     ("bay 1.png 2.png\nbay 2.png 3.png", "line 2: 'bay' is no new name of a place"),
     ("bay 1.png", "bay: 1 image; a series has 2 to 255 dates"),
     ("bay 1.png 2.png 1.png", "bay: two images have one name (1, 2, 1)"),
     ("a 1.png 2.png\nA 1.png 2.png", "two pairs are called a_1__2; rename a place"),
     (", 1.png, 2.png", "line 1: '' is no new name of a place"),
     ("# nothing", "no images, no folder of images, nor a line")],
)  # fmt: skip
def test_lines_that_are_refused(line, says, tmp_path):
    fill(tmp_path, ".", "1.png", "2.png", "3.png")
    (tmp_path / "places.txt").write_text(line)
    with pytest.raises(ValueError, match=re.escape(says.format(tmp_path))):
        find_series(tmp_path / "places.txt", False)


def test_folders_of_dates_are_refused(tmp_path):
    fill(tmp_path, "summer_2018 summer_2021", "bay.png", "cape.png")
    with pytest.raises(ValueError, match="the folders summer_2018, summer_2021 are named by dates"):
        find_series(tmp_path, False)
    (tmp_path / "summer_2021").rename(tmp_path / "winter_2021")
    assert len(find_series(tmp_path, False)) == 2  # these may be places


def test_folders_that_are_refused(tmp_path):
    fill(tmp_path, "bay", "1.png", "1.tif")
    with pytest.raises(ValueError, match=r"bay: two images have one name \(1, 1\)"):
        find_series(tmp_path, False)
    fill(tmp_path, ".", "1.png")
    with pytest.raises(ValueError, match="holds both images and folders of images, such as bay"):
        find_series(tmp_path, False)
    fill(tmp_path, "many", *(f"{number}.png" for number in range(MOST + 1)))
    with pytest.raises(ValueError, match="many: 256 images; a series has 2 to 255 dates"):
        find_series(tmp_path / "many", False)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_series(tmp_path / "mane", False)
    fill(tmp_path, "years/2018 years/2021-06", "bay.png", "cape.png")
    with pytest.raises(ValueError, match="years: the folders 2018, 2021-06 are named by dates, but .* pass a list"):
        find_series(tmp_path / "years", False)
