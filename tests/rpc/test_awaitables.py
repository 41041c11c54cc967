"""What a call of an async api gives: every way to await it, and what is said where it is taken for the answer."""

from __future__ import annotations

import asyncio
import copy
import decimal
import gc
import inspect
import json
import operator
import pickle
import threading
import warnings
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from nbcompose import api
from nbcompose._rpc import awaitables
from nbcompose._rpc.blocking import LoopThread
from nbcompose._rpc.client import Client
from nbcompose._rpc.codec import Encoder
from nbcompose._rpc.proxy import DeclaredProxy, Proxy
from nbcompose._rpc.transport import Args, Kwargs, Transport, find_api
from nbcompose._schema.api import ApiSchema
from nbcompose._schema.unawaited import CallSite
from nbcompose._service.introspect import declare
from nbcompose._spec import ApiSpec, ParamSpec
from nbcompose._tracing.spans import CallContext
from nbcompose.errors import BlockingCall, NotAwaited, NotAwaitedWarning, UnknownApi, UnknownArgumentWarning
from tests.patience import PATIENCE

X = (ParamSpec("x", "positional_or_keyword", True, "x: int"),)
ASKED = ApiSpec("ask", "ask", "/ask", X, is_async=True)
WORDS = ApiSpec("words", "words", "/words", X, stream=True, is_async=True)
PLAIN = ApiSpec("plain", "plain", "/plain", X)
LETTERS = ApiSpec("letters", "letters", "/letters", X, stream=True)


class Leaf:
    """A `Caller` without a service. `known`: what is said of it; `blocking`: whether this is its event loop."""

    service = "Leaf"

    def __init__(self) -> None:
        self.known: tuple[ApiSpec, ...] | None = (ASKED, WORDS, PLAIN, LETTERS)
        self.blocking = False
        self.begun: list[tuple[Args, Kwargs]] = []
        self.closed = 0

    def apis(self) -> tuple[ApiSpec, ...] | None:
        return self.known

    def unknown(self, error: UnknownApi) -> UnknownApi:
        return error

    async def learn(self, api: str, context: CallContext) -> ApiSpec:
        return self.learn_sync(api, context)

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        return find_api(self.service, self.known or (ASKED, WORDS, PLAIN, LETTERS), api)

    async def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        self.begun.append((args, kwargs))
        await asyncio.sleep(0)
        if args == (0,):
            raise ValueError("zero")
        return args[0]

    async def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        self.begun.append((args, kwargs))
        try:
            for i in range(args[0]):
                yield i
        finally:
            self.closed += 1

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        self.begun.append((args, kwargs))
        return iter(range(args[0])) if api.stream else args[0]

    def blocks(self, context: CallContext) -> bool:
        return self.blocking

    def reference(self, api: str, args: Args, kwargs: Kwargs, context: CallContext, to: Transport) -> None: ...

    def reaches(self, client: Client) -> bool:
        return False

    def sent(self, value: Any, inbox: object) -> Any:
        return value


@pytest.fixture
def caller() -> Leaf:
    return Leaf()


@pytest.fixture
def leaf(caller: Leaf) -> Any:
    return DeclaredProxy(caller, "self.leaf")


# -- ways to await


async def _group(call: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(call)
    return task.result()


async def _in_a_row(call: Any) -> Any:
    [future] = asyncio.as_completed([call])
    return await future


async def _elsewhere(call: Coroutine[Any, Any, Any]) -> Any:
    thread = LoopThread("elsewhere")
    thread.start()
    try:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, thread.loop))
    finally:
        await asyncio.to_thread(thread.stop)


def _by_hand(call: Any) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(call)
    finally:
        loop.close()


async def _await(call: Awaitable[Any]) -> Any:
    return await call


async def _first(calls: Any) -> Any:
    return (await calls)[0]


