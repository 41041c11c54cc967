"""Start of a replica: inherited file descriptors, launch message, its `__main__` module, loading of the service class.

Classes and functions of a notebook belong to `__main__` there. A replica has them under the same name, where pickle
looks for them, and so have processes that the service starts (pools, data loader workers): forked ones inherit the
module, spawned ones run its `__file__`.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from nbcompose import settings
from nbcompose._host import apply_threads, environment
from nbcompose._replica.loggers import UNCHANGED, Loggers
from nbcompose._replica.sources import ModuleSource, find_source, know_lines, use_sources
from nbcompose._rpc import ServiceRoute, Unpickler
from nbcompose._service import Service
from nbcompose._spec import ServiceSpec
from nbcompose._tracing import sample
from nbcompose.errors import LaunchError

# Modules that replicas of transformers services import; those that are not installed are skipped.
PRELOAD = (
    "torch",
    "transformers",
    "transformers.pipelines",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.roberta.modeling_roberta",
    "transformers.generation",
)
REQUEST = b"F"  # fork request to the zygote, sent together with the files


class InheritedFds(NamedTuple):
    """File descriptors that a replica inherits.

    `control`: a socket to the supervisor. `output`: for stdout and stderr. `owner`: signals the end of the owner
    process (see `_host/lifetime.py`). `board`: the load table. `http`: the service's listening socket, or /dev/null.
    """

    control: int
    output: int
    owner: int
    board: int
    http: int


_PROGRAM = """\
from nbcompose._replica.bootstrap import fill
fill(globals(), {payload!r})
"""


class MainModule(ModuleType):
    """`__main__` of a replica: its namespace is the globals of the notebook's functions.

    `origin`: for a service that is imported, the name of its module, in which missing names are looked up.
    """

    __slots__ = ("_files", "_origin", "_taken")

    def __init__(self, taken: tuple[bytes, Mapping[str, str]] | None = None, origin: str = "") -> None:
        super().__init__("__main__")
        self._taken = taken
        self._origin = origin
        self._files: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if name == "__file__" and self._taken is not None:
            self.__file__ = self._written(*self._taken)
            return self.__file__
        if self._origin and not name.startswith("__"):
            return getattr(sys.modules[self._origin], name)
        raise AttributeError(f"{self!r} has no {name!r}")

    def __repr__(self) -> str:
        # pickle shows it in the error about a missing name.
        if self._origin:
            return f"<module '__main__' of a replica, which has what {self._origin} has>"
        return "<module '__main__' of a replica, which has only what the service's code names: name it there>"

    def _written(self, payload: bytes, sources: Mapping[str, str]) -> str:
        """Return the path of a program that recreates this module, in anonymous files that end with this process."""
        taken = self._file(pickle.dumps((payload, dict(sources))))
        return self._file(_PROGRAM.format(payload=taken).encode())

    def _file(self, data: bytes) -> str:
        if not hasattr(os, "memfd_create"):
            raise AttributeError("__file__")  # as in a notebook, whose `__main__` has no `__file__`
        number = os.memfd_create("nbcompose-main")
        self._files.append(number)
        with open(number, "wb", closefd=False) as file:
            file.write(data)
        return f"/proc/{os.getpid()}/fd/{number}"


class MainGlobals:
    """Placeholder in a pickle for the notebook's globals; unpickled functions get the `MainModule`'s instead."""

    def __reduce__(self) -> Any:
        return main_globals, ()


def main_globals() -> dict[str, Any]:
    """The function as which `MainGlobals` is pickled; only `MainUnpickler` can read it."""
    raise pickle.UnpicklingError("the globals of a notebook are read by a MainUnpickler")


class MainUnpickler(Unpickler):
    """Loads the pickled class of a service, and the notebook values that it needs, into a module."""

    def __init__(self, payload: bytes, main: MainModule) -> None:
        super().__init__(io.BytesIO(payload))
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, main_globals.__name__):
            return lambda: vars(self._main)
        return super().find_class(module, name)

    def load_all(self) -> type[Any]:
        """Load the service's class and return it; named values of the notebook are then in the module.

        A name that the code itself has set takes precedence: a class that has become a service is one there, too.
        """
        cls: type[Any] = self.load()
        for name, value in self.load().items():
            vars(self._main).setdefault(name, value)
        return cls


def stand_in(module: str) -> None:
    """Set `__main__` so that objects pickled by a script that was run, or a notebook, are found in `module`."""
    sys.modules["__main__"] = MainModule(origin=module)


def take(payload: bytes, sources: Mapping[str, str]) -> type[Any]:
    """Create this process's `__main__` from a service's payload; return the service's class. Runs imports."""
    know_lines(sources)
    sys.modules["__main__"] = main = MainModule((payload, sources))
    return MainUnpickler(payload, main).load_all()


