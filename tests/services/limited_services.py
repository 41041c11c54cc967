"""A service at its limits: of files, of what it is sent."""

import os
import resource
import threading
from pathlib import Path
from typing import Any

from nbcompose import api, depends, service


@service
class Below:
    @api
    def add(self, a: int) -> int:
        return a + 1


@service(threads=8)
class Limited:
    below = depends(Below)

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.released = threading.Event()

    @api
    def add(self, a: int) -> int:
        return self.below.add(a)

    @api
    def pid(self) -> int:
        return os.getpid()

    @api
    def limit(self) -> tuple[int, int]:
        """Files that may be open, soft and hard."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    @api
    def take_all(self) -> int:
        """Opens files until there are none left; how many."""
        try:
            while True:
                self.held.append(open(os.devnull, "rb"))  # noqa: SIM115
        except OSError:
            return len(self.held)

    @api
    def let_go(self) -> None:
        while self.held:
            self.held.pop().close()

    @api
    def keep(self, file: Path) -> str:
        """Holds an upload until `release` is called; says where it is."""
        Path(os.environ["WHERE"]).write_text(str(file))
        self.released.wait()
        return str(file)

    @api
    def release(self) -> None:
        self.released.set()