AWAITING: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "await": _await,
    "gather": lambda call: _first(asyncio.gather(call)),
    "gather exceptions": lambda call: _first(asyncio.gather(call, return_exceptions=True)),
    "create_task": lambda call: asyncio.create_task(call),
    "ensure_future": lambda call: asyncio.ensure_future(call),
    "wait_for": lambda call: asyncio.wait_for(call, PATIENCE),
    "shield": lambda call: asyncio.shield(call),
    "TaskGroup": _group,
    "as_completed": _in_a_row,
    "another loop": _elsewhere,
    "asyncio.run in a thread": lambda call: asyncio.to_thread(asyncio.run, call),
    "run_until_complete": lambda call: asyncio.to_thread(_by_hand, call),
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "not known yet"])
@pytest.mark.parametrize("how", AWAITING)
async def test_it_is_awaited_in_every_way(caller: Leaf, leaf: Any, how: str, known: bool) -> None:
    caller.known, caller.blocking = (caller.known, False) if known else (None, True)
    assert await AWAITING[how](leaf.ask(5)) == 5
    assert await AWAITING[how](leaf.to_async.plain(6)) == 6


async def test_calls_that_are_awaited_together_run_together(caller: Leaf, leaf: Any) -> None:
    calls = [leaf.ask(i) for i in range(1, 4)]
    assert caller.begun == []  # as coroutines do: it begins when it is awaited
    assert await asyncio.gather(*calls) == [1, 2, 3]


def test_what_it_is_to_others(leaf: Any) -> None:
    call = leaf.ask(1)
    assert asyncio.iscoroutine(call)
    assert inspect.isawaitable(call)
    assert isinstance(call, Coroutine)
    assert not callable(call)
    assert not isinstance(call, Iterator | AsyncIterator)
    assert getattr(call, "__name__") == getattr(call, "__qualname__") == "Leaf.ask"  # noqa: B009 (its type has neither)
    assert weakref.ref(call)() is call
    assert len({call, call}) == 1
    assert repr(call) == f"<call of Leaf.ask at {__file__}:{here() - 9}, not awaited>"
    assert (hasattr(call, "shape"), hasattr(call, "_repr_html_"), getattr(call, "__array__", None)) == (
        False,
        False,
        None,
    )
    call.close()


async def test_a_task_of_it_can_be_shown_and_cancelled_before_it_begins(caller: Leaf, leaf: Any) -> None:
    task = asyncio.create_task(leaf.ask(1))
    assert "coro=<Leaf.ask" in repr(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caller.begun == []
    gc.collect()  # nobody is warned


async def test_it_is_awaited_once(leaf: Any) -> None:
    call = leaf.ask(1)
    assert await call == 1
    with pytest.raises(RuntimeError, match=r"this call of Leaf\.ask has been awaited already: call it again"):
        await call
    with pytest.raises(NotAwaited, match=r"and its answer is what `await` gave: write `await self\.leaf\.ask"):
        str(call)
    closed = leaf.ask(1)
    closed.close()
    with pytest.raises(RuntimeError, match="awaited already"):
        await closed


async def test_an_error_is_raised_where_it_is_awaited(leaf: Any) -> None:
    call = leaf.ask(0)
    with pytest.raises(ValueError, match="zero"):
        await call
    error: Any
    [error] = await asyncio.gather(leaf.ask(0), return_exceptions=True)
    assert isinstance(error, ValueError)


# -- ways to take it for the answer

MISUSES: dict[str, Callable[[Any], Any]] = {
    "str": str,
    "format": lambda call: f"{call}",
    "percent": lambda call: "%s" % call,  # noqa: UP031
    "int": int,
    "float": float,
    "bytes": bytes,
    "round": round,
    "bool": bool,
    "not": lambda call: not call,
    "if": lambda call: 1 if call else 2,
    "len": len,
    "list": list,
    "for": lambda call: [item for item in call],  # noqa: C416
    "unpack": lambda call: [*call],
    "pair": lambda call: operator.itemgetter(0, 1)(call),
    "join": "".join,
    "sorted": sorted,
    "reversed": reversed,
    "sum": lambda call: sum([call, 1]),
    "max": lambda call: max(call, 1),
    "in": lambda call: 1 in call,
    "in a list": lambda call: call in [1, 2],
    "index": lambda call: call[0],
    "key": lambda call: call["text"],
    "slice": lambda call: call[1:],
    "as an index": lambda call: [1, 2][call],
    "set item": lambda call: operator.setitem(call, 0, 1),
    "del item": lambda call: operator.delitem(call, 0),
    "attribute": lambda call: call.shape,
    "method": lambda call: call.upper(),
    "==": lambda call: call == "yes",
    "!=": lambda call: call != "yes",
    "== the other way": lambda call: "yes" == call,  # noqa: SIM300
    "<": lambda call: call < 1,
    ">= the other way": lambda call: 1 >= call,  # noqa: SIM300
    "+": lambda call: call + 1,
    "+ the other way": lambda call: "a" + call,
    "+=": lambda call: operator.iadd(call, 1),
    "*": lambda call: 2 * call,
    "@": lambda call: call @ call,
    "/": lambda call: call / 2,
    "//": lambda call: call // 2,
    "%": lambda call: call % 2,
    "divmod": lambda call: divmod(call, 2),
    "**": lambda call: call**2,
    "|": lambda call: call | {},
    "&": lambda call: {1} & call,
    "-": lambda call: -call,
    "~": lambda call: ~call,
    "abs": abs,
    "decimal": lambda call: decimal.Decimal(1) + call,
    "copy": copy.copy,
    "deepcopy": lambda call: copy.deepcopy({"a": call}),
    "pickle": lambda call: pickle.dumps([call]),
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "not known yet"])
@pytest.mark.parametrize("misuse", MISUSES)
def test_what_is_done_with_an_answer_is_named(caller: Leaf, leaf: Any, misuse: str, known: bool) -> None:
    caller.known, caller.blocking = (caller.known, False) if known else (None, True)
    call = leaf.ask(1)
    with pytest.raises(NotAwaited) as caught:
        MISUSES[misuse](call)
    call.close()  # else it is told of once more where only an attribute was asked for
    assert str(caught.value) == (
        f"Leaf.ask was called at {__file__}:{here() - 5} and not awaited, so there is no answer yet: "
        "write `await self.leaf.ask(...)`, or `self.leaf.to_sync.ask(...)` in code that is not async"
    )
    assert caller.begun == []


def test_what_others_say_of_it_names_its_kind(leaf: Any) -> None:
    call = leaf.ask(1)
    with pytest.raises(TypeError, match="Object of type UnawaitedCall is not JSON serializable"):
        json.dumps({"answer": call})
    call.close()


def test_to_async_and_a_service_in_a_script_say_what_they_are_called_by(caller: Leaf, leaf: Any) -> None:
    with pytest.raises(
        NotAwaited, match=r"write `await self\.leaf\.to_async\.plain\(\.\.\.\)`, or `self\.leaf\.to_sync"
    ):
        str(leaf.to_async.plain(1))
    with pytest.raises(NotAwaited, match=r"write `await Leaf\.to_async\.plain\(\.\.\.\)`, or `Leaf\.to_sync\.plain"):
        str(Proxy(caller).to_async.plain(1))


# -- dropped


def dropped(function: Callable[[], Any]) -> list[warnings.WarningMessage]:
    """What is warned of while a function runs, and what it leaves is collected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
        gc.collect()
    return [w for w in caught if w.category is NotAwaitedWarning]


def test_one_that_is_dropped_is_told_of_once_for_each_place(caller: Leaf, leaf: Any) -> None:
    def drop() -> None:
        for _ in range(3):
            leaf.ask(1)
        kept = [leaf.to_async.plain(1)]
        kept.append(kept)  # only the garbage collector finds it

    first, second = dropped(drop)
    assert (first.filename, first.lineno, second.lineno) == (__file__, here() - 5, here() - 4)
    assert str(first.message) == (
        f"Leaf.ask was called at {__file__}:{first.lineno} and not awaited, so there is no answer yet: "
        "write `await self.leaf.ask(...)`, or `self.leaf.to_sync.ask(...)` in code that is not async"
    )
    assert caller.begun == []
    assert dropped(drop) == []


@pytest.mark.filterwarnings("ignore::nbcompose.errors.NotAwaitedWarning")
def test_one_that_has_been_told_of_is_not_told_of_again(leaf: Any) -> None:
    def misuse() -> None:
        with pytest.raises(NotAwaited):
            leaf.ask(1) + 1

    def look() -> None:
        assert getattr(leaf.ask(1), "shape", None) is None  # to this one nothing was said

    assert dropped(misuse) == []
    assert len(dropped(look)) == 1


def test_one_that_is_dropped_on_another_thread_or_late_is_told_of(caller: Leaf, leaf: Any) -> None:
    caller.known, caller.blocking = None, True

    def drop() -> None:
        thread = threading.Thread(target=lambda: leaf.ask(1))
        thread.start()
        thread.join()

    [told] = dropped(drop)
    assert told.filename == __file__


def test_threads_that_are_at_one_place_tell_of_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def tell(message: str, *_: Any) -> None:
        told.append(message)
        if len(told) == 1:  # the other one comes while the first is telling
            other = threading.Thread(target=warn)
            other.start()
            other.join(PATIENCE)

    def warn() -> None:
        awaitables.warn_once(site, "Leaf.ask", "two threads", NotAwaitedWarning)

    site = CallSite.of(warn.__code__, 0)
    monkeypatch.setattr(warnings, "warn_explicit", tell)
    warn()
    assert told == ["two threads"]


# -- streams


async def test_items_are_iterated_over_in_every_way(caller: Leaf, leaf: Any) -> None:
    assert [i async for i in leaf.words(3)] == [0, 1, 2]
    items = leaf.words(3)
    assert isinstance(items, AsyncIterator)
    assert await anext(items) == 0
    assert [i async for i in items] == [1, 2]
    assert await anext(leaf.words(0), "none") == "none"
    assert caller.closed == 3
    items = leaf.words(2)
    assert await items.asend(None) == 0
    await items.aclose()


async def test_closing_items_and_leaving_a_loop(caller: Leaf, leaf: Any) -> None:
    items = leaf.words(3)
    await items.aclose()
    assert caller.begun == []  # nothing had begun
    items = leaf.words(3)
    await anext(items)
    await items.aclose()
    assert caller.closed == 1
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    with pytest.raises(KeyError):
        await leaf.words(3).athrow(KeyError("x"))
    async for _ in leaf.words(3):
        break
    gc.collect()
    await asyncio.sleep(0)  # the loop closes what is collected
    await asyncio.sleep(0)
    assert caller.closed == 2


def test_items_can_be_dropped_and_handed_on(caller: Leaf, leaf: Any) -> None:
    assert dropped(lambda: leaf.words(3)) == []

    async def all_of(items: AsyncIterator[int]) -> list[int]:
        return [i async for i in items]

    assert asyncio.run(all_of(leaf.words(3))) == [0, 1, 2]


@pytest.mark.parametrize("misuse", ["list", "for", "join", "sorted", "unpack", "in", "pickle", "len", "==", "+"])
def test_a_plain_loop_over_items_is_named(caller: Leaf, leaf: Any, misuse: str) -> None:
    with pytest.raises(NotAwaited) as caught:
        MISUSES[misuse](leaf.words(3))
    assert str(caught.value) == (
        f"Leaf.words, called at {__file__}:{here() - 2}, gives its items to `async for`: "
        "write `async for item in self.leaf.words(...)`, "
        "or `for item in self.leaf.to_sync.words(...)` in code that is not async"
    )
    assert repr(leaf.words(3)) == f"<items of Leaf.words, called at {__file__}:{here()}>"


@pytest.mark.parametrize(
    ("returns", "wrapped"),
    [
        (list[int], lambda x: [1, x]),
        (dict[str, int], lambda x: {"a": x}),
        (tuple[int, int], lambda x: (x, 1)),
        (list[list[str]], lambda x: [["a"], [x]]),
        (list, lambda x: [x]),
        (int, lambda x: x),
    ],
    ids=["list", "dict", "tuple", "nested", "any list", "itself"],
)
@pytest.mark.parametrize("name", ["ask", "words"])
def test_one_in_an_answer_is_named(leaf: Any, name: str, returns: Any, wrapped: Any) -> None:
    def f(self: Any) -> Any:
        raise AssertionError

    f.__annotations__["return"] = returns
    Answers = type("Answers", (), {"f": api(f)})
    schema = ApiSchema.of(Answers, declare(Answers, {}).apis[0])
    call = getattr(leaf, name)(1)
    with pytest.raises(NotAwaited, match=rf"^Leaf\.{name}[ ,]"):
        Encoder(None).encode(schema.check_result(wrapped(call)), "result")  # as it is sent to another process


# -- what is declared


def test_a_plain_api_waits_and_on_the_event_loop_says_what_to_write(caller: Leaf, leaf: Any) -> None:
    assert leaf.plain(1) == 1
    assert leaf.to_sync.ask(1) == 1
    assert list(leaf.to_sync.words(2)) == [0, 1]
    caller.blocking = True
    for call, to_async in (
        (lambda: leaf.plain(1), "`await self.leaf.to_async.plain(...)`"),
        (lambda: leaf.to_sync.ask(1), "`await self.leaf.to_async.ask(...)`"),
        (lambda: next(leaf.letters(1)), "`async for item in self.leaf.to_async.letters(...)`"),
        (lambda: next(leaf.to_sync.words(1)), "`async for item in self.leaf.to_async.words(...)`"),
    ):
        with pytest.raises(BlockingCall) as caught:
            call()
        assert str(caught.value).endswith(f"in async code write {to_async}")


def test_a_plain_generator_may_be_made_on_the_event_loop(caller: Leaf, leaf: Any) -> None:
    caller.blocking = True
    items = leaf.letters(3)
    caller.blocking = False  # handed to a thread
    assert list(items) == [0, 1, 2]


async def test_an_api_that_turns_out_to_be_plain_is_not_awaited(caller: Leaf, leaf: Any) -> None:
    caller.known, caller.blocking = None, True
    plain, letters, ask = leaf.plain(1), leaf.letters(1), leaf.to_async.plain(1)
    with pytest.raises(BlockingCall, match=r"write `await self\.leaf\.to_async\.plain\(\.\.\.\)`"):
        await plain
    with pytest.raises(BlockingCall, match=r"write `async for item in self\.leaf\.to_async\.letters\(\.\.\.\)`"):
        await anext(aiter(letters))
    assert await ask == 1
    assert [i async for i in leaf.words(2)] == [0, 1]


def test_an_api_that_is_not_known_yet_is_waited_for_in_a_thread(caller: Leaf, leaf: Any) -> None:
    caller.known = None
    assert leaf.plain(1) == 1
    assert list(leaf.letters(2)) == [0, 1]
    assert asyncio.run(leaf.ask(1)) == 1


def test_what_has_become_async_is_called_so_also_by_what_was_kept(caller: Leaf, leaf: Any) -> None:
    """A dependent that runs is not restarted when the cell of its dependency changes."""
    kept = leaf.plain
    assert (kept(1), leaf.plain(2)) == (1, 2)
    caller.known = (ApiSpec("plain", "plain", "/plain", X, is_async=True),)
    assert asyncio.run(kept(1)) == asyncio.run(leaf.plain(1)) == 1
    caller.known = (ApiSpec("plain", "plain", "/plain", X, stream=True),)
    assert list(kept(2)) == list(leaf.plain(2)) == [0, 1]
    caller.known = (ASKED,)
    with pytest.raises(UnknownApi, match="Leaf has no api 'plain'; it has: ask"):
        kept(1)


async def test_arguments_that_are_not_declared(leaf: Any) -> None:
    with pytest.warns(UnknownArgumentWarning, match=r"Leaf\.ask does not declare more") as caught:
        assert await leaf.ask(1, more=2) == 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, here() - 1)


def here() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno
