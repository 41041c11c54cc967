"""What a statement may do to a value without binding its name. Nobody can know in general; these are the rules.

A call that stands by itself alters the object whose method it is, and what is handed to it: it would be for nothing
otherwise. Out of that are calls that are known for looking only. Inside an expression only methods that are known
for altering count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Methods that alter their object, also where their result is used.
_ALTERS = _words(
    "append appendleft extend extendleft insert pop popleft popitem remove clear update setdefault add discard sort "
    "reverse rotate shuffle"
)

# The same of models, whose results are often used too.
_TRAINS = _words("add_special_tokens add_tokens fit fit_predict fit_transform load_state_dict partial_fit step train")

# The same of files and readers: what comes next depends on it.
_READS = _words("read readline readlines seek")

# Functions that alter their first argument, also where their result is used.
_CONSUMES = _words("delattr heapify heappop heappush heappushpop heapreplace insort next setattr")

# Methods that give their own object back, and leave it as good as it was.
_MOVES = _words("cuda eval float half to")

# Calls that stand by themselves and alter nothing that a service could read.
_LOOKS = _words(
    "all allclose any argmax argmin array_equal assert_allclose astype close copy corr count cpu debug decode "
    "describe detach dim display dump dumps encode endswith error exists flush format get groupby head help "
    "hist id imshow index info input isclose isdir isfile isinstance isna item items join keys len listdir log "
    "lower max mean median min numel numpy nunique open plot pprint print quantile repr sample save "
    "savefig savetxt savez scatter show size sleep split startswith std str strip sum tail time to_csv to_json "
    "to_markdown to_parquet to_string tolist type unique upper value_counts values var vars warning write "
    "write_bytes write_text writelines "
)

# Neither do these, unless they are told to: `df.sort_values("price", inplace=True)`.
_COPIES = _words(
    "agg aggregate assign drop drop_duplicates dropna fillna merge nlargest nsmallest pivot pivot_table query rename "
    "reset_index set_index sort_index sort_values"
)

# What is usually called so only shows, logs or waits.
_ONLOOKERS = _words("alt asyncio ax fig go logger pbar plt px sns tqdm")

# Functions of a module that set something in it: seeds, settings.
_SETTINGS = _words(
    "add_ allow_ append apply basicConfig configure disable enable extend filterwarnings init insert install "
    "load_dotenv login manual_seed option_context patch register reset seed set setdefault simplefilter "
    "unregister update use "
)

# Doing it again makes no difference.
_IDEMPOTENT = _words("add discard clear eval fit_transform sort update setdefault seed manual_seed")


@dataclass(frozen=True, slots=True)
class Touch:
    """A name whose value a statement may alter. `how`: "item" (x[0] = 1, x.a = 1), "augment" (x += 1), "method",
    "argument", or "given" where it is one of a function whose result is used: it counts if that is known to alter it.
    `by`: the method; the function; for an item, "again" where doing it twice differs from doing it once.
    """

    name: str
    how: str
    by: str = ""

    @property
    def again(self) -> bool:
        """Whether doing it twice differs from doing it once."""
        if self.how == "item":
            return self.by == "again"
        return self.how == "augment" or self.by.rpartition(".")[2] not in _IDEMPOTENT

    @property
    def moves(self) -> bool:
        """Whether it is only put somewhere else, or made ready for use."""
        return self.how == "method" and self.by in _MOVES

    @property
    def sets_module(self) -> bool:
        """Whether a module is altered by this, too."""
        return self.how == "item" or (self.how == "method" and is_setting(self.by.rpartition(".")[2]))


def is_setting(function: str) -> bool:
    """Whether a function is called as one that sets something for the whole process."""
    return function.startswith(tuple(_SETTINGS))


def root(node: ast.AST | None) -> str:
    """`x` of `x`, `x.a`, `x[0].b`, `*x`, `await x`; "" where an expression does not begin with a name."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Await):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def last(node: ast.AST | None) -> str:
    """`b` of `a.b`, and of `b`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def held(value: ast.AST | None) -> Iterator[str]:
    """The names whose values a value is, is a part of, or holds. Functions give something new; objects hold what they
    are made from.
    """
    match value:
        case ast.Name() | ast.Attribute() | ast.Subscript():
            if root(value):
                yield root(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts) | ast.BoolOp(values=parts):
            for part in parts:
                yield from held(part)
        case ast.Dict(values=parts):
            for part in parts:
                yield from held(part)
        case ast.Lambda(args=arguments):
            for part in arguments.defaults:
                yield from held(part)
        case ast.Starred(value=part) | ast.NamedExpr(value=part):
            yield from held(part)
        case ast.IfExp(body=one, orelse=other):
            yield from held(one)
            yield from held(other)
        case ast.Call(func=ast.Attribute(attr=method) as function) if method in _MOVES | {"fit"} and root(function):
            yield root(function)
        case ast.Call(func=function, args=args, keywords=keywords) if last(function)[:1].isupper():
            for part in (*args, *(k.value for k in keywords)):
                yield from held(part)
                yield from _given_out(part)


def _given_out(value: ast.expr) -> Iterator[str]:
    """Whose parts a call or a comprehension hands to a new object: `model.parameters()`."""
    match value:
        case ast.Call(func=ast.Attribute(attr=method) as function) if method not in _LOOKS and root(function):
            yield root(function)
        case ast.ListComp(generators=loops) | ast.GeneratorExp(generators=loops):
            for loop in loops:
                yield from _given_out(loop.iter)


def of_call(call: ast.Call) -> Iterator[Touch]:
    """A call inside an expression."""
    name = root(call.func)
    if name and isinstance(call.func, ast.Attribute) and call.func.attr in _ALTERS | _TRAINS | _READS:
        yield Touch(name, "method", call.func.attr)
    altered = [k.value for k in call.keywords if k.arg == "out"]
    if last(call.func) in _CONSUMES:
        altered += call.args[:1]
    for value in altered:
        if root(value):
            yield Touch(root(value), "argument", ast.unparse(call.func))


def given(call: ast.Call) -> Iterator[Touch]:
    """What a call hands to a function, which may alter it."""
    if isinstance(call.func, ast.Name):
        for value in (*call.args, *(k.value for k in call.keywords)):
            if root(value):
                yield Touch(root(value), "given", call.func.id)


def renews(value: ast.expr | None) -> bool:
    """Whether a variable that is set to this has another object from then on: `x = x.copy()`, not `x = x.to("cpu")`."""
    return isinstance(value, ast.Call) and last(value.func) not in _MOVES | _TRAINS


def of_statement(node: ast.expr) -> Iterator[Touch]:
    """An expression that stands by itself."""
    if isinstance(node, ast.Await):
        node = node.value
    if not isinstance(node, ast.Call):
        return
    called = last(node.func)
    if called in _LOOKS or called[:1].isupper():
        return
    if (
        called in _COPIES
        and isinstance(node.func, ast.Attribute)
        and not any(k.arg == "inplace" for k in node.keywords)
    ):
        return
    by = ast.unparse(node.func)
    looks = by.partition(".")[0] in _ONLOOKERS
    if isinstance(node.func, ast.Attribute) and root(node.func) and not (looks and not is_setting(called)):
        yield Touch(root(node.func), "method", node.func.attr)
        if called in _ALTERS - {"shuffle"}:  # a container keeps its new item as it is
            return
    if looks:
        return
    for value in (*node.args, *(k.value for k in node.keywords)):
        if root(value):
            yield Touch(root(value), "argument", by)


def of_target(target: ast.expr, value: ast.expr | None) -> Iterator[Touch]:
    """What is assigned to, or without a value deleted: an item or an attribute of something."""
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from of_target(element, value)
    elif isinstance(target, ast.Starred):
        yield from of_target(target.value, value)
    elif isinstance(target, ast.Attribute | ast.Subscript) and root(target):
        again = value is None or any(isinstance(n, ast.Slice) for n in ast.walk(target)) or _reads(value, target)
        yield Touch(root(target), "item", "again" if again else "")


def _reads(value: ast.expr, target: ast.Attribute | ast.Subscript) -> bool:
    """Whether a value has to do with what it becomes an item of; other columns of a table have not."""
    name = root(target)
    known = sum(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value))
    others = 0
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        methods = {id(n.func) for n in ast.walk(value) if isinstance(n, ast.Call)}
        others = sum(_is_column(n, name, but=target.slice) for n in ast.walk(value) if id(n) not in methods)
    return known > others


def _is_column(node: ast.AST, table: str, *, but: ast.expr) -> bool:
    match node, but:
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))), ast.Constant(value=str(own)):
            return name == table and key != own
        case ast.Attribute(value=ast.Name(id=name), attr=key), ast.Constant(value=str(own)):
            return name == table and key != own
    return False
