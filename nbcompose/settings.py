"""Settings from environment variables, each read when it is needed.

- `NBCOMPOSE_TOKEN`: the bearer token that callers of `nbcompose serve` must send.
- `NBCOMPOSE_LOG_LEVEL` (`debug`, `info`, `warning`, `error`, `critical`): log lines of nbcompose and of services are
  written from this level on. Without it, logging is left as it is.
- `NBCOMPOSE_PRELOAD`: modules, separated by commas, that the zygote imports before it forks replicas; empty: none.
- `NBCOMPOSE_ZYGOTE=0`: no zygote; each replica starts as a process of its own.
"""

from __future__ import annotations

import logging
import os

from nbcompose.errors import NbcomposeError

TOKEN = "NBCOMPOSE_TOKEN"
LOG_LEVEL = "NBCOMPOSE_LOG_LEVEL"
PRELOAD = "NBCOMPOSE_PRELOAD"
ZYGOTE = "NBCOMPOSE_ZYGOTE"

# None of these changes what a library does when it is imported: a replica may differ in them from its zygote.
VARIABLES = (TOKEN, LOG_LEVEL)

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def token() -> str | None:
    """Return the bearer token.

    Returns:
        The value of `NBCOMPOSE_TOKEN`, as it stands; None if it is not set.
    """
    return os.environ.get(TOKEN)


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


def start_logging() -> None:
    """Write log lines of the level in the environment and above to standard error; do nothing if none is set.

    Raises:
        NbcomposeError: As `log_level`.
    """
    level = log_level()
    if level is not None:
        logging.basicConfig(level=level, format=FORMAT)
