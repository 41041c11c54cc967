"""Names that a service's code looks up and nothing defines: each would be a NameError at the call.

Bytecode says which names are looked up in the module, the source under which conditions. Code that may well work gives
no result: where a NameError is caught, where a condition is known to be false (`TYPE_CHECKING`, `HAS_TORCH`), where
names are made at run time (`global`, `exec`, `globals()`), and where the source is not known.
"""

from __future__ import annotations

import ast
import builtins
import dis
import linecache
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from nbcompose._code.bytecode import codes_in, per_code
from nbcompose._code.captured import is_ipythons
from nbcompose._spec import Location

# Code that names one of these may define names while it runs.
_OPAQUE = frozenset({"__builtins__", "__main__", "builtins", "exec", "globals"})


@dataclass(frozen=True, slots=True)
class Undefined:
    """A name that is not defined, the function that uses it ("Answer.ask"), and where.

    `is_ipythons`: the notebook has it from IPython, which a replica does not have.
    """

    name: str
    user: str
    where: Location
    is_ipythons: bool = False


def is_undefined(name: str, space: Mapping[str, Any]) -> bool:
    """Whether a replica would find no such name. Python gives modules names of the form `__name__` itself."""
    if name in space or (name.startswith("__") and name.endswith("__")):
        return False
    return not hasattr(builtins, name) or is_ipythons(getattr(builtins, name))


def undefined_in(function: FunctionType, stores: frozenset[str]) -> Iterator[Undefined]:
    """Yield the names that a function uses without a guard. `stores`: names that code sets while it runs."""
    space = function.__globals__
    for lookup in _lookups(function.__code__):
        if lookup.name in stores or not is_undefined(lookup.name, space):
            continue
        if not any(guard.holds(space, stores) for guard in lookup.guards):
            where = Location(function.__code__.co_filename, lookup.line)
            yield Undefined(lookup.name, function.__qualname__, where, hasattr(builtins, lookup.name))


def is_opaque(codes: Iterable[CodeType]) -> bool:
    """Whether code may define names while it runs, or deals with those that are missing elsewhere."""
    inner = [i for code in codes for i in codes_in(code)]
    named = {name for code in inner for name in code.co_names}
    if not named.isdisjoint(_OPAQUE) or {"sys", "modules"} <= named:
        return True
    return "NameError" in named and any("NameError" in code.co_names and _catches_for_others(code) for code in inner)


@per_code
def _catches_for_others(code: CodeType) -> bool:
    """Whether its file catches a NameError around a call, as far as that can be told."""
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError, RecursionError):
        return True
    if not tree.body:
        return True
    guarded: list[ast.stmt] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Try | ast.TryStar):
            guarded += node.body if any(_names_it(h.type) for h in node.handlers) else []
        elif isinstance(node, ast.With | ast.AsyncWith):
            guarded += node.body if any(_names_it(item.context_expr) for item in node.items) else []
    return any(isinstance(n, ast.Call | ast.Await | ast.Attribute) for s in guarded for n in ast.walk(s))


def _names_it(node: ast.AST | None) -> bool:
    return node is not None and any(isinstance(n, ast.Name) and n.id == "NameError" for n in ast.walk(node))


# -- where names are looked up

_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


class _Lookup(NamedTuple):
    name: str
    line: int
    guards: tuple[Guard, ...]


@per_code
def _lookups(code: CodeType) -> tuple[_Lookup, ...]:
    """The names of the module that code looks up, with the functions in it; none where its source is not known."""
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
        guards = _Guards()
        guards.visit(tree)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    found = []
    for inner in codes_in(code):
        if inner.co_name == "__annotate__":  # from 3.14 on, annotations are code that runs when somebody asks
            continue
        read = list(dis.get_instructions(inner))
        own = {i.argval for i in read if i.opname == "STORE_NAME"}  # by the body of a class
        for i in read:
            if i.opname not in _LOADS or i.argval in own or i.positions is None:
                continue
            at = guards.found.get((i.positions.lineno or 0, i.positions.col_offset or 0))
            if at is not None:
                found.append(_Lookup(i.argval, i.positions.lineno or 0, at))
    return tuple(dict.fromkeys(found))


