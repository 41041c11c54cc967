"""Packs a service's class for a replica: by import where it has a module, by value (cloudpickle) otherwise.
`Deployment`.

By value means the class and the notebook globals that its code uses, as they are now. `_code/captured.py` finds these
globals, so that a message can name the one that is too large or cannot be sent.
"""

from __future__ import annotations

import ast
import contextlib
import copyreg
import io
import linecache
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import __main__
from nbcompose._code.captured import Outdated, Versions, captured_values, is_ipythons, places, said
from nbcompose._code.dependency_calls import calls_of
from nbcompose._code.diff import DependencyCall, Fingerprint, Plan, compare
from nbcompose._code.fingerprint import fingerprint_of
from nbcompose._code.modules import UserModules, by_value
from nbcompose._host import Placement, owner_environment
from nbcompose._replica import ByImport, ByValue, Launch, Loggers, MainGlobals, Swap, class_of, from_module, lines_of
from nbcompose._rpc import fitted, is_record, names_now, notebook_classes, notebook_objects, why
from nbcompose._schema import renew
from nbcompose._service import Service, locate
from nbcompose._spec import ServiceSpec
from nbcompose._units import human_size
from nbcompose.errors import CaptureError, InvalidArgument, LargeCaptureWarning


@dataclass(frozen=True, slots=True)
class Deployment:
    """One version of a service.

    `token`: what its HTTP server wants; None: no token. `folder` and `python_path`: those of the process that deploys
    it. `exposed`: it answers over HTTP; a dependency under `nbcompose serve` does not. `heavy`: it uses the libraries
    that the zygote imports, so it waits for them instead of starting cold. `fingerprint`: what its class means, to be
    compared with another version's; None where versions are not compared. `swappable`: the class by value, where
    replicas import it.
    """

    spec: ServiceSpec
    origin: ByValue | ByImport = field(repr=False)
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    exposed: bool = True
    heavy: bool = True
    fingerprint: Fingerprint | None = field(default=None, repr=False)
    swappable: ByValue | None = field(default=None, repr=False)
    folder: str = field(default_factory=os.getcwd)
    python_path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    @property
    def code(self) -> ByValue | None:
        """The class as running replicas can take it; None where only new replicas can import it."""
        return self.swappable or (self.origin if isinstance(self.origin, ByValue) else None)

    def plan(self, before: Deployment) -> Plan:
        """What has to be done for this version to serve where `before` does."""
        if before.fingerprint is None or self.fingerprint is None:
            return Plan("replace", ("what changed is not known",))
        plan = compare((before.spec, before.fingerprint), (self.spec, self.fingerprint))
        if (before.token, before.allowed_hosts, before.exposed) != (self.token, self.allowed_hosts, self.exposed):
            plan = replace(plan, action="replace", reasons=("who may call it changed", *plan.reasons))
        return plan

    def is_same(self, other: Deployment) -> bool:
        return self is other or self.plan(other).action == "nothing"

    def swap(self, plan: Plan) -> Swap | None:
        """What running replicas are given by a hot swap; None where only new ones can have this version."""
        if self.code is None or self.fingerprint is None:
            return None
        spec = replace(self.spec, cls=object)
        return Swap(spec, self.code, plan.changed, plan.affected, self.fingerprint.stores, Loggers.now())

    def calls_to(self, service: str) -> Iterator[DependencyCall]:
        """The calls of that service in its code."""
        attributes = {d.attribute for d in self.spec.dependencies if d.url is None and d.service == service}
        if not attributes:
            return
        known = self.fingerprint  # None for a class that replicas import
        for call in known.calls if known is not None else calls_of(self.spec, self.spec.cls.__mro__):
            if call.attribute in attributes:
                yield call

    def launch(self, index: int, slot: int, placement: Placement) -> Launch:
        """What replica `index` is told, but for the routes."""
        environment = {**os.environ, **self.spec.envs, **placement.env, **owner_environment()}
        return Launch(
            spec=replace(self.spec, cls=object),
            index=index,
            slot=slot,
            origin=self.origin,
            environment=environment,
            folder=self.folder,
            python_path=self.python_path,
            torch_threads=placement.torch_threads,
            routes=(),
            token=self.token,
            exposed=self.exposed,
            heavy=self.heavy,
            allowed_hosts=self.allowed_hosts,
            gpus=placement.gpus,
            loggers=Loggers.now(),
        )


