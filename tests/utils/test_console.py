"""One-line errors, and words looked up."""

import warnings

import pytest
import torch

from utils.console import choose, errors_in_one_line


def test_expected_errors_are_one_line_and_exit_code_2(capsys):
    for error in (ValueError("a.png: broken\n"), FileNotFoundError(2, "No such file", "b.png")):
        with pytest.raises(SystemExit) as left, errors_in_one_line():
            raise error
        assert left.value.code == 2
        out = capsys.readouterr()
        assert out.err.startswith("error: ")
        assert out.err.count("\n") == 1
        assert ".png" in out.err


def test_out_of_memory_names_the_flag(capsys):
    with pytest.raises(SystemExit) as left, errors_in_one_line():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    assert left.value.code == 2
    assert "--batch-size" in capsys.readouterr().err


def test_programming_errors_keep_their_traceback():
    with pytest.raises(KeyError), errors_in_one_line():
        raise KeyError("bug")


def test_traceback_on_demand(monkeypatch):
    monkeypatch.setenv("CHANGE_DETECTION_TRACEBACK", "1")
    with pytest.raises(ValueError, match="broken"), errors_in_one_line():
        raise ValueError("broken")


def test_filters_of_warnings_end_with_the_script():
    before = list(warnings.filters)
    with pytest.raises(SystemExit), errors_in_one_line():
        warnings.simplefilter("ignore", ResourceWarning)
        raise ValueError("broken")
    assert warnings.filters == before


def test_unknown_word_lists_the_known():
    with pytest.raises(ValueError, match="--loss huber: not known; choose one of a, b"):
        choose({"a": 1, "b": 2}, "huber", "--loss")


def test_a_misspelt_word_names_the_nearest():
    with pytest.raises(ValueError, match=r"--loss hybird: not known; choose one of bce, hybrid \(nearest: 'hybrid'\)$"):
        choose({"bce": 1, "hybrid": 2}, "hybird", "--loss")
