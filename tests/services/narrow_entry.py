"""One service that nobody depends on, and one below it."""

import os
import threading
import time

import nbcompose


@nbcompose.service
class Below:
    @nbcompose.api
    def double(self, a: int) -> int:
        return 2 * a


@nbcompose.service(threads=2)
class Entry:
    below = nbcompose.depends("Below")

    def __init__(self) -> None:
        self.begun = threading.Event()

    @nbcompose.api
    def slow(self, until: str) -> str:
        """Takes as long as there is no such file."""
        self.begun.set()
        while not os.path.exists(until):
            time.sleep(0.01)
        return "done"

    @nbcompose.api
    def wait_for_slow(self) -> bool:
        return self.begun.wait()

    @nbcompose.api
    def double(self, a: int) -> int:
        print(f"doubling {a}")
        return self.below.double(a)
