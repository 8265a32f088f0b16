"""The doctor as a user runs it: table, findings, JSON, pictures and the exit code."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
from PIL import Image

from datasets.catalog import CATALOG, KnownCounts
from tools import check_dataset
from tools.doctor import pictures


def run(capsys, *words):
    """Exit code and what was printed."""
    code = 0
    try:
        check_dataset.main([str(word) for word in words])
    except SystemExit as left:
        code = left.code
    return code, capsys.readouterr()


def test_healthy_set(drawn_set, capsys):
    code, said = run(capsys, "--data-root", drawn_set, "--num-workers", 0)
    assert code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["train", "val", "test"]
    rows = {line[:14].strip(): line[14:].split() for line in lines[1:10]}
    assert rows["pairs"] == ["12", "4", "4"]
    assert rows["size"] == ["64", "x", "64"] * 3
    starts = {line.index(word) for line, word in zip(lines[:3], ("val", "4", "64"), strict=True) if word == "val"}
    assert all(line[min(starts) - 1] == " " != line[min(starts)] for line in lines[:10])
    assert lines[-1] == f"{drawn_set}: 0 errors, 0 warnings"
    assert "20/20" in said.err


def test_errors_leave_with_1_and_warnings_with_0(data, capsys):
    shutil.copy(data / "val" / "A" / "scene_0000.png", data / "val" / "B" / "scene_0000.png")
    code, said = run(capsys, "--data-root", data)
    assert code == 0
    assert "warning: identical dates (1): check whether" in said.out
    (data / "val" / "A" / "scene_0001.png").unlink()
    code, said = run(capsys, "--data_root", data)
    assert code == 1
    assert said.out.index("error: orphan (1): add the missing file") < said.out.index("warning: identical dates (1)")
    assert said.out.endswith("1 error, 1 warning\n")


def test_long_lists_are_cut_but_not_in_json(data, tmp_path, capsys):
    for path in (data / "train" / "A").iterdir():
        path.write_bytes(b"")
    code, said = run(capsys, "--data-root", data, "--json", tmp_path / "found.json")
    assert code == 1
    assert "error: unreadable (12)" in said.out
    assert "... and 2 more" in said.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["errors"], found["warnings"], len(found["findings"])) == (12, 0, 12)
    assert set(found["findings"][0]) == {"severity", "kind", "where", "what", "advice"}
    assert found["splits"]["val"]["pairs"] == 4
    assert found["splits"]["train"]["mean"] is None
    assert 0 < found["splits"]["val"]["changed_share"] < 1


def test_against_another_set(drawn_set, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(drawn_set / "train", other / "test")
    code, said = run(capsys, "--data-root", drawn_set, "--against", other)
    assert code == 1
    assert "other:test" in said.out.splitlines()[0]
    assert "error: leak (24)" in said.out
    assert run(capsys, "--data-root", drawn_set, "--against", drawn_set)[0] == 0


def test_counts_of_a_public_set(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(CATALOG, "levir", replace(CATALOG["levir"], counts=(KnownCounts(64, 12, 3, 5),)))
    said = run(capsys, "--data-root", data)[1].out
    assert "0 warnings" in said
    assert "\ndata set: generic; the folder is not named after a public set" in said
    said = run(capsys, "--data-root", data, "--data-name", "levir")[1].out
    assert "  test: 4 pairs of 64 x 64; LEVIR-CD is known to have 5" in said
    assert "\ndata set: LEVIR-CD; metres per pixel: 0.5; counts of pairs are not the known ones; terms: acad" in said
    named = data.rename(data.parent / "LEVIR-CD256")
    assert "2 warnings" in run(capsys, "--data-root", named, "--json", tmp_path / "found.json")[1].out
    assert json.loads((tmp_path / "found.json").read_text())["data_name"] == "levir"
    assert "0 warnings" in run(capsys, "--data-root", named, "--data-name", "generic")[1].out
    code, said = run(capsys, "--data-root", named, "--data-name", "lever")
    names = ", ".join(CATALOG)
    assert code == 2
    assert said.err == f"error: --data-name lever: not known; choose one of auto, {names} (nearest: 'levir')\n"


def test_pictures_are_of_both_sets(drawn_set, tmp_path, capsys, monkeypatch):
    folder, draw, drawn = tmp_path / "new" / "pictures", pictures.draw_grid, []
    shutil.copytree(drawn_set / "val", tmp_path / "few" / "test")
    monkeypatch.setattr(pictures, "draw_grid", lambda *given, names: [draw(*given, names), drawn.extend(names)])
    said = run(capsys, "--data-root", drawn_set, "--against", tmp_path / "few", "--output", folder)[1]
    assert sorted(path.name for path in folder.iterdir()) == ["changed_share.png", "samples.png"]
    assert str(folder / "samples.png") in said.out
    pixels = np.array(Image.open(folder / "samples.png"))
    assert (pixels == (255, 0, 0)).all(-1).sum() > 100  # outlines
    splits = [name.rpartition(": ")[0] for name in drawn]
    assert set(splits[:4]) <= {"train", "val", "test"}
    assert set(splits[4:]) == {"few:test"}
    assert len(drawn) <= pictures.SAMPLES
    assert all(re.fullmatch(r"(few:)?(train|val|test): scene_\d{4}", name) for name in drawn)


def test_pictures_without_labels(data, tmp_path, capsys):
    for split in ("train", "val", "test"):
        shutil.rmtree(data / split / "label")
    code, said = run(capsys, "--data-root", data, "--output", tmp_path / "pictures")
    assert (code, "pictures: none" in said.out) == (1, True)  # 1: nothing to train on


def test_wrong_flags(drawn_set, tmp_path, capsys):
    assert run(capsys)[0] == 2
    for words, expected in (
        (("--data-root", tmp_path / "nowhere"), "no such folder"),
        (("--data-root", tmp_path), "no folder for before and after"),
        (("--data-root", drawn_set, "--num-workers", -1), "--num-workers -1"),
        (("--data-root", drawn_set, "--against", tmp_path), "no folder for before and after"),
        (("--data-root", drawn_set, "--json", tmp_path / "no" / "x.json"), "no"),
    ):
        code, said = run(capsys, *words)
        line = said.err.splitlines()[-1]
        assert (code, expected in line, line.startswith("error: ")) == (2, True, True)
