"""Output of a replica, on its side: text streams that say which call wrote what, and at which level of logging.

`sys.stdout` and `sys.stderr` of a replica write *pieces* of lines to its output pipe, each with the call in whose
context it was written (contextvars: async apis, worker threads, generators). A piece is one write of at most `PIPE_BUF`
bytes, so that others never come in between, and it is in the pipe when `write` returns: before the call is answered,
and also when the process ends the next moment. What C code and child processes write to the same descriptors stands
between the pieces as it is. `_control/logs.py` reads both.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import threading
import time
import warnings
from itertools import islice
from typing import Any, NoReturn

from nbcompose._tracing import CallContext, current_call

MARK = b"\x1enbcompose\x1f"  # begins a piece: six fields, each with \x1f after it, then its text up to the end of line
FIELDS = 6  # descriptor and end, level, time, api, span, traces
LINE, CALL = "l", "c"  # what ends with a piece
PIPE_BUF = getattr(select, "PIPE_BUF", 512)
MOST_TRACES = 32  # of the calls of a batch that are named
SMALL = 4096  # characters of a write that are kept until their line ends

# Lines that have been begun, by call and descriptor: what of them has not been written yet.
begun: dict[tuple[CallContext | None, int], list[str]] = {}

_drawn: set[tuple[CallContext | None, int]] = set()  # who has written what controls a terminal

_levels = threading.local()  # `name`: the level at which this thread is logging
_lock = threading.RLock()  # reentrant: a signal handler may print too
_streams: list[CallStream] = []


class CallStream(io.TextIOWrapper):
    """A text stream to the descriptor `fd`. What is written goes there when its line ends, at a flush, or when its call
    ends; in a child process that was forked, as it is.
    """

    def __init__(self, fd: int) -> None:
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
        self._fd = fd
        self.process = os.getpid()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if os.getpid() != self.process:
            return super().write(text)
        key = current_call.get(), self._fd
        with _lock:
            pieces = begun.get(key)
            if "\r" in text or "\x1b" in text:
                _drawn.add(key)
            if "\n" in text:
                if pieces is not None:
                    text_before = "".join(pieces)
                    del begun[key]
                else:
                    text_before = ""
                *lines, rest = (text_before + text).split("\n")
                for line in lines:
                    _put(key, line, LINE)
                if key in _drawn:
                    begun[key] = [rest] if rest else []  # what is drawn is over when the call is
                elif rest:
                    begun[key] = [rest]
            elif pieces is None:
                begun[key] = [text]
            else:
                pieces.append(text)
            if len(text) > SMALL:
                _flush(key)
        return len(text)

    def flush(self) -> None:
        super().flush()  # what was written to `buffer`
        if os.getpid() == self.process:
            with _lock:
                _flush((current_call.get(), self._fd))


def end_lines(context: CallContext | None) -> None:
    """End the lines that a call has begun: it is over, and its answer must not overtake them."""
    for stream in _streams:
        with _lock:
            pieces = begun.pop((context, stream._fd), None)
            _drawn.discard((context, stream._fd))
            if pieces is not None:
                _put((context, stream._fd), "".join(pieces), CALL)


def _flush(key: tuple[CallContext | None, int]) -> None:
    text = "".join(begun.get(key, ()))
    if text:
        begun[key].clear()
        _put(key, text, "")


def _put(key: tuple[CallContext | None, int], text: str, end: str) -> None:
    """Write a text in as many pieces as it needs. `end`: what ends with the last of them, the line or the call."""
    body = text.encode("utf-8", "backslashreplace")
    head = _head(key, end)
    room = PIPE_BUF - len(head) - len(LINE) - 1
    while len(body) > room:
        os.write(key[1], _head(key, "") + body[:room] + b"\n")
        body = body[room:]
    os.write(key[1], head + body + b"\n")


def _head(key: tuple[CallContext | None, int], end: str) -> bytes:
    context, fd = key
    fields = [f"{fd}{end}", getattr(_levels, "name", ""), f"{time.time():.6f}"]
    if context is None:
        fields += ["", "", ""]
    else:
        traces = dict.fromkeys((context.trace_id, *context.together))
        fields += [context.api, f"{context.span_id:x}", ",".join(f"{t:032x}" for t in islice(traces, MOST_TRACES))]
    return MARK + "\x1f".join([*fields, ""]).encode("utf-8", "backslashreplace")


def _exit(status: int) -> NoReturn:
    """`os._exit`, after the lines that were begun: otherwise a call that ends its process takes them along."""
    is_free = any(stream.process == os.getpid() for stream in _streams) and _lock.acquire(timeout=1.0)
    if is_free:
        with contextlib.suppress(Exception):
            for key, pieces in list(begun.items()):
                _put(key, "".join(pieces), LINE)
    _plain_exit(status)


# -- levels


def _handle(self: logging.Handler, record: logging.LogRecord) -> Any:
    before = getattr(_levels, "name", "")
    _levels.name = record.levelname
    try:
        return _plain_handle(self, record)
    finally:
        _levels.name = before


def _show_warning(*args: Any, **kwargs: Any) -> None:
    before = getattr(_levels, "name", "")
    _levels.name = "WARNING"
    try:
        _plain_show_warning(*args, **kwargs)
    finally:
        _levels.name = before


_plain_exit = os._exit
_plain_handle = logging.Handler.handle
_plain_show_warning: Any = warnings.showwarning


def install() -> None:
    """Replace the text streams of this process, and note the level of what logging handlers and warnings write to them.

    Called first in the zygote: what is imported there may keep its streams, which then are those of its replicas too.
    """
    global _plain_show_warning
    if not _streams:
        _streams.extend((CallStream(1), CallStream(2)))
        logging.Handler.handle = _handle  # type: ignore[method-assign]
        os._exit = _exit
        _plain_show_warning, warnings.showwarning = warnings.showwarning, _show_warning
    for stream in _streams:
        stream.process = os.getpid()
    begun.clear()
    _drawn.clear()
    sys.stdout, sys.stderr = _streams
