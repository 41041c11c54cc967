"""What a replica is told before it can serve, and how its class gets there. Read in the replica, made by the engine."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbcompose.calling.client import Route
from nbcompose.declaration import Service
from nbcompose.errors import LaunchError
from nbcompose.host import environment
from nbcompose.host.devices import apply_threads
from nbcompose.replica import main_module
from nbcompose.replica.sources import Source, find_source, use_sources
from nbcompose.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class ByValue:
    """A class of a notebook: its pickle (cloudpickle), and the source of the cells, for tracebacks."""

    payload: bytes
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ByImport:
    """A class of a module: imported in the replica. `file` where the module is a script, which has no import name.

    `sources`: the user's modules by name, where they are to be imported as they were when this was made.
    """

    module: str
    attribute: str
    file: str | None = None
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything a replica needs, as plain data. `spec.cls` is empty: it comes through `origin`.

    `environment` is all of the process's, `torch_threads` is applied to what is loaded already. `exposed`: it has an
    HTTP server. `heavy`: see `Deployment`; it is for the engine. `gpus`: see `devices.Placement`.
    """

    spec: ServiceSpec
    index: int
    slot: int
    origin: ByValue | ByImport
    environment: Mapping[str, str] = field(repr=False)
    folder: str
    python_path: tuple[str, ...]
    torch_threads: int | None
    routes: tuple[Route, ...]
    token: str | None = field(repr=False)
    exposed: bool = True
    heavy: bool = True
    allowed_hosts: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()


def prepare_process(launch: Launch) -> None:
    """Environment, folder, import path, threads: before anything of the user's is imported."""
    environment.take(launch.environment)
    if os.path.isdir(launch.folder):
        os.chdir(launch.folder)
    sys.path[:] = launch.python_path
    if launch.torch_threads is not None:
        apply_threads(launch.torch_threads)


def load_spec(launch: Launch) -> ServiceSpec:
    """The spec with the class in it. Runs user code (imports). Raises what that raises."""
    return replace(launch.spec, cls=_load_class(launch.origin))


def _load_class(origin: ByValue | ByImport) -> type[Any]:
    if isinstance(origin, ByValue):
        return main_module.take(origin.payload, origin.sources)
    use_sources(origin.sources)
    main_module.stand_in(origin.module)
    return class_of(load_module(origin.module, origin.file), origin.attribute)


def load_module(name: str, file: str | None) -> Any:
    """Import a module by its name, or a script by its file, under the name `name`."""
    if file is None:
        return importlib.import_module(name)
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == file:
        return sys.modules[name]
    location = find_source(name, file) or importlib.util.spec_from_file_location(name, file)
    if location is None or location.loader is None:
        raise LaunchError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(location)
    sys.modules[name] = module
    folder = str(Path(file).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python file` does, for the modules beside it
    try:
        location.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def class_of(module: Any, attribute: str) -> type[Any]:
    """The class behind `attribute` (dotted) of a module, decorated or not. Raises `LaunchError`."""
    found = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Service):
        return found.inner
    if isinstance(found, type):
        return found
    raise LaunchError(f"{module.__name__} has no class {attribute}: was it changed since it was started?")
