"""Loggers as a process has set them, for its replicas: levels, and that there is a handler which shows lines.

A notebook's `logging.basicConfig(level=logging.INFO)` is to hold in its services too. Handlers themselves cannot be
sent, and a file is not to be written by several processes: in a replica, one that writes to standard error stands for
those that show anything, with their level and format. It steps aside where the replica's code adds one of its own.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbcompose import settings

# Loggers of what runs a notebook, by the first part of their names.
_NOT_THE_USERS = frozenset({
    "Comm", "IPKernelApp", "IPython", "asyncio", "comm", "concurrent", "debugpy", "ipykernel", "ipywidgets", "jedi",
    "jupyter_client", "jupyter_core", "nbcompose", "parso", "prompt_toolkit", "pydevd", "tornado", "traitlets", "zmq",
})  # fmt: skip


class Handled(NamedTuple):
    """What handlers of a logger show: lines from this level on, in this form (`fmt`, `datefmt`, `style`)."""

    level: int
    form: tuple[str, str | None, str]


class LoggerState(NamedTuple):
    """How a logger is set. `handled`: None where no handler of it shows anything."""

    level: int
    propagate: bool = True
    handled: Handled | None = None


@dataclass(frozen=True, slots=True)
class Loggers:
    """Loggers by name, "" for the root: those that somebody has set, but for those of Jupyter itself.

    `disabled`: the level up to which `logging.disable` has switched all off.
    """

    states: Mapping[str, LoggerState]
    disabled: int = 0

    @classmethod
    def now(cls) -> Loggers:
        """Return those of this process."""
        states = {"": _state(logging.root)}
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if isinstance(logger, logging.Logger) and name.partition(".")[0] not in _NOT_THE_USERS:
                state = _state(logger)
                if state != _UNSET:
                    states[name] = state
        return cls(states, logging.root.manager.disable)

    def take(self) -> None:
        """Set this process's loggers so, where it was told otherwise before: what its own code has set stays."""
        global _taken
        before, _taken = _taken, self
        for name in dict.fromkeys([*self.states, *before.states]):
            state = self.states.get(name, _UNSET)
            if state != before.states.get(name, _UNSET):
                _set(logging.getLogger(name or None), state)
        if self.disabled != before.disabled:
            logging.disable(self.disabled)

    def set_levels(self) -> None:
        """Set the levels of named loggers again, after imports: libraries set those of their own."""
        for name, state in self.states.items():
            if name and state.level:
                logging.getLogger(name).setLevel(state.level)


_UNSET = LoggerState(logging.NOTSET)
UNCHANGED = Loggers({"": LoggerState(logging.WARNING)})  # as Python sets them
_taken = UNCHANGED  # what this process was told last


def _state(logger: logging.Logger) -> LoggerState:
    showing = [handler for handler in list(logger.handlers) if _shows(handler)]
    handled = None
    if showing:
        forms = [form for handler in showing if (form := _form(handler)) is not None]
        handled = Handled(min(handler.level for handler in showing), (forms or [_BASIC])[0])
    return LoggerState(logger.level, logger.propagate, handled)


_BASIC = (logging.BASIC_FORMAT, None, "%")
_STYLES: dict[type, str] = {logging.PercentStyle: "%", logging.StrFormatStyle: "{", logging.StringTemplateStyle: "$"}


def _shows(handler: logging.Handler) -> bool:
    """Whether anybody sees what it handles: not where it only keeps it in memory, or throws it away."""
    if isinstance(handler, logging.NullHandler) or getattr(handler, "baseFilename", "") == os.devnull:
        return False
    return not isinstance(getattr(handler, "stream", None), io.StringIO)


def _form(handler: logging.Handler) -> tuple[str, str | None, str] | None:
    """The form of a handler's lines, where that is a text: one which a library draws cannot be sent."""
    formatter: Any = handler.formatter
    if not isinstance(handler, logging.StreamHandler):
        return None
    if formatter is None:
        return ("%(message)s", None, "%")
    style = _STYLES.get(type(formatter._style))
    if type(formatter) is not logging.Formatter or style is None:
        return None
    return (str(formatter._fmt), formatter.datefmt, style)


class _Handler(logging.StreamHandler[Any]):
    """Writes to `sys.stderr` as it is then, as long as `logger` has no other handler that does anything."""

    def __init__(self, logger: logging.Logger, handled: Handled) -> None:
        logging.Handler.__init__(self, handled.level)
        self._logger = logger
        fmt, datefmt, style = handled.form
        self.setFormatter(logging.Formatter(fmt, datefmt, style))  # type: ignore[arg-type]

    @property
    def stream(self) -> Any:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        others = [handler for handler in self._logger.handlers if handler is not self]
        if all(isinstance(handler, logging.NullHandler) for handler in others):
            super().emit(record)


def _set(logger: logging.Logger, state: LoggerState) -> None:
    if logger is not logging.root or settings.log_level() is None:  # which is for services too
        logger.setLevel(state.level)
    logger.propagate = state.propagate
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
    if state.handled is not None:
        logger.addHandler(_Handler(logger, state.handled))
