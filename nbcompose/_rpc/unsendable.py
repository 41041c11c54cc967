"""Why an argument or a result cannot be sent, in words: what was probably meant, and the way out."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from nbcompose._rpc.stream_arguments import ServiceStream
from nbcompose._schema import Uncalled
from nbcompose._spec import ApiSpec
from nbcompose.errors import InvalidArgument, NbcomposeError

_ITERATORS = ("AsyncIterator", "AsyncGenerator", "Iterator", "Generator", "AsyncIterable", "Iterable", "list")


class Unsendable(NamedTuple):
    """What cannot be sent: `value`, in the argument `outermost`; `inner` is the path from there, "" if it is that."""

    outermost: Any
    inner: str
    value: Any


def is_live(value: Any) -> bool:
    """Whether a value gives its items once, as they are made: an iterator or generator, sync or async, but no file."""
    kind = type(value)
    return (hasattr(kind, "__next__") or hasattr(kind, "__anext__")) and not issubclass(kind, io.IOBase)


def is_misplaced(value: Any) -> bool:
    """Whether a value is what no argument is, but what is probably meant is known."""
    return issubclass(type(value), Uncalled) or is_live(value)


def misplaced_argument(service: str, api: ApiSpec, name: str, value: Any, inner: str = "") -> InvalidArgument:
    """Return the error for such a value in the argument `name` of an api; `inner` is the path to it there."""
    label = f"{service}.{api.name}: `{name}`{inner}"
    if isinstance(value, Uncalled):
        return InvalidArgument(f"{label} is {value._uncalled()}")
    if inner or name in api.stream_params:
        return InvalidArgument(
            f"{label} is {_called(value)}, and a stream is an argument by itself: pass {_list_of(value)}"
        )
    written = next((p.text for p in api.params if p.name == name), name)
    kind = "AsyncIterator" if api.is_async else "Iterator"
    items = _items(value.made_by()[1]) if isinstance(value, ServiceStream) else ""
    items = items or _items(written.partition(":")[2].strip()) or "…"
    return InvalidArgument(
        f"{label} takes no stream, and got {_called(value)}: annotate it as `{name}: {kind}[{items}]`, or "
        f"pass {_list_of(value)}"
    )


def misplaced_value(path: str, value: Any, role: str) -> str:
    """Return what is said of such a value where no parameter is known: in a result ("result", "item"), or else."""
    if isinstance(value, Uncalled):
        return f"{path} is {value._uncalled()}"
    if role == "arguments":
        return f"{path} is {_called(value)}, where none is taken: pass {_list_of(value)}"
    form = "`yield from …`" if hasattr(type(value), "__next__") else "`async for item in …: yield item`"
    return f"{path} is {_called(value)}, which is no value: give its items with {form}, or return {_list_of(value)}"


def named(error: NbcomposeError, service: str, api: ApiSpec | None, arguments: Any) -> NbcomposeError:
    """Return the error of a call with the name of the parameter in place of a path, where that is known."""
    found = error.__dict__.pop("unsendable", None)
    if found is None or api is None or not is_misplaced(found.value):
        return error
    name = _parameter(api, arguments, found.outermost)
    if name is None:
        return error
    better = misplaced_argument(service, api, name, found.value, found.inner)
    better.__cause__ = error.__cause__  # instead of `error`, in whose handling it is raised
    return better


def _parameter(api: ApiSpec, arguments: Any, wanted: Any) -> str | None:
    given: Any
    args, kwargs = arguments if isinstance(arguments[0], tuple) else ((), arguments[1])
    by_position = [p.name for p in api.params if p.kind in ("positional_only", "positional_or_keyword")]
    rest = [p.name for p in api.params if p.kind == "var_positional"]
    for i, given in enumerate(args):
        if given is wanted:
            return next(iter([*by_position[i : i + 1], *rest]), None)
    return next((name for name, given in kwargs.items() if given is wanted), None)


def _called(value: Any) -> str:
    if isinstance(value, ServiceStream):
        return f"the stream of {value.made_by()[0]}"
    return f"a stream ({type(value).__name__})"


def _list_of(value: Any) -> str:
    way = "`list(…)`" if hasattr(type(value), "__next__") else "`[item async for item in …]`"
    return f"the list of its items, {way}"


def _items(annotation: str) -> str:
    """Return the annotation of the items, of one for a stream or a list; "" where it is not known."""
    kind, bracket, rest = annotation.partition("[")
    if kind.rpartition(".")[2] not in _ITERATORS or not bracket or not rest.endswith("]"):
        return ""
    depth = 0
    for i, c in enumerate(rest):
        depth += (c == "[") - (c == "]")
        if depth < 0 or (c == "," and depth == 0):
            return rest[:i]
    return ""
