"""Finds the service that `nbcompose serve TARGET` names, by the name of a module or a file."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from nbcompose._replica import load_module
from nbcompose._service import Service, dependency_graph
from nbcompose.errors import UnknownService


def find_entry(target: str, favorite: str = "") -> Service:
    """Return the service that `target` names: `module`, `module:Service`, `file.py` or `file.py:Service`.

    Without a name: the one that no other service of the module depends on; `favorite`, where there are several. Raises
    `UnknownService`, which lists the candidates, and what importing the module raises.
    """
    entries = find_entries(target)
    if len(entries) == 1:
        return entries[0]
    for entry in entries:
        if entry.name == favorite:
            return entry
    place = target.partition(":")[0]
    raise UnknownService(
        f"{place} has {len(entries)} services that no other depends on: name one, {place}:NAME "
        f"({', '.join(e.name for e in entries)})"
    )


def find_entries(target: str) -> list[Service]:
    """Return the services that `target` names (see `find_entry`); without a name, all that no other of the module
    depends on.

    Raises what `find_entry` raises.
    """
    place, _, name = target.partition(":")
    module = _import(place)
    services = {s.name: s for s in vars(module).values() if isinstance(s, Service)}
    if not services:
        raise UnknownService(f"{place} has no service: decorate a class with @nbcompose.service")
    if name:
        found = services.get(name) or vars(module).get(name)
        if not isinstance(found, Service):
            raise UnknownService(f"{place} has no service {name!r}; it has: {', '.join(services)}")
        return [found]
    entries = dependency_graph.entries(dependency_graph.edges(s.spec for s in services.values()))
    return [services[e] for e in entries] or list(services.values())


def _import(place: str) -> Any:
    path = file_of(place)
    if path is not None:
        if not path.is_file():
            raise UnknownService(f"there is no file {path}")
        return load_module(path.stem, str(path))
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise UnknownService(
                f"there is no module {place} here ({os.getcwd()}): give a module, or a file.py"
            ) from None
        raise


def file_of(target: str) -> Path | None:
    """Return the file that a target names; None where it names a module."""
    place = target.partition(":")[0]
    return Path(place).resolve() if place.endswith(".py") or os.sep in place else None
