"""Per-thread state: modes that libraries keep for each thread, and exceptions that one thread raises in another.

State of the process (a locale, torch's default dtype), and state in contextvars (a decimal context, numpy's errstate),
which is copied with the context, are not handled here.

CPython up to 3.12 has one flag for all threads, "some thread has an asynchronous exception", which is cleared only by
raising one: neither by withdrawing it nor by the end of its thread. While it is set, every thread checks at every step,
and 3.11 never gets past the beginning of a function that is traced (by a debugger or coverage). So the sender clears
the flag at once, by raising an exception in its own thread. The other thread still raises what was sent, when it is
next asked to release the GIL.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any

Modes = dict[str, Any]


def read() -> Modes:
    """Return the modes of this thread, for libraries that are loaded."""
    torch = sys.modules.get("torch")
    return {} if torch is None else {name: get(torch) for name, (get, _) in _TORCH.items()}


def changed(before: Modes, after: Modes) -> Modes:
    """Return the modes that changed between two readings."""
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def take(modes: Modes) -> list[Any]:
    """Set these modes in this thread. They apply as long as the caller keeps the returned objects alive."""
    torch = sys.modules.get("torch")
    return [
        put(torch, modes[name]) for name, (get, put) in _TORCH.items() if name in modes and get(torch) != modes[name]
    ]


def _enter_inference(torch: Any, wanted: bool) -> Any:
    mode = torch.inference_mode(wanted)
    mode.__enter__()
    return mode


def _autocast(torch: Any) -> dict[str, Any]:
    return {device: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")}


def _set_autocast(torch: Any, wanted: dict[str, Any]) -> None:
    for device, (enabled, dtype) in wanted.items():
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


# Name: getter and setter. Inference mode also sets the mode of gradients, so it comes first.
_TORCH: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "inference": (lambda torch: torch.is_inference_mode_enabled(), _enter_inference),
    "gradients": (lambda torch: torch.is_grad_enabled(), lambda torch, on: torch.set_grad_enabled(on)),
    "threads": (lambda torch: torch.get_num_threads(), lambda torch, n: torch.set_num_threads(n)),
    "device": (lambda torch: torch.get_default_device(), lambda torch, device: torch.set_default_device(device)),
    "autocast": (_autocast, _set_autocast),
}


class _Taken(BaseException):
    """Raised and caught in this thread to clear the flag."""


def send(thread: int, error: type[BaseException]) -> None:
    """Raise `error` in another thread, given by its identifier, as soon as it runs Python code."""
    _set(thread, ctypes.py_object(error))


def withdraw(thread: int) -> None:
    """Withdraw what was sent, unless it has been raised."""
    _set(thread, None)


def _set(thread: int, error: ctypes.py_object[type[BaseException]] | None) -> None:
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    other, this, taken = ctypes.c_ulong(thread), ctypes.c_ulong(threading.get_ident()), ctypes.py_object(_Taken)
    try:
        set_exception(other, error)
        set_exception(this, taken)  # no Python function is called in between: it might be traced
        while True:  # raised at the latest at this loop's backward jump
            pass
    except _Taken:
        return
