"""Packs a service's class for its journey to a replica: by import where it has a home, by value otherwise.

By value means cloudpickle: the class, and the notebook globals that its code uses, as they are now.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import linecache
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

import __main__
from nbcompose.declaration import Service
from nbcompose.engine.deployment import Deployment
from nbcompose.errors import CaptureError, LargeCaptureWarning
from nbcompose.memory import human
from nbcompose.replica.launch import ByImport, ByValue, class_of

LARGE = 64 * 2**20  # bytes; a larger capture is named and warned about
SOURCE_LIMIT = 2**20  # characters of cell source that travel with a class


def deployment_of(service: Service, *, token: str | None = None, allowed_hosts: tuple[str, ...] = ()) -> Deployment:
    """What the registry needs to run `service`.

    Raises `CaptureError`, which names the variable, when something that the class uses cannot be sent; warns
    (`LargeCaptureWarning`) of variables over 64 MiB.
    """
    return Deployment(service.spec, origin_of(service), token, allowed_hosts)


def origin_of(service: Service) -> ByImport | ByValue:
    """How a replica gets at the class."""
    return _by_import(service) or _by_value(service.spec.cls)


def _by_import(service: Service) -> ByImport | None:
    cls = service.spec.cls
    if "<locals>" in cls.__qualname__:
        return None
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return None
    if module is __main__ and not _is_script(file):
        return None
    try:
        if class_of(module, cls.__qualname__) is not cls:
            return None
    except Exception:
        return None
    if module is __main__:
        return ByImport(Path(file).stem, cls.__qualname__, os.path.abspath(file))
    importable = importlib.util.find_spec(cls.__module__) is not None
    return ByImport(cls.__module__, cls.__qualname__, None if importable else os.path.abspath(file))


def _is_script(file: str) -> bool:
    """Whether `__main__` is a file of the user's; a kernel's is `ipykernel_launcher.py`, which defines nothing."""
    return "ipykernel" not in Path(file).name and Path(file).is_file() and "IPython" not in sys.modules


def _by_value(cls: type[Any]) -> ByValue:
    for name, value in captured_values(cls):
        size = _size(value)
        if size > LARGE:
            warnings.warn(
                f"{cls.__name__} uses the notebook's variable {name!r} ({human(size)}): each replica gets a copy. "
                "Load it in __init__ instead",
                LargeCaptureWarning,
                stacklevel=2,
            )
    try:
        payload = _dumps(cls)
    except Exception as error:
        raise CaptureError(_blame(cls, error)) from error
    return ByValue(payload, _sources(cls))


def _dumps(value: Any) -> bytes:
    file = io.BytesIO()
    cloudpickle.Pickler(file, protocol=5).dump(value)
    return file.getvalue()


def captured_values(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """The names, and their values, that the methods of a class use from the notebook: globals and closures.

    Followed through the notebook's own functions and classes; what is imported from modules is left out.
    """
    seen: set[int] = set()
    names: set[str] = set()
    todo: list[Any] = [cls]
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, type):
            todo.extend(_functions(current))
            todo.extend(base for base in current.__bases__ if _is_notebooks(base))
            continue
        found = inspect.getclosurevars(current)
        for name, value in {**found.globals, **found.nonlocals}.items():
            if isinstance(value, ModuleType | Service) or name in names:
                continue
            if isinstance(value, FunctionType | type):
                if _is_notebooks(value):
                    todo.append(value)
                continue
            names.add(name)
            yield name, value


def _functions(cls: type[Any]) -> Iterator[FunctionType]:
    for member in vars(cls).values():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if isinstance(function, FunctionType):
            yield function


def _is_notebooks(thing: Any) -> bool:
    return getattr(thing, "__module__", None) == "__main__" or "<locals>" in getattr(thing, "__qualname__", "")


def _size(value: Any) -> int:
    """Bytes, where a value tells cheaply."""
    for attribute in ("nbytes", "memory_usage"):
        found = getattr(value, attribute, None)
        if isinstance(found, int):
            return found
        if callable(found):
            total = found()
            return int(total.sum() if hasattr(total, "sum") else total)
    parameters = getattr(value, "parameters", None)
    if callable(parameters):  # a torch module
        try:
            return sum(p.nbytes for p in parameters())
        except (TypeError, AttributeError):
            return 0
    return sys.getsizeof(value, 0) if isinstance(value, bytes | bytearray | str) else 0


def _blame(cls: type[Any], error: Exception) -> str:
    """Which variable cannot be sent."""
    for name, value in captured_values(cls):
        try:
            _dumps(value)
        except Exception as reason:
            return (
                f"{cls.__name__} uses the notebook's variable {name!r} ({type(value).__name__}), which cannot be sent "
                f"to a replica: {reason}. Make it in __init__ instead"
            )
    for name, value in vars(cls).items():
        try:
            _dumps(value)
        except Exception as reason:
            return (
                f"{cls.__name__}.{name} ({type(value).__name__}) cannot be sent to a replica: {reason}. "
                "Make it in __init__ instead"
            )
    return f"{cls.__name__} cannot be sent to a replica: {error}"


def _sources(cls: type[Any]) -> dict[str, str]:
    """The cells whose code may show in a traceback: everything that exists only in `linecache`, the latest first."""
    found: dict[str, str] = {}
    room = SOURCE_LIMIT
    own = [f.__code__.co_filename for f in _functions(cls)]
    others = [name for name, entry in reversed(linecache.cache.items()) if len(entry) == 4 and entry[1] is None]
    for name in dict.fromkeys([*own, *others]):
        text = "".join(linecache.getlines(name))
        if text and not os.path.exists(name) and len(text) <= room:
            found[name] = text
            room -= len(text)
    return found
