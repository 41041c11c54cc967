"""Types and helpers that only a notebook has, on their way to replicas: forked and cold, one and three, sync and async;
called from the kernel, from a service above, over HTTP and in the process.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.notebook.conftest import Kernel, start_kernel

pytestmark = pytest.mark.system

TYPES = """
import dataclasses, datetime, decimal, enum, functools, typing
from collections.abc import Iterator
from typing import Annotated, Generic, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar
import numpy as np
import pandas as pd
import typing_extensions
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

T = TypeVar("T")
UserId = NewType("UserId", int)
Inner = NewType("Inner", UserId)
Ids = TypeAliasType("Ids", list[UserId])
Pair = TypeAliasType("Pair", tuple[T, T], type_params=(T,))
Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | int | None")
Arrays = TypeAliasType("Arrays", "np.ndarray | dict[str, Arrays]")
Mode = Literal["a", "b"]

class Color(enum.Enum):
    RED = "red"

class Outer:
    class Shade(enum.Enum):
        DARK = "dark"
    @dataclasses.dataclass
    class Item:
        x: int
        @functools.cached_property
        def twice(self):
            return self.x * 2

class Point(NamedTuple):
    x: int
    y: int = 2

class Options(TypedDict):
    seed: int

class Extended(typing_extensions.TypedDict, total=False):
    seed: int

@dataclasses.dataclass
class Box(Generic[T]):
    value: T

class Model(BaseModel, Generic[T]):
    value: T

@dataclasses.dataclass
class Counted:
    word: str
    size: int = dataclasses.field(init=False)
    def __post_init__(self):
        self.size = len(self.word)

@functools.singledispatch
def shown(value):
    return "?"

@shown.register
def _(value: int):
    return f"int {value}"

@shown.register(list)
def _(value):
    return [shown(v) for v in value]

twice = functools.partial(shown, 2)

@functools.lru_cache
def cached(n):
    return shown(n)

class Callable_:
    def __call__(self, value):
        return shown(value)

call = Callable_()

class Shower:
    @functools.singledispatchmethod
    def show(self, value):
        return "??"
    @show.register
    def _(self, value: int):
        return f"method {value}"
"""

# What an api takes and gives: annotation, what a Python caller passes, JSON, the answer in Python, and in JSON.
CASES: dict[str, tuple[str, str, Any, str, Any]] = {
    "new_type": ("UserId", "UserId(1)", 1, "1", 1),
    "new_type_of_new_type": ("Inner", "Inner(UserId(1))", 1, "1", 1),
    "alias": ("Ids", "[1, 2]", [1, 2], "[1, 2]", [1, 2]),
    "generic_alias": ("Pair[int]", "(1, 2)", [1, 2], "(1, 2)", [1, 2]),
    "generic_alias_of_array": ("Pair[np.ndarray]", "(np.ones(1), np.ones(1))", [[1], [1]],
                               "(array([1.]), array([1.]))", [[1.0], [1.0]]),
    "recursive_alias": ("Json", "{'a': [1, None]}", {"a": [1, None]}, "{'a': [1, None]}", {"a": [1, None]}),
    "recursive_alias_of_arrays": ("Arrays", "{'a': {'b': np.ones(1)}}", {"a": {"b": [1]}},
                                  "{'a': {'b': array([1.])}}", {"a": {"b": [1.0]}}),
    "literal": ("Mode", "'a'", "a", "'a'", "a"),
    "enumeration": ("Color", "Color.RED", "red", "<Color.RED: 'red'>", "red"),
    "named_tuple": ("Point", "Point(1)", [1, 2], "Point(x=1, y=2)", [1, 2]),
    "typed_dict": ("Options", "{'seed': 1}", {"seed": 1}, "{'seed': 1}", {"seed": 1}),
    "extended_typed_dict": ("Extended", "{'seed': 1}", {"seed": 1}, "{'seed': 1}", {"seed": 1}),
    "generic_dataclass": ("Box[int]", "Box(1)", {"value": 1}, "Box(value=1)", {"value": 1}),
    "generic_model": ("Model[int]", "Model[int](value=1)", {"value": 1}, "Model[int](value=1)", {"value": 1}),
    "model_of_new_type": ("Model[UserId]", "Model[UserId](value=1)", {"value": 1}, "Model[NewType](value=1)",
                          {"value": 1}),
    "counted": ("Counted", "Counted('abc')", {"word": "abc"}, "Counted(word='abc', size=3)",
                {"word": "abc", "size": 3}),
    "nested": ("Outer.Item", "Outer.Item(1)", {"x": 1}, "Outer.Item(x=1)", {"x": 1}),
    "nested_enumeration": ("Outer.Shade", "Outer.Shade.DARK", "dark", "<Shade.DARK: 'dark'>", "dark"),
    "union": ("int | Point", "Point(1)", [1, 2], "Point(x=1, y=2)", [1, 2]),
    "many": ("dict[str, list[Outer.Item]]", "{'a': [Outer.Item(1)]}", {"a": [{"x": 1}]},
             "{'a': [Outer.Item(x=1)]}", {"a": [{"x": 1}]}),
    "array": ("np.ndarray", "np.ones((1, 2))", [[1, 1]], "array([[1., 1.]])", [[1.0, 1.0]]),
    "frame": ("pd.DataFrame", "pd.DataFrame({'a': [1]}, index=['i'])", [{"index": "i", "a": 1}],
              "   a\ni  1", [{"index": "i", "a": 1}]),
    "day": ("datetime.date", "datetime.date(2026, 11, 26)", "2026-11-26", "datetime.date(2026, 11, 26)", "2026-11-26"),
    "exact": ("decimal.Decimal", "decimal.Decimal('1.10')", "1.10", "Decimal('1.10')", "1.10"),
    "field": ("int", "5", 5, "5", 5),
}  # fmt: skip
if sys.version_info >= (3, 12):
    TYPES += """