Places = Mapping[int, tuple[str, str]]  # by `id`: module and name of what is not sent, since a replica has it already


@dataclass(frozen=True, slots=True)
class Packed:
    """A class, and then by name what of the notebook's goes with it. `files`: those that its code is of, in the order
    in which they were met. `modules`: the top-level names of modules that it uses, among other names in its code.
    """

    data: bytes
    files: tuple[str, ...]
    modules: frozenset[str]


@dataclass(frozen=True, slots=True)
class Measured:
    """How many bytes a value takes, and the ids of the classes of its values that say something else now."""

    size: int
    kept: frozenset[int]


def pack(cls: type[Any], shared: Places | None = None) -> Packed:
    """Raises `Outdated`, and whatever values raise that cannot be pickled."""
    file = io.BytesIO()
    pickler = _Pickler(file, shared or {}, Versions(cls))
    pickler.dump(cls)
    pickler.check()
    pickler.dump(pickler.names)
    return Packed(file.getvalue(), tuple(pickler.files), frozenset(pickler.modules))


def measure(value: Any, shared: Places | None = None) -> Measured:
    """A value that a class takes along. Raises as `pack`."""
    file = io.BytesIO()
    pickler = _Pickler(file, shared or {}, Versions())
    pickler.dump(value)
    return Measured(file.tell(), frozenset(pickler.kept))


class _Pickler(notebook_classes.Pickler):
    """Takes the newest class for one that is outdated, and fits records (dataclasses and the like) to it. Any other
    value keeps its class (`kept`) where that says something else now: then the newest must not go with it.
    """

    def __init__(self, file: io.BytesIO, shared: Places, versions: Versions) -> None:
        super().__init__(file, protocol=5)
        self._shared = {**places(), **shared}
        self._versions = versions
        self._by_id = names_now()
        self.share_globals(vars(sys.modules["__main__"]), MainGlobals())
        self.files: dict[str, None] = {}
        self.modules: set[str] = set()
        self.names: dict[str, Any] = {}  # the classes and functions in it that are the notebook's, by name
        self.kept: dict[int, Any] = {}  # the first value of each, by the id of its class
        self._met: set[int] = set()  # ids: a class may have no hash

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, CodeType):
            self.files[value.co_filename] = None
            self.modules.update(_top(name) for name in value.co_names)  # those that it imports are among them
        elif isinstance(value, ModuleType):
            self.modules.add(_top(value.__name__))
        elif isinstance(value, type | FunctionType | BuiltinFunctionType):
            self.modules.add(_top(value.__module__))
        where = self._shared.get(id(value))
        if where is not None:
            return (from_module, where)
        now = self._versions.newest(value)
        if now is not value and id(value) not in self.kept:
            return (_itself, (now,))
        if isinstance(value, type):
            self._met.add(id(value))
            self._versions.check(value)
        elif self._versions.differs(type(value)):
            return self._outdated(value)
        if isinstance(value, type | FunctionType):
            self.names.update(dict.fromkeys(self._by_id.get(id(value), ()), value))
        return notebook_objects.reduced(value) if notebook_objects.is_named(value) else super().reducer_override(value)

    def check(self) -> None:
        """Raises `Outdated` where two versions of a class are in the pickle."""
        for value in self.kept.values():
            cls = type(value)
            if id(self._versions.newest(cls)) in self._met:
                raise Outdated(value, f"made from {said(cls)}, and {cls.__name__} as it is now")

    def _outdated(self, value: Any) -> Any:
        cls = type(value)
        if not is_record(cls):
            self.kept.setdefault(id(cls), value)
            return super().reducer_override(value)
        try:
            make, arguments, *rest = fitted(value, self._versions.newest(cls)).__reduce_ex__(5)
        except InvalidArgument as error:
            raise Outdated(value, f"made from {said(cls)}, which does not fit ({why(error)})") from error
        # pickle itself would see to it that an object of this class comes out.
        return (_new if make is copyreg.__newobj__ else make, arguments, *rest)  # type: ignore[attr-defined]


