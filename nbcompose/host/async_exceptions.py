"""Exceptions that one thread raises in another, between two of its instructions (`PyThreadState_SetAsyncExc`).

CPython up to 3.12 has one flag for all threads, "some thread has one to take", which only taking one clears: neither
withdrawing it does, nor the end of its thread. While it is set, every thread looks at every step, and 3.11 never gets
past the beginning of a function that is traced (by a debugger, by coverage). So whoever sends one clears the flag at
once. The other thread takes what was sent all the same, when it is next asked to hand over the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import threading


class _Taken(BaseException):
    """Raised and taken to clear the flag."""


def send(thread: int, error: type[BaseException]) -> None:
    """Raise `error` in the thread of this identifier, another one, as soon as it runs Python code."""
    _set(thread, ctypes.py_object(error))


def withdraw(thread: int) -> None:
    """Take back what was sent, unless it has been raised."""
    _set(thread, None)


def _set(thread: int, error: ctypes.py_object[type[BaseException]] | None) -> None:
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    other, this, taken = ctypes.c_ulong(thread), ctypes.c_ulong(threading.get_ident()), ctypes.py_object(_Taken)
    try:
        set_exception(other, error)
        set_exception(this, taken)  # no function of Python's begins in between: it might be traced
        while True:  # it comes up at the latest when this jumps back
            pass
    except _Taken:
        return
