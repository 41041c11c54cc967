"""Convert pydantic's validation errors to nbcompose's: one short line for each problem, bounded in number."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails, ValidationError

from nbcompose._schema.pydantic_adapter import message, place
from nbcompose._schema.unawaited import Uncalled
from nbcompose.errors import InvalidArgument, InvalidResult

SHOWN = 10  # lines in a message
KEPT = 100  # entries in `problems`: a list of a million wrong numbers has a million errors

# Errors without "(got <type>)": a missing or unknown name, or the message of a validator, which may contain it already.
_WITHOUT_VALUE = {"missing", "extra_forbidden", "value_error", "assertion_error"}


def invalid_argument(label: str, takes: str, error: ValidationError) -> InvalidArgument:
    """Return the error for arguments. `label` is `Service.api`; `takes`, its signature, is quoted if a name is missing
    or unknown.
    """
    found = _problems(error)
    problems: list[dict[str, object]] = [{"loc": place(d["loc"]), "msg": _text(d), "type": d["type"]} for d in found]
    lines = [f"{label}: {_path(d)}{_text(d)}{_came(d)}" for d in found[:SHOWN]]
    if any(d["type"] in ("missing", "extra_forbidden") and len(d["loc"]) == 1 for d in found):
        lines.append(f"the signature is {takes}")
    return InvalidArgument("\n".join(lines + _more(error)), problems)


def invalid_item(label: str, name: str, index: int, error: ValidationError) -> InvalidArgument:
    """Return the error for an item of a stream that is the argument `name`."""
    found = _problems(error)
    problems: list[dict[str, object]] = [
        {"loc": [name, index, *place(d["loc"])], "msg": _text(d), "type": d["type"]} for d in found
    ]
    lines = [f"{label}: item {index} of `{name}`: {_path(d)}{_text(d)}{_came(d)}" for d in found[:SHOWN]]
    return InvalidArgument("\n".join(lines + _more(error)), problems)


def invalid_result(label: str, verb: str, annotation: str, value: object, error: ValidationError) -> InvalidResult:
    """Return the error for a result or an item. `verb` is "returned" or "yielded"."""
    found = _problems(error)
    head = f"{label} {verb} {type(value).__name__}, which its annotation {annotation} rules out"
    lines = [f"{_path(d)}{_text(d)}{_came(d)}" for d in found[:SHOWN]]
    return InvalidResult("\n  ".join([head + ":", *lines, *_more(error)]))


def in_short(error: ValidationError) -> str:
    """Return a validation error as one line."""
    found = _problems(error)
    return "; ".join([*(f"{_path(d)}{_text(d)}" for d in found[:SHOWN]), *_more(error)])


def _problems(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False)[:KEPT]


def _path(detail: ErrorDetails) -> str:
    loc = place(detail["loc"])
    return ".".join(str(part) for part in loc) + ": " if loc else ""


def _text(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return "is missing"
    if detail["type"] == "extra_forbidden":
        return "is not known"
    return message(detail["msg"])


def _came(detail: ErrorDetails) -> str:
    if detail["type"] in _WITHOUT_VALUE:
        return ""
    value = detail["input"]
    return f" (got {value._uncalled() if issubclass(type(value), Uncalled) else type(value).__name__})"


def _more(error: ValidationError) -> list[str]:
    rest = error.error_count() - SHOWN
    return [f"and {rest} more"] if rest > 0 else []


def missing(label: str, names: list[str], signature: str) -> InvalidArgument:
    """Return the error for arguments that a call leaves out."""
    return InvalidArgument(
        f"{label}: missing {_quoted(names)}; the signature is {signature}", [_entry(n, "missing") for n in names]
    )


def unknown(label: str, names: list[str], signature: str) -> InvalidArgument:
    """Return the error for keywords that the api does not declare."""
    return InvalidArgument(
        f"{label}: unknown {_quoted(names)}; the signature is {signature}",
        [_entry(n, "extra_forbidden") for n in names],
    )


def doubled(label: str, names: list[str], signature: str) -> InvalidArgument:
    """Return the error for arguments given both by position and by name."""
    return InvalidArgument(
        f"{label}: {_quoted(names)} given twice, by position and by name; the signature is {signature}",
        [{"loc": [n], "msg": "is given twice", "type": "multiple_argument_values"} for n in names],
    )


def too_many(label: str, count: int, most: int, signature: str) -> InvalidArgument:
    """Return the error for more positional arguments than there are parameters."""
    return InvalidArgument(
        f"{label}: {count} positional arguments, at most {most} are taken; the signature is {signature}",
        [{"loc": [most], "msg": "is one too many", "type": "unexpected_positional_argument"}],
    )


def _entry(name: str, type_: str) -> dict[str, Any]:
    return {"loc": [name], "msg": "is missing" if type_ == "missing" else "is not known", "type": type_}


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
