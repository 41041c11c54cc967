"""Types from cells: strings as annotations, classes that were run again, classes that travelled, foreign classes."""

import subprocess
import sys
import textwrap
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import cloudpickle
import numpy as np
import pytest

from nbcompose._schema.api import ApiSchema
from nbcompose.errors import DeclarationError, InvalidArgument, InvalidResult
from tests.cases import named

CELL = """
from __future__ import annotations
import dataclasses, enum, typing
import numpy as np, numpy.typing as npt
from pydantic import BaseModel

class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Node:
    values: npt.NDArray[np.float32]
    color: Color = Color.RED
    child: Node | None = None

class Options(typing.TypedDict):
    seed: int
    noise: typing.NotRequired[np.ndarray]

class Query(BaseModel):
    text: str
    color: Color = Color.RED

class Point(typing.NamedTuple):
    x: float
    query: Query

class Svc:
    class Nested(BaseModel):
        n: int

    def f(self, node: Node, options: Options | None = None, query: list[Query] = None, nested: Nested = None) -> Node:
        return node

    def g(self, x: Point, color: Color) -> Point:
        return x
"""


@pytest.fixture
def run_cell():
    """Runs source as a cell: in one module, over what the cells before left in it. Gives the module."""
    module = types.ModuleType("notebook_cell")
    sys.modules[module.__name__] = module

    def run(source: str) -> types.ModuleType:
        exec(compile(textwrap.dedent(source), "<cell>", "exec"), vars(module))
        return module

    yield run
    del sys.modules[module.__name__]


def test_strings_mean_what_the_cell_says(run_cell, schema_of):
    cell = run_cell(CELL)
    schema = schema_of(cell.Svc)
    taken = schema.validate_json(
        {
            "node": {"values": [1], "child": {"values": [2.5], "color": "red"}},
            "options": {"seed": "1", "noise": [1]},
            "query": [{"text": "a"}],
            "nested": {"n": 1},
        }
    )
    assert type(taken["node"]) is cell.Node
    assert taken["node"].child.values.dtype == np.float32
    assert taken["node"].child.color is cell.Color.RED
    assert taken["options"] == {"seed": 1, "noise": np.array([1])}
    assert type(taken["query"][0]) is cell.Query
    assert type(taken["nested"]) is cell.Svc.Nested


def test_a_default_of_none_may_be_said(run_cell, schema_of):
    cell = run_cell(CELL)
    node = cell.Node(np.array([1], np.float32))
    taken = schema_of(cell.Svc).validate({"node": node, "query": None, "nested": None})
    assert taken == {"node": node, "query": None, "nested": None}
    assert taken["node"] is node


def test_values_of_a_class_that_was_run_again_are_taken(run_cell, schema_of):
    cell = run_cell(CELL)
    old_node = cell.Node(np.array([1], np.float32), cell.Color.RED, cell.Node(np.array([2], np.float32)))
    old_point = cell.Point(1.5, cell.Query(text="a", color=cell.Color.RED))
    old = (cell.Node, cell.Point, cell.Query, cell.Color)
    cell = run_cell(CELL)
    assert not {cell.Node, cell.Point, cell.Query, cell.Color} & set(old)

    node = schema_of(cell.Svc).validate({"node": old_node})["node"]
    assert type(node) is cell.Node
    assert type(node.child) is cell.Node
    assert node.color is cell.Color.RED
    assert node.values is old_node.values

    taken = schema_of(cell.Svc, "g").validate({"x": old_point, "color": old[3].RED})
    assert taken == {"x": cell.Point(1.5, cell.Query(text="a", color=cell.Color.RED)), "color": cell.Color.RED}
    assert type(taken["x"].query) is cell.Query


def test_values_of_an_old_class_that_no_longer_fit_are_refused(run_cell, schema_of):
    old = run_cell(CELL).Node(np.array([1], np.float32))
    cell = run_cell(CELL.replace("    values: npt", "    weight: float\n    values: npt"))
    with pytest.raises(InvalidArgument, match=r"node\.weight"):
        schema_of(cell.Svc).validate({"node": old})


