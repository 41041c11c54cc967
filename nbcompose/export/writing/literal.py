"""Values that nobody can alter, as the code that makes them: what a person would write, instead of a pickle."""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import fractions
import math
import re
import sys
import uuid
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from nbcompose.export.writing.naming import Names

_BY_MODULE = ("datetime", "re", "torch")  # people write `re.compile`, and not `compile`
LONGEST = 1000  # characters; more is data

_PLAIN = (type(None), bool, int, str, bytes, type(...))
_BY_REPR = (datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone, decimal.Decimal,
            fractions.Fraction, uuid.UUID)  # fmt: skip


def code_of(value: Any) -> str | None:
    """Python that makes the value, with full names (`datetime.date(2020, 1, 1)`); None for what is better stored."""
    try:
        code = _code(value, 0)
    except ValueError:  # a number of too many digits
        return None
    return code if code is not None and len(code) <= LONGEST else None


def _code(value: Any, depth: int) -> str | None:
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if kind is float:
        return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
    if kind is range:
        return repr(value)
    if isinstance(value, enum.Enum):
        return _member(kind, value)
    if kind in _BY_REPR:
        return _by_repr(value)
    if isinstance(value, PurePath) and kind.__module__.partition(".")[0] == "pathlib":
        return f"pathlib.{'Path' if hasattr(value, 'exists') else 'PurePath'}({str(value)!r})"
    if kind is re.Pattern:
        flags = value.flags & ~(re.UNICODE.value if isinstance(value.pattern, str) else 0)
        return f"re.compile({value.pattern!r}, {flags})" if flags else f"re.compile({value.pattern!r})"
    return _of_torch(value) or (_tuple(value, depth) if isinstance(value, tuple) and depth < 8 else None)


def _member(kind: type[enum.Enum], value: enum.Enum) -> str | None:
    if isinstance(value, enum.Flag) and value.name not in kind.__members__:
        return None
    return f"{kind.__module__}.{kind.__qualname__}.{value.name}" if _importable(kind) else None


def _by_repr(value: Any) -> str | None:
    """What `repr` gives, which has full names for what is of `datetime` only."""
    if getattr(value, "fold", 0) or not (getattr(value, "tzinfo", None) is None or _is_fixed(value.tzinfo)):
        return None
    module = type(value).__module__
    return repr(value) if repr(value).startswith(f"{module}.") else f"{module}.{value!r}"


def _is_fixed(zone: Any) -> bool:
    return type(zone) is datetime.timezone


def _tuple(value: tuple[Any, ...], depth: int) -> str | None:
    kind = type(value)
    parts = [_code(part, depth + 1) for part in value]
    if kind is tuple:
        inner = _joined(parts)
        return None if inner is None else f"({inner}{',' if len(parts) == 1 else ''})"
    fields = getattr(kind, "_fields", None)
    if fields is None or not _importable(kind):
        return None
    inner = _joined(None if part is None else f"{name}={part}" for name, part in zip(fields, parts, strict=True))
    return None if inner is None else f"{kind.__module__}.{kind.__qualname__}({inner})"


def _joined(parts: Iterable[str | None]) -> str | None:
    found = list(parts)
    return None if None in found else ", ".join(part for part in found if part is not None)


def _of_torch(value: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if type(value) is torch.device:
        return f"torch.device({str(value)!r})"
    if type(value) is torch.Size:
        return f"torch.Size({list(value)!r})"
    return repr(value) if type(value) in (torch.dtype, torch.layout, torch.memory_format) else None


def _importable(kind: type) -> bool:
    """Whether a script finds it where it says that it is; the notebook's own classes are not anywhere else."""
    found: Any = sys.modules.get(kind.__module__) if kind.__module__ != "__main__" else None
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind


def with_names(code: str, names: Names) -> str:
    """The code as the script has it, which imports what is needed: `Path("a")` where it imports that."""
    return ast.unparse(_Shorter(names).visit(ast.parse(code, mode="eval")))


class _Shorter(ast.NodeTransformer):
    def __init__(self, names: Names) -> None:
        self._names = names

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        parts = ast.unparse(node).split(".")
        for length in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:length])
            if module in sys.modules:
                if module in _BY_MODULE:
                    text = ".".join([self._names.module(module), *parts[length:]])
                else:
                    text = ".".join([self._names.member(module, parts[length]), *parts[length + 1 :]])
                return ast.parse(text, mode="eval").body
        return node
