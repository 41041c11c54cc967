"""The calls of dependencies that stand in a service's code: `self.writer.write(prompt, limit=3)`.

Read from its source, so that a change of the callee's signature can be told to whoever calls it. A dependency that was
put into a variable first is not followed.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from nbcompose.capture.captured import functions_in
from nbcompose.plan import DependencyCall
from nbcompose.spec import Location, ServiceSpec

_FORMS = ("to_async", "to_sync")


def calls_of(spec: ServiceSpec, classes: Sequence[type[Any]]) -> Iterator[DependencyCall]:
    """The calls in the methods of these classes, those of the service and its bases."""
    attributes = {d.attribute for d in spec.dependencies if d.url is None}
    if not attributes:
        return
    for cls in classes:
        for name, member in vars(cls).items():
            for function in functions_in(member):
                for call in _calls_in(function, attributes):
                    yield _read(call, f"{spec.name}.{name}", function)


def _calls_in(function: FunctionType, attributes: set[str]) -> Iterator[ast.Call]:
    parameters = function.__code__.co_varnames[:1]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, IndentationError):  # nobody has its source, or it is part of a line
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (path := _path(node.func)) and path[:1] == list(parameters):
            plain = [p for p in path[1:] if p not in _FORMS]
            if len(plain) == 2 and plain[0] in attributes:
                yield node


def _path(node: ast.expr) -> list[str]:
    """`self.writer.to_async.write` as its names; empty for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def _read(call: ast.Call, caller: str, function: FunctionType) -> DependencyCall:
    attribute, api = [p for p in _path(call.func)[1:] if p not in _FORMS]
    code = function.__code__
    return DependencyCall(
        caller=caller,
        attribute=attribute,
        api=api,
        positional=len(call.args),
        keywords=tuple(k.arg for k in call.keywords if k.arg is not None),
        open=any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords),
        where=Location(code.co_filename, code.co_firstlineno + call.lineno - 1),
    )
