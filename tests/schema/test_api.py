"""Binding, defaults, calling, and what the errors say."""

import enum
from typing import Any

import numpy as np
import pytest

from nbcompose.errors import DeclarationError, InvalidArgument, InvalidResult

LABELS = ["a", "b"]


class Svc:
    def f(self, text: str, k: int = 3, *, flag: bool = False) -> list[str]:
        return [text]

    def star(self, a: int, /, b: int = 2, *rest: int, c: int = 4, **more: float) -> Any:
        return a, b, rest, c, more

    def positional(self, a: int = 1, b: int = 2, /, c: int = 3) -> Any:
        return a, b, c

    def bare(self, x, y=None):
        return x

    def odd(self, _x: int, model_config: str, schema: int = 1, self_: int = 0) -> None: ...

    def mutable(self, labels: list[str] = LABELS, array: np.ndarray = np.ones(1), none: int | None = None):  # noqa: B008
        return labels

    def nothing(self): ...


@pytest.mark.parametrize(
    ("args", "kwargs", "bound"),
    [
        (("a",), {}, {"text": "a"}),
        (("a", 1), {"flag": True}, {"text": "a", "k": 1, "flag": True}),
        ((), {"k": 1, "text": "a"}, {"text": "a", "k": 1}),
    ],
)
def test_bind(schema_of, args, kwargs, bound):
    assert schema_of(Svc).bind(args, kwargs) == bound


@pytest.mark.parametrize(
    ("args", "kwargs", "message", "loc"),
    [
        ((), {}, "missing `text`", ["text"]),
        (("a", 1, 2), {}, "3 positional arguments, at most 2 are taken", [2]),
        (("a",), {"text": "b"}, "`text` given twice, by position and by name", ["text"]),
        (("a",), {"z": 1, "y": 2}, "unknown `y`, `z`", ["y"]),
    ],
)
def test_bind_refuses_and_quotes_the_signature(schema_of, args, kwargs, message, loc):
    with pytest.raises(InvalidArgument) as caught:
        schema_of(Svc).bind(args, kwargs)
    signature = "f(text: str, k: int = 3, *, flag: bool = False) -> list[str]"
    assert str(caught.value) == f"Svc.f: {message}; the signature is {signature}"
    assert caught.value.problems[0]["loc"] == loc


@pytest.mark.parametrize(
    ("args", "kwargs", "bound", "result"),
    [
        ((1,), {}, {"a": 1}, (1, 2, (), 4, {})),
        ((1, "5", "6"), {"c": 7}, {"a": 1, "b": "5", "rest": ("6",), "c": 7}, (1, 5, (6,), 7, {})),
        ((1,), {"b": 3, "z": "1.5"}, {"a": 1, "b": 3, "more": {"z": "1.5"}}, (1, 3, (), 4, {"z": 1.5})),
        ((1,), {"rest": 1, "more": 2, "a": 3}, {"a": 1, "more": {"rest": 1, "more": 2, "a": 3}},
         (1, 2, (), 4, {"rest": 1.0, "more": 2.0, "a": 3.0})),
    ],
)  # fmt: skip
def test_star_parameters_go_there_and_back(schema_of, args, kwargs, bound, result):
    schema = schema_of(Svc, "star")
    assert schema.bind(args, kwargs) == bound
    args, kwargs = schema.call_arguments(schema.validate(bound))
    assert Svc().star(*args, **kwargs) == result


def test_star_parameters_by_json_have_their_own_names(schema_of):
    schema = schema_of(Svc, "star")
    args, kwargs = schema.call_arguments(schema.validate_json({"a": 1, "rest": [5], "more": {"z": 1}}))
    assert Svc().star(*args, **kwargs) == (1, 2, (5,), 4, {"z": 1.0})
    assert schema.input_schema["required"] == ["a"]


@pytest.mark.parametrize("given", [{}, {"a": 5}, {"b": 5}, {"c": 5}, {"a": 5, "b": 6, "c": 7}])
def test_a_gap_before_a_positional_argument_is_its_default(schema_of, given):
    args, kwargs = schema_of(Svc, "positional").call_arguments(given)
    assert Svc().positional(*args, **kwargs) == (given.get("a", 1), given.get("b", 2), given.get("c", 3))


def test_without_annotations_everything_passes(schema_of):
    schema, value = schema_of(Svc, "bare"), object()
    assert schema.validate(schema.bind((value,), {}))["x"] is value
    assert schema.check_result(value) is value
    assert schema.validate_json({"x": [None, {"a": 1}]}) == {"x": [None, {"a": 1}]}
    with pytest.raises(InvalidArgument, match=r"Svc\.bare: x: is missing"):
        schema.validate({"y": 1})


