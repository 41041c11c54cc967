"""Services whose replicas end in the middle of a call, and calls that may be made twice."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from nbcompose import api, depends, service


def end_once(folder: Path) -> None:
    """SIGKILL for this process, unless that has happened in this folder before."""
    try:
        (folder / "ended").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@service
class Mortal:
    @api
    def calm(self) -> None:
        """Nothing happens."""

    @api(idempotent=True)
    def plain(self, folder: str) -> int:
        end_once(Path(folder))
        return os.getpid()

    @api(idempotent=True)
    async def on_loop(self, folder: str) -> int:
        end_once(Path(folder))
        return os.getpid()

    @api(idempotent=True)
    def items(self, folder: str) -> Iterator[int]:
        end_once(Path(folder))
        yield os.getpid()

    @api(idempotent=True)
    async def items_on_loop(self, folder: str) -> AsyncIterator[int]:
        end_once(Path(folder))
        yield os.getpid()

    @api(idempotent=True)
    def late(self, folder: str) -> Iterator[int]:
        yield 1
        (Path(folder) / "read").read_bytes()  # a pipe: waits until the test writes
        end_once(Path(folder))
        yield 2

    @api(idempotent=True, batchable=True)
    def batch(self, folders: list[str]) -> list[int]:
        end_once(Path(folders[0]))
        return [os.getpid()] * len(folders)

    @api
    def once(self, folder: str) -> int:
        end_once(Path(folder))
        return os.getpid()

    @api(idempotent=True)
    def always(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@service
class Above:
    mortal = depends(Mortal)

    @api
    def plain(self, folder: str) -> int:
        return self.mortal.plain(folder)

    @api
    async def on_loop(self, folder: str) -> int:
        return await self.mortal.on_loop(folder)

    @api
    def items(self, folder: str) -> Iterator[int]:
        yield from self.mortal.items(folder)

    @api(idempotent=True)
    def once(self, folder: str) -> int:
        """May be made twice itself, but calls what may not."""
        return self.mortal.once(folder)
