"""Reads the options of `@service` and `@api`: raw values in, checked values out, every mistake collected."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbcompose import memory
from nbcompose.errors import DeclarationError, IgnoredOptionWarning, Mistake
from nbcompose.spec import BatchPolicy, Http, Location, Resources, Traffic

SERVICE_OPTIONS = (
    "name", "device", "replicas", "workers", "threads", "resources", "traffic", "envs", "http", "strict",
)  # fmt: skip
# BentoML's options for its cloud and its images: accepted, so that its examples run, and said to have no effect.
WITHOUT_EFFECT = frozenset({
    "image", "labels", "annotations", "ssl", "logging", "metrics", "monitoring", "tracing", "runner_probe", "endpoints",
    "path_prefix", "description", "cmd", "extra_ports", "needs",
})  # fmt: skip
DEVICE = re.compile(r"^(cpu|mps|cuda(:\d+)?)$")


class Problems:
    """Collects mistakes, so that all are reported at once."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._mistakes: list[Mistake] = []

    def add(self, message: str, where: Location | None = None) -> None:
        where = where or self._location
        self._mistakes.append(Mistake(message, where.file, where.line))

    def extend(self, mistakes: Iterable[Mistake]) -> None:
        self._mistakes.extend(mistakes)

    def raise_if_any(self, message: str) -> None:
        if self._mistakes:
            raise DeclarationError(message, self._mistakes)


@dataclass(frozen=True, slots=True)
class ApiValues:
    name: str
    route: str
    batch: BatchPolicy | None


class ApiOptions:
    """What was written in `@api(...)`, read when the class becomes a service."""

    KNOWN = ("name", "route", "batchable", "batch_dim", "max_batch_size", "max_latency_ms")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def read(self, method: str, problems: Problems, where: Location) -> ApiValues:
        for unknown in self._values.keys() - set(self.KNOWN):
            problems.add(f"{method}: @api has no option {unknown!r}; it has: {', '.join(self.KNOWN)}", where)
        name = self._values.get("name") or method
        if not isinstance(name, str):
            problems.add(f"{method}: name={name!r} is not text", where)
            name = method
        route = self._values.get("route") or f"/{name}"
        if not isinstance(route, str):
            problems.add(f"{method}: route={route!r} is not text", where)
            route = f"/{name}"
        return ApiValues(name, route, self._batch(method, problems, where))

    def _batch(self, method: str, problems: Problems, where: Location) -> BatchPolicy | None:
        if not self._values.get("batchable"):
            return None
        dim = self._values.get("batch_dim", 0)
        dims = dim if isinstance(dim, tuple) else (dim, dim)
        if len(dims) != 2 or not all(isinstance(d, int) and not isinstance(d, bool) and d >= 0 for d in dims):
            problems.add(f"{method}: batch_dim={dim!r} is a number, or one for the input and one for the result", where)
            dims = (0, 0)
        size = self._values.get("max_batch_size", 100)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            problems.add(f"{method}: max_batch_size={size!r} is a whole number from 1", where)
            size = 100
        latency = self._values.get("max_latency_ms")
        if latency is not None and (not isinstance(latency, int | float) or latency < 0):
            problems.add(f"{method}: max_latency_ms={latency!r} is a number of milliseconds", where)
            latency = None
        return BatchPolicy(dims, size, latency)


