"""The catalog is consistent, and its sets are found as distributed and recognised by their usual names."""

import re
from dataclasses import fields

import numpy as np
import pytest

from datasets.catalog import CATALOG, GENERIC, STATISTICS, KnownCounts, PublicSet
from datasets.pairs import find_pairs
from datasets.recognition import count_remark, introduce, introduction, known_pairs, recognise, set_statistics
from datasets.windows import plan_windows

PUBLIC = [name for name in CATALOG if name != GENERIC]
RELEASED = {  # the twelve released numbers, mean and std of before, then of after: the sum of place (from 1) x number
    "levir": 18.20039765, "whu": 23.74496880, "sysu": 22.45942050, "cdd": 25.34587627, "dsifn": 20.49792441,
    "s2looking": 9.647716835,
}  # fmt: skip


def size_of(name):
    return max((counts.side for counts in CATALOG[name].counts), default=256)


def splits_and_folders(name):
    return [part.strip("{}").split(",") for part in CATALOG[name].layout.split("/")]


@pytest.mark.parametrize("name", CATALOG)
def test_layouts_are_found_and_recognised(name, tmp_path):
    root, (splits, folders) = tmp_path / CATALOG[name].title, splits_and_folders(name)
    for split in splits:
        for role, folder in enumerate(folders):
            (root / split / folder).mkdir(parents=True)
            (root / split / folder / f"1{CATALOG[name].suffixes[role >= 2]}").touch()
    for split in splits:
        (pair,) = find_pairs(root, split)
        assert pair.name == "1"
        assert [path.parent.name for path in pair.files] == folders[:3]
    assert recognise(root) == name
    elsewhere = root.rename(tmp_path / "download")
    assert recognise(elsewhere) == GENERIC
    assert recognise(elsewhere, name) == name


@pytest.mark.parametrize(
    ("folder", "name"),
    [("LEVIR-CD", "levir"), ("LEVIR-CD-256", "levir"), ("levir_tiles", "levir"), ("LEVIRCD_Cropped256", "levir"),
     ("LEVIR-CD+", GENERIC), ("LEVIR-CD-plus", GENERIC), ("WHU_CD_256", "whu"), ("WHU-GCD", GENERIC),
     ("S2Looking", "s2looking"), ("SYSU-CD", "sysu"), ("CD_Data_GZ", "gz"), ("GZ_CDD", "gz"), ("SVCD", "cdd"),
     ("ChangeDetectionDataset", "cdd"), ("DSIFN-Dataset", "dsifn"), ("CLCD tiles", "clcd"), ("BICDD", "btcdd"),
     ("scenes", GENERIC), ("my_levir", GENERIC)],
)  # fmt: skip
def test_names_of_folders(folder, name, tmp_path):
    assert recognise(tmp_path / folder) == name


def test_links_go_by_either_name(tmp_path):
    (tmp_path / "LEVIR-CD").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "LEVIR-CD")
    (tmp_path / "WHU-CD").symlink_to(tmp_path / "LEVIR-CD")
    assert (recognise(tmp_path / "data"), recognise(tmp_path / "WHU-CD")) == ("levir", "whu")
    assert recognise(tmp_path) == GENERIC
    with pytest.raises(ValueError, match=r"--data-name lever: not known; choose one of auto, levir, whu, .*, generic"):
        recognise(tmp_path, "lever")


@pytest.mark.parametrize("name", CATALOG)
def test_entries_are_complete_or_say_what_is_uncertain(name):
    entry = CATALOG[name]
    optional = {"statistics", "aliases", "uncertain"}
    known = {field.name for field in fields(PublicSet)}
    assert set(entry.uncertain) <= known - optional
    assert [field for field in known - optional if not getattr(entry, field) and field not in entry.uncertain] == []
    assert re.match(r"https?://\S+$", entry.source) or "source" in entry.uncertain or name == GENERIC
    assert re.search(r"https://doi\.org/10\.\S+$", entry.paper) or "paper" in entry.uncertain
    metres = [float(number) for number in entry.metres.split(" to ")] if entry.metres else []
    assert metres == sorted(metres)
    assert all(0.01 < number < 10 for number in metres)
    assert entry.said("metres").endswith("(uncertain)") == ("metres" in entry.uncertain)


