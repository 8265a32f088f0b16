"""One-line errors, and words looked up."""

import errno
import re
import sys
import warnings

import pytest
import torch

from utils.console import UserError, choose, errors_in_one_line, interrupts_in_one_line, mistakes_of_users


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a.png: broken\n"), "a.png: broken"),
        (FileNotFoundError(2, "No such file", "b.png"), "b.png: No such file"),
        (
            OSError(errno.ENOSPC, "No space left on device", "maps/a.png"),
            "maps/a.png: No space left on device; free some space there, or choose another folder",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
            "out of GPU memory; use a smaller --batch-size (in training also --amp)",
        ),
        *(
            (error, "out of memory; use a smaller --batch-size, or fewer --num-workers")
            for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."))
        ),
    ],
)
def test_expected_errors_are_one_line_and_exit_code_2(error, line, capsys):
    with pytest.raises(SystemExit) as left, errors_in_one_line():
        raise error
    assert left.value.code == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_an_interrupt_outside_of_the_work_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", lambda *error: sys.stderr.write("traceback"))
    interrupts_in_one_line()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "\ninterrupted\n"
    sys.excepthook(KeyError, KeyError(), None)
    assert capsys.readouterr().err == "traceback"


@pytest.mark.parametrize("bug", [KeyError("bug"), ValueError("zip() argument 2 is longer than argument 1")])
def test_a_bug_of_ours_keeps_its_traceback(bug, capsys):
    """A ValueError too, but not one that a network raises for a mistake of the user."""
    with pytest.raises(type(bug)), errors_in_one_line():
        raise bug
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit), errors_in_one_line(), mistakes_of_users():
        raise ValueError("an option that no network has")
    assert capsys.readouterr().err == "error: an option that no network has\n"


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


@pytest.mark.parametrize(("word", "hint"), [("huber", ""), ("Hybird", " (nearest: 'hybrid')")])
def test_an_unknown_word_lists_the_known_and_names_the_nearest(word, hint):
    said = re.escape(f"--loss {word}: not known; choose one of bce, hybrid{hint}")
    with pytest.raises(UserError, match=f"{said}$"):
        choose({"bce": 1, "hybrid": 2}, word, "--loss")
