"""The calls of dependencies that stand in a service's code: `self.writer.write(prompt, limit=3)`.

Read from its source, so that a change of the callee's signature can be told to whoever calls it. A dependency that was
put into a variable first is not followed.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from nbcompose.capture.captured import functions_in
from nbcompose.capture.reach import codes_in, per_code
from nbcompose.capture.uses import Seen, Uses
from nbcompose.plan import DependencyCall, Use
from nbcompose.spec import Location, ServiceSpec

_FORMS = ("to_async", "to_sync")


def calls_of(spec: ServiceSpec, classes: Sequence[type[Any]]) -> Iterator[DependencyCall]:
    """The calls in the methods of these classes, those of the service and its bases."""
    attributes = {d.attribute for d in spec.dependencies if d.url is None}
    apis, hooks = {a.method for a in spec.apis}, {*spec.on_startup, *spec.on_shutdown}
    if not attributes:
        return
    for cls in classes:
        for name, member in vars(cls).items():
            codes = {f.__code__: None for function in functions_in(member) for f in _with_wrapped(function)}
            for code in codes:
                for call in _calls_in(code) if attributes & _names_in(code) else ():
                    if call.attribute in attributes:
                        yield call.made_by(f"{spec.name}.{name}", code.co_filename, name in apis, name in hooks)


@dataclass(frozen=True, slots=True)
class _Call:
    attribute: str
    api: str
    positional: int
    keywords: tuple[str, ...]
    open: bool
    line: int
    form: str
    use: Seen
    is_async: bool
    is_own: bool  # of the method itself, not of a function within it

    def made_by(self, caller: str, file: str, is_api: bool, is_hook: bool) -> DependencyCall:
        match self.use:
            case "returned":
                use: Use = "value" if is_api else "handed on"
            case "stored":
                use = "value"
            case other:
                use = other
        return DependencyCall(
            caller, self.attribute, self.api, self.positional, self.keywords, self.open, Location(file, self.line),
            self.form, use, self.is_async, on_loop=self.is_async and self.is_own and (is_api or is_hook),
        )  # fmt: skip


def _with_wrapped(function: FunctionType, depth: int = 8) -> Iterator[FunctionType]:
    """A function, and what a decorator without `functools.wraps` keeps in a variable."""
    yield function
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if depth and isinstance(value, FunctionType) and value is not function:
            yield from _with_wrapped(value, depth - 1)


@per_code
def _calls_in(code: CodeType) -> tuple[_Call, ...]:
    """All calls of the form `self.a.b(...)`, whatever `self` is called."""
    if not code.co_argcount:
        return ()
    try:
        text = _source(code)
        # Dedenting would stumble over the lines of a text that stand at the margin.
        indented = text[:1].isspace()
        tree = ast.parse(f"if True:\n{text}" if indented else text)
    except SyntaxError:  # it is part of a line
        return ()
    first = code.co_firstlineno - (2 if indented else 1)
    uses = Uses(tree)
    found = [call for node in uses.calls if (call := _read(node, uses, code.co_varnames[0], first)) is not None]
    return tuple(sorted(found, key=lambda call: call.line))


@per_code
def _names_in(code: CodeType) -> frozenset[str]:
    return frozenset(name for inner in codes_in(code) for name in inner.co_names)


def _source(code: CodeType) -> str:
    """As `inspect.getsource`, which looks through all modules first; "" where nobody has it."""
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    return "".join(inspect.getblock(lines)) if lines else ""


def _read(node: ast.Call, uses: Uses, variable: str, first: int) -> _Call | None:
    whole = _path(node.func)
    path = [name for name in whole if name not in _FORMS]
    if len(path) != 3 or path[0] != variable:
        return None
    return _Call(
        attribute=path[1],
        api=path[2],
        positional=len(node.args),
        keywords=tuple(k.arg for k in node.keywords if k.arg is not None),
        open=any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords),
        line=first + node.lineno,
        form=next((name for name in reversed(whole) if name in _FORMS), ""),
        use=uses.of(node),
        is_async=uses.is_async(node),
        is_own=uses.is_own(node),
    )


def _path(node: ast.expr) -> list[str]:
    """`self.writer.to_async.write` as its names; empty for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []
