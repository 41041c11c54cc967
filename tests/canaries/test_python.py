"""What is relied on of Python's own undocumented parts, and where."""

from __future__ import annotations

import argparse
import ast
import bdb
import copyreg
import functools
import linecache
import pdb
import pickle
from pathlib import Path
from typing import Protocol, runtime_checkable


def test_lru_cache_makes_a_type_that_can_be_told() -> None:
    """_code/captured.py, meaning.py, packing.py and wording.py"""

    @functools.lru_cache(maxsize=3)
    def function() -> int:
        return 1

    assert isinstance(function, functools._lru_cache_wrapper)
    assert function.cache_parameters() == {"maxsize": 3, "typed": False}


def test_linecache_takes_lines_of_files_that_are_not_there_and_keeps_them() -> None:
    """_code/packing.py reads and _replica/sources.py writes such entries"""
    file = "/no/such/file.py"
    linecache.cache[file] = (2, None, ["x\n"], file)
    try:
        linecache.checkcache(file)
        linecache.checkcache()
        assert linecache.getlines(file) == ["x\n"]
    finally:
        del linecache.cache[file]


def test_a_parser_lists_its_actions() -> None:
    """_notebook/arguments.py"""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--live", action="store_true")
    below = parser.add_subparsers(dest="action")
    below.add_parser("stop")
    assert [a.option_strings for a in parser._actions] == [["--live"], []]
    assert isinstance(parser._actions[1], argparse._SubParsersAction)
    assert list(below.choices) == ["stop"]


def test_a_protocol_says_that_it_is_one_and_whether_it_can_be_checked() -> None:
    """_schema/structs.py"""

    class Plain(Protocol): ...

    @runtime_checkable
    class Checkable(Protocol): ...

    plain, checkable = vars(Plain), vars(Checkable)
    assert (plain["_is_protocol"], plain.get("_is_runtime_protocol", False)) == (True, False)
    assert (checkable["_is_protocol"], checkable["_is_runtime_protocol"]) == (True, True)


def test_plain_objects_are_reduced_to_newobj() -> None:
    """_rpc/notebook_classes.py"""

    class Plain:
        pass

    assert Plain().__reduce_ex__(5)[0] is vars(copyreg)["__newobj__"]
    assert pickle.DEFAULT_PROTOCOL <= 5 <= pickle.HIGHEST_PROTOCOL


def test_bdb_can_be_told_to_stop_at_breakpoints_only() -> None:
    """_replica/debugging.py"""
    debugger = bdb.Bdb()
    debugger.reset()
    debugger._set_stopinfo(None, None, -1)  # type: ignore[attr-defined]
    assert (debugger.stopframe, debugger.returnframe, debugger.stoplineno) == (None, None, -1)
    assert debugger.breaks == {}
    assert not debugger.quitting


def test_pdb_set_trace_goes_by_the_class() -> None:
    """_replica/terminal.py: `pdb.set_trace()` is the replica's own, whoever has imported it."""
    source = ast.parse(Path(pdb.__file__).read_text(encoding="utf-8"))  # pytest has put its own in its place
    found = next(node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == "set_trace")
    assert "Pdb(" in ast.unparse(found)
    assert "pdb.set_trace(sys._getframe().f_back" in ast.unparse(found)