def fill(space: dict[str, Any], file: str) -> None:
    """Fill the `__main__` of a process that the service has started, from a file of the replica."""
    with open(file, "rb") as opened:
        payload, sources = pickle.load(opened)
    take(payload, sources)
    made = vars(sys.modules["__main__"])
    space.update({name: value for name, value in made.items() if not name.startswith("__")})


@dataclass(frozen=True, slots=True)
class ByValue:
    """A class of a notebook: its pickle (cloudpickle), and the sources of the cells, for tracebacks."""

    payload: bytes
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ByImport:
    """A class of a module, imported in the replica. `file`: set if the module is a script, which has no import name.

    `sources`: the user's modules by name, if they must be imported as they were when this was created.
    """

    module: str
    attribute: str
    file: str | None = None
    sources: Mapping[str, ModuleSource] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Launch:
    """Launch message: everything a replica needs, as plain data. `spec.cls` is empty: it comes through `origin`.

    `environment`: the complete environment of the process. `torch_threads`: applied to libraries already loaded.
    `exposed`: it has an HTTP server. `heavy`: for the engine, see `Deployment` in `_code/packing.py`. `gpus`: see
    `Placement` in `_host/devices.py`. `record`: whether arguments and answers are recorded. `loggers`: as they are set
    in the process that deploys it.
    """

    spec: ServiceSpec
    index: int
    slot: int
    origin: ByValue | ByImport
    environment: Mapping[str, str] = field(repr=False)
    folder: str
    python_path: tuple[str, ...]
    torch_threads: int | None
    routes: tuple[ServiceRoute, ...]
    token: str | None = field(repr=False)
    exposed: bool = True
    heavy: bool = True
    allowed_hosts: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    record: bool = False
    loggers: Loggers = UNCHANGED


def prepare_process(launch: Launch) -> None:
    """Set environment, working directory, import path and thread counts, before user code is imported."""
    environment.take(launch.environment)
    if os.path.isdir(launch.folder):
        os.chdir(launch.folder)
    sys.path[:] = launch.python_path
    settings.start_logging(settings.REPLICA_FORMAT)
    launch.loggers.take()
    sample(*settings.trace_sampler()[1:])
    if launch.torch_threads is not None:
        apply_threads(launch.torch_threads)


def load_spec(launch: Launch) -> ServiceSpec:
    """Return the spec including the class. Runs user code (imports), and raises what that raises."""
    spec = replace(launch.spec, cls=_load_class(launch.origin))
    launch.loggers.set_levels()
    return spec


def _load_class(origin: ByValue | ByImport) -> type[Any]:
    if isinstance(origin, ByValue):
        return take(origin.payload, origin.sources)
    use_sources(origin.sources)
    stand_in(origin.module)
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
    """Return the class under `attribute` (dotted) of a module, decorated or not. Raises `LaunchError`."""
    found = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Service):
        return found.inner
    if isinstance(found, type):
        return found
    raise LaunchError(f"{module.__name__} has no class {attribute}: was it changed since it was started?")
