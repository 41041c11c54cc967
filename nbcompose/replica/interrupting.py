"""Ends Python code that runs on in a thread after nobody waits for it: an exception that is raised from outside.

It comes between two instructions of its thread, whichever they are, so all that is here is about where it must *not*
come up: in code of ours, in the next call of the thread, in an import. Code that is deep in C is not reached before it
returns.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Generic, TypeVar

from nbcompose.errors import CallInterrupted
from nbcompose.host import async_exceptions

__all__ = ["CallInterrupted", "Interruptible"]

T = TypeVar("T")

_IMPORT = "<frozen importlib"


class Interruptible(Generic[T]):
    """A thread, and the work that it is at. `paused`: it waits, in the middle of its work, in code of ours.

    The guard is held for moments only, and never while the work runs.
    """

    __slots__ = ("_guard", "_pending", "job", "paused", "thread")

    def __init__(self) -> None:
        self.job: T | None = None
        self.paused = False
        self._guard = threading.Lock()
        self._pending = False  # an exception has been sent for this work
        self.thread = 0

    # -- in the thread

    def enter(self) -> None:
        """This is the thread."""
        self.thread = threading.get_ident()

    def end(self) -> None:
        """The work has ended: no exception comes up any more once this has returned.

        Raises `CallInterrupted` where one does meanwhile; call it again then.
        """
        with self._guard:
            self.job = None
            self.paused = False
            if self._pending:
                self._withdraw()

    def pause(self) -> None:
        """As `end`, until `go_on`."""
        with self._guard:
            self.paused = True
            if self._pending:
                self._withdraw()

    def go_on(self) -> None:
        self.paused = False

    def _withdraw(self) -> None:
        self._pending = False
        async_exceptions.withdraw(self.thread)

    # -- in another one

    def interrupt(self, job: T) -> bool:
        """Raise `CallInterrupted` in the thread if it is at this work, and not in an import; whether that was done."""
        with self._guard:
            if self.job is not job or self.paused or self._imports():
                return False
            self._pending = True
            async_exceptions.send(self.thread, CallInterrupted)
            if self._imports():  # it has got there meanwhile
                self._withdraw()
                return False
        return True

    def _imports(self) -> bool:
        frame: FrameType | None = sys._current_frames().get(self.thread)
        while frame is not None:
            if frame.f_code.co_filename.startswith(_IMPORT):
                return True
            frame = frame.f_back
        return False