type Statement = list[UserId]
type Tree[V] = V | list[Tree[V]]
"""
    CASES["type_statement"] = ("Statement", "[1]", [1], "[1]", [1])
    CASES["recursive_type_statement"] = ("Tree[int]", "[1, [2]]", [1, [2]], "[1, [2]]", [1, [2]])

DEFAULTS = {"new_type": " = UserId(1)", "field": " = Field(3, ge=1, le=5)"}

SERVICES = (
    TYPES
    + "\n%%service --replicas {replicas}\nclass Types:\n    def __init__(self):\n        self.shower = Shower()\n"
    + "".join(
        f"    @api\n    def {name}(self, x: {annotation}{DEFAULTS.get(name, '')}) -> {annotation}:\n        return x\n"
        f"    @api\n    async def {name}_async(self, x: {annotation}{DEFAULTS.get(name, '')}) -> {annotation}:\n"
        f"        return x\n"
        for name, (annotation, *_) in CASES.items()
    )
    + """
    @api
    def own(self) -> list:
        return [self.new_type(), self.field()]
    @api
    def helpers(self) -> list:
        shown_by_method = self.shower.show(1)
        return [shown(1), shown([1, "a"]), twice(), cached(4), call(5), shown_by_method, self.shower.show("a")]
    @api(batchable=True)
    def double(self, df: pd.DataFrame) -> pd.Series:
        return df["x"] * 2
    @api(batchable=True)
    def sizes(self, texts: list[str] = ["a", "bb"]) -> list[int]:
        return [len(t) for t in texts]
    @api
    def root(self, given: Model[int], /) -> int:
        return given.value

class Front:
    types = depends(Types)
    @api
    def by(self, name: str, *args) -> object:
        return getattr(self.types.to_sync, name)(*args)
    @api
    async def by_async(self, name: str, *args) -> object:
        return await getattr(self.types.to_async, name)(*args)
"""
)

WAYS = """
import asyncio, httpx
process = Front()
def over_http(api, body):
    token = {"Authorization": f"Bearer {Types.token}"}
    answer = httpx.post(f"{Types.url}/{api}", json=body, headers=token, timeout=None)
    return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json()["error"]["message"])
