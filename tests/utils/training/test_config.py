"""Flags, recipes and their precedence."""

import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from models import MODELS
from tests.scripts import add_network
from utils.prediction.config import parse_predict_config
from utils.training.config import TrainConfig, config_as_toml, parse_train_config, plain_config
from utils.training.losses import LOSSES
from utils.training.run_folder import changed_settings


def test_precedence_is_default_recipe_flag():
    assert parse_train_config(["--recipe", "hanet"]).lr == 5e-4
    assert parse_train_config(["--recipe", "hanet", "--lr", "0.1"]).lr == 0.1
    assert parse_train_config(["--recipe", "hanet"]).seed == TrainConfig().seed

    config = parse_train_config(["--recipe", "amfnet", "--backbone-weights", "none", "--batch-size", "8"])
    assert (config.backbone_weights, config.batch_size) == (TrainConfig().backbone_weights, TrainConfig().batch_size)


def test_recipes_are_the_authors_settings():
    amfnet, hanet = (parse_train_config(["--recipe", name]) for name in ("amfnet", "hanet"))
    assert (amfnet.optimizer, amfnet.lr, amfnet.epochs, amfnet.batch_size) == ("adam", 1e-4, 200, 32)
    assert (amfnet.loss, amfnet.loss_weights(), amfnet.statistics) == ("bce", (1.0, 0.5, 0.4, 0.3), "none")
    assert (hanet.optimizer, hanet.lr, hanet.weight_decay, hanet.epochs) == ("adamw", 5e-4, 5e-4, 100)
    assert (hanet.loss, hanet.schedule, hanet.batch_size, hanet.linear_epochs) == ("hybrid", "step", 8, 35)


def test_samplers_losses_and_epochs_of_the_released_results():
    """By the names of HANet's released files: sampler, epochs, and for WHU-CD the loss."""
    released = {
        "hanet-cdd": (25, 0, 100, "hybrid", "cdd"),
        "hanet-dsifn": (15, 0, 100, "hybrid", "dsifn"),
        "hanet-levir": (0, 35, 100, "hybrid", "levir"),
        "hanet-s2looking": (15, 0, 50, "hybrid", "s2looking"),
        "hanet-sysu": (0, 20, 50, "hybrid", "sysu"),
        "hanet-whu": (20, 0, 50, "focal", "whu"),
    }
    for name, expected in released.items():
        config = parse_train_config(["--recipe", name])
        got = (config.fixed_epochs, config.linear_epochs, config.epochs, config.loss, config.statistics)
        assert got == expected


def test_open_cd_makes_40000_steps():
    config = parse_train_config(["--recipe", "hanet-opencd-levir"])
    assert config.epochs * config.epoch_steps == 40_000
    assert (config.warmup_steps, config.lr, config.weight_decay, config.crop_size) == (1000, 1e-3, 0.05, 256)
    assert config.network_options == {"fcn_head": True}


def test_our_recipes_differ_in_what_the_networks_want_alone():
    amfnet, hanet = (asdict(parse_train_config(["--recipe", f"ours-{name}"])) for name in ("amfnet", "hanet"))
    differing = {key for key in amfnet if amfnet[key] != hanet[key]}
    assert differing == {"model", "recipe", "augmentation", "time_swap", "backbone_weights", "lr", "zero_heads"}
    assert (amfnet["epochs"] * amfnet["epoch_steps"], amfnet["rotation_corners"]) == (40_000, None)


def test_equal_is_one_protocol_for_every_network():
    """All settings but the network are alike; the default folder names the network."""
    configs = [parse_train_config(["--data-root", "set", "--recipe", "equal", "--model", name]) for name in MODELS]
    assert [config.model for config in configs] == list(MODELS)
    assert all(replace(config, model="bit") == replace(configs[0], model="bit") for config in configs)
    assert configs[0].epochs * configs[0].epoch_steps == 40_000
    assert [config.folder.name for config in configs] == [f"set-equal-{name}" for name in MODELS]
    assert parse_train_config(["--data-root", "set", "--model", "bit"]).folder.name == "set-bit"


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_its_recipe(name):
    config = parse_train_config(["--model", name])
    assert (config.model, config.recipe) == (name, name)
    assert parse_train_config(["--recipe", name]).model == name
    assert parse_train_config(["--model", name, "--recipe", "amfnet"]).recipe == "amfnet"


