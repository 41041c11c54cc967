"""Calls of dependencies in a service's source, and what is done with their value: awaited, iterated, used.

Used to warn when the signature of a called api changes, and when the value of an asynchronous api is used without
`await`. A dependency that was assigned to a variable first is not followed; a value whose use is unknown counts as
handed on.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import CodeType, FunctionType
from typing import Any, Literal, NamedTuple

from nbcompose._code.bytecode import codes_in, per_code
from nbcompose._code.captured import functions_in
from nbcompose._code.diff import DependencyCall, Use
from nbcompose._spec import Location, ServiceSpec

Seen = Literal["returned", "stored"] | Use

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# What is true of the whole where uses differ: the first of these that there is.
_ORDER: tuple[Seen, ...] = ("awaited", "async for", "handed on", "returned", "stored", "for", "value")

_ITERATING = frozenset(
    "all any dict enumerate filter frozenset iter list map max min next reversed set sorted sum tuple zip".split()  # noqa: SIM905
)
_LOOKING = frozenset("aiter anext callable getattr hasattr id isinstance issubclass repr setattr type".split())  # noqa: SIM905

# Code that is not async can give something to await only to what runs it, or keeps it until then. That says so by its
# name, mostly: asyncio.run, run_until_complete, gather, create_task, append, …
_TAKING = re.compile(r"run|gather|task|future|wait|shield|complete|submit|append|extend|add|put", re.IGNORECASE)


class Uses:
    """The code of one method. `calls` are all the calls in it."""

    def __init__(self, tree: ast.AST) -> None:
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]

    def function(self, node: ast.AST) -> Function | None:
        """The innermost function that a part of the code runs in."""
        return next((a for a in self._above(node) if isinstance(a, Function)), None)

    def is_own(self, node: ast.AST) -> bool:
        """Whether that is the method itself, and no function within it."""
        return sum(isinstance(a, Function) for a in self._above(node)) == 1

    def is_async(self, node: ast.AST) -> bool:
        return isinstance(self.function(node), ast.AsyncFunctionDef)

    def of(self, node: ast.expr, depth: int = 8) -> Seen:
        """What is done with the value of an expression.

        `returned` is said of the method itself only, `stored` of code that is not async: it goes into an attribute.
        """
        parent = self._parents.get(node)
        match parent:
            case ast.Await():
                return "awaited"
            case ast.AsyncFor() | ast.For() | ast.comprehension() if parent.iter is node:
                is_async = isinstance(parent, ast.AsyncFor) or bool(getattr(parent, "is_async", False))
                return "async for" if is_async else "for"
            case ast.YieldFrom() | ast.Starred():
                return "for"
            case ast.Expr() | ast.Attribute() | ast.Subscript() | ast.BinOp() | ast.UnaryOp() | ast.Compare():
                return "value"
            case ast.FormattedValue() | ast.AugAssign():
                return "value"
            case ast.If() | ast.While() | ast.IfExp() | ast.Assert() if parent.test is node:
                return "value"
            case ast.IfExp() | ast.BoolOp() | ast.NamedExpr():
                return self.of(parent, depth)
            case ast.Return() | ast.Yield():
                return "returned" if self.is_own(parent) else "handed on"
            case ast.Assign(targets=[ast.Name() as name]) | ast.AnnAssign(target=ast.Name() as name):
                return self._of_variable(name, depth - 1) if depth else "handed on"
            case ast.Assign(targets=[ast.Attribute()]) | ast.AnnAssign(target=ast.Attribute()):
                return "handed on" if self.is_async(parent) else "stored"
            case ast.Assign(targets=[ast.Tuple() | ast.List()]):
                return "for"
            case ast.keyword():
                call = self._parents[parent]
                return self._as_argument(call) if isinstance(call, ast.Call) else "handed on"
            case ast.Call():
                return self._as_argument(parent)
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.ListComp() | ast.SetComp() | ast.DictComp():
                use = self.of(parent, depth)
                return use if use in ("returned", "stored") else "handed on"
        return "handed on"

    def _of_variable(self, name: ast.Name, depth: int) -> Seen:
        function = self.function(name)
        if function is None:
            return "handed on"
        found: set[Seen] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Global | ast.Nonlocal) and name.id in node.names:
                return "handed on"
            if isinstance(node, ast.Name) and node.id == name.id and isinstance(node.ctx, ast.Load):
                found.add(self.of(node, depth) if self.function(node) is function else "handed on")
        return next((use for use in _ORDER if use in found), "value")  # never looked at: dropped

    def _as_argument(self, call: ast.Call) -> Seen:
        match call.func:
            case ast.Name(id=name) if hasattr(builtins, name):
                if name in _LOOKING:
                    return "handed on"
                return "for" if name in _ITERATING else "value"
            case ast.Attribute(value=ast.Constant() | ast.JoinedStr()):  # ", ".join(…)
                return "for"
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return "handed on" if self.is_async(call) or _TAKING.search(name) else "value"
        return "handed on"

    def _above(self, node: ast.AST) -> Iterator[ast.AST]:
        above = self._parents.get(node)
        while above is not None:
            yield above
            above = self._parents.get(above)


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
                for found in _calls_in(code) if attributes & _names_in(code) else ():
                    if found.call.attribute in attributes:
                        yield found.made_by(f"{spec.name}.{name}", name in apis, name in hooks)


class _Call(NamedTuple):
    """A call where it is written. `use`: `returned` and `stored` depend on whose code it is. `is_own`: it is of the
    method itself, not of a function within it.
    """

    call: DependencyCall
    use: Seen
    is_own: bool

    def made_by(self, caller: str, is_api: bool, is_hook: bool) -> DependencyCall:
        use: Use = self.call.use
        if self.use == "returned":
            use = "value" if is_api else "handed on"
        on_loop = self.call.is_async and self.is_own and (is_api or is_hook)
        return replace(self.call, caller=caller, use=use, on_loop=on_loop)


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
    start = Location(code.co_filename, first)
    found = [call for node in uses.calls if (call := _read(node, uses, code.co_varnames[0], start)) is not None]
    return tuple(sorted(found, key=lambda found: found.call.where.line))


@per_code
def _names_in(code: CodeType) -> frozenset[str]:
    return frozenset(name for inner in codes_in(code) for name in inner.co_names)


def _source(code: CodeType) -> str:
    """As `inspect.getsource`, which looks through all modules first; "" where nobody has it."""
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    return "".join(inspect.getblock(lines)) if lines else ""


def _read(node: ast.Call, uses: Uses, variable: str, start: Location) -> _Call | None:
    whole = _path(node.func)
    path = [name for name in whole if name not in _FORMS]
    if len(path) != 3 or path[0] != variable:
        return None
    use = uses.of(node)
    call = DependencyCall(
        caller="",
        attribute=path[1],
        api=path[2],
        positional=len(node.args),
        keywords=tuple(k.arg for k in node.keywords if k.arg is not None),
        open=any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords),
        where=Location(start.file, start.line + node.lineno),
        form=next((name for name in reversed(whole) if name in _FORMS), ""),
        use="value" if use == "returned" or use == "stored" else use,
        is_async=uses.is_async(node),
    )
    return _Call(call, use, uses.is_own(node))


def _path(node: ast.expr) -> list[str]:
    """`self.writer.to_async.write` as its names; empty for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []
