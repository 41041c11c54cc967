"""A dependency's apis are called as they are declared: in forked and in cold replicas, in this process, over a url."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import awaiting_services
import pytest
from awaiting_services import Front, Leaf, Mistaken, line_of

from nbcompose.errors import NotAwaited
from tests.conftest import Running
from tests.handles import handle
from tests.patience import wait_until

pytestmark = pytest.mark.system

PLACES = ("forked", "cold", "in process", "url")
ASYNC = ("awaited", "batched", "inherited", "overridden")
WAYS = ("plain", "to_async", "to_sync")

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def cold() -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBCOMPOSE_ZYGOTE", "0")
        running = Running()
        yield running
        running.close()


@pytest.fixture(scope="module", params=PLACES)
def front(request: pytest.FixtureRequest, running_registry: Running) -> Iterator[Any]:
    """What calls the service above the leaf: `from_sync` and `from_async` wait."""
    if request.param == "in process":
        yield Front()
        return
    running = request.getfixturevalue("cold") if request.param == "cold" else running_registry
    if request.param == "url":
        running.up(Leaf)
        far = awaiting_services.far(running.registry.url("Leaf"), running.registry.token("Leaf"))
        front = running.up(far)
        asked(front, "from_sync", "plain", "plain")  # from here on it knows the apis there
        yield front
    else:
        running.up(Front, Leaf)
        yield running.registry.proxy("Front")
    running.clear()


def asked(front: Any, caller: str, kind: str, way: str) -> Any:
    answer = getattr(front, caller)(kind, way)
    kind_of, value = asyncio.run(answer) if asyncio.iscoroutine(answer) else answer
    return kind_of, value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["plain", "generator", "async_generator", *ASYNC])
@pytest.mark.parametrize("caller", ["from_sync", "from_async"])
def test_every_kind_of_api_in_every_way(front: Any, caller: str, kind: str, way: str) -> None:
    is_async = way == "to_async" or (way == "plain" and kind in ("async_generator", *ASYNC))
    yields = kind.endswith("generator")
    got, value = asked(front, caller, kind, way)
    answer: Any = list("ab") if yields else ["ab!"] if kind == "batched" else "ab!"
    if is_async:
        assert (got, value) == ("async iterator" if yields else "awaitable", answer)
    elif caller == "from_sync":
        assert (got, value) == ("iterator" if yields else "answer", answer)
    elif yields:  # made on the loop, iterated over in a thread
        handed, told = value
        assert (got, handed) == ("iterator", "ab")
        assert f"write `async for item in self.leaf.to_async.{kind}(...)`" in told
    else:
        assert got == "refused"
        assert f"write `await self.leaf.to_async.{kind}(...)`" in value


def test_streams_are_handed_on_and_closed_where_a_loop_is_left(front: Any) -> None:
    async def all_of(items: Any) -> list[str]:
        return [item async for item in items]

    async def leave() -> str:
        return str(await front.leaves_early())

    assert list(front.hands_on()) == list("abc")
    handed = front.hands_on_async()
    assert (asyncio.run(all_of(handed)) if hasattr(handed, "__aiter__") else list(handed)) == list("abc")
    before = front.times_closed()
    assert (asyncio.run(leave()) if isinstance(front, handle(Front).inner) else front.leaves_early()) == "a"
    wait_until(lambda: front.times_closed() == before + 1, "the stream of the leaf is closed")


@pytest.fixture(scope="module", params=["forked", "cold", "in process"])
def mistaken(request: pytest.FixtureRequest, running_registry: Running) -> Iterator[Any]:
    if request.param == "in process":
        yield Mistaken()
        return
    running = request.getfixturevalue("cold") if request.param == "cold" else running_registry
    running.up(Mistaken, Leaf)
    yield running.registry.proxy("Mistaken")
    running.clear()


@pytest.mark.parametrize("method", ["uses", "returns", "returns_on_the_loop", "yields", "passes", "returns_of_a_batch"])
@pytest.mark.filterwarnings("ignore::nbcompose.errors.NotAwaitedWarning")  # attributes are told of once more
def test_what_is_not_awaited_is_named(mistaken: Any, method: str) -> None:
    told = error_of(mistaken, method, *([["a"]] if "batch" in method else []))
    gc.collect()
    api = "batched" if "batch" in method else "awaited"
    place = f"Leaf.{api} was called at {awaiting_services.__file__}:{line_of(method)} and not awaited"
    assert told == (
        f"{place}, so there is no answer yet: write `await self.leaf.{api}(...)`, "
        f"or `self.leaf.to_sync.{api}(...)` in code that is not async"
    )


def error_of(mistaken: Any, method: str, *args: Any) -> str:
    def call() -> None:
        result = getattr(mistaken, method)(*args)
        asyncio.run(result) if asyncio.iscoroutine(result) else list(result)

    with pytest.raises(NotAwaited) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("method", ["joins", "loops"])
def test_a_plain_loop_over_an_async_generator_is_named(mistaken: Any, method: str) -> None:
    place = f"{awaiting_services.__file__}:{line_of(method)}"
    assert error_of(mistaken, method) == (
        f"Leaf.async_generator, called at {place}, gives its items to `async for`: "
        "write `async for item in self.leaf.async_generator(...)`, "
        "or `for item in self.leaf.to_sync.async_generator(...)` in code that is not async"
    )


def test_within_an_answer_and_dropped(running: Running) -> None:
    running.clear()  # of the service that other tests share, whose log it would have
    mistaken = running.up(Mistaken, Leaf)
    with pytest.raises(NotAwaited, match=f":{line_of('returns_within')} and not awaited"):
        mistaken.returns_within()
    for _ in range(3):
        assert mistaken.drops() == "as if nothing had happened"
    told = [line for line in running.registry.logs("Mistaken") if "NotAwaitedWarning" in line]
    assert len(told) == 1
    assert told[0].startswith(f"{awaiting_services.__file__}:{line_of('drops')}: NotAwaitedWarning: Leaf.awaited was")
    assert "`self.leaf.to_sync.awaited(...)`" in told[0]