# -- under which conditions


class Guard:
    """Why code may never fail on a name."""

    def holds(self, space: Mapping[str, Any], stores: frozenset[str]) -> bool:
        raise NotImplementedError


class Caught(Guard):
    """It stands where one of these classes is caught, as far as that can be told."""

    def __init__(self, classes: Sequence[ast.expr]) -> None:
        self._classes = classes

    def holds(self, space: Mapping[str, Any], stores: frozenset[str]) -> bool:
        return any(_catches(c, space) for c in self._classes)


class Suppressed(Guard):
    """It stands in a `with` that names a class by which a NameError is caught: `with suppress(Exception):`."""

    def __init__(self, items: Sequence[ast.withitem]) -> None:
        self._named = [n for item in items for n in ast.walk(item.context_expr) if isinstance(n, ast.Name)]

    def holds(self, space: Mapping[str, Any], stores: frozenset[str]) -> bool:
        return any(name.id in ("NameError", "Exception", "BaseException") for name in self._named)


class Dead(Guard):
    """It runs only where the test is true (or false, if `wanted` is False), and it is not."""

    def __init__(self, test: ast.expr, wanted: bool) -> None:
        self._test, self._wanted = test, wanted

    def holds(self, space: Mapping[str, Any], stores: frozenset[str]) -> bool:
        try:
            return bool(_value(self._test, space, stores)) is not self._wanted
        except Exception:  # not known, or a comparison of what cannot be compared
            return False


class After(Guard):
    """It comes after statements that always leave, by `return`, `raise`, `continue` or `break`; or such a `finally`
    comes after it, which drops its error.
    """

    def __init__(self, statements: Sequence[ast.stmt]) -> None:
        self._statements = statements

    def holds(self, space: Mapping[str, Any], stores: frozenset[str]) -> bool:
        return self._leaves(self._statements, space, stores)

    def _leaves(self, block: Sequence[ast.stmt], space: Mapping[str, Any], stores: frozenset[str]) -> bool:
        for node in block:
            match node:
                case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
                    return True
                case ast.Assert(test=test) if Dead(test, True).holds(space, stores):
                    return True
                case ast.If(test=test, body=then, orelse=otherwise):
                    possible = [
                        b
                        for b, wanted in ((then, True), (otherwise, False))
                        if not Dead(test, wanted).holds(space, stores)
                    ]
                    if all(self._leaves(b, space, stores) for b in possible):
                        return True
                case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                    if not Suppressed(items).holds(space, stores) and self._leaves(body, space, stores):
                        return True
                case ast.Try(body=body, handlers=handlers, finalbody=last):
                    blocks = [body, *(h.body for h in handlers)]
                    if self._leaves(last, space, stores) or all(self._leaves(b, space, stores) for b in blocks):
                        return True
        return False


class Lazy(Guard):
    """It is the value of a `type` statement, which is worked out when somebody asks."""

    def holds(self, space: Mapping[str, Any], stores: frozenset[str]) -> bool:
        return True


