"""Services whose calls of others are refused below, in all the ways that there are."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from nbcompose import api, depends, service
from nbcompose.errors import BadRequest, CallError, InvalidArgument, Overloaded


class Odd(CallError):
    """A class of the user's own, with a status that nobody has heard of."""

    status = 420


ERRORS = {"overloaded": Overloaded, "invalid": InvalidArgument, "bad": BadRequest, "odd": Odd}


@service(threads=4)
class Leaf:
    @api
    def encode(self, text: str) -> str:
        return text[::-1]

    @api
    def says(self, kind: str) -> str:
        raise {"overloaded": Overloaded, "invalid": InvalidArgument, "bad": BadRequest, "odd": Odd}[kind](
            "of Leaf's own"
        )

    @api
    def words(self, n: int) -> Iterator[str]:
        yield from map(str, range(n))

    @api(batchable=True)
    def sizes(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


class Asking:
    """What goes wrong below, by its kind. Mixed into services that have `leaf`."""

    leaf: Any

    @api
    def sync(self, kind: str) -> str:
        return _ask(self.leaf, kind)

    @api
    async def coroutine(self, kind: str) -> str:
        leaf = self.leaf.to_async
        if kind == "unknown":
            return await leaf.nope()
        if kind == "argument":
            return await leaf.encode(5)
        if kind == "missing":
            return await leaf.encode()
        if kind == "item":
            return "".join([word async for word in leaf.words("many")])
        return await leaf.says(kind)

    @api
    def items(self, kind: str, after: int = 0) -> Iterator[str]:
        yield from ["before"] * after
        yield _ask(self.leaf, kind)

    @api
    async def async_items(self, kind: str, after: int = 0) -> AsyncIterator[str]:
        for _ in range(after):
            yield "before"
        yield await vars(Asking)["coroutine"](self, kind)

    @api(batchable=True)
    def batch(self, kinds: list[str]) -> list[str]:
        return [_ask(self.leaf, kind) for kind in kinds]

    @api
    def passes_on(self, kind: str) -> str:
        try:
            return _ask(self.leaf, kind)
        except CallError as error:
            raise error from None

    @api
    def own(self, kind: str) -> str:
        """What the author says of the request itself."""
        raise {"invalid": InvalidArgument, "bad": BadRequest, "overloaded": Overloaded, "odd": Odd}[kind](
            "says the author"
        )

    @api
    def wraps(self, kind: str) -> str:
        try:
            return _ask(self.leaf, kind)
        except CallError as error:
            raise InvalidArgument("says the author") from error


def _ask(leaf: Any, kind: str) -> str:
    if kind == "unknown":
        return leaf.nope()
    if kind == "argument":
        return leaf.encode(5)
    if kind == "missing":
        return leaf.encode()
    if kind == "item":
        return "".join(leaf.words("many"))
    return leaf.says(kind)


@service(threads=4)
class Front(Asking):
    leaf = depends(Leaf)


@service
class Inside(Asking):
    """Has a Leaf in its own process."""

    def __init__(self) -> None:
        self.leaf = Leaf()


@service(threads=4)
class Middle(Asking):
    """Between: what is below twice."""

    leaf = depends(Leaf)


@service(threads=4)
class Top:
    middle = depends(Middle)

    @api
    def ask(self, api: str, kind: str) -> str:
        return getattr(self.middle.to_sync, api)(kind)

    @api
    async def ask_async(self, api: str, kind: str) -> str:
        return await getattr(self.middle.to_async, api)(kind)
