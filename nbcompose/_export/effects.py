"""Effects of a statement on values, apart from binding names, according to its text: touches, and which value holds
which.

Nothing is decided here: whether a touch mutates anything depends on the values of the names. See `_export/mutation.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from nbcompose._export import known
from nbcompose._export.known import is_setting as is_setting

LAMBDA = "<lambda>"  # a lambda of the statement itself
Via = tuple[str, ...]  # the functions through which a value was passed; it is the same value if all of them return it


@dataclass(frozen=True, slots=True)
class Touch:
    """A name whose value a statement may mutate. `how`: "item" (x[0] = 1, x.a = 1), "augment" (x += 1), "method" (one
    of its methods is called), "argument" of a function, "call" of the value itself, or "iterated".

    `by`: the method; the function, as `called` gives it; for an item, "again" where doing it twice has another effect
    than doing it once. `deep`: a part of the value is touched, as in `x.a.append(1)`.
    """

    name: str
    how: str
    by: str = ""
    via: Via = ()
    deep: bool = False

    @property
    def again(self) -> bool:
        """Whether doing it twice has another effect than doing it once."""
        if self.how == "item":
            return self.by == "again"
        return self.how in ("augment", "call", "iterated") or self.by.rpartition(".")[2] not in known.IDEMPOTENT

    @property
    def of_parts(self) -> bool:
        """Whether it may mutate the objects that the value holds, and not only the value itself."""
        return self.deep or not (
            self.how in ("item", "augment") or (self.how == "method" and self.by in known.CONTAINER)
        )

    @property
    def sets_module(self) -> bool:
        """Whether this also mutates a module."""
        return self.how == "item" or (self.how == "method" and is_setting(self.by))


@dataclass(frozen=True, slots=True)
class Held:
    """The relation of a value to that of a name: it "is" that value, is "within" it (or the same), or "holds" it."""

    name: str
    how: Literal["is", "within", "holds"]
    via: Via = ()


def root(node: ast.AST | None) -> str:
    """Return `x` for `x`, `x.a`, `x[0].b`, `*x`, `await x`; "" where an expression does not begin with a name."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Await):
        if name := global_name(node):
            return name
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def global_name(node: ast.AST | None) -> str:
    """Return `x` for `globals()["x"]`; "" for anything else."""
    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=str(name))) if is_namespace(value):
            return name
    return ""


def is_namespace(node: ast.AST) -> bool:
    """Whether this is `globals()`, or `vars()` or `locals()`, which are the same outside of functions."""
    match node:
        case ast.Call(func=ast.Name(id="globals" | "vars" | "locals"), args=[], keywords=[]):
            return True
    return False


def last(node: ast.AST | None) -> str:
    """Return `b` for `a.b`, and for `b`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def called(function: ast.expr) -> str:
    """Return the called function's name: `f`, `a.b.f`; `.f` for a method of another expression, ""
    where it is unknown.
    """
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        node: ast.expr = function
        while isinstance(node, ast.Attribute):
            node = node.value
        return ast.unparse(function) if isinstance(node, ast.Name) else f".{function.attr}"
    return ""


def held(value: ast.AST | None) -> Iterator[Held]:
    """Yield the names whose values a value is, is a part of, or holds."""
    if name := global_name(value):
        yield Held(name, "is")
        return
    match value:
        case ast.Name(id=name):
            yield Held(name, "is")
        case ast.Attribute(value=whole) | ast.Subscript(value=whole):
            yield from _as("within", held(whole))
        case ast.Starred(value=part) | ast.Await(value=part):
            yield from _as("within", held(part))
        case ast.NamedExpr(value=part):
            yield from held(part)
        case ast.IfExp(body=one, orelse=other):
            yield from (*held(one), *held(other))
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from held(part)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            for part in parts:
                yield from _as("holds", held(part))
        case ast.Dict(values=parts):
            for part in parts:
                yield from _as("holds", held(part))
        case ast.BinOp(left=left, right=right):
            yield from _as("holds", (*held(left), *held(right)))
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            yield from _as("holds", _of_comprehension(value))
        case ast.Lambda(args=arguments, body=body):
            own = {a.arg for a in ast.walk(arguments) if isinstance(a, ast.arg)}
            names = (n.id for n in ast.walk(body) if isinstance(n, ast.Name))
            yield from (Held(name, "holds") for name in dict.fromkeys(names) if name not in own)
            for part in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
                yield from _as("holds", held(part))
        case ast.Call():
            yield from _given_back(value)


def _as(how: Literal["within", "holds"], parts: Iterable[Held]) -> Iterator[Held]:
    for part in parts:
        yield replace(part, how="holds" if how == "holds" or part.how == "holds" else how)


def _of_comprehension(node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Iterator[Held]:
    over: dict[str, list[Held]] = {}
    for loop in node.generators:
        items = [inner for h in held(loop.iter) for inner in over.get(h.name, [h])]
        over.update({n.id: items for n in ast.walk(loop.target) if isinstance(n, ast.Name)})
    for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
        for h in held(part):
            yield from (replace(inner, via=inner.via + h.via) for inner in over.get(h.name, [h]))


def _given_back(call: ast.Call) -> Iterator[Held]:
    """Yield what a call may return of its arguments, of its object, or of a closure's variables."""
    by = called(call.func)
    how: Literal["within", "holds"] = "within"
    if last(call.func)[:1].isupper() or known.copies_items(by):
        how = "holds"
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    own = () if isinstance(receiver, ast.Name) and receiver.id in known.BUILTINS else held(receiver)
    parts = [*own, *(h for value in _arguments(call) for h in held(value))]
    yield from _as(how, (replace(part, via=(*part.via, by)) for part in parts))


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(k.value for k in call.keywords)]


def of_call(call: ast.Call) -> Iterator[Touch]:
    """Yield what a call may mutate: its object, its arguments, and what those are passed to in turn."""
    by = called(call.func)
    if isinstance(call.func, ast.Attribute):
        inplace = any(k.arg == "inplace" and not _is_false(k.value) for k in call.keywords)
        # with `inplace`, a method that is not known to leave its object unchanged
        method = f"{call.func.attr}_" if inplace else call.func.attr
        yield from _method(call.func.value, method)
    elif isinstance(call.func, ast.Name):
        yield Touch(call.func.id, "call")
    else:
        yield from (Touch(h.name, "call", via=h.via) for h in held(call.func))
    for value in _arguments(call):
        yield from (Touch(h.name, "argument", by, h.via, deep=h.how == "holds") for h in held(value))
    yield from (Touch(h.name, "argument", "", h.via) for k in call.keywords if k.arg == "out" for h in held(k.value))
    if last(call.func) in known.CONSUMERS:
        yield from (touch for value in call.args for touch in of_iteration(value))
    yield from _handed_on(call)


def _handed_on(call: ast.Call) -> Iterator[Touch]:
    """Yield touches by functions among the arguments: the functions are called, with other arguments of the call."""
    functions = [*(call.args[:1] if last(call.func) in known.CALLERS else ()), *_keys(call)]
    for function in functions:
        yield from calling(function)
    functions += [value for value in _arguments(call) if isinstance(value, ast.Lambda) and value not in functions]
    receiver = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    for function in functions:
        by = LAMBDA if isinstance(function, ast.Lambda) else called(function)
        others = (value for value in (*receiver, *_arguments(call)) if value not in functions)
        yield from (Touch(h.name, "argument", by, h.via) for value in others for h in held(value))


def _keys(call: ast.Call) -> Iterator[ast.expr]:
    return (k.value for k in call.keywords if k.arg in ("key", "default_factory", "hook", "callback", "initializer"))


def calling(function: ast.expr) -> Iterator[Touch]:
    """Yield touches of a function that another one calls: `map(xs.append, ys)`, `@registry.add`."""
    if isinstance(function, ast.Attribute):
        yield from _method(function.value, function.attr)
    elif isinstance(function, ast.Name):
        yield Touch(function.id, "call")


def _method(owner: ast.expr, method: str) -> Iterator[Touch]:
    direct = isinstance(owner, ast.Name) or bool(global_name(owner))
    yield from (Touch(h.name, "method", method, h.via, deep=not direct) for h in held(owner))


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def of_context(manager: ast.expr) -> Iterator[Touch]:
    """Yield touches of a context manager, which is entered and left."""
    for method in ("__enter__", "__exit__"):
        yield from _method(manager, method)


def of_iteration(iterable: ast.expr) -> Iterator[Touch]:
    """Yield touches of an iteration, which exhausts an iterator."""
    yield from (Touch(h.name, "iterated", via=h.via) for h in held(iterable))


def of_target(target: ast.expr, value: ast.expr | None) -> Iterator[Touch]:
    """Yield touches of an assignment to an item or an attribute, or of its deletion (`value` None)."""
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from of_target(element, value)
    elif isinstance(target, ast.Starred):
        yield from of_target(target.value, value)
    elif isinstance(target, ast.Attribute | ast.Subscript) and not global_name(target):
        again = value is None or any(isinstance(n, ast.Slice) for n in ast.walk(target)) or _reads(value, target)
        direct = isinstance(target.value, ast.Name) or bool(global_name(target.value))
        for h in held(target.value):
            yield Touch(h.name, "item", "again" if again else "", h.via, deep=not direct)


def _reads(value: ast.expr, target: ast.Attribute | ast.Subscript) -> bool:
    """Whether the assigned value depends on the object that is assigned into; other columns of a table do not count."""
    name = root(target)
    seen = sum(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value))
    others = 0
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        methods = {id(n.func) for n in ast.walk(value) if isinstance(n, ast.Call)}
        others = sum(_is_column(n, name, but=target.slice) for n in ast.walk(value) if id(n) not in methods)
    return seen > others


def _is_column(node: ast.AST, table: str, *, but: ast.expr) -> bool:
    match node, but:
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))), ast.Constant(value=str(own)):
            return name == table and key != own
        case ast.Attribute(value=ast.Name(id=name), attr=key), ast.Constant(value=str(own)):
            return name == table and key != own
    return False


def code_in(node: ast.AST) -> list[ast.stmt]:
    """Return the statements of `exec("...")` and `eval("...")` with a string literal."""
    match node:
        case ast.Call(func=ast.Name(id="exec" | "eval"), args=[ast.Constant(value=str(text))], keywords=[]):
            try:
                return ast.parse(text.strip()).body
            except (SyntaxError, ValueError):
                return []
    return []


def is_anything(node: ast.AST, parent: ast.AST | None) -> bool:
    """Whether a node may bind or mutate any name: `exec(code)`, `globals()[key] = value`, `update(globals())`."""
    match node:
        case ast.Call(func=ast.Name(id="exec" | "eval")):
            return True
    if not is_namespace(node):
        return False
    match parent:
        case ast.Subscript(ctx=ast.Load()) | ast.Compare():
            return False
        case ast.Subscript(slice=ast.Constant(value=str())):
            return False
        case ast.Attribute(attr="get" | "keys" | "items" | "copy" | "values"):
            return False
        case ast.Call(func=ast.Name(id="print" | "len" | "sorted" | "list" | "set" | "dir" | "dict")):
            return False
    return True