class _Guards(ast.NodeVisitor):
    """Notes the guards of each name that is read, by line and column."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], tuple[Guard, ...]] = {}
        self._now: tuple[Guard, ...] = ()
        self._depth = 0  # of functions

    def visit_Name(self, node: ast.Name) -> None:
        at = node.lineno, node.col_offset
        self.found[at] = self.found.get(at, ()) + self._now  # before 3.12, those in one f-string may share a place

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        above = self._now
        if not self._depth:  # what is around its definition says nothing of its calls
            self._now = ()
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        self._now = above

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        everything = ast.Name("BaseException")
        above, self._now = self._now, (*self._now, After(node.finalbody))
        self._under(Caught([h.type or everything for h in node.handlers]), node.body)
        self._all([*node.handlers, *node.orelse])
        self._now = above
        self._all(node.finalbody)

    visit_TryStar = visit_Try  # noqa: N815

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        self._all(node.items)
        self._under(Suppressed(node.items), node.body)

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_If(self, node: ast.If | ast.While) -> None:
        self.visit(node.test)
        self._under(Dead(node.test, True), node.body)
        self._under(Dead(node.test, False), node.orelse)

    visit_While = visit_If  # noqa: N815

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._under(Dead(node.test, True), [node.body])
        self._under(Dead(node.test, False), [node.orelse])

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        above = self._now
        for value in node.values:
            self.visit(value)
            self._now = (*self._now, Dead(value, isinstance(node.op, ast.And)))
        self._now = above

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)
        self._under(Dead(node.test, False), [node.msg] if node.msg is not None else [])

    def visit_TypeAlias(self, node: ast.AST) -> None:
        self._under(Lazy(), list(ast.iter_child_nodes(node)))

    def generic_visit(self, node: ast.AST) -> None:
        for _, value in ast.iter_fields(node):
            self._all(value if isinstance(value, list) else [value])

    def _under(self, guard: Guard, nodes: Sequence[ast.AST]) -> None:
        above, self._now = self._now, (*self._now, guard)
        self._all(nodes)
        self._now = above

    def _all(self, nodes: Sequence[Any]) -> None:
        """Visit nodes; a statement may be out of reach by one before it: `if not HAS_TORCH: return`."""
        above = self._now
        for node in nodes:
            if isinstance(node, ast.AST):
                self.visit(node)
            if isinstance(node, ast.If | ast.With | ast.AsyncWith | ast.Try | ast.Assert):
                self._now = (*self._now, After([node]))
        self._now = above


# -- what is known before it runs


def _catches(node: ast.expr, space: Mapping[str, Any]) -> bool:
    """Whether a class that is caught may be one of a NameError."""
    if isinstance(node, ast.Tuple):
        return any(_catches(element, space) for element in node.elts)
    try:
        kind = _found(node, space)
    except LookupError:
        return True
    return not isinstance(kind, type) or issubclass(NameError, kind)


_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_SIMPLE = (bool, int, float, str, bytes, type(None), tuple, ModuleType)


def _value(node: ast.expr, space: Mapping[str, Any], stores: frozenset[str]) -> Any:
    """The value of a condition, where it is made of constants of the notebook and of modules. Raises `LookupError`."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, space, stores)
        case ast.BoolOp(op=op, values=values):
            return _value_of_all(isinstance(op, ast.Or), values, space, stores)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARED[type(op)](_value(left, space, stores), _value(right, space, stores))
        case ast.Tuple(elts=elements):
            return tuple(_value(e, space, stores) for e in elements)
        case ast.Subscript(value=value, slice=index):
            return _value(value, space, stores)[_value(index, space, stores)]
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(None if part is None else _value(part, space, stores) for part in (lower, upper, step)))
        case ast.Name(id=name) if name in stores:
            raise LookupError
        case ast.Name() | ast.Attribute():
            found = _found(node, space)
            if isinstance(found, _SIMPLE):
                return found
    raise LookupError


def _value_of_all(wanted: bool, values: Sequence[ast.expr], space: Mapping[str, Any], stores: frozenset[str]) -> bool:
    """Of `and` and `or`: one value decides, also where others are not known."""
    unknown = False
    for node in values:
        try:
            if bool(_value(node, space, stores)) is wanted:
                return wanted
        except LookupError:
            unknown = True
    if unknown:
        raise LookupError
    return not wanted


def _found(node: ast.expr, space: Mapping[str, Any]) -> Any:
    """What a name, or a name in a module, stands for. Raises `LookupError`."""
    if isinstance(node, ast.Name):
        return space[node.id] if node.id in space else vars(builtins)[node.id]
    if isinstance(node, ast.Attribute):
        module = _found(node.value, space)
        if isinstance(module, ModuleType):
            return vars(module)[node.attr]
    raise LookupError