@pytest.mark.parametrize("name", [f.name for f in fields(TrainConfig) if "_" in f.name and f.type is int])
def test_both_spellings(name):
    for spelling in (name, name.replace("_", "-")):
        assert getattr(parse_train_config([f"--{spelling}", "3"]), name) == 3


def test_flags_people_type():
    """Values keep their underscores."""
    config = parse_train_config(["--data_root=my_data", "--output", "run_1"])
    assert (config.data_root, config.output) == (Path("my_data"), Path("run_1"))
    config = parse_train_config(["--dataroot", "x", "--max_epochs", "4", "--no-amp", "--aux_weights", "balanced"])
    assert (config.data_root, config.epochs, config.amp, config.loss_weights()) == (Path("x"), 4, False, "balanced")
    assert parse_predict_config(["--output_folder", "out"]).output == Path("out")
    config = parse_train_config(["--model-options", "backbone=resnet18", "iam=False", "--model-options", "dropout=0.1"])
    assert config.model_options == {"backbone": "resnet18", "iam": False, "dropout": 0.1}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--recipe", "segnet"], "--recipe segnet: not known; choose one of amfnet, amfnet-levir, "),
        (["--model", "segnet"], "--model segnet: not known; choose one of amfnet, hanet"),
        (["--model", "hannet"], r"--model hannet: not known; .* \(nearest: 'hanet'\)"),
        (["--recipe", "hanet-levirr"], r"--recipe hanet-levirr: .* \(nearest: 'hanet-levir'\)"),
        (["--batch-size", "0"], "--batch-size 0: must be at least 1"),
        (["--lr", "-1"], "--lr -1.0: must be at least 0"),
        (["--seed", "-1"], "--seed -1: must be at least 0"),
        *((["--lr", word], f"--lr {word}: must be a finite number") for word in ("nan", "inf")),
        (["--ema", "nan"], "--ema nan: must be a finite number"),
        (["--momentum", "1"], "--momentum 1.0: must be at least 0 and below 1"),
        (["--recipe", "equal"], "--recipe equal is for any network; name one, for example --model bit"),
        (["--weight-decay", "nan"], "--weight-decay nan: must be a finite number"),
        (["--save-minutes", "inf"], "--save-minutes inf: must be a finite number"),
        *((["--drawn", word], f"--drawn {word}: a probability, from 0 to 1") for word in ("nan", "-0.1", "1.5")),
        (["--aux-weights", "0.5,nan,0.3"], "--aux-weights 0.5,nan,0.3: must be finite numbers of at least 0"),
        (["--aux-weights", "0.5,-1"], "--aux-weights 0.5,-1.0: must be finite numbers of at least 0"),
        (["--resume", "--overwrite"], "give one of them"),
        (["--pfbs-released", "--pfbs-pool-only"], "give one of them"),
    ],
)
def test_wrong_values(argv, message):
    with pytest.raises(ValueError, match=message):
        parse_train_config(argv)


def test_a_network_without_a_recipe_of_its_name(monkeypatch):
    add_network(monkeypatch, "fcdiff", type("FCDiff", (), {}))
    message = "no recipe is named after --model fcdiff; pass one, for example --recipe equal"
    with pytest.raises(ValueError, match=message):
        parse_train_config(["--model", "fcdiff"])
    config = parse_train_config(["--model", "fcdiff", "--recipe", "hanet"])
    assert (config.model, config.recipe, config.lr) == ("fcdiff", "hanet", 5e-4)