def test_names_that_pydantic_keeps_for_itself(schema_of):
    schema = schema_of(Svc, "odd")
    assert schema.validate({"_x": "1", "model_config": "a", "schema": "2"}) == {
        "_x": 1,
        "model_config": "a",
        "schema": 2,
    }
    assert set(schema.input_schema["properties"]) == {"_x", "model_config", "schema", "self_"}


def test_defaults_stay_the_python_objects_that_they_are(schema_of):
    schema = schema_of(Svc, "mutable")
    assert schema.validate({}) == {}
    assert schema.validate_json({}) == {}
    assert schema.validate_json(None) == {}
    args, kwargs = schema.call_arguments({})
    assert Svc().mutable(*args, **kwargs) is LABELS
    properties = schema.input_schema["properties"]
    assert properties["labels"]["default"] == ["a", "b"]
    assert properties["none"]["default"] is None
    assert "default" not in properties["array"]
    assert "required" not in schema.input_schema


def test_arguments_may_be_the_bare_value_of_the_one_required_parameter(schema_of):
    assert schema_of(Svc).validate_json("a") == {"text": "a"}
    assert schema_of(Svc, "bare").validate_json([1]) == {"x": [1]}
    with pytest.raises(InvalidArgument, match=r"the body has to be an object of the parameters of odd\(.*, not list"):
        schema_of(Svc, "odd").validate_json([1])
    with pytest.raises(InvalidArgument, match="not int"):
        schema_of(Svc, "nothing").validate_json(1)


def test_each_problem_is_one_short_line(schema_of):
    with pytest.raises(InvalidArgument) as caught:
        schema_of(Svc).validate_json({"k": [1], "other": 1})
    assert str(caught.value).splitlines() == [
        "Svc.f: text: is missing",
        "Svc.f: k: Input should be a valid integer (got list)",
        "Svc.f: other: is not known",
        "the signature is f(text: str, k: int = 3, *, flag: bool = False) -> list[str]",
    ]
    assert caught.value.problems == [
        {"loc": ["text"], "msg": "is missing", "type": "missing"},
        {"loc": ["k"], "msg": "Input should be a valid integer", "type": "int_type"},
        {"loc": ["other"], "msg": "is not known", "type": "extra_forbidden"},
    ]


def test_many_problems_are_counted_not_listed(schema_for):
    with pytest.raises(InvalidArgument) as caught:
        schema_for(list[int]).validate({"x": ["a"] * 5000})
    assert str(caught.value).endswith("\nand 4990 more")
    assert str(caught.value).count("\n") == 10
    assert len(caught.value.problems) == 100


def test_a_wrong_result_names_the_api_the_annotation_and_what_came(schema_of):
    with pytest.raises(InvalidResult) as caught:
        schema_of(Svc).check_result({"a": 1})
    assert str(caught.value) == (
        "Svc.f returned dict, which its annotation list[str] rules out:\n  Input should be a valid list (got dict)"
    )


def test_a_result_without_a_json_form_says_what_it_holds(schema_for):
    with pytest.raises(InvalidResult, match=r"^Svc\.f: the result cannot be sent as JSON: .*type object has no JSON"):
        schema_for(dict).dump_json({"a": object()})


def test_results_are_made_what_the_annotation_says(schema_for):
    class Color(enum.Enum):
        RED = "red"

    assert schema_for(float).check_result(np.float32(0.5)) == 0.5
    assert schema_for(bool).check_result(np.bool_(True)) is True
    assert schema_for(Color).check_result("red") is Color.RED


def test_errors_of_several_annotations_come_together(schema_of):
    class Bad:
        def f(self, a: any, b: [int]) -> 3: ...  # type: ignore[valid-type,misc]

    with pytest.raises(DeclarationError) as caught:
        schema_of(Bad)
    assert [m.message for m in caught.value.mistakes] == [
        "Bad.f: the annotation of `a` cannot be used: 'any' is not a type",
        "Bad.f: the annotation of `b` cannot be used: [<class 'int'>] is not a type",
        "Bad.f: the annotation of its result cannot be used: 3 is not a type",
    ]
    assert caught.value.mistakes[0].file == __file__


def test_our_own_functions_are_not_in_the_place_of_a_problem(schema_for):
    with pytest.raises(InvalidArgument) as caught:
        schema_for(np.ndarray | list[int]).validate({"x": "a"})
    assert [p["loc"] for p in caught.value.problems] == [["x"], ["x", "list[int]"]]
    assert "function" not in str(caught.value)
