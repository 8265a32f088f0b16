"""The parser of every script and tool."""

import argparse

import pytest

from utils.flags import Parser
from utils.prediction.config import parse_predict_config
from utils.training.config import parse_train_config


def error_of(call, capsys):
    with pytest.raises(SystemExit) as left:
        call()
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("parse", "words", "says"),
    [
        (parse_train_config, ["--epoch", "3"], "--epoch: no such flag (nearest: '--epochs')"),
        (parse_train_config, ["--batchsize=4"], "--batchsize: no such flag (nearest: '--batch-size')"),
        (parse_train_config, ["--lr", "1", "--max_epoch", "2"], "--max-epoch: no such flag (nearest: '--max-epochs')"),
        (parse_train_config, ["-output", "run"], "-output: no such flag (nearest: '--output')"),
        (parse_train_config, ["--no-apm"], "--no-apm: no such flag (nearest: '--no-amp')"),
        (parse_train_config, ["--zzz"], "--zzz: no such flag"),
        (parse_predict_config, ["--chekpoint", "x"], "--chekpoint: no such flag (nearest: '--checkpoint')"),
    ],
)
def test_a_misspelt_flag_names_the_nearest(parse, words, says, capsys):
    assert error_of(lambda: parse(words), capsys).endswith(f"error: {says}")


def test_a_misspelt_flag_is_named_before_the_required_one_it_stands_for(capsys):
    parser = Parser(prog="x")
    parser.add_argument("--data-name", required=True)
    said = error_of(lambda: parser.parse_args(["--data-nmae", "levir"]), capsys)
    assert said == "x: error: --data-nmae: no such flag (nearest: '--data-name')"


def test_what_is_no_flag_stays():
    """Negative numbers, words with blanks, and all behind --."""
    parser = Parser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--data-root")
    given = parser.parse_args(["--lr", "-1", "--data_root=my_data", "--two words", "--", "--three"])
    assert given == argparse.Namespace(lr=-1.0, data_root="my_data", words=["--two words", "--three"])


def test_parts_of_flags_are_not_taken_for_them(capsys):
    parser = Parser()
    parser.add_argument("--output")
    assert "--out: no such flag (nearest: '--output')" in error_of(lambda: parser.parse_args(["--out", "x"]), capsys)
