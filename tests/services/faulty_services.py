"""Services that go wrong, each in its own way."""

import ctypes
import os
import signal
import subprocess
import sys
import threading

from nbcompose import api, depends, on_shutdown, on_startup, service


class OwnError(Exception):
    def __init__(self, code: int, text: str) -> None:  # takes arguments: unpickling must not call it
        super().__init__(f"{text} ({code})")
        self.code = code


@service(threads=4)
class Faulty:
    def __init__(self) -> None:
        self.released = threading.Event()

    @api
    def pid(self) -> int:
        return os.getpid()

    @api
    def raises(self, text: str) -> str:
        raise OwnError(7, text)

    @api
    def exits(self, status: int) -> str:
        print("the last words")
        os._exit(status)

    @api
    def segfaults(self) -> str:
        ctypes.string_at(0)
        return "not reached"

    @api
    def killed(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "not reached"

    @api
    def hold(self) -> int:
        """Holds its thread until `release` is called."""
        self.released.wait()
        return os.getpid()

    @api
    def release(self) -> None:
        self.released.set()

    @api
    def prints(self, lines: list[str], end: str = "\n") -> None:
        for line in lines:
            print(line, end=end)
        sys.stdout.flush()

    @api
    def child(self) -> int:
        """Starts a program that would run on."""
        return subprocess.Popen(["sleep", "600"]).pid

    @api
    def environ(self, name: str) -> str | None:
        return os.environ.get(name)


@service
class Above:
    faulty = depends(Faulty)

    @api
    def raises(self, text: str) -> str:
        return self.faulty.raises(text)


@service
class InitRaises:
    def __init__(self) -> None:
        print("still fine")
        self.weights = 1 / 0  # the line of the mistake

    @api
    def f(self) -> int:
        return 1


@service
class InitExits:
    def __init__(self) -> None:
        print("about to leave")
        sys.stdout.flush()
        os._exit(9)

    @api
    def f(self) -> int:
        return 1


@service
class InitSegfaults:
    def __init__(self) -> None:
        ctypes.string_at(0)

    @api
    def f(self) -> int:
        return 1


@service
class InitNeverEnds:
    def __init__(self) -> None:
        print("in __init__")
        sys.stdout.flush()
        threading.Event().wait()

    @api
    def f(self) -> int:
        return 1


@service
class Hooks:
    """Writes what happens to it to the file that `HOOKS_FILE` names."""

    def __init__(self) -> None:
        self.note("init")

    def note(self, text: str) -> None:
        with open(os.environ["HOOKS_FILE"], "a", encoding="ascii") as file:
            file.write(text + "\n")

    @on_startup
    def first(self) -> None:
        self.note("startup")

    @on_startup
    async def second(self) -> None:
        self.note("async startup")

    @on_shutdown
    def broken(self) -> None:
        raise RuntimeError("a hook that fails must not take the next one with it")

    @on_shutdown
    async def last(self) -> None:
        self.note("shutdown")

    @api
    def call(self) -> None:
        self.note("call")