def read_service_options(options: Mapping[str, Any], cls_name: str, problems: Problems) -> dict[str, Any]:
    """The fields of a `ServiceSpec` that options set."""
    given = {k: v for k, v in options.items() if v is not None}
    for unknown in given.keys() - set(SERVICE_OPTIONS):
        if unknown in WITHOUT_EFFECT:
            warnings.warn(f"@service({unknown}=...) has no effect here", IgnoredOptionWarning, stacklevel=5)
        else:
            problems.add(f"@service has no option {unknown!r}; it has: {', '.join(SERVICE_OPTIONS)}")
    name = given.get("name", cls_name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
        problems.add(f"name={name!r}: a service's name has letters, digits, _ - . and begins with a letter")
    if "replicas" in given and "workers" in given:
        problems.add("replicas= and workers= mean the same: give one")
    device = given.get("device")
    if device is not None and not (isinstance(device, str) and DEVICE.match(device)):
        problems.add(f"device={device!r} is one of cpu, cuda, cuda:N, mps")
    return {
        "name": name,
        "device": device,
        "replicas": _count(given, "replicas" if "replicas" in given else "workers", problems),
        "threads": _count(given, "threads", problems),
        "resources": _resources(given.get("resources", {}), problems),
        "traffic": _traffic(given.get("traffic", {}), problems),
        "envs": _envs(given.get("envs", {}), problems),
        "http": _http(given.get("http", {}), problems),
        "strict": bool(given.get("strict", False)),
    }


def _count(given: Mapping[str, Any], option: str, problems: Problems) -> int:
    value = given.get(option, 1)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    problems.add(f"{option}={value!r} is a whole number from 1")
    return 1


def _mapping(value: Any, option: str, known: tuple[str, ...], problems: Problems) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        problems.add(f"{option}={value!r} is a dict with some of: {', '.join(known)}")
        return {}
    for unknown in [k for k in value if k not in known]:
        problems.add(f"{option} has no {unknown!r}; it has: {', '.join(known)}")
    return value


def _number(value: Any, what: str, problems: Problems, *, least: float, whole: bool = False) -> Any:
    try:
        number = int(value) if whole else float(value)
        if isinstance(value, bool) or number < least or (whole and number != float(value)):
            raise ValueError
    except (TypeError, ValueError):
        problems.add(f"{what}={value!r} is a {'whole ' if whole else ''}number, {least:g} or more")
        return None
    return number


def _resources(value: Any, problems: Problems) -> Resources:
    found = _mapping(value, "resources", ("cpu", "gpu", "memory", "gpu_type"), problems)
    cpu = found.get("cpu")
    if cpu is not None:
        millis = isinstance(cpu, str) and cpu.endswith("m")  # Kubernetes' millicores
        cpu = _number(cpu[:-1] if millis else cpu, "resources cpu", problems, least=0.001)
        cpu = cpu / 1000 if cpu is not None and millis else cpu
    gpu = _number(found.get("gpu", 0), "resources gpu", problems, least=0, whole=True) or 0
    size = found.get("memory")
    if size is not None:
        try:
            size = memory.parse(size)
        except ValueError as error:
            problems.add(f"resources memory: {error}")
            size = None
    return Resources(cpu, gpu, size)


def _traffic(value: Any, problems: Problems) -> Traffic:
    found = _mapping(
        value, "traffic", ("timeout", "max_concurrency", "max_queue", "concurrency", "external_queue"), problems
    )
    timeout = _number(found.get("timeout", 60.0), "traffic timeout", problems, least=0.001)
    limits = {
        key: _number(found[key], f"traffic {key}", problems, least=least, whole=True)
        for key, least in (("max_concurrency", 1), ("max_queue", 0))
        if found.get(key) is not None
    }
    return Traffic(timeout or 60.0, **limits)


def _envs(value: Any, problems: Problems) -> dict[str, str]:
    if isinstance(value, list | tuple) and all(isinstance(e, Mapping) and "name" in e for e in value):
        value = {e["name"]: e.get("value", "") for e in value}  # BentoML's form
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and k and "=" not in k for k in value):
        problems.add(f"envs={value!r} is a dict of environment variables")
        return {}
    return {k: str(v) for k, v in value.items()}


def _http(value: Any, problems: Problems) -> Http:
    found = _mapping(value, "http", ("port", "host", "cors", "max_body"), problems)
    port = _number(found.get("port", 0), "http port", problems, least=0, whole=True)
    if port is not None and port > 65535:
        problems.add(f"http port={port} is at most 65535")
    cors = found.get("cors", ())
    if isinstance(cors, Mapping):  # BentoML's form
        cors = cors.get("access_control_allow_origins", ()) if cors.get("enabled") else ()
    origins = (cors,) if isinstance(cors, str) else tuple(cors)
    size = found.get("max_body", Http.__dataclass_fields__["max_body"].default)
    try:
        limit = memory.parse(size)
    except ValueError as error:
        problems.add(f"http max_body: {error}")
        limit = 0
    return Http(port or 0, str(found.get("host", "127.0.0.1")), origins, limit)