def test_an_old_strict_model_with_aliases_and_extras_is_taken(run_cell, schema_of):
    source = """
        from pydantic import BaseModel, ConfigDict, Field
        class Inner(BaseModel):
            n: int
        class Doc(BaseModel):
            model_config = ConfigDict(extra="allow", frozen=True)
            text: str = Field(alias="body")
            inner: Inner
        class Svc:
            def f(self, x: Doc) -> Doc: ...
    """
    old = run_cell(source).Doc(body="a", inner={"n": 1}, more=2)
    cell = run_cell(source)
    taken = schema_of(cell.Svc).validate({"x": old})["x"]
    assert taken == cell.Doc(body="a", inner=cell.Inner(n=1), more=2)


@pytest.mark.system
def test_a_service_and_its_types_have_their_types_after_they_travelled(run_cell, make_spec):
    """By value, to a process that never ran the cell: what is only named in annotations does not travel by itself."""
    cell = run_cell(CELL)
    spec = make_spec(cell.Svc)
    ApiSchema.of(cell.Svc, spec)
    cloudpickle.register_pickle_by_value(cell)
    try:
        sent = cloudpickle.dumps((cell.Svc, spec))
    finally:
        cloudpickle.unregister_pickle_by_value(cell)
    code = """
        import sys, pickle
        from nbcompose._schema.api import ApiSchema
        owner, spec = pickle.load(sys.stdin.buffer)
        schema = ApiSchema.of(owner, spec)
        document = {"node": {"values": [1], "child": {"values": [2]}}, "options": {"seed": 1}, "query": [{"text": "a"}]}
        taken = schema.validate_json(document)
        assert schema.validate(taken)["node"] is taken["node"]
        print(taken["node"].child.values.dtype, schema.dump(taken["node"]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], input=sent, capture_output=True, check=False)
    assert not done.stderr, done.stderr.decode()[-2500:]
    child = "{'values': [2.0], 'color': 'red', 'child': None}"
    assert done.stdout.decode() == f"float32 {{'values': [1.0], 'color': 'red', 'child': {child}}}\n"


def test_every_unknown_name_is_a_mistake_with_its_place(run_cell, schema_of):
    cell = run_cell(
        """
        class Svc:
            def f(self, a: "Missing", b: int, c: "list[Other]") -> "Third": ...
        """
    )
    with pytest.raises(DeclarationError, match=r"`Missing`.*TYPE_CHECKING") as caught:
        schema_of(cell.Svc)
    assert [m.line for m in caught.value.mistakes] == [3, 3, 3]
    assert [m.file for m in caught.value.mistakes] == ["<cell>"] * 3
    text = str(caught.value)
    assert "the annotation of `a` names `Missing`" in text
    assert "the annotation of `c` names `Other`" in text
    assert "the annotation of its result names `Third`" in text


def test_an_unknown_name_inside_a_class_is_a_mistake(run_cell, schema_of):
    cell = run_cell(
        """
        import dataclasses
        from pydantic import BaseModel
        @dataclasses.dataclass
        class D:
            x: "Missing"
        class M(BaseModel):
            x: "Missing"
        class Svc:
            def f(self, a: D, b: M, c: str): ...
        """
    )
    with pytest.raises(DeclarationError) as caught:
        schema_of(cell.Svc)
    assert len(caught.value.mistakes) == 2
    assert "annotation of `a` names `Missing`" in str(caught.value)
    assert "annotation of `b` names `Missing`" in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [3, "1 +", any, np.array, np, "[int]", list[3], typing.Union[int, "any"], {"a": int}],  # type: ignore[valid-type]
)
def test_what_is_no_type_is_a_mistake(schema_of, annotation):
    class Svc:
        def f(self, x): ...

    Svc.f.__annotations__ = {"x": annotation}
    with pytest.raises(DeclarationError, match="annotation of `x` cannot be used"):
        schema_of(Svc)


def test_a_generator_says_that_it_yields(schema_of):
    class Svc:
        def f(self) -> str:  # type: ignore[misc]
            yield "a"

    with pytest.raises(DeclarationError, match=r"yields, so it returns no str: write `-> Iterator"):
        schema_of(Svc)


@pytest.mark.parametrize("annotation", [Iterator[int], typing.Generator[int, None, None], AsyncIterator[int]])
def test_items_of_a_stream_are_checked(schema_of, annotation):
    class Svc:
        def f(self): ...

    Svc.f.__annotations__ = {"return": annotation}
    schema = schema_of(Svc, stream=True, returns="Iterator[int]")
    assert schema.check_result("3", "yielded") == 3
    with pytest.raises(InvalidResult, match=r"Svc.f yielded str, which its annotation Iterator\[int\] rules out"):
        schema.check_result("x", "yielded")
    assert schema.output_schema == {"type": "integer"}
    assert schema.media_types() == ("application/json",)


@pytest.mark.parametrize("annotation", [Iterator, typing.AsyncIterator, Any])
def test_items_of_an_open_stream_are_left_alone(schema_of, annotation):
    class Svc:
        def f(self): ...

    Svc.f.__annotations__ = {"return": annotation}
    item = object()
    assert schema_of(Svc, stream=True).check_result(item, "yielded") is item


class Engine:
    pass


async def live() -> AsyncIterator[int]:
    yield 1


class Callback(Protocol):
    def __call__(self, x: int) -> int: ...


def test_a_class_that_nobody_knows_passes_between_services_only(schema_for):
    schema, engine = schema_for(Engine), Engine()
    assert schema.validate({"x": engine})["x"] is engine
    with pytest.raises(InvalidArgument, match=r"Svc.f: x: Input should be an instance of Engine \(got dict\)"):
        schema.validate_json({"x": {}})
    with pytest.raises(InvalidResult, match="Engine has no JSON form"):
        schema.dump_json(engine)
    assert "not available over HTTP" in schema.input_schema["properties"]["x"]["description"]
    assert "not available over HTTP" in schema.output_schema["description"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Callback, abs),
        (Callable[[int], int], abs),
        (type[int], bool),
        (list[Engine], [Engine()]),
        (Engine | None, None),
        (typing.TypeVar("T"), object()),
        (Iterator[int], iter([1])),
        (AsyncIterator[int], live()),
        (typing.NewType("UserId", int), 3),
        (np.dtype, np.dtype("f4")),
    ],
    ids=named,
)
def test_other_annotations_are_taken(schema_for, annotation, value):
    schema = schema_for(annotation)
    assert schema.validate({"x": value})["x"] == value
    assert schema.input_schema["required"] == ["x"]
    assert isinstance(schema.output_schema, dict)


def test_a_live_iterator_stays_live(schema_for):
    numbers = iter([1, 2])
    assert schema_for(typing.Iterable[int]).validate({"x": numbers})["x"] is numbers
    assert next(numbers) == 1


def test_generic_classes(run_cell, schema_of):
    cell = run_cell(
        """
        import dataclasses, typing
        import numpy as np
        T = typing.TypeVar("T")
        @dataclasses.dataclass
        class Box(typing.Generic[T]):
            content: T
            more: list[T] = dataclasses.field(default_factory=list)
        class Svc:
            def f(self, a: Box[int], b: Box[np.ndarray]) -> Box[np.ndarray]: ...
        """
    )
    taken = schema_of(cell.Svc).validate_json({"a": {"content": "1"}, "b": {"content": [1], "more": [[2]]}})
    assert taken["a"] == cell.Box(1)
    assert isinstance(taken["b"].content, np.ndarray)
    assert isinstance(taken["b"].more[0], np.ndarray)


def test_models_keep_validators_unions_and_identity(run_cell, schema_of):
    cell = run_cell(
        """
        import typing
        import numpy as np
        from pydantic import BaseModel, ConfigDict, Field, field_validator
        class Cat(BaseModel):
            kind: typing.Literal["cat"]
        class Dog(BaseModel):
            model_config = ConfigDict(arbitrary_types_allowed=True)
            kind: typing.Literal["dog"]
            tail: np.ndarray
            @field_validator("tail")
            @classmethod
            def long(cls, v):
                if len(v) < 2: raise ValueError("is too short")
                return v
        class Svc:
            def f(self, x: typing.Annotated[Cat | Dog, Field(discriminator="kind")]) -> Cat | Dog: ...
        """
    )
    schema = schema_of(cell.Svc)
    assert schema.validate_json({"x": {"kind": "cat"}})["x"] == cell.Cat(kind="cat")
    dog = schema.validate_json({"x": {"kind": "dog", "tail": [1, 2]}})["x"]
    assert type(dog) is cell.Dog
    assert schema.validate({"x": dog})["x"] is dog
    assert schema.dump(dog) == {"kind": "dog", "tail": [1, 2]}
    with pytest.raises(InvalidArgument, match=r"^Svc\.f: x\.dog\.tail: is too short$"):
        schema.validate_json({"x": {"kind": "dog", "tail": [1]}})
    assert cell.Dog.model_json_schema is not None
    assert cell.Dog.__pydantic_core_schema__["type"] == "model"


def test_models_within_models_over_json(run_cell, schema_of):
    cell = run_cell(
        """
        import datetime
        import numpy as np
        import pydantic
        from pydantic import BaseModel, ConfigDict
        class Event(BaseModel):
            model_config = ConfigDict(strict=True)
            when: datetime.date
        class Log(BaseModel):
            events: list[Event]
        class Tree(BaseModel):
            model_config = ConfigDict(arbitrary_types_allowed=True)
            values: np.ndarray
            children: "list[Tree]" = []
        @pydantic.dataclasses.dataclass
        class Checked:
            log: Log
            tree: Tree
        class Svc:
            def f(self, log: Log, tree: Tree, checked: Checked) -> Checked: ...
        """
    )
    schema = schema_of(cell.Svc)
    log = {"events": [{"when": "2026-01-02"}]}
    tree = {"values": [1], "children": [{"values": [2], "children": [{"values": [3]}]}]}
    taken = schema.validate_json({"log": log, "tree": tree, "checked": {"log": log, "tree": tree}})
    assert taken["log"].events[0].when.day == 2
    assert taken["tree"].children[0].children[0].values.tolist() == [3]
    assert type(taken["checked"]) is cell.Checked
    assert schema.dump(taken["checked"])["tree"]["children"][0]["values"] == [2]
    assert schema.validate(taken) == taken


def test_an_old_tree_of_models_is_taken(run_cell, schema_of):
    source = """
        from pydantic import BaseModel
        class Tree(BaseModel):
            n: int
            children: "list[Tree]" = []
        class Svc:
            def f(self, x: dict[str, Tree]) -> Tree: ...
    """
    old = run_cell(source).Tree(n=1, children=[{"n": 2}])
    cell = run_cell(source)
    taken = schema_of(cell.Svc).validate({"x": {"a": old}})["x"]["a"]
    assert taken == cell.Tree(n=1, children=[cell.Tree(n=2)])
    assert schema_of(cell.Svc).check_result(old) == taken


def test_names_that_are_defined_in_a_later_cell(run_cell, schema_of):
    run_cell(
        """
        from pydantic import BaseModel
        class Holder(BaseModel):
            item: "Later"
        class Svc:
            def f(self, x: "Holder") -> "Later": ...
        """
    )
    cell = run_cell("class Later(BaseModel):\n    n: int")
    assert schema_of(cell.Svc).validate_json({"x": {"item": {"n": 1}}})["x"].item == cell.Later(n=1)
