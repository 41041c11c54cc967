"""Preview of a cell: the classes and functions that it will define, made from its text without running it.

A cell can be previewed where it imports what is imported already, and defines functions, classes and plain data. Of a
class the body is read in the same way. Functions are made from their compiled code and are never called; the only
things that are called are nbcompose's own decorators and declarations, and a few of the standard library's. For
anything else `CannotTell` says what it is.
"""

from __future__ import annotations

import ast
import builtins
import functools
import logging
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath
from types import CellType, CodeType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

from nbcompose._code import SCALARS, CannotTell
from nbcompose._service import Service, api, depends, on_shutdown, on_startup
from nbcompose.errors import DeclarationError
from nbcompose.models import HuggingFaceModel

FUTURE_ANNOTATIONS = 0x1000000  # a flag of code whose annotations are texts
MOST = 10**12  # what a number in a calculation is at most, so that none takes long

_DECORATORS = (
    api, on_startup, on_shutdown, staticmethod, classmethod, property, functools.cached_property, functools.lru_cache,
    functools.cache,
)  # fmt: skip
_WITH_OPTIONS = (api, functools.lru_cache)
_DECLARATIONS = (depends, HuggingFaceModel)
# Of plain arguments they make a value that depends on nothing else, or give a logger: one object for each name.
_VALUES = (
    logging.getLogger, re.compile, Path, PurePath, PurePosixPath, Decimal, Fraction, timedelta, date, time, datetime,
)  # fmt: skip
_GENERIC = (list, dict, tuple, set, frozenset, type)
_OF_TYPING = frozenset({"typing", "types", "typing_extensions", "collections", "collections.abc"})
_NOT_SET = frozenset({"__module__", "__qualname__", "__classcell__", "__class__", "__annotations__", "__doc__"})
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip

Scope = dict[str, Any]


