"""Who does what: every pair, and every row of windows, belongs to exactly one process."""

from hypothesis import given
from hypothesis import strategies as st

from utils.prediction.sharing import Process

RANKS = st.integers(1, 9)


@given(st.integers(1, 200), st.integers(1, 16), RANKS)
def test_every_pair_is_in_the_groups_of_one_process_or_of_all(count, size, ranks):
    shares = [Process(rank, ranks) for rank in range(ranks)]
    groups = [share.groups(count, size) for share in shares]
    if shares[0].by_rows(count, size):
        assert ranks > 1
        assert all(each == groups[0] for each in groups)
        groups = groups[:1]
    numbers = sorted(number for each in groups for group in each for number in group)
    assert numbers == list(range(count))
    for group in (group for each in groups for group in each):
        assert group.start % size == 0  # whoever has it, a group holds the same pairs
        assert len(group) == min(size, count - group.start)


@given(st.integers(0, 60), RANKS, st.integers(0, 20))
def test_every_row_of_windows_belongs_to_one_process(count, ranks, shift):
    parts = [Process(rank, ranks).rows(count, shift) for rank in range(ranks)]
    assert sorted(row for part in parts for row in part) == list(range(count))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


@given(RANKS)
def test_scenes_of_one_window_go_to_all_processes_in_turn(ranks):
    owners = [next(r for r in range(ranks) if Process(r, ranks).rows(1, shift)) for shift in range(ranks)]
    assert sorted(owners) == list(range(ranks))


def test_without_torchrun_there_is_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Process.of_torchrun() == Process(0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert Process.of_torchrun() == Process(3, 8)
