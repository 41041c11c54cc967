"""Services that somebody debugs, one above them, and one beside them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

from nbcompose import api, depends, service


def tidy(text: str) -> str:
    breakpoint()
    return text.strip()


@service(threads=2)
class Leaf:
    @api
    def sync(self, text: str) -> str:
        loud = text.upper()
        return loud + "!"

    @api
    async def later(self, text: str) -> str:
        loud = text.upper()
        await asyncio.sleep(0)
        return loud + "!"

    @api
    def parts(self, text: str) -> Iterator[str]:
        loud = text.upper()
        yield from loud
        yield "!"

    @api
    async def later_parts(self, text: str) -> AsyncIterator[str]:
        loud = text.upper()
        for part in (*loud, "!"):
            yield part

    @api
    def halts(self, text: str) -> str:
        return tidy(text)

    @api
    def halts_in_pdb(self, text: str) -> str:
        import pdb

        pdb.set_trace()
        return text

    @api
    def asks(self) -> str:
        return input("your name? ")

    @api
    def divides(self, by: int) -> float:
        kept = by
        return 1 / kept


@service
class Top:
    leaf = depends(Leaf)

    @api
    def sync(self, text: str) -> str:
        said: str = self.leaf.sync(text)
        return said

    @api
    async def later(self, text: str) -> str:
        said: str = await self.leaf.later(text)
        return said

    @api
    def parts(self, text: str) -> Iterator[str]:
        yield from self.leaf.parts(text)

    @api
    async def later_parts(self, text: str) -> AsyncIterator[str]:
        async for part in self.leaf.later_parts(text):
            yield part


@service
class Beside:
    @api
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @api
    def hang_in_thread(self) -> None:
        threading.Event().wait()


def count_up(n: int) -> int:
    total = 0
    for i in range(n):
        total += i
    return total


@service
class Counter:
    leaf = depends(Beside)

    @api
    def count(self, n: int) -> int:
        return count_up(n)

    @api
    async def count_later(self, n: int) -> int:
        return count_up(n)

    @api
    def parts(self, n: int) -> Iterator[int]:
        while True:
            yield count_up(n)

    @api
    def wait(self) -> None:
        self.leaf.hang_in_thread()


@service
class Stops:
    """By whatever stops in a terminal."""

    @api
    def trace(self, text: str) -> str:
        from pdb import set_trace

        set_trace()
        return text

    @api
    def post_mortem(self, text: str) -> str:
        import pdb

        try:
            raise ValueError(text)
        except ValueError as error:
            pdb.post_mortem(error.__traceback__)
        return text

    @api
    def run(self, text: str) -> str:
        import pdb

        pdb.run("1 + 1")
        return text

    @api
    async def interact(self, text: str) -> str:
        import code

        code.interact(local={"text": text})
        return text

    @api
    def embed(self, text: str) -> str:
        from IPython import embed

        embed()
        return text

    @api
    def shell(self, text: str) -> str:
        from IPython.terminal.embed import InteractiveShellEmbed

        InteractiveShellEmbed.instance()()
        return text

    @api
    def reads(self) -> str:
        import sys

        return sys.stdin.readline()

    @api
    def has_its_own(self, text: str) -> str:
        """A debugger and a console whose person is somewhere else."""
        import code
        import io
        import pdb

        class Console(code.InteractiveConsole):
            def raw_input(self, prompt: str = "") -> str:
                raise EOFError

            def write(self, data: str) -> None:
                written.write(data)

        typed, written = io.StringIO("p text * 2\nc\n"), io.StringIO()
        pdb.Pdb(stdin=typed, stdout=written, nosigint=True, readrc=False).set_trace()
        Console().interact(banner="a banner", exitmsg="")
        return written.getvalue()
