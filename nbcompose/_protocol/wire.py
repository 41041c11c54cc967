"""Lines of JSON: reading and writing messages, and checking them against their definitions in `_protocol/messages.py`.

A message is one JSON object in one line. (Not a length and bytes: after something that is no message, the next line is
found all the same, so every mistake can be answered without closing the connection; and people can read and type it.)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from nbcompose import errors
from nbcompose._protocol.messages import Failure, Limit
from nbcompose.errors import InvalidArgument, NbcomposeError, ProtocolError, RemoteError, RemoteTraceback

MAX_MESSAGE = 32 * 2**20  # bytes of a line
MAX_PROBLEMS = 8  # that are told of one message
MAX_TEXT = 1_000_000  # characters of the text of an error
MOST_WRONG = 1000  # arguments that an error tells of
CHUNK = 65536  # bytes that are read ahead

_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the message as a line. Raises `ProtocolError` where it has no JSON, or is too long."""
    try:
        text = json.dumps(message, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"what was to be sent is not JSON: {error}") from None
    line = text.encode(errors="backslashreplace") + b"\n"  # half a pair of surrogates becomes its escape in JSON
    if len(line) > MAX_MESSAGE:
        raise ProtocolError(f"what was to be sent has {len(line):,} bytes; a message has at most {MAX_MESSAGE:,}")
    return line


def decode(line: bytes) -> dict[str, Any]:
    """Return the message in a line. Raises `ProtocolError` where it is none."""
    try:
        message = json.loads(line.decode(), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise ProtocolError(f"not UTF-8: byte {error.start} is {line[error.start]:#04x}") from None
    except json.JSONDecodeError as error:
        raise ProtocolError(f"not JSON: {error.msg}, at character {error.pos}") from None
    except RecursionError:
        raise ProtocolError("not read: it is nested too deeply") from None
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"a message is a JSON object, and this is {_kind(message)}")
    return message


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of its numbers")


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, b"" at the end. Raises `ProtocolError` for a longer one than `MAX_MESSAGE`, after it."""
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            part = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            part = await reader.readexactly(error.consumed)
        except asyncio.IncompleteReadError:
            return b""  # what has no end is no message
        size += len(part)
        if size <= MAX_MESSAGE:
            parts.append(part)
        else:
            parts.clear()
        if part.endswith(b"\n"):
            break
    if size > MAX_MESSAGE:
        raise ProtocolError(f"a line of {size:,} bytes; a message has at most {MAX_MESSAGE:,}")
    return b"".join(parts)


# -- definitions


@cache
def fields_of(definition: type) -> Mapping[str, tuple[Any, bool]]:
    """Return the fields of a TypedDict: their types, and whether they are required."""
    optional: frozenset[str] = getattr(definition, "__optional_keys__", frozenset())
    fields: dict[str, tuple[Any, bool]] = {}
    for name, hint in get_type_hints(definition, include_extras=True).items():
        if get_origin(hint) is NotRequired:  # where annotations are texts, the class itself does not know
            fields[name] = get_args(hint)[0], False
        else:
            fields[name] = hint, name not in optional
    return fields


@cache
def by_type(union: Any) -> Mapping[str, type]:
    """Return the definitions in a union of messages, by their `type`."""
    return {kind: cls for cls in get_args(union) for kind in get_args(fields_of(cls)["type"][0])}


def check(message: Mapping[str, Any], definition: Any, *, strict: bool) -> None:
    """Raise `ProtocolError`, with all that is wrong, where a message is not as its definition says.

    `strict`: fields that it does not have are wrong too; what a newer version says may have more.
    """
    found = list(islice(_problems(message, definition, "", strict), MAX_PROBLEMS))
    if found:
        raise ProtocolError("; ".join(found))


def _problems(value: Any, hint: Any, where: str, strict: bool) -> Iterator[str]:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return
    if is_typeddict(hint):
        yield from _field_problems(value, hint, where, strict)
    elif origin is Annotated:
        found = list(_problems(value, args[0], where, strict))
        yield from found or _limit_problems(value, args[1], where)
    elif origin is Literal:
        if not isinstance(value, str) or value not in args:
            yield f"{where} is none of {', '.join(args)}"
    elif origin in (Union, UnionType):
        if all(any(_problems(value, one, where, strict)) for one in args):
            yield f"{where} is {_kind(value)}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{where} is {_kind(value)}, not a list"
            return
        for i, item in enumerate(value):
            yield from _problems(item, args[0], f"{where}[{i}]", strict)
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{where} is {_kind(value)}, not an object"
            return
        for name, item in value.items():
            yield from _problems(item, args[1], f"{where}.{printable(name)}", strict)
    elif not (type(value) is hint or (hint is float and type(value) is int)):
        yield f"{where} is {_kind(value)}, not {_KINDS[hint]}"


def _field_problems(value: Any, definition: type, where: str, strict: bool) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is {_kind(value)}, not an object"
        return
    fields = fields_of(definition)
    for name, (hint, required) in fields.items():
        inside = f"{where}.{name}" if where else name
        if name in value:
            yield from _problems(value[name], hint, inside, strict)
        elif required:
            yield f"{inside} is missing"
    for name in value if strict else ():
        if name not in fields:
            yield f"there is no field {printable(name)}, only {', '.join(fields)}"


def _limit_problems(value: Any, limit: Limit, where: str) -> Iterator[str]:
    measure = "" if isinstance(value, int) else "the length of "
    size = value if isinstance(value, int) else len(value)
    if not limit.least <= size <= limit.most:
        yield f"{measure}{where} is not between {limit.least} and {limit.most}"


def _kind(value: Any) -> str:
    """Return what kind of JSON a value is: the value itself may be secret."""
    return _KINDS.get(type(value)) or ("a list" if isinstance(value, list) else "an object")


def printable(text: str, most: int = 60) -> str:
    """Return a text of another process in at most `most` characters, without those that control a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)[:most]