class Preview:
    """What a cell defines. `space`: the names of the notebook, to which those of the cell are added; `made`: these."""

    def __init__(self, space: Scope) -> None:
        self.space = space
        self.made: Scope = {}
        self._constants: dict[Any, Any] = {}
        self._textual = False

    def read(self, tree: ast.Module, code: CodeType) -> None:
        """Add what the statements of a cell define; `code` is what they were compiled to. Raises `CannotTell`."""
        self._textual = bool(code.co_flags & FUTURE_ANNOTATIONS)
        _check_names(tree.body)
        for statement in tree.body:
            self._statement(statement, code)

    def _statement(self, node: ast.stmt, code: CodeType) -> None:
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Import():
                for alias in node.names:
                    _module(alias.name)
                    name = alias.asname or alias.name.partition(".")[0]
                    self._bind(name, _module(alias.name if alias.asname else name))
            case ast.ImportFrom(module=str(module), level=0):
                for alias in node.names:
                    self._bind(alias.asname or alias.name, _imported(module, alias.name))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._bind(node.name, self._function(node, code, {}))
            case ast.ClassDef():
                self._bind(node.name, self._class(node, code))
            case ast.Assign(targets=[ast.Name(id=name)]):
                self._bind(name, self._value(node.value, {}))
            case _:
                raise CannotTell(f"line {node.lineno} does more than define something")

    def _bind(self, name: str, value: Any) -> None:
        self.space[name] = self.made[name] = value

    # -- classes

    def _class(self, node: ast.ClassDef, code: CodeType) -> type[Any]:
        if node.decorator_list or node.bases or node.keywords or getattr(node, "type_params", []):
            what = "is decorated" if node.decorator_list else "extends another class"
            raise CannotTell(f"the class {node.name} {what}")
        body = _code_of(node, code)
        scope: Scope = {"__module__": self.space.get("__name__"), "__qualname__": node.name}
        statements = node.body
        if ast.get_docstring(node, clean=False) is not None:
            scope["__doc__"] = _docstring_of(node, body)
            statements = statements[1:]
        if "__class__" in body.co_cellvars:
            scope["__classcell__"] = CellType()
        for statement in statements:
            self._member(statement, body, scope, node)
        try:
            return type(node.name, (), scope)
        except (TypeError, ValueError, RuntimeError) as error:
            raise CannotTell(f"{node.name} cannot be made: {error}") from None

    def _member(self, node: ast.stmt, code: CodeType, scope: Scope, cls: ast.ClassDef) -> None:
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                name, value = node.name, self._function(node, code, scope, cls)
            case ast.Assign(targets=[ast.Name(id=name)]):
                value = self._attribute(node.value, scope)
            case ast.AnnAssign(target=ast.Name(id=name), simple=1):
                if name.startswith("__"):
                    raise CannotTell(f"line {node.lineno} annotates {name}")
                annotation = self._annotation(node.annotation, scope, cls)
                if node.value is None:
                    scope.setdefault("__annotations__", {})[name] = annotation
                    return
                value = self._attribute(node.value, scope)
                scope.setdefault("__annotations__", {})[name] = annotation
            case _:
                raise CannotTell(f"line {node.lineno} in {cls.name} does more than define something")
        if name in _NOT_SET:
            raise CannotTell(f"{cls.name} sets {name}")
        scope[_mangled(name, cls.name)] = value

    def _attribute(self, node: ast.expr, scope: Scope) -> Any:
        if isinstance(node, ast.Name) and node.id in scope:
            return scope[node.id]
        if isinstance(node, ast.Call) and any(self._resolve(node.func, scope) is d for d in _DECLARATIONS):
            return self._called(node, scope)
        return self._value(node, scope)

    # -- functions

    def _function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        code: CodeType,
        scope: Scope,
        cls: ast.ClassDef | None = None,
    ) -> Any:
        if getattr(node, "type_params", []):
            raise CannotTell(f"{node.name} has type parameters")
        own = _code_of(node, code)
        if any(name != "__class__" or "__classcell__" not in scope for name in own.co_freevars):
            raise CannotTell(f"{node.name} uses variables of an enclosing function")
        written = node.args
        defaults = tuple(self._value(d, scope) for d in written.defaults)
        closure = (scope["__classcell__"],) if own.co_freevars else None
        function = FunctionType(own, self.space, argdefs=defaults or None, closure=closure)
        named = zip(written.kwonlyargs, written.kw_defaults, strict=True)
        by_keyword = {a.arg: self._value(d, scope) for a, d in named if d is not None}
        function.__kwdefaults__ = by_keyword or None
        if annotations := self._annotations(node, scope, cls):
            function.__annotations__ = annotations
        value: Any = function
        for decorator in reversed(node.decorator_list):
            value = self._decorated(decorator, value, scope)
        return value

    def _annotations(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, cls: ast.ClassDef | None
    ) -> dict[str, Any]:
        arguments = node.args
        if any(a.annotation is not None for a in arguments.posonlyargs):  # whose order depends on Python's version
            raise CannotTell(f"{node.name} annotates parameters before a /")
        one = [a for a in (arguments.vararg,) if a is not None]
        rest = [a for a in (arguments.kwarg,) if a is not None]
        written = [(a.arg, a.annotation) for a in (*arguments.args, *one, *arguments.kwonlyargs, *rest)]
        if cls is not None and any(name.startswith("__") for name, annotation in written if annotation is not None):
            raise CannotTell(f"a parameter of {node.name} begins with __")
        written.append(("return", node.returns))
        return {n: self._annotation(annotation, scope, cls) for n, annotation in written if annotation is not None}

    def _decorated(self, node: ast.expr, value: Any, scope: Scope) -> Any:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr="getter" | "setter" | "deleter" as part) if name in scope:
                if type(scope[name]) is not property:
                    raise CannotTell(f"what @{ast.unparse(node)} does is not known before it runs")
                return getattr(scope[name], part)(value)
            case ast.Call():
                if not any(self._resolve(node.func, scope) is known for known in _WITH_OPTIONS):
                    raise CannotTell(f"what @{ast.unparse(node.func)} does is not known before it runs")
                decorate = self._called(node, scope)
            case _:
                decorate = self._resolve(node, scope)
                if not any(decorate is known for known in _DECORATORS):
                    raise CannotTell(f"what @{ast.unparse(node)} does is not known before it runs")
        try:
            return decorate(value)
        except (DeclarationError, TypeError) as error:
            raise CannotTell(str(error)) from None

    def _called(self, node: ast.Call, scope: Scope) -> Any:
        """Return what a decorator with options, or a declaration, gives: all that is handed to it is data or a name."""
        if any(k.arg is None for k in node.keywords) or any(isinstance(a, ast.Starred) for a in node.args):
            raise CannotTell(f"{ast.unparse(node)} has arguments that are not known before it runs")
        function = self._resolve(node.func, scope)
        args = [self._argument(function, a, scope) for a in node.args]
        options = {k.arg: self._value(k.value, scope) for k in node.keywords if k.arg is not None}
        try:
            return function(*args, **options)
        except (DeclarationError, TypeError, ValueError) as error:
            raise CannotTell(f"{ast.unparse(node)}: {error}") from None

    def _argument(self, function: Any, node: ast.expr, scope: Scope) -> Any:
        if function is depends and isinstance(node, ast.Name):
            target = self._lookup(node.id, scope)
            if issubclass(type(target), Service) or type(target) is type:
                return target
        return self._value(node, scope)

    # -- values

    def _value(self, node: ast.expr, scope: Scope) -> Any:
        """Return the value of plain data, or of a name that stands for a text, a number or the like."""
        match node:
            case ast.Constant(value=value):
                return self._constant(value)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as value)):
                return self._constant(-value if isinstance(node.op, ast.USub) else value)
            case ast.Tuple(elts=parts):
                found = tuple(self._value(part, scope) for part in parts)
                is_constant = all(isinstance(n, ast.Constant | ast.UnaryOp | ast.Tuple) for n in parts)
                return self._constants.setdefault((tuple, *map(id, found)), found) if is_constant else found
            case ast.List(elts=parts):
                return [self._value(part, scope) for part in parts]
            case ast.Set(elts=[part]):
                return {self._value(part, scope)}
            case ast.Dict(keys=keys, values=values) if None not in keys:
                made = [self._hashable(key, scope) for key in keys if key is not None]
                return dict(zip(made, (self._value(v, scope) for v in values), strict=True))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._constant(
                    _calculated(_OPERATORS[type(op)], *(self._value(n, scope) for n in (left, right)))
                )
            case ast.Name(id=name):
                value = self._lookup(name, scope)
                if type(value) in SCALARS:
                    return value
            case ast.Call(func=ast.Name() | ast.Attribute() as func, args=parts, keywords=[]):
                called = self._resolve(func, scope)
                if any(called is one for one in _VALUES):
                    return _given_by(called, [self._value(part, scope) for part in parts])
        raise CannotTell(f"what {_shortened(node)} gives is not known before it runs")

    def _hashable(self, node: ast.expr, scope: Scope) -> Any:
        value = self._value(node, scope)
        if type(value) not in SCALARS:
            raise CannotTell(f"{_shortened(node)} is the key of a dict")
        return value

    def _constant(self, value: Any) -> Any:
        """The compiler makes one object of equal constants, and pickle tells one object from two."""
        return self._constants.setdefault((type(value), repr(value)), value)

    def _lookup(self, name: str, scope: Scope) -> Any:
        for space in (scope, self.space, vars(builtins)):
            if name in space:
                return space[name]
        raise CannotTell(f"{name} is not defined")

    def _resolve(self, node: ast.expr, scope: Scope) -> Any:
        """Return what a name, or an attribute of a module, stands for."""
        match node:
            case ast.Name(id=name):
                return self._lookup(name, scope)
            case ast.Attribute(value=of, attr=name):
                return _of_module(self._resolve(of, scope), name)
        raise CannotTell(f"what {_shortened(node)} gives is not known before it runs")

    # -- annotations

    def _annotation(self, node: ast.expr, scope: Scope, cls: ast.ClassDef | None) -> Any:
        if self._textual:
            raise CannotTell("the annotations are texts (from __future__ import annotations)")
        if cls is not None and sys.version_info >= (3, 14):  # where they are evaluated when the class is there
            bound = {name for statement in cls.body for name in _bound_by(statement)}
            if bound & {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}:
                raise CannotTell(f"{_shortened(node)} names something in {cls.name}")
        return self._type(node, scope)

    def _type(self, node: ast.expr, scope: Scope, *, literal: bool = False) -> Any:
        match node:
            case ast.Constant(value=value) if value is None or value is ... or literal:
                return self._constant(value)
            case ast.Name() | ast.Attribute():
                value = self._resolve(node, scope)
                if _is_type(value) or issubclass(type(value), type):
                    return value
            case ast.List(elts=parts):
                return [self._type(part, scope) for part in parts]
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                values = self._type(left, scope), self._type(right, scope)
                if all(value is None or _is_type(value) for value in values):
                    return _union(*values)
            case ast.Subscript(value=of, slice=inner):
                base = self._type(of, scope)
                if base in _GENERIC or (_is_type(base) and _home_of(base) in _OF_TYPING and get_origin(base) is None):
                    many = isinstance(inner, ast.Tuple)
                    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                    found = tuple(self._type(part, scope, literal=base is Literal) for part in parts)
                    return _parametrized(base, found if many else found[0])
        raise CannotTell(f"the annotation {_shortened(node)} is not known before it runs")


# -- statements


def _check_names(statements: list[ast.stmt]) -> None:
    """A name that is bound twice has a value at some time that it has not at another."""
    names = [name for statement in statements for name in _bound_by(statement)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CannotTell(f"the cell binds {twice} twice")


def _bound_by(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [statement.name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    return []


def _code_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, code: CodeType) -> CodeType:
    """Return what a function or class was compiled to: one of the constants of the code around it."""
    line = min(n.lineno for n in (node, *node.decorator_list))
    codes = [c for c in code.co_consts if isinstance(c, CodeType)]
    found = [c for c in codes if (c.co_name, c.co_firstlineno) == (node.name, line)]
    if len(found) != 1:
        raise CannotTell(f"the code of {node.name} was not found")
    return found[0]


def _docstring_of(node: ast.ClassDef, body: CodeType) -> str:
    """Return the docstring of a class as the compiler has it: from Python 3.13 on, without its indentation."""
    written = str(ast.get_docstring(node, clean=False))
    if sys.version_info < (3, 13):
        return written
    texts = [value for value in body.co_consts if isinstance(value, str) and value != body.co_qualname]
    if not texts or texts[0].split() != written.split():
        raise CannotTell(f"the docstring of {body.co_name} was not found")
    return texts[0]


def _mangled(name: str, cls: str) -> str:
    if not name.startswith("__") or name.endswith("__") or not cls.strip("_"):
        return name
    return f"_{cls.lstrip('_')}{name}"


def _shortened(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:59]}…"


# -- imports, of what has been imported


def _module(name: str) -> ModuleType:
    found: Any = None
    path = name.split(".")
    for i in range(len(path)):
        found = sys.modules.get(".".join(path[: i + 1]))
        if not issubclass(type(found), ModuleType):
            raise CannotTell(f"{name} has not been imported yet")
    module: ModuleType = found
    return module


def _imported(module: str, name: str) -> Any:
    if name == "*":
        raise CannotTell(f"which names `from {module} import *` binds is not known before it runs")
    return _of_module(_module(module), name)


def _of_module(module: Any, name: str) -> Any:
    if not issubclass(type(module), ModuleType):
        raise CannotTell(f".{name} is an attribute of something that is no module")
    if name in vars(module):
        return vars(module)[name]
    of = vars(module).get("__name__", "")
    if of == "nbcompose" or of.startswith("nbcompose."):  # its names are loaded on first use
        found = getattr(module, name, _of_module)
        if found is not _of_module:
            return found
    raise CannotTell(f"{of} has no {name} yet")


# -- what the standard library gives


def _given_by(called: Any, arguments: Sequence[Any]) -> Any:
    if called is logging.getLogger:
        made = [log.name for log in logging.Logger.manager.loggerDict.values() if isinstance(log, logging.Logger)]
        if any(name not in made for name in arguments):
            raise CannotTell("a logger of that name is made when it runs")
    try:
        return called(*arguments)
    except Exception as error:
        raise CannotTell(f"{called.__name__} raises {type(error).__name__}: {error}") from error


# -- numbers


def _calculated(calculate: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if not all(type(n) in (int, float) and abs(n) <= MOST for n in (left, right)):
        raise CannotTell("a calculation with something other than small numbers is not known before it runs")
    if calculate is operator.pow and not (0 <= right <= 64 and abs(left) <= 1024):
        raise CannotTell(f"{left} ** {right} is not known before it runs")
    try:
        return calculate(left, right)
    except (ArithmeticError, ValueError) as error:
        raise CannotTell(str(error)) from None


# -- types


def _home_of(value: Any) -> str:
    home = value.__module__ if isinstance(value, type) else type(value).__module__
    return home if isinstance(home, str) else ""


def _is_type(value: Any) -> bool:
    """Whether combining it with others runs no code of the user's."""
    if type(value) is type or issubclass(type(value), GenericAlias | UnionType | TypeVar):
        return True
    return type(value).__module__ in _OF_TYPING or type(value).__module__ == "abc"


def _union(left: Any, right: Any) -> Any:
    try:
        return left | right
    except TypeError as error:
        raise CannotTell(str(error)) from None


def _parametrized(base: Any, parts: Any) -> Any:
    if any(isinstance(part, str) for part in get_args(base)):
        raise CannotTell(f"{base} has texts in it")
    try:
        return base[parts]
    except TypeError as error:
        raise CannotTell(str(error)) from None
