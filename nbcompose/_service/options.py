"""Validate the options of `@service`, `@api` and `%%service`, and collect every mistake."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nbcompose._host import memory
from nbcompose._spec import BatchPolicy, Http, Location, Resources, ServiceSpec, Traffic
from nbcompose._units import with_article
from nbcompose.errors import DeclarationError, IgnoredOptionWarning, Mistake

SERVICE_OPTIONS = (
    "name", "device", "replicas", "workers", "threads", "resources", "traffic", "envs", "http", "strict",
    "openai",
)  # fmt: skip
API_OPTIONS = (
    "name", "route", "batchable", "batch_dim", "max_batch_size", "max_latency_ms", "idempotent", "interruptible",
    "record",
)  # fmt: skip
# BentoML's options for its cloud and images: accepted with a warning, so that its examples run.
WITHOUT_EFFECT = frozenset({
    "image", "labels", "annotations", "ssl", "logging", "metrics", "monitoring", "tracing", "runner_probe", "endpoints",
    "path_prefix", "description", "cmd", "extra_ports", "needs",
})  # fmt: skip
DEFAULT_HTTP = Http()
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

    def ignored(self, option: str) -> None:
        """Warn, at the class, about an option that is known but has no effect here."""
        where = self._location
        message = f"{option} has no effect here: it is for BentoML's cloud"
        warnings.warn_explicit(message, IgnoredOptionWarning, where.file or "<unknown>", where.line)

    def raise_if_any(self, message: str) -> None:
        if self._mistakes:
            raise DeclarationError(message, self._mistakes)


def read_api_options(options: Mapping[str, Any], method: str, problems: Problems, where: Location) -> dict[str, Any]:
    """Return the fields of an `ApiSpec` that the options of one `@api(...)` set."""

    def wrong(message: str) -> None:
        problems.add(f"{method}: {message}", where)

    def text(option: str, default: str) -> str:
        value = options.get(option) or default
        if isinstance(value, str):
            return value
        wrong(f"{option}={value!r} is not text")
        return default

    def flag(option: str, default: bool) -> bool:
        value = options.get(option, default)
        if not isinstance(value, bool):
            wrong(f"{option}={value!r} must be True or False")
        return bool(value)

    for unknown in [k for k in options if k not in API_OPTIONS]:
        wrong(f"@api has no option {unknown!r}; it has: {', '.join(API_OPTIONS)}")
    name = text("name", method)
    return {
        "name": name,
        "route": text("route", f"/{name}"),
        "batch": _batch(options, wrong) if flag("batchable", False) else None,
        "idempotent": flag("idempotent", False),
        "interruptible": flag("interruptible", True),
        "record": flag("record", True),
    }


def _batch(options: Mapping[str, Any], wrong: Callable[[str], None]) -> BatchPolicy:
    dim = options.get("batch_dim", 0)
    dims = dim if isinstance(dim, tuple) else (dim, dim)
    if len(dims) != 2 or not all(_is_whole(d, 0) for d in dims):
        wrong(f"batch_dim={dim!r} must be a number, or one for the input and one for the result")
    size = options.get("max_batch_size", 100)
    if not _is_whole(size, 1):
        wrong(f"max_batch_size={size!r} must be a whole number from 1")
    latency = options.get("max_latency_ms")
    if not (latency is None or (isinstance(latency, float) and 0 <= latency < math.inf) or _is_whole(latency, 0)):
        wrong(f"max_latency_ms={latency!r} must be a number of milliseconds, 0 or more")
    return BatchPolicy(dims, size, latency)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def read_service_options(options: Mapping[str, Any], cls_name: str, problems: Problems) -> dict[str, Any]:
    """Return the fields of a `ServiceSpec` that options set."""
    given = {k: v for k, v in options.items() if v is not None}
    for unknown in [k for k in given if k not in SERVICE_OPTIONS]:
        if unknown in WITHOUT_EFFECT:
            problems.ignored(f"@service({unknown}=...)")
        else:
            problems.add(f"@service has no option {unknown!r}; it has: {', '.join(SERVICE_OPTIONS)}")
    name = given.get("name", cls_name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
        problems.add(f"name={name!r}: a service's name has letters, digits, _ - . and begins with a letter")
    if "replicas" in given and "workers" in given:
        problems.add("replicas= and workers= mean the same: give one")
    for flag in ("strict", "openai"):
        if not isinstance(given.get(flag, False), bool):
            problems.add(f"{flag}={given[flag]!r} must be True or False")
    device = given.get("device")
    if device is not None and not (isinstance(device, str) and DEVICE.match(device)):
        problems.add(f"device={device!r} must be one of cpu, cuda, cuda:N, mps")
    return {
        "name": name,
        "device": device,
        "replicas": _count(given, "replicas" if "replicas" in given else "workers", problems),
        "threads": _count(given, "threads", problems),
        "resources": _resources(given.get("resources", {}), problems),
        "traffic": _traffic(given.get("traffic", {}), problems),
        "envs": _envs(given.get("envs", {}), problems),
        "http": _http(given.get("http", {}), problems),
        "strict": given.get("strict") is True,
        "openai": given.get("openai") is True,
    }


def _count(given: Mapping[str, Any], option: str, problems: Problems) -> int:
    value = given.get(option, 1)
    if option == "workers" and value == "cpu_count":  # as in BentoML
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if _is_whole(value, 1):
        return int(value)
    problems.add(f"{option}={value!r} must be a whole number from 1")
    return 1


def _mapping(
    value: Any, option: str, known: tuple[str, ...], problems: Problems, *, ignored: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        problems.add(f"{option}={value!r} must be a dict with some of: {', '.join(known)}")
        return {}
    for key in value:
        if key in ignored:
            problems.ignored(f"{option}={{{key!r}: ...}}")
        elif key not in known:
            problems.add(f"{option} has no {key!r}; it has: {', '.join(known)}")
    return value


def _number(value: Any, what: str, problems: Problems, *, least: float, whole: bool = False) -> Any:
    try:
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number) or number < least or (whole and number % 1):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        problems.add(f"{what}={value!r} must be a {'whole ' if whole else ''}number, {least:g} or more")
        return None
    return int(number) if whole else number


def _resources(value: Any, problems: Problems) -> Resources:
    found = _mapping(value, "resources", ("cpu", "gpu", "memory"), problems, ignored=("gpu_type",))
    cpu = found.get("cpu")
    if cpu is not None:
        millis = isinstance(cpu, str) and cpu.endswith("m")  # millicores, as in Kubernetes
        cpu = _number(cpu[:-1] if millis else cpu, "resources cpu", problems, least=0.001)
        cpu = cpu / 1000 if cpu is not None and millis else cpu
    gpu = _number(found.get("gpu") or 0, "resources gpu", problems, least=0, whole=True) or 0
    size = found.get("memory")
    if size is not None:
        try:
            size = memory.parse(size)
        except ValueError as error:
            problems.add(f"resources memory: {error}")
            size = None
    return Resources(cpu, gpu, size)


def _traffic(value: Any, problems: Problems) -> Traffic:
    least = {"timeout": 0.001, "max_concurrency": 1, "max_queue": 0, "interrupt_after": 0, "replace_after": 0}
    found = _mapping(value, "traffic", tuple(least), problems, ignored=("concurrency", "external_queue"))
    limits = {
        key: _number(found[key], f"traffic {key}", problems, least=least[key], whole=key.startswith("max_"))
        for key in least
        if found.get(key) is not None
    }
    return Traffic(**{key: limit for key, limit in limits.items() if limit is not None})


def _envs(value: Any, problems: Problems) -> dict[str, str]:
    if isinstance(value, list | tuple) and all(isinstance(e, Mapping) and "name" in e for e in value):
        # BentoML's form. A variable without a value is left to the environment.
        value = {e["name"]: e["value"] for e in value if e.get("value") is not None}
    if not isinstance(value, Mapping):
        problems.add(f"envs must be a dict of environment variables, not {with_article(type(value).__name__)}")
        return {}
    found = {}
    for key, text in value.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            problems.add(f"envs: {key!r} is not the name of an environment variable")
        elif isinstance(text, bool) or not isinstance(text, str | int | float) or "\0" in str(text):
            problems.add(f"envs: the value of {key} is not text")
        else:
            found[key] = str(text)
    return found


def _http(value: Any, problems: Problems) -> Http:
    found = _mapping(value, "http", ("port", "host", "cors", "max_body", "max_values"), problems)
    port = _number(found.get("port") or 0, "http port", problems, least=0, whole=True)
    if port is not None and port > 65535:
        problems.add(f"http port={port} must be at most 65535")
    host = found.get("host", DEFAULT_HTTP.host)
    if not isinstance(host, str) or not host:
        problems.add(f"http host={host!r} must be a name or an address")
    try:
        limit = memory.parse(found.get("max_body", DEFAULT_HTTP.max_body))
    except ValueError as error:
        problems.add(f"http max_body: {error}")
        limit = DEFAULT_HTTP.max_body
    values = found.get("max_values", DEFAULT_HTTP.max_values)
    values = _number(values, "http max_values", problems, least=1, whole=True) or DEFAULT_HTTP.max_values
    return Http(port or 0, str(host), _origins(found.get("cors"), problems), limit, values)


def _origins(cors: Any, problems: Problems) -> tuple[str, ...]:
    """Return the origins from which browsers may call: given as one origin, several, or BentoML's dict."""
    if isinstance(cors, Mapping):
        known = ("enabled", "access_control_allow_origins")
        ignored = tuple(str(k) for k in cors if str(k).startswith("access_control_") and k not in known)
        found = _mapping(cors, "http cors", known, problems, ignored=ignored)
        cors = found.get("access_control_allow_origins") if found.get("enabled") else None
    origins = (cors,) if isinstance(cors, str) else cors or ()
    if not isinstance(origins, list | tuple | set | frozenset) or not all(isinstance(o, str) for o in origins):
        problems.add(f'http cors={cors!r} must be an origin such as "https://example.org", or a list of origins')
        return ()
    return tuple(origins)


def add_service_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--device", metavar="DEVICE", help="cpu, cuda (the freest GPU), cuda:N or mps")
    add("--replicas", metavar="N", type=_whole, help="processes, each with an instance of its own")
    add("--threads", metavar="N", type=_whole, help="worker threads of each replica, for apis that are not async")
    add("--timeout", metavar="SECONDS", type=_seconds, help="how long a call may take")
    add("--max-concurrency", metavar="N", type=_whole, help="calls that a replica works on at once; others queue")
    add(
        "--interrupt-after",
        metavar="SECONDS",
        type=_seconds,
        help="end sync code that runs on so long after its caller has gone (10); 0: never",
    )
    add(
        "--replace-after",
        metavar="SECONDS",
        type=_seconds,
        help="replace a replica, where there is room, whose worker threads have all been held by such code for so long "
        "(30), or whose process has been stopped; 0: never",
    )
    add("--port", metavar="PORT", type=_whole, help="the HTTP port; any free one by default")
    add("--env", metavar="KEY=VALUE", action="append", type=_pair, help="an environment variable; may be repeated")
    add("--memory", metavar="SIZE", help="what a replica needs, e.g. 4GiB; the card warns where that is not there")
    add("--name", metavar="NAME", help="another name than the class's")
    add("--strict", action="store_true", help="do not start where memory falls short")
    add(
        "--openai",
        action="store_true",
        help="also answer /v1/chat/completions and /v1/models, as OpenAI's clients call them, with the language models "
        "(nbcompose.llms) that the instance has",
    )
    add(
        "--replace",
        choices=("start-first", "stop-first"),
        default="start-first",
        help="stop-first: where memory has no room for two versions, stop the old one before the new one starts",
    )
    add("--no-wait", action="store_true", help="go on at once, and let the card change when the service is ready")


def service_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options given on a command line in the form of `@service`'s. Raises `DeclarationError` with every
    mistake.
    """
    found: dict[str, Any] = {
        "name": args.name,
        "device": args.device,
        "replicas": args.replicas,
        "threads": args.threads,
        "traffic": _given(
            timeout=args.timeout,
            max_concurrency=args.max_concurrency,
            interrupt_after=args.interrupt_after,
            replace_after=args.replace_after,
        ),
        "http": _given(port=args.port),
        "resources": _given(memory=args.memory),
        "envs": dict(args.env) if args.env else None,
        "strict": args.strict or None,
        "openai": args.openai or None,
    }
    options = _given(**found)
    _fields(options)
    return options


def override(spec: ServiceSpec, options: Mapping[str, Any]) -> ServiceSpec:
    """Return `spec` with these options (see `service_options`) in place of its own."""
    changes: dict[str, Any] = {name: value for name, value in _fields(options).items() if name in options}
    for option, given in options.items():
        if option == "envs":
            changes[option] = {**spec.envs, **changes[option]}
        elif isinstance(given, dict):
            parts = {part: getattr(changes[option], part) for part in given}
            changes[option] = replace(getattr(spec, option), **parts)
    return replace(spec, **changes)


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    problems = Problems(Location())
    fields = read_service_options(options, "Service", problems)
    problems.raise_if_any("")
    return fields


def _whole(text: str) -> int:
    with contextlib.suppress(ValueError):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != {}}
