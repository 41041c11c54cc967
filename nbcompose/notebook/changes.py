"""What a cell asks for, compared with what runs: services to start, to replace, or to leave alone. Starts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from IPython.core.error import UsageError

from nbcompose import graph
from nbcompose.capture.packing import deployment_of
from nbcompose.declaration import Service, declare
from nbcompose.errors import DeclarationError, Mistake
from nbcompose.notebook.arguments import override
from nbcompose.notebook.cell import Defined
from nbcompose.notebook.meaning import difference, fingerprint
from nbcompose.notebook.session import Session, Started
from nbcompose.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class Change:
    """One service that a cell is about. `before`: the version that serves now, 0 when none does.

    `remark` is what its card says about what was done, and why.
    """

    wanted: Started
    action: Literal["deploy", "restart", "nothing"]
    before: int = 0
    remark: str = ""

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


def compare(session: Session, services: Mapping[str, Service]) -> list[Change]:
    """What has to be done for these services, those that others depend on first.

    Raises `CycleError`, and `CaptureError` for what cannot be sent to a replica.
    """
    specs = {s.name: s.spec for s in services.values()}
    graph.check_acyclic([*_others(session, specs), *specs.values()])
    changes = {s.name: _change(session, variable, s) for variable, s in services.items()}
    return [changes[name] for name in graph.order(graph.edges(specs.values())) if name in changes]


def restarts(session: Session, names: Sequence[str]) -> list[Change]:
    """New replicas of the same code. Raises `UnknownService`."""
    found = []
    for name in names:
        before = session.registry.status(name).version
        deployment = session.registry.deployment(name)
        assert deployment is not None  # it has a status
        known = session.started.get(name)
        same = known if known is not None and known.deployment is deployment else Started(deployment, "", name)
        found.append(Change(same, "restart", before, "restarted"))
    return found


def _others(session: Session, specs: Mapping[str, ServiceSpec]) -> list[ServiceSpec]:
    deployments = [session.registry.deployment(n) for n in session.registry.names() if n not in specs]
    return [d.spec for d in deployments if d is not None]


def _change(session: Session, variable: str, service: Service) -> Change:
    wanted = Started(deployment_of(service, token=session.token), fingerprint(service.inner), variable)
    if service.name not in session.registry.names():
        return Change(wanted, "deploy")
    status = session.registry.status(service.name)
    known = session.started.get(service.name)
    if status.state == "failed" or known is None or session.registry.deployment(service.name) is not known.deployment:
        return Change(wanted, "deploy", status.version)
    reasons = difference((known.spec, known.fingerprint), (wanted.spec, wanted.fingerprint))
    if reasons:
        return Change(wanted, "deploy", status.version, f"replaced: {reasons}")
    unchanged = f"unchanged, so nothing was done (%services restart {service.name} starts it anew)"
    return Change(known, "nothing", status.version, unchanged)
