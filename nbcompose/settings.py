"""Settings from environment variables, each read when it is needed.

- `NBCOMPOSE_TOKEN`: the bearer token that callers of `nbcompose serve` must send.
- `NBCOMPOSE_LOG_LEVEL` (`debug`, `info`, `warning`, `error`, `critical`): log lines of nbcompose and of services are
  written from this level on. Without it, logging is left as it is.
- `NBCOMPOSE_PRELOAD`: modules, separated by commas, that the zygote imports before it forks replicas; empty: none.
- `NBCOMPOSE_ZYGOTE=0`: no zygote; each replica starts as a process of its own.

Of OpenTelemetry's standard variables, those that say where spans of calls are sent, and which
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/):

- `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`: the collector. Without one, nothing is sent.
- `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, `OTEL_EXPORTER_OTLP_PROTOCOL`: `http/protobuf`, the only one that is spoken.
- `OTEL_SDK_DISABLED=true`, `OTEL_TRACES_EXPORTER` without `otlp`: nothing is sent.
- `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`: which traces are sampled.
- `OTEL_BSP_SCHEDULE_DELAY` (milliseconds), `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, `OTEL_BSP_MAX_QUEUE_SIZE`: when spans are
  sent, and how many may wait.

Headers, timeout, compression, certificates (`OTEL_EXPORTER_OTLP_*`) and resource attributes (`OTEL_SERVICE_NAME`,
`OTEL_RESOURCE_ATTRIBUTES`) are read by OpenTelemetry's own library.
"""

from __future__ import annotations

import logging
import os
import re
from typing import NamedTuple

from nbcompose.errors import NbcomposeError

TOKEN = "NBCOMPOSE_TOKEN"
LOG_LEVEL = "NBCOMPOSE_LOG_LEVEL"
PRELOAD = "NBCOMPOSE_PRELOAD"
ZYGOTE = "NBCOMPOSE_ZYGOTE"

# None of these changes what a library does when it is imported: a replica may differ in them from its zygote.
VARIABLES = (TOKEN, LOG_LEVEL)

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
REPLICA_FORMAT = "%(name)s: %(message)s"  # the log of a service has the time and the level of each line


def token() -> str | None:
    """Return the bearer token.

    Returns:
        The value of `NBCOMPOSE_TOKEN`, as it stands; None if it is not set.
    """
    return os.environ.get(TOKEN)


def checked_token(token: str | None) -> str | None:
    """Return a token as a header can carry it.

    Args:
        token: The token, perhaps with the end of line that a file has; None: none is set.

    Returns:
        The token without white space around it, or None.

    Raises:
        NbcomposeError: It is empty, or has characters that no header can carry.
    """
    if token is None:
        return None
    token = token.strip()
    if not token:
        raise NbcomposeError(f"the token is empty: give another one, or unset {TOKEN}")
    if not re.fullmatch(r"[!-~]+", token):
        raise NbcomposeError("the token has a space, an end of line or a letter beyond ASCII: no header can carry it")
    return token


def preload() -> tuple[str, ...] | None:
    """Return the modules that the zygote imports.

    Returns:
        The names in `NBCOMPOSE_PRELOAD`; None if it is not set, for the default ones.
    """
    named = os.environ.get(PRELOAD)
    return None if named is None else tuple(filter(None, (name.strip() for name in named.split(","))))


def zygote() -> bool:
    """Return whether replicas are forked from a zygote, on systems that can.

    Returns:
        False if `NBCOMPOSE_ZYGOTE` is 0.
    """
    return os.environ.get(ZYGOTE, "1") != "0"


def log_level() -> int | None:
    """Return the log level.

    Returns:
        The number of the level in `NBCOMPOSE_LOG_LEVEL`, as in `logging`; None if it is not set.

    Raises:
        NbcomposeError: It is not the name of a level. The message lists the names.
    """
    name = os.environ.get(LOG_LEVEL, "").strip().lower()
    if not name:
        return None
    if name not in LEVELS:
        raise NbcomposeError(f"{LOG_LEVEL}={name!r} is no level: {', '.join(LEVELS)}")
    return logging.getLevelNamesMapping()[name.upper()]


def start_logging(format: str = FORMAT) -> None:
    """Write log lines of the level in the environment and above to standard error; do nothing if none is set.

    Args:
        format: How a line looks, as in `logging`.

    Raises:
        NbcomposeError: As `log_level`.
    """
    level = log_level()
    if level is not None:
        logging.basicConfig(level=level, format=format)


class TraceExport(NamedTuple):
    """Where spans of calls are sent, and in what portions.

    `delay`: seconds that a span waits for others; `batch`: spans that are sent at once; `queue`: spans that may wait.
    """

    endpoint: str
    protocol: str
    delay: float
    batch: int
    queue: int


def trace_export() -> TraceExport | None:
    """The collector that spans are to be sent to; None: none is named, or the SDK or the exporter is switched off."""
    endpoint = _of_traces("ENDPOINT")
    exporters = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if not endpoint or _is_true("OTEL_SDK_DISABLED") or "otlp" not in [e.strip() for e in exporters.split(",")]:
        return None
    delay = _positive("OTEL_BSP_SCHEDULE_DELAY", 5000)
    batch, queue = _positive("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), _positive("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    return TraceExport(endpoint, _of_traces("PROTOCOL") or "http/protobuf", delay / 1000, min(batch, queue), queue)


SAMPLERS = ("always_on", "always_off", "traceidratio")


def trace_sampler() -> tuple[str, float, bool]:
    """The sampler's name, the share of the traces that it takes, and whether it follows the decision of a caller.

    A name that is not known means `parentbased_always_on`, as in OpenTelemetry's SDKs.
    """
    named = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    kind = named.removeprefix("parentbased_")
    if trace_export() is None or kind not in SAMPLERS:
        return named, 1.0, True
    share = {"always_on": 1.0, "always_off": 0.0}.get(kind, _share("OTEL_TRACES_SAMPLER_ARG"))
    return named, share, kind != named


def _of_traces(name: str) -> str:
    """A setting of the OTLP exporter: the one for traces, else the one for all signals."""
    own, all_signals = (os.environ.get(f"OTEL_EXPORTER_OTLP_{kind}{name}", "").strip() for kind in ("TRACES_", ""))
    return own or all_signals


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() == "true"


def _positive(name: str, default: int) -> int:
    """A whole number from 1; the default where it is none."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else default


def _share(name: str) -> float:
    try:
        share = float(os.environ.get(name, ""))
    except ValueError:
        return 1.0
    return share if 0.0 <= share <= 1.0 else 1.0
