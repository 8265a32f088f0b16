"""Comparisons: that rows are those asked for or published; a table that is run, shared, stopped, and run again."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from datasets.pairs import find_pairs
from datasets.pfbs import PFBSSampler
from datasets.raster import read_image, read_label
from datasets.reading import MASKS
from models import build_model
from tests.conftest import write_image
from tests.scripts import fails, metrics_of, stop_after
from tests.tools.tables.test_results import predicted
from tools import compare, demo
from tools.compare import Job, complete, locked, main
from tools.costs import count_parameters
from tools.methods import result_files, rows
from tools.methods.rows import TABLES, configs_of, draw
from tools.tables.results import read_csv, read_published
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.console import UserError
from utils.prediction.sharing import Process
from utils.settings import BandConfig
from utils.training.config import parse_train_config, plain_config

COUNTS = {  # by whether there is column attention, and by seed: F1 is 2/3 and 3/4, or 1/2 and 1/2
    (True, 0): [[700, 100], [50, 150]], (True, 1): [[750, 50], [50, 150]], (True, 2): [[800, 0], [0, 200]],
    (False, 0): [[700, 100], [100, 100]], (False, 1): [[700, 100], [100, 100]], (False, 2): [[800, 0], [0, 200]],
}  # fmt: skip


def words_of(data, out, *flags, table="hanet-attention"):
    words = [table, "--data-root", data, "--output", out, "--epochs", 1, "--batch-size", 4, "--device", "cpu"]
    return [
        str(word)
        for word in (*words, "--num-workers", 0, "--no-amp", "--crop-size", 64, "--model-options", "width=4", *flags)
    ]


@pytest.fixture
def two_rows(monkeypatch):
    """The table of attention without its two middle rows."""
    table = TABLES["hanet-attention"]
    rows = {row: table.rows[row] for row in ("Base", "+C/R")}
    monkeypatch.setitem(TABLES, "hanet-attention", replace(table, rows=rows))


@pytest.fixture
def trained(monkeypatch, two_rows):
    """Training and scoring that take no time; the list of (row's folder, seed) that were trained."""
    made = []

    def train(config):
        config.output.mkdir(parents=True)
        weights = build_model("hanet", **config.network_options).state_dict()
        about = {"model": "hanet", "options": config.network_options, "statistics": [], "config": plain_config(config)}
        save_checkpoint(config.output / "best.pt", {**about, "weights": weights})
        (config.output / "last.pt").touch()
        (config.output / "metrics.json").write_text("{}")
        made.append((config.output.parent.name, config.seed))

    def predict(config):
        run = config.checkpoint.parent
        column = run.parent.name == "c-r"
        predicted(config.output, config.checkpoint, torch.tensor(COUNTS[column, int(run.name[-1])]))
        (config.output / "mask").mkdir()
        return 0

    monkeypatch.setattr(compare, "train", train)
    monkeypatch.setattr(compare, "predict", predict)
    monkeypatch.setattr(compare, "draw_comparisons", lambda *_: None)  # there are no maps
    return made


def test_a_table_of_seeds(trained, drawn_set, tmp_path, capsys):
    """Means and deviations by hand, published rows marked, nothing done twice, the same bytes again."""
    out = tmp_path / "table"
    main(words_of(drawn_set, out))
    assert trained == [("base", 0), ("c-r", 0), ("base", 1), ("c-r", 1)]
    rows = [row for row in read_csv(out / "table.csv") if "as published" not in row["notes"]]
    f1 = {row["Method"]: row["scenes F1"] for row in rows}
    assert f1 == {"Base": "50.00 ± 0.00", "+C/R": "70.83 ± 5.89"}
    assert [(row["Column"], row["Row"]) for row in rows] == [("no", "no"), ("yes", "yes")]
    assert rows[1]["scenes Pre."] == "67.50 ± 10.61"
    parameters = count_parameters(build_model("hanet", width=4)) / 1e6
    assert rows[1]["Para. (M)"] == f"{parameters:.2f}"
    assert "mean ± standard deviation of 2 runs" in rows[0]["notes"]
    assert "| 70.83 ± 5.89 | 67.50 ± 10.61 |" in (out / "table.md").read_text(encoding="utf-8")
    assert r"$\pm$" in (out / "table.tex").read_text(encoding="utf-8")
    assert "**Column and row attention of HANet: 1 epoch on scenes, seeds 0, 1**" in capsys.readouterr().out
    assert not list(out.rglob("last.pt"))
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix not in ("", ".lock")}
    tables = {"table.md", "table.csv", "table.tex", "seeds.csv", "data.json"}  # of one image, there are no differences
    assert set(files) == tables | {f"{name}.{form}" for name in ("figure", "costs") for form in ("png", "svg")}
    main(words_of(drawn_set, out))
    assert len(trained) == 4
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.suffix not in ("", ".lock")} == files
    main(words_of(drawn_set, out, "--seeds", 3))
    assert trained[4:] == [("base", 2), ("c-r", 2)]


def test_other_settings_are_refused_and_overwrite_begins_again(trained, drawn_set, data, tmp_path, capsys):
    out = tmp_path / "table"
    main(words_of(drawn_set, out, "--seeds", 1))
    fails(lambda: main(words_of(drawn_set, out, "--lr", 0.5)), capsys, "lr: 0.001 there, 0.5 here", "--overwrite")
    other = words_of(drawn_set, out, "--epochs", 5, table="hanet-losses")
    fails(lambda: main(other), capsys, "has other files")
    shutil.copytree(drawn_set, copy := tmp_path / "copy")
    fails(lambda: main(words_of(copy, out)), capsys, f"data set: {drawn_set} there, {copy} here")
    assert len(trained) == 2
    main(words_of(drawn_set, out, "--lr", 0.5, "--seeds", 1, "--overwrite"))
    assert len(trained) == 4
    main(words_of(drawn_set, out, "--lr", 0.5, "--seeds", 1))
    assert len(trained) == 4


@pytest.mark.parametrize("change", ["a test pair more", "a training label", "a test label", "codes"])
def test_other_data_are_refused(change, trained, data, tmp_path, capsys):
    """Before a second seed would be trained or scored on them, or a row without training be taken for one of them."""
    words = ["--methods", "cva,fc-ef", *words_of(data, tmp_path / "out", "--seeds", 1)[1:]]
    main(words)
    main(words)
    split = "train" if "training" in change else "test"
    for folder in ("A", "B", "label") if "pair" in change else ():
        (path,) = (data / split / folder).glob("*0000.png")
        shutil.copy2(path, path.with_name("more.png"))
    if change.endswith("label"):
        (path,) = (data / split / "label").glob("*0000.png")
        write_image(path, 255 - read_image(path))
    elif change == "codes":
        fails(lambda: main([*words, "--change-value", "0"]), capsys, "change_value: None there, 0 here", "--overwrite")
        return
    fails(lambda: main([*words, "--seeds", "2"]), capsys, f"begun with other data (files of {split})", "--overwrite")
    assert trained == [("fc-ef", 0)]
    main([*words, "--overwrite"])


def test_a_row_that_fails_is_told_after_the_others_are_done(trained, drawn_set, tmp_path, monkeypatch, capsys):
    usual = compare.train

    def train(config):
        if config.lr == 9:
            raise UserError("the loss is no finite number")
        if config.lr == 8:
            raise torch.OutOfMemoryError
        usual(config)

    monkeypatch.setattr(compare, "train", train)
    rows = ["bad=--model fc-ef --lr 9", "large=--model fc-ef --lr 8", "fc-ef"]
    words = [*words_of(drawn_set, tmp_path / "out", "--seeds", 1)[1:], "--methods", *rows]
    fails(lambda: main(words), capsys, "seed-0: the loss is no finite number; 2 of 3 runs failed, all others are done")
    assert trained == [("fc-ef", 0)]


def test_a_second_process_may_find_the_first_one_s_file(trained, drawn_set, tmp_path, capsys):
    """It is written before any row; a folder of rows without it was made by something else."""
    words = words_of(drawn_set, tmp_path / "out", "--seeds", 1)
    main(words)
    for row in ("base", "c-r"):
        shutil.rmtree(tmp_path / "out" / row)
    for path in (tmp_path / "out").iterdir():
        if path.name != "data.json" and path.is_file():
            path.unlink()
    main(words)
    (tmp_path / "out" / "data.json").unlink()
    fails(lambda: main(words), capsys, "out: has other files")


def test_no_grids_of_very_many_rows(trained, drawn_set, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(result_files, "METHODS", 1)
    with caplog.at_level("WARNING"):
        result_files.draw_comparisons(tmp_path, {"a": tmp_path, "b": tmp_path}, BandConfig(), "test")
    assert "room for 1 rows" in caplog.text


def test_what_is_missing_is_said_before_anything_is_trained(trained, data, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    fails(lambda: main(words_of(data, tmp_path / "full")), capsys, "full: has other files")
    fails(lambda: main(words_of(data, tmp_path / "out", "--epochs", 0)), capsys, "--epochs 0: must be at least 1")
    pfbs = words_of(data, tmp_path / "out", "--epochs", 7, table="hanet-pfbs")
    fails(lambda: main(pfbs), capsys, "--epochs 7: too few for a phase of PFBS over 10/50 of them; give 8 or more")
    (data / "test").rename(data / "other")
    fails(lambda: main(words_of(data, tmp_path / "out")), capsys, "there is train, val; choose one of these")
    assert (trained, (tmp_path / "out").exists()) == ([], False)


def test_methods_with_flags_of_their_own_beside_untrained_ones(trained, drawn_set, tmp_path, capsys):
    """Each row and seed is a run, an untrained row is scored once, and a row's own flags win."""
    methods = ["fc-ef,cva", "wide hanet=--model hanet --model-options width=8 --epochs 2"]
    words = words_of(drawn_set, tmp_path / "out", "--seeds", 2)[1:]
    for _ in range(2):
        main(["--methods", *methods, *words])
    assert trained == [("fc-ef", 0), ("wide-hanet", 0), ("fc-ef", 1), ("wide-hanet", 1)]
    best = {row: load_checkpoint(tmp_path / "out" / row / "seed-1" / "best.pt") for row in ("fc-ef", "wide-hanet")}
    settings = {row: [each["config"][key] for key in ("recipe", "model", "epochs")] for row, each in best.items()}
    assert settings == {"fc-ef": ["equal", "fc-ef", 1], "wide-hanet": ["equal", "hanet", 2]}
    rows = {row["Method"]: row for row in read_csv(tmp_path / "out" / "table.csv")}
    assert rows.keys() == {"fc-ef", "wide hanet", "cva"}
    assert rows["cva"]["Para. (M)"] == "" and "threshold by Otsu for each pair" in rows["cva"]["notes"]
    assert "**Comparison of methods: on scenes, seeds 0, 1**" in capsys.readouterr().out
    fails(lambda: main(["--methods", "cva", *words_of(tmp_path, tmp_path / "out")[1:]]), capsys, "no folder for before")


@pytest.mark.parametrize(("methods", "says"), [
    (["hanett"], "--methods hanett: not known; choose one of amfnet, "),
    (["hanet,cva", "hanet"], "two rows would have the folder hanet"),
    (["a b=--model hanet", "A-b=--model bit"], "two rows would have the folder a-b"),
    (["x=--loss dice"], "--recipe equal is for any network; name one"), (["x=--los dice"], "no such flag"),
    ([","], "--methods names no method"), (["=--model bit"], "'=--model bit' has no name of a row"),
    (["bit", "★=--model bit"], "'★=--model bit' has no name of a row"),
    (["me@home=--model bit"], "'me@home=--model bit' has no name of a row"),
    (["x=--model 'bit"], "the flags of 'x' are not complete: No closing quotation"),
    (["cva", "x=--model bit --data-root elsewhere"], "--data-root of 'x' holds for all rows"),
    (["cva", "x=--model bit --change-value 0"], "--change-value of 'x' holds for all rows"),
    (["cva", "x=--model bit --dataroot elsewhere"], "--data-root of 'x' holds for all rows"),
    (["cva", "x=--model bit --los dice"], "error: the flags of the row 'x' are not those of train_aux.py: --model bit"),
    (["_x=--model bit"], "'_x=--model bit' has no name of a row"),
])  # fmt: skip
def test_methods_that_cannot_be(methods, says, trained, drawn_set, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--methods", *methods, *words_of(drawn_set, tmp_path / "out")[1:]])
    assert says in capsys.readouterr().err


def test_rows_named_in_any_script_have_folders_of_their_own():
    names = ["我的网络", "Вид №2", "wide hanet", "C/R"]
    assert [rows.row_folder(Path(), name).as_posix() for name in names] == ["我的网络", "вид-2", "wide-hanet", "c-r"]


def test_another_split_is_scored(trained, drawn_set, tmp_path):
    main(["--methods", "cva", "--split", "val", *words_of(drawn_set, tmp_path / "out")[1:]])
    assert metrics_of(tmp_path / "out" / "cva" / "predict-val")["protocol"]["split"] == "val"


def test_the_threshold_may_be_tuned(trained, drawn_set, tmp_path, monkeypatch):
    """The same runs are scored again, beside their other scores."""
    asked, predict = [], compare.predict
    monkeypatch.setattr(compare, "predict", lambda config: asked.append(config) or predict(config))
    words = words_of(drawn_set, tmp_path / "out", "--seeds", 1)
    for flags in ([], ["--threshold", "tuned"]):
        main([*words, *flags])
    folders = ["predict-test"] * 2 + ["predict-test-tuned"] * 2
    assert [(c.threshold, c.output.name) for c in asked] == list(
        zip([0.5, 0.5, "tuned", "tuned"], folders, strict=True)
    )
    assert len(trained) == 2


def test_a_process_that_dies_frees_its_run(tmp_path, monkeypatch):
    """The others are done while it works; then it is killed, and its run is done too."""
    lock = str(tmp_path / ".one.lock")
    taken = f"import filelock, time\nwith filelock.FileLock({lock!r}): print(0, flush=True); time.sleep(99)"
    other = subprocess.Popen([sys.executable, "-c", taken], stdout=subprocess.PIPE)
    other.stdout.readline()
    done, waited = [], []

    def kill(seconds):
        waited.append(list(done))
        other.kill()
        other.wait()

    monkeypatch.setattr(compare.time, "sleep", kill)
    names = ("one", "two", "three")
    complete([Job(name, tmp_path / name / "predict-test", partial(done.append, name)) for name in names])
    assert (waited, done) == ([["two", "three"]], ["two", "three", "one"])


def test_what_another_process_works_on_is_not_removed(trained, drawn_set, tmp_path, monkeypatch, capsys):
    words = words_of(drawn_set, tmp_path / "out", "--seeds", 1)
    main(words)
    with locked(tmp_path / "out" / "base" / "seed-0"):
        fails(lambda: main([*words, "--overwrite"]), capsys, "held by another process")
    assert (tmp_path / "out" / "base" / "seed-0" / "best.pt").is_file()
    monkeypatch.setenv("LOCAL_RANK", "1")
    fails(lambda: main([*words, "--overwrite"]), capsys, "--overwrite: processes of torchrun")


def test_processes_of_torchrun_train_alone(monkeypatch):
    """Each with a GPU of its own, so that several runs go on at once."""
    for name, value in {"RANK": "5", "LOCAL_RANK": "5", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert compare.of_this_process([]) == ["--device", "cuda:1"]
    assert Process.of_torchrun() == Process()
    assert compare.of_this_process([]) == []


@pytest.mark.parametrize(("words", "says"), [(["hanet"], "invalid choice: 'hanet'"), ([], "name a table"),
                                             (["--seeds", "2"], "name a table (amfnet-modules, ")])  # fmt: skip
def test_a_table_must_be_named(words, says, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert says in capsys.readouterr().err
    main(["--list"])
    said = capsys.readouterr().out
    assert all(f"  {row} " in said for table in TABLES.values() for row in table.rows)


def test_amfnets_variants_are_the_released_ones():
    """Parameters in use of the six networks, as counted in their authors' own."""
    configs = configs_of(TABLES["amfnet-modules"], [])
    sizes = [count_parameters(build_model("amfnet", **config.network_options)) / 1e6 for config in configs.values()]
    assert [f"{size:.2f}" for size in sizes] == ["23.61", "24.33", "25.76", "26.51", "26.51", "26.55"]
    assert len({json.dumps(config.network_options, sort_keys=True) for config in configs.values()}) == 6


@pytest.mark.parametrize(("name", "published"), [("hanet-attention", "hanet-4"), ("hanet-losses", "hanet-7")])
def test_hanets_rows_are_the_published_ones(name, published):
    """In their order and, where the paper has the same epochs, with their very settings."""
    for config, row in zip(
        configs_of(TABLES[name], ["--epochs", "50"]).values(), read_published([published]), strict=True
    ):
        settings = {**plain_config(config), **config.network_options}
        assert {key: json.dumps(settings[key]).strip('"') for key in row.settings} == dict(row.settings)


def test_the_samplers_have_the_published_shares_of_the_run():
    """15 of 50 epochs, and 10 and 10; in the ten of the default every pool opens differently."""
    table = TABLES["hanet-pfbs"]
    phases = [(c.fixed_epochs, c.linear_epochs) for c in configs_of(table, ["--epochs", "50"]).values()]
    assert phases == [(0, 0), (15, 0), (0, 15), (10, 10)]
    short = configs_of(table, []).values()
    assert [(c.fixed_epochs, c.linear_epochs) for c in short] == [(0, 0), (3, 0), (0, 3), (2, 2)]
    samplers = [PFBSSampler([1] * 26 + [0] * 74, c.fixed_epochs, c.linear_epochs) for c in short]
    assert len({tuple(map(sampler.pool_size, range(10))) for sampler in samplers}) == 4


@pytest.mark.parametrize("name", TABLES)
def test_rows_differ_in_nothing_else(name):
    """And their own flags win over those that are given for all."""
    given = ["--model-options", "column=true", "bfam=true", "--fixed-epochs", "9", "--loss", "dice"]
    configs = configs_of(TABLES[name], given)
    assert all(config.seeds == 2 for config in configs.values())
    own = {"fixed_epochs", "linear_epochs", "loss", "model_options"}
    rest = [{key: value for key, value in plain_config(c).items() if key not in own} for c in configs.values()]
    assert all(each == rest[0] for each in rest)
    assert len({json.dumps(plain_config(config), sort_keys=True) for config in configs.values()}) == len(configs)


def test_scenes_with_as_rare_a_change_as_in_whu(tmp_path, monkeypatch):
    """A quarter of those listed have change, all that have none are, and drawing again changes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "SIZE", 64)
    monkeypatch.setattr(rows, "SPARSE_COUNTS", {"train": 60, "test": 40})
    for _ in range(2):
        draw(rows.SPARSE)
        for split, drawn in rows.SPARSE_COUNTS.items():
            labels = [read_label(path, MASKS).any() for path in sorted((rows.SPARSE / split / "label").iterdir())]
            listed = [read_label(pair.label, MASKS).any() for pair in find_pairs(rows.SPARSE, split)]
            assert len(labels) == drawn
            without = drawn - sum(labels)
            assert len(listed) - sum(listed) == without
            assert sum(listed) == round(without * 1200 / 3336)
        (rows.SPARSE / "test.txt").unlink()


@pytest.mark.slow
def test_a_stopped_table_goes_on_to_the_same_numbers(two_rows, drawn_set, tmp_path, monkeypatch, capsys):
    """Two rows and seeds, trained and scored in earnest; the signal comes in the second run."""
    main(words_of(drawn_set, tmp_path / "whole"))
    out = tmp_path / "my table"
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        stop_after(patch, 5)
        main(words_of(drawn_set, out))
    assert left.value.code == 128 + 15
    log = capsys.readouterr().err
    command = re.search(r"to resume the table:\n  python -m tools\.compare (.+)\n", log)[1]
    assert f"--output '{out}'" in command
    done = (out / "base" / "seed-0" / "best.pt").read_bytes()
    main(words_of(drawn_set, out))
    said = capsys.readouterr().err
    assert said.count("resuming after 0 epochs and 2 steps") == 1
    assert "--save" not in said
    assert (out / "base" / "seed-0" / "best.pt").read_bytes() == done
    assert (out / "table.csv").read_bytes() == (tmp_path / "whole" / "table.csv").read_bytes()
    assert parse_train_config(["--config", str(out / "c-r" / "seed-1" / "config.toml")]).seed == 1
