"""Exceptions that are sent to other threads, and what they leave behind: nothing."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from nbcompose._host import thread_state
from tests.patience import PATIENCE


class Sent(BaseException):
    pass


class Busy(threading.Thread):
    """Runs Python code until something is raised in it, or it is told to end."""

    def __init__(self) -> None:
        super().__init__()
        self.runs, self.ends, self.raised = threading.Event(), False, False

    def run(self) -> None:
        try:
            self._spin()
        except Sent:
            self.raised = True

    def _spin(self) -> None:
        """Apart from `run`: in 3.13 the jump back of a loop belongs to no `try` around it."""
        self.runs.set()
        while not self.ends:
            pass


def test_it_is_raised_in_the_other_thread() -> None:
    thread = Busy()
    thread.start()
    assert thread.runs.wait(PATIENCE)
    assert thread.ident is not None
    thread_state.send(thread.ident, Sent)
    thread.join(PATIENCE)
    assert thread.raised


# A thread that waits in C for a lock takes nothing; one that has ended takes nothing either.
PROGRAM = """
import sys, threading
from nbcompose._host import thread_state

class Sent(BaseException):
    pass

lock = threading.Lock()
lock.acquire()
waits = threading.Thread(target=lock.acquire, daemon=True)
waits.start()
thread_state.send(waits.ident, Sent)
if "withdraw" in sys.argv:
    thread_state.withdraw(waits.ident)
if "end" in sys.argv:
    lock.release()
    waits.join()

def traced():
    return "went on"

sys.settrace(lambda *_: None)
print(traced())
"""


@pytest.mark.parametrize("then", ["wait", "withdraw", "end"])
def test_what_is_traced_goes_on(then: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, then], check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.stdout == "went on\n"
