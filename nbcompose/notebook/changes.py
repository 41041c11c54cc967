"""What a cell asks for, compared with what runs: services to start, to replace, or to leave alone. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from IPython.core.error import UsageError

from nbcompose import topology
from nbcompose.capture.packing import deployment_of
from nbcompose.declaration import Service, declare
from nbcompose.errors import CaptureError, DeclarationError, Mistake, UnknownService
from nbcompose.notebook.arguments import override
from nbcompose.notebook.cell import Defined
from nbcompose.notebook.session import Session, Started
from nbcompose.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class Change:
    """One service that a cell is about. `before`: the version that serves now, 0 when none does.

    `remark` is what its card says where nothing is done. `stop_first`: the version that serves makes room first.
    """

    wanted: Started
    action: Literal["deploy", "restart", "roll back", "nothing"]
    before: int = 0
    remark: str = ""
    stop_first: bool = False

    @property
    def name(self) -> str:
        return self.wanted.spec.name


def declared(defined: Sequence[Defined], options: Mapping[str, Any]) -> dict[str, Service]:
    """The services of a cell by variable, with the cell's options.

    Raises `DeclarationError` with the mistakes of all classes, and `UsageError` for names that collide.
    """
    if "name" in options and len(defined) > 1:
        raise UsageError(f"--name is for one service, and this cell defines {', '.join(d.variable for d in defined)}")
    services: dict[str, Service] = {}
    errors: list[DeclarationError] = []
    for d in defined:
        try:
            spec = d.value.spec if isinstance(d.value, Service) else declare(d.value, {})
            services[d.variable] = Service(override(spec, options))
        except DeclarationError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        mistakes: list[Mistake] = [m for e in errors for m in e.mistakes]
        raise DeclarationError("these classes cannot be services:", mistakes)
    names = [s.name for s in services.values()]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        variables = ", ".join(v for v, s in services.items() if s.name in twice)
        raise UsageError(f"{variables} are all called {', '.join(twice)}: services of one cell need different names")
    return services


def compare(session: Session, services: Mapping[str, Service], *, stop_first: bool = False) -> list[Change]:
    """What has to be done for these services, those that others depend on first.

    Raises `CycleError`, and `CaptureError` for what cannot be sent to a replica.
    """
    specs = {s.name: s.spec for s in services.values()}
    topology.check_acyclic([*_others(session, specs), *specs.values()])
    changes = {s.name: _change(session, variable, s, stop_first) for variable, s in services.items()}
    return [changes[name] for name in topology.order(topology.edges(specs.values())) if name in changes]


def restarts(session: Session, names: Sequence[str]) -> list[Change]:
    """New replicas of the same code. Raises `UnknownService`."""
    return [Change(_running(session, n), "restart", _version(session, n)) for n in names]


def rollbacks(session: Session, names: Sequence[str]) -> list[Change]:
    """The version before. Raises `UnknownService`."""
    return [Change(_running(session, n), "roll back", _version(session, n)) for n in names]


def refreshes(session: Session, names: Sequence[str]) -> tuple[list[Change], list[CaptureError]]:
    """The same classes with the notebook's functions and values as they are now, and those that cannot be packed."""
    found, failed = [], []
    for name in names:
        started = _running(session, name)
        try:
            with _as_class(session, started):
                found.append(_change(session, started.variable, Service(started.spec), stop_first=False))
        except CaptureError as error:
            failed.append(error)
    return found, failed


@contextmanager
def _as_class(session: Session, started: Started) -> Iterator[None]:
    """While a class is packed, its name stands for it, as when its cell ran: it may use itself by its name."""
    space, name = session.shell.user_ns, started.variable
    service = space.get(name)
    if not isinstance(service, Service):
        yield
        return
    space[name] = started.spec.cls
    try:
        yield
    finally:
        space[name] = service


def _others(session: Session, specs: Mapping[str, ServiceSpec]) -> list[ServiceSpec]:
    deployments = [session.registry.deployment(n) for n in session.registry.names() if n not in specs]
    return [d.spec for d in deployments if d is not None]


def _running(session: Session, name: str) -> Started:
    deployment = session.registry.deployment(name)
    if deployment is None:
        raise UnknownService(f"no service is called {name!r}")
    known = session.started.get(name)
    return Started(deployment, known.variable if known is not None else name)


def _version(session: Session, name: str) -> int:
    return session.registry.status(name).version


def _change(session: Session, variable: str, service: Service, stop_first: bool) -> Change:
    wanted = Started(deployment_of(service, token=session.token), variable)
    name, registry = service.name, session.registry
    if name not in registry.names():
        return Change(wanted, "deploy")
    if registry.plan(wanted.deployment).action != "nothing":
        return Change(wanted, "deploy", _version(session, name), stop_first=stop_first)
    unchanged = f"unchanged, so nothing was done (%services restart {name} starts it anew)"
    return Change(wanted, "nothing", _version(session, name), unchanged)
