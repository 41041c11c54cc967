"""Code objects, functions and classes that go by value come out as they went in, with any cloudpickle."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import io
import pickle
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from nbcompose._rpc import codec
from nbcompose._rpc.notebook_classes import Pickler, Unpickler, class_key, find_class, forget_class, known_classes

FILE = "/tmp/ipykernel_7/99.py"


def dumps(value: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file, protocol=5).dump(value)
    return file.getvalue()


def codes_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def described(code: CodeType) -> list[Any]:
    """All that code says of itself, and of the code in it."""
    return [
        {name: getattr(one, name) for name in dir(one) if name.startswith("co_") and name not in _COMPUTED}
        | {"lines": list(one.co_lines()), "positions": list(one.co_positions()), "consts": _typed(one.co_consts)}
        for one in codes_in(code)
    ]


_COMPUTED = {"co_lines", "co_positions", "co_lnotab", "co_branches", "co_consts"}


def _typed(constants: tuple[Any, ...]) -> list[Any]:
    """Those that are equal though they are not the same (0, 0.0, -0.0, False) tell apart by their text."""
    return [one.co_name if isinstance(one, CodeType) else repr(one) for one in constants]


SHAPES = {
    "a function": "def f(a, /, b, *c, d=1, **e) -> int:\n\n    return a\n",
    "a generator": "def f():\n    x = yield 1\n    yield from [x]\n",
    "a coroutine": "async def f():\n    async with a as b:\n        await b\n",
    "an async generator": "async def f():\n    async for i in a:\n        yield i\n",
    "a lambda": "f = lambda x, *y: (x,\n    y)\n",
    "a closure": "def f(a):\n    def g():\n        nonlocal a\n        return lambda: a\n    return g\n",
    "comprehensions": "f = lambda: ([i for i in a], {i for i in a}, {i: j for i in a for j in b}, (i for i in a))\n",
    "handlers": "def f():\n    try:\n        a()\n    except* ValueError as e: raise\n    finally:\n        b()\n",
    "matching": "def f(a):\n    match a:\n        case {'x': [1, *y]}:\n            return y\n",
    "constants": "def f(): return 1, 1.0, True, -0.0, 1j, b'', '\\ud800', None, ..., (1, (2,)), a in {1, 2}, a[1:2]\n",
    "classes": "class A:\n  'doc'\n  def f(self): return super().f\n  @property\n  def g(self): return __class__\n",
    "a decorator": "@a(1,\n   2)\ndef f():\n    pass\n",
    "names that are no ASCII": "def größe(π): return π.ß\n",
    "long lines and gaps": "def f():\n" + "\n" * 1000 + "    return " + " + ".join(["a"] * 500) + "\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_code_is_what_it_was(shape: str) -> None:
    code = compile(SHAPES[shape], FILE, "exec")
    made: CodeType = pickle.loads(dumps(code))
    assert made == code
    assert described(made) == described(code)
    assert {one.co_filename for one in codes_in(made)} == {FILE}


@pytest.mark.parametrize("module", [ast, asyncio.base_events, dataclasses, inspect, textwrap])
def test_code_of_whole_modules(module: Any) -> None:
    source = inspect.getsource(module)
    code = compile(source, FILE, "exec")
    assert described(pickle.loads(dumps(code))) == described(code)


def test_code_that_was_changed_by_a_tool_travels_with_what_the_tool_put_into_it() -> None:
    code = compile("x", FILE, "exec").replace(co_consts=(Path("x"), [1]), co_name="other", co_filename="made up")
    assert described(pickle.loads(dumps(code))) == described(code)


def test_a_function_knows_its_file_wherever_it_is_sent() -> None:
    """As a part of what replicas load, and as an argument."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SHAPES["a closure"], FILE, "exec"), space)
    function: FunctionType = space["f"](1)
    for made in (pickle.loads(dumps(function)), codec.loads(codec.dumps(function))):
        assert described(made.__code__) == described(function.__code__)
        assert (made.__name__, made.__qualname__, made()()) == ("g", "f.<locals>.g", 1)


def test_a_class_that_is_forgotten_is_made_anew_and_its_state_may_be_refused() -> None:
    class Known:
        mark = 1

    data = dumps(Known)
    key = class_key(Known)
    assert find_class(key) is Known
    assert Known in known_classes()
    assert pickle.loads(data) is Known

    forget_class(Known)
    assert find_class(key) is None
    made = pickle.loads(data)
    assert made is not Known
    assert (made.mark, find_class(key)) == (1, made)

    class Refusing(Unpickler):
        def set_class_state(self, cls: type[Any], state: Any) -> type[Any]:
            return cls

    made.mark = 2
    assert Refusing(io.BytesIO(data)).load() is made
    assert made.mark == 2
    assert Unpickler(io.BytesIO(data)).load().mark == 1