@pytest.mark.parametrize("name", [name for name in PUBLIC if size_of(name) > 256 and name != "clcd"])
def test_tiles_are_as_many_as_fit_into_the_images(name):
    whole, tiles = ([c for c in CATALOG[name].counts if c.side == side] for side in (size_of(name), 256))
    share = (size_of(name) // 256) ** 2
    images = [(share * c.train, share * c.val if c.val else None, share * c.test) for c in whole]
    assert set(images) & {(c.train, c.val, c.test) for c in tiles}


def test_the_whole_whu_pair_gives_the_tiles_that_others_split_at_random():
    (random,) = [counts for counts in CATALOG["whu"].counts if not counts.certain]
    assert len(plan_windows(15354, 32507, 256)) == random.train + random.val + random.test


def test_statistics_are_the_released_ones():
    assert list(STATISTICS) == ["none", "imagenet", "half", *(name for name in CATALOG if CATALOG[name].statistics)]
    assert RELEASED.keys() <= STATISTICS.keys()
    for name, statistics in STATISTICS.items():
        assert np.shape(statistics["mean"]) == np.shape(statistics["std"]) == (2, 3)
        if name in RELEASED:
            numbers = [x for date in (0, 1) for part in ("mean", "std") for x in statistics[part][date]]
            placed = sum(place * number for place, number in enumerate(numbers, start=1))
            assert placed == pytest.approx(RELEASED[name], abs=1e-9)
    assert STATISTICS["none"] == {"mean": [[0.0] * 3] * 2, "std": [[1.0] * 3] * 2}


def test_statistics_of_the_set_at_hand():
    assert set_statistics("whu") is STATISTICS["whu"]
    with pytest.raises(
        ValueError, match=r"none are known of GZ-CD; measure them with --statistics train, .* \(levir, whu, "
    ):
        set_statistics("gz")
    with pytest.raises(ValueError, match=r"no public set was recognised; .* name the set with --data-name"):
        set_statistics(GENERIC)


def test_counts_that_differ_are_remarked_on(monkeypatch):
    tile, image = (256, 256), (1024, 1024)
    assert known_pairs("levir", "train", tile) == {7120: True}
    assert known_pairs("whu", "train", tile) == {4536: True, 5040: True, 6096: False}
    assert known_pairs("whu", "val", (512, 512)) == {}
    assert count_remark("levir", "val", 64, image) is None
    assert count_remark("levir", "val", 63, image) == "63 pairs of 1024 x 1024; LEVIR-CD is known to have 64"
    silent = [("levir", "all", 9, tile), ("levir", "train", 9, (512, 512)), ("levir", "train", 9, None)]
    assert [count_remark(*case) for case in [*silent, (GENERIC, "train", 9, tile)]] == [None] * 4
    known = (KnownCounts(8, 3, 9, 3), KnownCounts(8, 4, 8, 4, certain=False))
    monkeypatch.setitem(CATALOG, "levir", PublicSet(**{**vars(CATALOG["levir"]), "counts": known}))
    assert count_remark("levir", "val", 3, (8, 8)).endswith("known to have 9 or 8 (uncertain)")


def test_introductions_are_one_line(caplog):
    whole = {"train": 445, "val": 64, "test": 128}
    assert introduction("levir", whole, (1024, 1024)) == (
        "data set: LEVIR-CD; metres per pixel: 0.5; counts of pairs as known; "
        "terms: academic use only, nothing commercial; Google Earth's terms hold for the images"
    )
    assert "counts of pairs are not the known ones" in introduction("levir", whole | {"val": 63}, (1024, 1024))
    assert "no counts of pairs known" in introduction("levir", whole, None)
    assert "metres per pixel: 2 (uncertain); no counts" in introduction("dsifn", {"all": 3}, (512, 512))
    assert introduction(GENERIC, whole, (1024, 1024)).startswith("data set: generic")
    with caplog.at_level("INFO"):
        introduce("levir", whole | {"val": 63}, (1024, 1024))
    assert [(r.levelname, r.message[:20]) for r in caplog.records] == [
        ("INFO", "data set: LEVIR-CD; "), ("WARNING", "val: 63 pairs of 102"),
    ]  # fmt: skip
