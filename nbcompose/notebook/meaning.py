"""Whether a class that was run again still means the same: its code, and the notebook's values that it uses.

Comments, its place in the notebook and the identity of a class that was made anew do not count.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from types import CodeType
from typing import Any
from uuid import uuid4

from cloudpickle import cloudpickle

from nbcompose.declaration import Service
from nbcompose.spec import Location, ServiceSpec

_OPTIONS = {
    "device": "device", "replicas": "replicas", "threads": "threads", "resources": "resources", "traffic": "traffic",
    "envs": "envs", "http": "http", "strict": "strict",
}  # fmt: skip
_TRACKER_LENGTH = 32  # of the random id that cloudpickle gives a class


def fingerprint(cls: type[Any]) -> str:
    """Equal for classes that do the same. One that cannot be told is like no other."""
    digest = hashlib.sha256()
    try:
        _Meaning(_Sink(digest)).dump(cls)
    except Exception:
        return uuid4().hex
    return digest.hexdigest()


def difference(old: tuple[ServiceSpec, str], new: tuple[ServiceSpec, str]) -> str:
    """What changed between two (spec, fingerprint), in words; "" when nothing did."""
    before, after = (replace(spec, location=Location()) for spec, _ in (old, new))
    changed = [f.name for f in fields(ServiceSpec) if f.compare and getattr(before, f.name) != getattr(after, f.name)]
    options = [name for name in changed if name in _OPTIONS]
    reasons = [f"{', '.join(options)} changed"] if options else []
    if old[1] != new[1] or len(options) < len(changed):
        reasons.append("its code, or a value that it uses, changed")
    return "; ".join(reasons)


class _Sink:
    """A file that only remembers a digest."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)


class _Meaning(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles what matters of a class, where cloudpickle pickles all that is needed to make it again."""

    def persistent_id(self, thing: Any) -> Any:
        if isinstance(thing, CodeType):
            return ("code", *_code(thing))
        if isinstance(thing, Service):
            return ("service", thing.name)
        if (
            isinstance(thing, str)
            and len(thing) == _TRACKER_LENGTH
            and thing in cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
        ):
            return "class"
        return None


def _code(code: CodeType) -> tuple[Any, ...]:
    """Everything of a code object but where it was written."""
    return (
        code.co_name, code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars,
        code.co_cellvars, code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
        getattr(code, "co_exceptiontable", b""),
    )  # fmt: skip
