"""What a prediction comes to, in words."""

import pytest

from utils.prediction.summary import title_of


@pytest.mark.parametrize(
    ("images", "after", "split", "title"),
    [
        ("sets/LEVIR-CD-256", None, "test", "Changes in LEVIR-CD-256, test"),
        ("sets/all", None, "all", "Changes in all"),
        ("sets/2012.tif", "sets/2016.tif", "2012", "Changes from 2012.tif to 2016.tif"),
        ("2012/scene.tif", "2016/scene.tif", "scene", "Changes from 2012/scene.tif to 2016/scene.tif"),
    ],
)
def test_the_title_of_a_report(images, after, split, title):
    assert title_of({"images": images, "after": after, "split": split}) == title


def test_a_folder_that_is_named_by_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert title_of({"images": ".", "after": None, "split": "test"}) == f"Changes in {tmp_path.name}, test"
