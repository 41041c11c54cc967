"""One service that nobody depends on, and one below it."""

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
    def slow(self) -> str:
        self.begun.set()
        time.sleep(0.5)
        return "done"

    @nbcompose.api
    def wait_for_slow(self) -> bool:
        return self.begun.wait()

    @nbcompose.api
    def double(self, a: int) -> int:
        print(f"doubling {a}")
        return self.below.double(a)