@pytest.mark.parametrize(
    "argv",
    [
        ["--loss", "l2"],
        ["--model-options", "iam"],
        ["--aux-weights", "a,b"],
        ["--epoch", "3"],
        *(["--scale", word] for word in ("nan", "inf", "0")),
    ],
)
def test_wrong_flags_leave_with_2(argv, capsys):
    with pytest.raises(SystemExit) as left:
        parse_train_config(argv)
    assert left.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert argv[0] in last
    assert "_option" not in last
    assert "_weights" not in last


@pytest.mark.parametrize("named", [True, False])
def test_a_resumed_run_brings_its_own_settings(named, tmp_path, monkeypatch):
    """Also in the folder that a run gets unasked; a flag still goes before them."""
    monkeypatch.chdir(tmp_path)
    words = ["--output", "run"] if named else ["--data-root", "set"]
    recipe = "hanet" if named else "amfnet"
    made = parse_train_config([*words, "--recipe", recipe, "--lr", "0.003", "--ema", "0.9", "--data-root", "set"])
    assert made.folder == Path("run" if named else "checkpoints/set-amfnet")
    made.folder.mkdir(parents=True)
    (made.folder / "config.toml").write_text(config_as_toml(made))
    assert not changed_settings(plain_config(made), plain_config(parse_train_config([*words, "--resume"])))
    other = parse_train_config([*words, "--resume", "--lr", "0.1", "--num-workers", "7"])
    assert (other.recipe, other.ema, other.lr, other.num_workers) == (recipe, 0.9, 0.1, 7)
    for flags in (["--resume", "--recipe", "amfnet-gz"], ["--resume", "--model", "hanet"], ["--overwrite"], []):
        assert parse_train_config([*words, *flags]).ema == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        *(
            (argv.split(), "give --before and --after together")
            for argv in ("--before a", "--label c", "--after b --label c")
        ),
        (["--before", "a", "--after", "b", "--split", "test"], "replace --data-root"),
        (["--batch-size", "0"], "--batch-size 0: must be at least 1"),
        (["--threshold", "1.5"], r"--threshold 1.5: must lie in \[0, 1\]"),
    ],
)
def test_wrong_values_of_prediction(argv, message):
    with pytest.raises(ValueError, match=message):
        parse_predict_config(argv)


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path):
    assert parse_predict_config(["--checkpoint", str(tmp_path)]).checkpoint == tmp_path / "best.pt"


def test_flags_know_the_losses_without_pytorch():
    (loss,) = [each for each in fields(TrainConfig) if each.name == "loss"]
    assert loss.metadata["choices"] == tuple(LOSSES)


def test_a_config_file_keeps_every_setting(tmp_path):
    """A path with an emoji, quotes, backslashes, lists and network options; what belongs to one run is left out."""
    words = ["--data-root", 'ville \U0001f3d9/"A"\\B', "--bands", "4,3,2", "--model-options", "iam=false", "x=null"]
    config = parse_train_config([*words, "--seed", "3", "--output", "run"])
    assert config.model_options == {"iam": False, "x": "null"}
    text = config_as_toml(config, data="abc")
    assert tomllib.loads(text) == {**plain_config(config), "data": "abc"}
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    again = parse_train_config(["--config", str(tmp_path / "config.toml"), "--output", "run"])
    assert again == replace(config, config=tmp_path / "config.toml")


def test_a_config_file_of_dotted_keys_is_read(tmp_path):
    """As runs of before wrote network options and lists."""
    (tmp_path / "config.toml").write_text('lr = 1e-05\nbands = [4, 3, 2]\nmodel_options.iam = false\ncommit = "a"\n')
    config = parse_train_config(["--config", str(tmp_path / "config.toml")])
    assert (config.lr, config.bands, config.model_options) == (1e-5, (4, 3, 2), {"iam": False})


def test_no_config_file(tmp_path):
    (tmp_path / "config.toml").write_text("lr: 3\n")
    with pytest.raises(ValueError, match=r"config.toml: no TOML .*line 1"):
        parse_train_config(["--config", str(tmp_path / "config.toml")])
    with pytest.raises(ValueError, match="--data-root: the name of this path is not UTF-8"):
        parse_train_config(["--data-root", "a\udcff"])
