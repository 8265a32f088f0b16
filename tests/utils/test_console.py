"""One-line errors, and words looked up."""

import errno
import sys
import warnings

import pytest
import torch

from utils.console import UserError, choose, errors_in_one_line, interrupts_in_one_line, mistakes_of_users


def test_expected_errors_are_one_line_and_exit_code_2(capsys):
    for error in (UserError("a.png: broken\n"), FileNotFoundError(2, "No such file", "b.png")):
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


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")])
def test_memory_of_the_processor_names_the_flags(error, capsys):
    with pytest.raises(SystemExit) as left, errors_in_one_line():
        raise error
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: out of memory; use a smaller --batch-size")


def test_a_full_disk_says_where_and_what_to_do(capsys):
    with pytest.raises(SystemExit), errors_in_one_line():
        raise OSError(errno.ENOSPC, "No space left on device", "maps/a.png")
    line = "error: maps/a.png: No space left on device; free some space there, or choose another folder\n"
    assert capsys.readouterr().err == line


def test_an_interrupt_outside_of_the_work_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", lambda *error: sys.stderr.write("traceback"))
    interrupts_in_one_line()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "\ninterrupted\n"
    sys.excepthook(KeyError, KeyError(), None)
    assert capsys.readouterr().err == "traceback"


def test_programming_errors_keep_their_traceback():
    with pytest.raises(KeyError), errors_in_one_line():
        raise KeyError("bug")


def test_traceback_on_demand(monkeypatch):
    monkeypatch.setenv("CHANGE_DETECTION_TRACEBACK", "1")
    with pytest.raises(ValueError, match="broken"), errors_in_one_line():
        raise UserError("broken")


def test_filters_of_warnings_end_with_the_script():
    before = list(warnings.filters)
    with pytest.raises(SystemExit), errors_in_one_line():
        warnings.simplefilter("ignore", ResourceWarning)
        raise UserError("broken")
    assert warnings.filters == before


def test_unknown_word_lists_the_known():
    with pytest.raises(ValueError, match="--loss huber: not known; choose one of a, b"):
        choose({"a": 1, "b": 2}, "huber", "--loss")


def test_a_misspelt_word_names_the_nearest():
    with pytest.raises(ValueError, match=r"--loss hybird: not known; choose one of bce, hybrid \(nearest: 'hybrid'\)$"):
        choose({"bce": 1, "hybrid": 2}, "hybird", "--loss")


def test_a_bug_of_ours_shows_its_traceback(capsys):
    """Of a user's mistake one line is enough; an error that nobody raised on purpose is not one."""
    with pytest.raises(ValueError, match="zip"), errors_in_one_line():
        list(zip([1], [1, 2], strict=True))
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit) as left, errors_in_one_line(), mistakes_of_users():
        raise ValueError("an option that no network has")
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: an option that no network has\n"