WAYS = {
    "kernel": lambda api, *args: getattr(Types, api)(*args),
    "dependency": lambda api, *args: Front.by(api, *args),
    "dependency, awaited": lambda api, *args: Front.by_async(api, *args),
    "process": lambda api, *args: process.by(api, *args),
}
"""


@pytest.fixture(scope="module", params=["forked", "cold"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBCOMPOSE_ZYGOTE", "1" if request.param == "forked" else "0")
        with start_kernel() as kernel:
            yield kernel


@pytest.fixture(scope="module", params=[1, pytest.param(3, marks=pytest.mark.slow)], ids=["one replica", "three"])
def served(kernel: Kernel, request: pytest.FixtureRequest) -> Kernel:
    kernel.ok("%services stop --all")
    types, _, service = SERVICES.replace("{replicas}", str(request.param)).partition("\n%%service")
    kernel.ok(types)
    kernel.ok("%%service" + service)
    kernel.ok(WAYS)
    return kernel


def shown(kernel: Kernel, expression: str) -> Any:
    return ast.literal_eval(kernel.ok(f"print(ascii({expression}))").stdout)


@pytest.fixture(scope="module")
def answers(served: Kernel) -> dict[str, Any]:
    """Of all cases: by way, and over HTTP."""
    expressions = [
        f"{case!r}: {{way: [repr(call(api, {given})) for api in {(case, case + '_async')}] "
        f"for way, call in WAYS.items()}}"
        f" | {{'http': [over_http(api, {{'x': {document!r}}}) for api in {(case, case + '_async')}]}}"
        for case, (_, given, document, _, _) in CASES.items()
    ]
    return dict(shown(served, "{" + ", ".join(expressions) + "}"))


@pytest.mark.parametrize("case", CASES)
def test_a_type_of_the_notebook(answers: dict[str, Any], case: str) -> None:
    *_, answer, in_json = CASES[case]
    found = answers[case]
    assert found.pop("http") == [in_json, in_json]
    assert found == dict.fromkeys(found, [answer, answer])  # noqa: RUF024


def test_defaults_and_bounds(served: Kernel) -> None:
    for api, default in (("new_type", 1), ("field", 3), ("sizes", [1, 2]), ("own", [1, 3])):
        answers = shown(
            served, f"{{way: call({api!r}) for way, call in WAYS.items()}} | {{'http': over_http({api!r}, {{}})}}"
        )
        assert answers == dict.fromkeys(answers, default)
    status, message = shown(served, "over_http('field', {'x': 9})")
    assert (status, message) == (422, "Types.field: x: Input should be less than or equal to 5 (got int)")
    for way in ("kernel", "dependency", "process"):
        error = served.run(f"WAYS[{way!r}]('field', 9)").error
        assert "InvalidArgument: Types.field: x: Input should be less than or equal to 5 (got int)" in error


def test_helpers_that_pickle_knows_by_name_only(served: Kernel) -> None:
    wanted = ["int 1", ["int 1", "?"], "int 2", "int 4", "int 5", "method 1", "??"]
    answers = shown(served, "{way: call('helpers') for way, call in WAYS.items()} | {'http': over_http('helpers', {})}")
    assert list(answers.values()) == [wanted] * 5


def test_the_labels_of_rows(served: Kernel) -> None:
    served.ok("df = pd.DataFrame({'x': [10, 20, 30]})")
    answers = shown(served, "{way: call('double', df[df.x > 10]).to_dict() for way, call in WAYS.items()}")
    assert list(answers.values()) == [{1: 40, 2: 60}] * 4
    served.ok("df['y'] = Types.double(df[df.x > 10])")
    assert shown(served, "df['y'].fillna(-1).tolist()") == [-1, 40, 60]
    at_once = "await asyncio.gather(*(Types.to_async.double(df[df.x >= x]) for x in (10, 20, 30, 20, 99)))"
    assert shown(served, f"[s.to_dict() for s in {at_once}]") == [
        {0: 20, 1: 40, 2: 60}, {1: 40, 2: 60}, {2: 60}, {1: 40, 2: 60}, {}
    ]  # fmt: skip
    assert shown(served, "over_http('double', {'df': [{'x': 1}, {'x': 2}]})") == [2, 4]


def test_a_root_argument(served: Kernel) -> None:
    answers = shown(served, "{way: call('root', Model[int](value=1)) for way, call in WAYS.items()}")
    assert answers == dict.fromkeys(answers, 1)
    assert shown(served, "over_http('root', {'value': 1})") == 1


def test_running_the_cell_again_changes_nothing(served: Kernel) -> None:
    replicas = int(served.ok("print(len(get_ipython().meta['nbcompose'].registry.status('Types').replicas))").stdout)
    cell = SERVICES.replace("{replicas}", str(replicas)).partition("\n%%service")[2]
    served.ok("%%service" + cell.partition("\nclass Front")[0])
    assert "unchanged" in served.ok("%%service" + cell.partition("\nclass Front")[0]).plain
