"""The load board: what one view writes, another of the same memory reads."""

from __future__ import annotations

import os

import pytest

from nbcompose._rpc.load_table import SLOTS, LoadTable


def test_another_view_sees_the_counts() -> None:
    board = LoadTable.create()
    other = LoadTable(os.dup(board.fd))
    board.loads[3] = 7
    board.loads[SLOTS - 1] = 1
    assert (other.loads[3], other.loads[SLOTS - 1], other.loads[0]) == (7, 1, 0)
    other.loads[3] = 0
    assert board.loads[3] == 0
    other.close()
    board.close()


def test_slots_are_bounded() -> None:
    board = LoadTable.create()
    with pytest.raises(IndexError):
        board.loads[SLOTS] = 1
    board.close()


def test_close_gives_the_file_back() -> None:
    board = LoadTable.create()
    board.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(board.fd)


def test_the_file_is_not_inherited_by_accident() -> None:
    board = LoadTable.create()
    assert not os.get_inheritable(board.fd)
    board.close()