def _top(module: object) -> str:
    """`torch` of `torch.nn`; some have no name, or something else in its place."""
    return module.partition(".")[0] if isinstance(module, str) else ""


def _itself(thing: Any) -> Any:
    return thing


def _new(cls: Any, *arguments: Any) -> Any:
    return cls.__new__(cls, *arguments)


LARGE = 64 * 2**20  # bytes; a larger capture is named and warned about
HEAVY = frozenset({"torch", "transformers", "diffusers", "accelerate", "peft", "timm", "lightning", "ultralytics"})
SOURCE_LIMIT = 2**20  # characters of cell source that travel with a class


def deployment_of(service: Service, *, token: str | None = None, allowed_hosts: tuple[str, ...] = ()) -> Deployment:
    """What the registry needs to run `service`.

    Raises `CaptureError`, which names the variable, when something that the class uses cannot be sent; warns
    (`LargeCaptureWarning`) of variables over 64 MiB.
    """
    origin, heavy = _origin(service)
    fingerprint = None
    if isinstance(origin, ByValue):
        newest, cls = Versions(service.inner).newest, service.inner
        for api in service.spec.apis:  # here as in the replica: forms are made from them
            renew(getattr(cls, api.method), newest)
        fingerprint = fingerprint_of(service.spec)
    return Deployment(service.spec, origin, token, allowed_hosts, heavy=heavy, fingerprint=fingerprint)


def comparable(
    deployment: Deployment,
    modules: UserModules,
    serving: Fingerprint | None = None,
    imported: Fingerprint | None = None,
) -> Deployment:
    """A deployment whose replicas import their class, made ready to be compared with other versions.

    `serving`: what the version that runs now means. `imported`: what that means which its replicas have imported, where
    that is known.
    """
    origin, cls = deployment.origin, deployment.spec.cls
    if not isinstance(origin, ByImport) or cls.__module__ not in modules.sources:
        return deployment
    fingerprint = modules.fingerprint(deployment.spec)
    if serving is not None and imported is not None:
        # Instances of a class that both share are instances of it for the new code, too.
        shared = modules.shared(fingerprint, imported, cls).keys() & serving.parts.keys()
        parts = {n: replace(fingerprint.parts[n], identity=serving.parts[n].identity) for n in shared}
        fingerprint = replace(fingerprint, parts={**fingerprint.parts, **parts})
    return replace(deployment, origin=replace(origin, sources=modules.sources), fingerprint=fingerprint)


def swappable(deployment: Deployment, modules: UserModules, imported: Fingerprint | None = None) -> Deployment:
    """A comparable deployment with its class by value, as replicas that run can take it; but for what it shares with
    the module that they have imported. Raises `CaptureError`.
    """
    cls, fingerprint = deployment.spec.cls, deployment.fingerprint
    if fingerprint is None or not isinstance(deployment.origin, ByImport):
        return deployment
    own = cls.__module__
    shared = modules.shared(fingerprint, imported, cls) if imported is not None else {}
    places = {id(value): (own, name) for name, value in shared.items()}
    with by_value(own):
        try:
            payload = pack(cls, places).data
        except Exception as error:
            raise _refusal(cls, error, places) from error
    source = modules.sources[own]
    return replace(deployment, swappable=ByValue(payload, {source.file: lines_of(source)}))


def _origin(service: Service) -> tuple[ByImport | ByValue, bool]:
    """How a replica gets at the class, and whether it uses a heavy library: a guess, of which only speed depends."""
    by_import = _by_import(service)
    if by_import is not None:
        return by_import, _imports_heavy(by_import)
    packed = _packed(service.spec.cls)
    return ByValue(packed.data, _sources(packed.files)), not HEAVY.isdisjoint(packed.modules)


