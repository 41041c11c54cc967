"""What nbcompose/_rpc/notebook_classes.py relies on. One that fails means: look there before anything else."""

from __future__ import annotations

import enum
import io
import pickle
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
import cloudpickle.cloudpickle as private
import pytest


def dynamic() -> tuple[type, FunctionType]:
    """A class and a function that no other process could import."""
    space: dict[str, Any] = {"__name__": "__main__", "used": 1}
    exec("class Made:\n    mark = 1\ndef function():\n    return used", space)
    return space["Made"], space["function"]


def reduced_as(value: Any) -> Any:
    """How cloudpickle reduces a value: what its hook returns."""
    return cloudpickle.Pickler(io.BytesIO(), protocol=5).reducer_override(value)


@pytest.mark.parametrize(
    "name",
    [
        "_class_setstate", "_dynamic_class_reduce", "_get_or_create_tracker_id", "_make_function",
        "_make_skeleton_class", "_make_skeleton_enum", "_should_pickle_by_reference", "subimport",
        "_DYNAMIC_CLASS_TRACKER_BY_CLASS", "_DYNAMIC_CLASS_TRACKER_BY_ID",
    ],
)  # fmt: skip
def test_the_names_are_there(name: str) -> None:
    assert hasattr(private, name), f"cloudpickle has no {name} any more"


def test_its_pickler_is_c_pickle_s_and_asks_the_hook_first_of_all_for_code_too() -> None:
    asked: list[Any] = []

    class Asking(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            asked.append(value)
            return super().reducer_override(value)

    _, function = dynamic()
    Asking(io.BytesIO(), protocol=5).dump(function)
    assert issubclass(cloudpickle.Pickler, pickle.Pickler), "cloudpickle's Pickler is not C pickle's any more"
    assert any(isinstance(value, CodeType) for value in asked), "cloudpickle packs code without asking"


def test_a_class_is_reduced_to_a_skeleton_its_key_and_its_members() -> None:
    cls, _ = dynamic()
    for reduced in (reduced_as(cls), private._dynamic_class_reduce(cls)):
        make, arguments, (members, slots), items, pairs, set_state = reduced
        assert make is private._make_skeleton_class
        assert arguments[-2] == private._get_or_create_tracker_id(cls), "the key is not the last argument but one"
        assert arguments[-1] is None, "the last argument means something now"
        assert members["mark"] == 1
        assert (slots, items, pairs) == ({}, None, None)
        assert set_state is private._class_setstate


def test_an_enum_is_reduced_alike() -> None:
    Color = enum.Enum("Color", "RED")
    Color.__module__ = "__main__"
    make, arguments, (members, _), *_ = reduced_as(Color)
    assert make is private._make_skeleton_enum
    assert (arguments[-2], arguments[-1]) == (private._get_or_create_tracker_id(Color), None)
    assert isinstance(members, dict)


def test_a_function_is_reduced_to_its_code_and_the_globals_that_it_names() -> None:
    _, function = dynamic()
    own = cloudpickle.Pickler(io.BytesIO(), protocol=5)._dynamic_function_reduce(function)
    for reduced in (reduced_as(function), own):
        make, arguments, (attributes, slots), *_ = reduced
        assert make is private._make_function
        assert arguments[0] is function.__code__
        assert isinstance(arguments[1], dict), "the second argument is not the module's names any more"
        assert attributes == {}
        assert slots["__globals__"] == {"used": 1}
        assert "_cloudpickle_submodules" in slots, "what stands for submodules has another name"


def test_a_class_whose_key_is_known_is_not_made_again_and_one_that_is_forgotten_is() -> None:
    cls, _ = dynamic()
    data = cloudpickle.dumps(cls)
    key = private._get_or_create_tracker_id(cls)
    assert private._DYNAMIC_CLASS_TRACKER_BY_ID.get(key) is cls
    assert cls in private._DYNAMIC_CLASS_TRACKER_BY_CLASS
    assert pickle.loads(data) is cls
    private._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(cls)
    private._DYNAMIC_CLASS_TRACKER_BY_ID.pop(key)
    again = pickle.loads(data)
    assert again is not cls
    assert private._get_or_create_tracker_id(again) == key


def test_what_fills_a_class_and_what_makes_things_are_globals_of_the_pickle() -> None:
    cls, function = dynamic()
    seen: set[tuple[str, str]] = set()

    class Noting(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            seen.add((module, name))
            return super().find_class(module, name)

    Noting(io.BytesIO(cloudpickle.dumps((cls, function, pickle)))).load()
    wanted = {"_class_setstate", "_make_skeleton_class", "_make_function", "subimport"}
    assert {("cloudpickle.cloudpickle", name) for name in wanted} <= seen


def test_what_can_be_imported_goes_by_its_name() -> None:
    cls, function = dynamic()
    assert private._should_pickle_by_reference(pickle.Unpickler)
    assert not private._should_pickle_by_reference(cls)
    assert not private._should_pickle_by_reference(function)
    assert reduced_as(pickle.loads) is NotImplemented


def test_code_has_no_part_that_the_adapter_does_not_know() -> None:
    """Of Python's, not of cloudpickle's: what `CodeType.replace` takes."""
    from nbcompose._rpc.notebook_classes import _CODE_FIELDS

    computed = {"co_lines", "co_positions", "co_lnotab", "co_branches"}
    assert {name for name in dir(CodeType) if name.startswith("co_")} - computed == set(_CODE_FIELDS)