_SECRET = r"[\w-]*(?:token|password|passwd|secret|credential|api[_-]?key)[\w-]*"
_SECRETS = re.compile(
    rf"(?P<named>(?<![\w-])(?:-{{1,2}}{_SECRET}(?:=|\s+)|{_SECRET}=))(?:'[^']*'|\"[^\"]*\"|[^\s&]+)"
    r"|(?P<url>\w+://)[^\s/]*@",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return a text without what it gives as a token or password: `--token x`, `API_KEY=x`, `https://user:x@host`.

    What another process calls itself may be its command line; ours do not (`own_title` of `_control/operations.py`).
    """
    return _SECRETS.sub(lambda found: f"{found['named'] or found['url']}***{'@' if found['url'] else ''}", text)


# -- errors


def failure(error: BaseException) -> Failure:
    """Return an exception as data."""
    cause = error.__cause__
    problems: Sequence[Mapping[str, Any]] = error.problems[:MOST_WRONG] if isinstance(error, InvalidArgument) else []
    return {
        "name": type(error).__name__,
        "message": _message(error)[:MAX_TEXT],
        "traceback": cause.text[:MAX_TEXT] if isinstance(cause, RemoteTraceback) else "",
        "problems": [{"loc": _location(p), "msg": str(p.get("msg", ""))[:1000]} for p in problems],
    }


def _message(error: BaseException) -> str:
    try:
        return str(error) or repr(error)
    except Exception:  # code of the user's class
        return "its message could not be made"


def _location(problem: Mapping[str, Any]) -> list[str | int]:
    return [part if isinstance(part, int) else str(part)[:1000] for part in problem.get("loc", ())]


def rebuilt(failed: Failure) -> NbcomposeError:
    """Return the exception that another process has told of: of its class, where that is one of nbcompose's."""
    cls = getattr(errors, failed["name"], None)
    error: NbcomposeError
    if cls is InvalidArgument:
        error = InvalidArgument(failed["message"], [{**problem} for problem in failed["problems"]])
    elif isinstance(cls, type) and issubclass(cls, NbcomposeError):
        error = cls(failed["message"])
    else:
        error = RemoteError(failed["message"], printable(failed["name"]))
    if failed["traceback"]:
        error.__cause__ = RemoteTraceback(failed["traceback"])
    return error