def _imports_heavy(origin: ByImport) -> bool:
    if "torch" in sys.modules:  # by the service's module, perhaps in a roundabout way
        return True
    file = origin.file or getattr(sys.modules.get(origin.module), "__file__", None)
    if file is None:
        return False
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (SyntaxError, ValueError):  # compiled from something else, or in a language of its own
        return False
    nodes = list(ast.walk(tree))
    imported = {_top(alias.name) for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {_top(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return not HEAVY.isdisjoint(imported)


# -- by import


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
    file = os.path.abspath(file)
    if module is __main__:
        return ByImport(Path(file).stem, cls.__qualname__, file)
    return ByImport(cls.__module__, cls.__qualname__, None if _is_importable(cls.__module__, file) else file)


def _is_script(file: str) -> bool:
    """Whether `__main__` is a file of the user's; a kernel's is `ipykernel_launcher.py`, which defines nothing."""
    return "ipykernel" not in Path(file).name and Path(file).is_file() and "IPython" not in sys.modules


def _is_importable(name: str, file: str) -> bool:
    """Whether another process that imports `name` gets this file: here it may have been loaded in other ways."""
    path: Any = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for i in range(len(parts)):
        full = ".".join(parts[: i + 1])
        spec = _find(full, path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return spec is not None and spec.origin is not None and os.path.abspath(spec.origin) == file


def _find(name: str, path: Any) -> ModuleSpec | None:
    """As an import looks for a module that is not loaded yet (importlib's own function looks at those that are)."""
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):
            spec = finder.find_spec(name, path)
            if spec is not None:
                return spec
    return None


# -- by value


def _packed(cls: type[Any]) -> Packed:
    try:
        packed = pack(cls)
    except Exception as error:
        raise _refusal(cls, error) from error
    if len(packed.data) > LARGE:
        _warn(cls, len(packed.data))
    return packed


def _warn(cls: type[Any], total: int) -> None:
    """Name what is large: each value over the limit, or the largest where only together they are over it."""
    sizes = sorted(((measure(value).size, name) for name, value in captured_values(cls)), reverse=True)
    named = [f"{name!r} ({human_size(size)})" for size, name in sizes if size > LARGE]
    if not named:
        named = [f"{name!r} ({human_size(size)})" for size, name in sizes[:3]]
    where = locate(cls)
    warnings.warn_explicit(
        f"{cls.__name__} takes {human_size(total)} from the notebook to each of its replicas: {', '.join(named)}. "
        "Load it in __init__ instead",
        LargeCaptureWarning,
        where.file or "<unknown>",
        where.line,
    )


def _refusal(cls: type[Any], error: Exception, shared: Places | None = None) -> CaptureError:
    """Why a class cannot be sent, and which variable is in the way."""
    outdated = error if isinstance(error, Outdated) else None
    if outdated is not None and outdated.thing is cls:
        return CaptureError(f"{cls.__name__} {error}")
    if outdated is not None and isinstance(outdated.thing, type):
        return CaptureError(f"{cls.__name__} uses {outdated.thing.__name__}, which {error}")
    for name, value in captured_values(cls):
        try:
            kept = measure(value, shared).kept
        except Outdated as reason:
            return CaptureError(f"{cls.__name__} uses {name!r}, {reason}: run the cell that makes it again")
        except Exception as reason:
            if is_ipythons(value):
                return CaptureError(
                    f"{cls.__name__} uses {name!r}, as lines with ! or % do, and a replica has no IPython: there, "
                    "`subprocess` does what ! does"
                )
            return CaptureError(
                f"{cls.__name__} uses {name!r} ({type(value).__name__}), which cannot be sent to a replica: {reason}. "
                "Make it in __init__ instead"
            )
        if outdated is not None and id(type(outdated.thing)) in kept:
            return CaptureError(f"{cls.__name__} uses {name!r}, {error}: run the cell that makes it again")
    return CaptureError(f"{cls.__name__} cannot be sent to a replica: {error}")


def _sources(own: Iterable[str]) -> dict[str, str]:
    """The cells whose code may show in a traceback: everything that exists only in `linecache`, `own` files first, then
    the latest.
    """
    found: dict[str, str] = {}
    room = SOURCE_LIMIT
    cached = list(linecache.cache.items())
    others = [name for name, entry in reversed(cached) if len(entry) == 4 and entry[1] is None]
    for name in dict.fromkeys([*own, *others]):
        text = "".join(linecache.getlines(name))
        if text and not os.path.exists(name) and len(text) <= room:
            found[name] = text
            room -= len(text)
    return found
