"""A service as user code sees it, called over real sockets from threads and from other event loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import inspect
import pickle
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

import nbcompose
from nbcompose._protocol import address
from nbcompose._rpc.blocking import LoopThread
from nbcompose._rpc.client import Client, ReplicaRoute, ServiceRoute
from nbcompose._rpc.connection import serve
from nbcompose._rpc.proxy import Proxy
from nbcompose._rpc.server_calls import IncomingCall
from nbcompose._rpc.transport import SocketTransport
from nbcompose._service.signature import signature_of
from nbcompose._spec import ApiSpec, ParamSpec
from nbcompose._tracing.spans import CallContext, current_call
from nbcompose.errors import (
    BlockingCall,
    CallCancelled,
    DeadlineExceeded,
    InvalidArgument,
    RemoteTraceback,
    ServiceUnavailable,
    UnknownApi,
    UnknownArgumentWarning,
)
from tests.patience import PATIENCE, ever_longer, until

T = TypeVar("T")
OURS = str(Path(nbcompose.__file__).parent)

WRITE = ApiSpec(
    name="write",
    method="write",
    route="/write",
    params=(
        ParamSpec("prompt", "positional_or_keyword", True, "prompt: str"),
        ParamSpec("limit", "keyword_only", False, "limit: int = 64"),
        ParamSpec("sep", "keyword_only", False, "sep: str = 'a=b, c'"),
    ),
    returns="dict[str, int]",
    doc="Writes.\n\nAt length.",
)
STREAM = ApiSpec("tokens", "tokens", "/tokens", (ParamSpec("n", "positional_or_keyword", True, "n: int"),), stream=True)
ANYTHING = ApiSpec("anything", "anything", "/anything", (ParamSpec("more", "var_keyword", False, "**more"),))
HANG = ApiSpec("hang", "hang", "/hang", ())
TRICKLE = ApiSpec("trickle", "trickle", "/trickle", (), stream=True)
APIS = (WRITE, STREAM, ANYTHING, HANG, TRICKLE)


class Writer:
    """A served service, on the portal's loop."""

    def __init__(self) -> None:
        self.address = address.fresh("nbcompose.test")
        self.contexts: list[CallContext] = []
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await serve(address.listen(self.address), "a caller", self)

    async def stop(self) -> None:
        self._server.close()

    def on_call(self, call: IncomingCall) -> None:
        self.contexts.append(call.context)
        task = asyncio.ensure_future(self._answer(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call.context.on_cancel(task.cancel)

    def on_note(self, topic: str, value: Any) -> None: ...

    async def _answer(self, call: IncomingCall) -> None:
        args, kwargs = call.arguments
        try:
            if call.api == "hang":
                self.begun.set()
                await asyncio.Event().wait()
            elif call.api == "tokens":
                for i in range(args[0]):
                    await call.send(i)
                call.end()
            elif call.api == "trickle":
                await call.send("first")
                self.begun.set()
                await asyncio.Event().wait()
            elif args == ("boom",):
                raise ValueError("boom")
            else:
                call.reply((args, kwargs))
        except asyncio.CancelledError:
            self.cancelled.set()
        except ValueError as error:
            call.fail(error, "Writer.write")


@pytest.fixture
def portal() -> Iterator[LoopThread]:
    thread = LoopThread("test")
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def client(portal: LoopThread) -> Iterator[Client]:
    made = Client()
    yield made
    portal.run(_on_loop(made.close))


@pytest.fixture
def writer(portal: LoopThread, client: Client) -> Iterator[Writer]:
    made = Writer()
    portal.run(made.start())
    yield made
    portal.run(made.stop())


async def _on_loop(function: Callable[[], Any]) -> Any:
    return function()


@pytest.fixture
def known(portal: LoopThread, client: Client, writer: Writer) -> Proxy:
    """A proxy of a service that runs."""
    appear(portal, client, writer)
    return Proxy(SocketTransport("Writer", client, portal))


@pytest.fixture
def unknown(portal: LoopThread, client: Client) -> Proxy:
    """A proxy of a service that nobody has heard of yet."""
    return Proxy(SocketTransport("Writer", client, portal))


def appear(portal: LoopThread, client: Client, writer: Writer) -> None:
    route = ServiceRoute("Writer", APIS, 60.0, (ReplicaRoute(0, writer.address, 0),), ready=True)
    portal.run(_on_loop(lambda: client.update(route)))


def waiting_for(portal: LoopThread, client: Client) -> None:
    """Block until somebody waits for the service."""
    portal.run(until(lambda: "Writer" in client._changed))


# -- sync


def test_a_call_from_a_thread(known: Proxy) -> None:
    assert known.write("x", limit=3) == (("x",), {"limit": 3})
    assert known.to_sync.write("x") == (("x",), {})


def test_a_stream_from_a_thread(known: Proxy) -> None:
    assert list(known.tokens(100)) == list(range(100))


def test_leaving_a_stream_early_cancels_it(known: Proxy, writer: Writer) -> None:
    items = known.trickle()
    assert next(items) == "first"
    items.close()
    assert writer.cancelled.wait(PATIENCE)


def shown(error: BaseException) -> list[str]:
    """The files of a traceback's frames, but for those that hide themselves, which notebooks leave out."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return [f.f_code.co_filename for f in frames if not f.f_locals.get("__tracebackhide__")]


def test_an_error_shows_where_it_was_called_and_where_it_happened_and_nothing_between(known: Proxy) -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        known.write("boom")
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "Writer.write" in str(caught.value.__cause__)
    files = shown(caught.value)
    assert files[0] == __file__
    assert [f for f in files if f.startswith(OURS)] == []


def test_a_call_waits_for_a_service_that_is_not_there_yet(
    unknown: Proxy, portal: LoopThread, client: Client, writer: Writer
) -> None:
    results: list[Any] = []
    calls = [
        threading.Thread(target=lambda: results.append(unknown.write("x"))),
        threading.Thread(target=lambda: results.append(list(unknown.tokens(3)))),
    ]
    for thread in calls:
        thread.start()
    waiting_for(portal, client)
    appear(portal, client, writer)
    for thread in calls:
        thread.join(PATIENCE)
    assert sorted(results, key=str) == [(("x",), {}), [0, 1, 2]]


def test_waiting_for_a_service_is_within_the_caller_s_deadline(unknown: Proxy) -> None:
    token = current_call.set(CallContext(time.monotonic() + 0.05))
    try:
        with pytest.raises(ServiceUnavailable, match="not ready in time"):
            unknown.write("x")
    finally:
        current_call.reset(token)


def test_the_caller_s_context_travels(known: Proxy, writer: Writer) -> None:
    outer = CallContext(time.monotonic() + 30, trace_id=5, span_id=7)
    token = current_call.set(outer)
    try:
        known.write("x")
    finally:
        current_call.reset(token)
    seen = writer.contexts[-1]
    assert (seen.trace_id, seen.span_id) == (5, 7)
    assert seen.deadline == pytest.approx(outer.deadline, abs=1)
    known.write("x")
    assert writer.contexts[-1].trace_id != 5


@pytest.mark.parametrize("api", ["hang", "trickle"])
def test_cancelling_the_api_that_waits_ends_its_waiting(
    known: Proxy, portal: LoopThread, writer: Writer, api: str
) -> None:
    """A sync api runs in a thread that cannot be stopped; what it waits for can."""
    context = CallContext(time.monotonic() + 30)

    def cancel() -> None:
        assert writer.begun.wait(PATIENCE)
        portal.run(_on_loop(context.cancel))

    threading.Thread(target=cancel).start()
    token = current_call.set(context)
    try:
        with pytest.raises(CallCancelled):
            list(known.trickle()) if api == "trickle" else known.hang()
    finally:
        current_call.reset(token)
    assert writer.cancelled.wait(PATIENCE)


# -- sync, from a thread that no signal interrupts: an api's, in a replica


def elsewhere(function: Callable[[], T]) -> T:
    """What `function` returns or raises in another thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        return threads.submit(function).result(PATIENCE)


def in_context(context: CallContext, function: Callable[[], T]) -> T:
    token = current_call.set(context)
    try:
        return function()
    finally:
        current_call.reset(token)


def test_a_call_from_a_worker_thread(known: Proxy, writer: Writer, client: Client) -> None:
    context = CallContext(time.monotonic() + 30, trace_id=5, span_id=7)
    for _ in range(2):  # the first has to connect
        result = elsewhere(lambda: in_context(context, lambda: known.write("x", limit=3)))
        assert result == (("x",), {"limit": 3})
        assert (writer.contexts[-1].trace_id, writer.contexts[-1].span_id) == (5, 7)
    assert not context._callbacks  # nothing is left behind in the context of an api that makes many calls
    assert [c.in_flight for c in client._connections.values()] == [0]


def test_an_error_in_a_worker_thread(known: Proxy) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="boom") as caught:
            elsewhere(lambda: known.write("boom"))
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert [f for f in shown(caught.value) if f.startswith(OURS)] == []


def test_arguments_that_cannot_be_sent_from_a_worker_thread(known: Proxy) -> None:
    elsewhere(lambda: known.write("x"))
    with pytest.raises(InvalidArgument, match=r"_thread\.lock"):
        elsewhere(lambda: known.write(threading.Lock()))


@pytest.mark.parametrize("connected", [True, False])
def test_cancelling_the_api_whose_worker_thread_waits(
    known: Proxy, portal: LoopThread, writer: Writer, client: Client, connected: bool
) -> None:
    if connected:
        known.write("x")
    context = CallContext(time.monotonic() + 30)

    def cancel() -> None:
        assert writer.begun.wait(PATIENCE)
        portal.run(_on_loop(context.cancel))

    threading.Thread(target=cancel).start()
    with pytest.raises(CallCancelled):
        elsewhere(lambda: in_context(context, known.hang))
    assert writer.cancelled.wait(PATIENCE)
    assert portal.run(_on_loop(lambda: [c.in_flight for c in client._connections.values()])) == [0]


def test_an_api_that_was_cancelled_before_it_calls_sends_nothing(known: Proxy, writer: Writer) -> None:
    known.write("x")
    context = CallContext()
    context.cancel()
    with pytest.raises(CallCancelled):
        elsewhere(lambda: in_context(context, lambda: known.write("y")))
    known.write("z")
    assert len(writer.contexts) == 2


def test_a_deadline_in_a_worker_thread(known: Proxy, writer: Writer) -> None:
    known.write("x")
    for seconds in ever_longer():
        with pytest.raises(DeadlineExceeded):
            elsewhere(partial(in_context, CallContext(time.monotonic() + seconds), known.hang))
        if writer.begun.is_set():
            break
    assert writer.cancelled.wait(PATIENCE)


def test_a_call_that_never_left_goes_to_another_replica(known: Proxy, portal: LoopThread, client: Client) -> None:
    """As from the loop: a connection that ends before the peer has accepted it has carried nothing."""
    known.write("x")

    def pretend() -> None:
        (connection,) = client._connections.values()
        connection.greeted = False
        connection.send = lambda *_: portal.loop.call_soon(connection._transport.abort)  # type: ignore

    portal.run(_on_loop(pretend))
    assert elsewhere(lambda: known.write("y")) == (("y",), {})


def test_waiting_on_the_event_loop_is_refused_with_what_to_write(known: Proxy, portal: LoopThread) -> None:
    async def api() -> None:
        known.write("x")

    with pytest.raises(BlockingCall, match=r"Writer\.write\(\.\.\.\) waits .* `await Writer\.to_async\.write"):
        portal.run(api())


def test_a_thread_that_an_async_api_starts_may_wait(known: Proxy, portal: LoopThread) -> None:
    async def api() -> Any:
        context = CallContext()
        context.on_loop = True  # as the replica marks an async api
        current_call.set(context)
        return await asyncio.to_thread(known.write, "x")

    assert portal.run(api()) == (("x",), {})


# -- async


async def test_awaited_from_the_notebook_s_loop(known: Proxy) -> None:
    assert await known.to_async.write("x", limit=1) == (("x",), {"limit": 1})
    assert await asyncio.gather(*(known.to_async.write(str(i)) for i in range(64))) == [
        ((str(i),), {}) for i in range(64)
    ]
    assert [i async for i in known.to_async.tokens(50)] == list(range(50))
    with pytest.raises(ValueError, match="boom"):
        await known.to_async.write("boom")


def test_awaited_on_the_portal_s_own_loop(known: Proxy, portal: LoopThread) -> None:
    async def api() -> Any:
        stream = [i async for i in known.to_async.tokens(3)]
        return await known.to_async.write("x"), stream

    assert portal.run(api()) == ((("x",), {}), [0, 1, 2])


async def test_cancelling_from_another_loop(known: Proxy, writer: Writer) -> None:
    task = asyncio.create_task(known.to_async.hang())
    assert await asyncio.to_thread(writer.begun.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(writer.cancelled.wait, PATIENCE)


async def test_a_deadline_from_another_loop(known: Proxy) -> None:
    token = current_call.set(CallContext(time.monotonic() + 0.05))
    try:
        with pytest.raises(DeadlineExceeded):
            await known.to_async.hang()
    finally:
        current_call.reset(token)


async def _use(how: str, proxy: Proxy) -> Any:
    method: Callable[..., Any] = proxy.to_async.write
    if how == "await":
        return await method("x")
    if how == "gather":
        return (await asyncio.gather(method("x")))[0]
    if how == "wait_for":
        return await asyncio.wait_for(method("x"), PATIENCE)
    if how == "task":
        return await asyncio.create_task(method("x"))
    async with asyncio.TaskGroup() as group:
        return await group.create_task(method("x"))


@pytest.mark.parametrize("how", ["await", "gather", "wait_for", "task", "group"])
async def test_what_is_not_known_yet_may_be_awaited_in_every_way(
    unknown: Proxy, portal: LoopThread, client: Client, writer: Writer, how: str
) -> None:
    waiting = asyncio.ensure_future(_use(how, unknown))
    await asyncio.to_thread(waiting_for, portal, client)
    appear(portal, client, writer)
    assert await waiting == (("x",), {})


async def test_what_is_not_known_yet_may_be_iterated(
    unknown: Proxy, portal: LoopThread, client: Client, writer: Writer
) -> None:
    async def read() -> list[int]:
        return [i async for i in unknown.to_async.tokens(3)]

    waiting = asyncio.ensure_future(read())
    await asyncio.to_thread(waiting_for, portal, client)
    appear(portal, client, writer)
    assert await waiting == [0, 1, 2]


async def test_what_is_not_known_yet_may_be_cancelled(unknown: Proxy, portal: LoopThread, client: Client) -> None:
    task = asyncio.create_task(unknown.to_async.write("x"))
    await asyncio.to_thread(waiting_for, portal, client)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    unknown.to_async.write("closed, as a coroutine may be").close()


async def test_the_wrong_way_to_take_a_result_is_named(
    unknown: Proxy, portal: LoopThread, client: Client, writer: Writer
) -> None:
    awaited, iterated, missing = unknown.to_async.tokens(3), unknown.to_async.write("x"), unknown.to_async.wirte("x")
    appear(portal, client, writer)
    with pytest.raises(TypeError, match=r"yields: write `async for item in Writer\.to_async\.tokens\(\.\.\.\)`"):
        await awaited
    with pytest.raises(TypeError, match=r"Writer.write gives one value .*: write `await Writer\.to_async\.write"):
        async for _ in iterated:
            pass
    with pytest.raises(UnknownApi, match="Writer has no api 'wirte'; it has: write, tokens"):
        await missing


# -- arguments that are not declared


def test_unknown_arguments_are_ignored_and_told_once_for_each_place(known: Proxy) -> None:
    with warnings.catch_warnings(record=True) as caught:
        for _ in range(3):
            warnings.simplefilter("always")  # makes Python forget where it has warned
            assert known.write("x", limit=1, max_length=5, top_k=2) == (("x",), {"limit": 1})
        known.write("x", max_length=5)
    first, second = caught
    assert first.category is UnknownArgumentWarning
    assert str(first.message) == (
        "Writer.write does not declare max_length, top_k: ignored. "
        "Its signature is write(prompt: str, *, limit: int = 64, sep: str = 'a=b, c') -> dict[str, int]"
    )
    assert first.filename == __file__
    source = inspect.getsource(test_unknown_arguments_are_ignored_and_told_once_for_each_place).splitlines()
    start = inspect.getsourcelines(test_unknown_arguments_are_ignored_and_told_once_for_each_place)[1]
    assert "max_length=5, top_k=2" in source[first.lineno - start]
    assert 'known.write("x", max_length=5)' in source[second.lineno - start]


async def test_unknown_arguments_of_awaited_calls(known: Proxy) -> None:
    with pytest.warns(UnknownArgumentWarning, match="max_length") as caught:
        assert await known.to_async.write("x", max_length=5) == (("x",), {})
    assert caught[0].filename == __file__


async def test_unknown_arguments_of_a_service_that_is_not_known_yet(
    unknown: Proxy, portal: LoopThread, client: Client, writer: Writer
) -> None:
    in_loop, in_thread = unknown.to_async.write, unknown.write
    later = in_loop("x", max_length=5)
    appear(portal, client, writer)
    with pytest.warns(UnknownArgumentWarning, match="max_length") as caught:
        assert await later == (("x",), {})
    assert caught[0].filename == __file__
    with pytest.warns(UnknownArgumentWarning, match="max_length") as caught:
        assert in_thread("x", max_length=5) == (("x",), {})
    assert caught[0].filename == __file__


def test_an_api_that_takes_any_keyword_gets_them_all(known: Proxy) -> None:
    assert known.anything(a=1, b=2) == ((), {"a": 1, "b": 2})


# -- looking at it


def test_help(known: Proxy) -> None:
    assert dir(known) == ["anything", "hang", "to_async", "to_sync", "tokens", "trickle", "write"]
    for method in (known.write, known.to_async.write):
        assert str(method.__doc__).startswith("Writes.\n\nAt length.\n\nCall: ")
        assert method.__name__ == "write"
        signature = inspect.signature(method)
        assert str(signature) == "(prompt: str, *, limit: int = 64, sep: str = 'a=b, c') -> dict[str, int]"
        assert repr(method) == f"<api Writer.write{signature}>"
    assert repr(known) == "<service Writer>"
    assert repr(known.to_async) == "<service Writer, awaited>"
    assert repr(known.to_async.to_sync) == "<service Writer>"


def test_help_of_what_is_not_known_yet(unknown: Proxy) -> None:
    assert dir(unknown) == ["to_async", "to_sync"]
    assert repr(unknown.write) == "<api Writer.write>"
    assert str(inspect.signature(unknown.write)) == "(*args: Any, **kwargs: Any) -> Any".replace("Any", "'Any'")


def test_an_unknown_api_lists_those_there_are(known: Proxy) -> None:
    with pytest.raises(UnknownApi, match="Writer has no api 'wirte'; it has: write, tokens"):
        known.wirte("x")
    assert not hasattr(known, "shape")
    assert not hasattr(known, "_repr_html_")
    assert getattr(known, "__array__", None) is None


def test_a_proxy_can_be_copied_and_says_why_it_cannot_be_sent(known: Proxy) -> None:
    assert copy.copy(known).write("x") == (("x",), {})
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(known)


def test_signatures_of_every_kind() -> None:
    params = (
        ParamSpec("a", "positional_only", True, "a: int"),
        ParamSpec("b", "positional_or_keyword", False, "b={'x': [1, 2]}"),
        ParamSpec("rest", "var_positional", False, "*rest: float"),
        ParamSpec("c", "keyword_only", True, "c"),
        ParamSpec("d", "keyword_only", False, "d: Literal['=', ','] = '='"),
        ParamSpec("more", "var_keyword", False, "**more"),
    )
    spec = ApiSpec("f", "f", "/f", params)
    assert (
        str(signature_of(spec)) == "(a: int, /, b={'x': [1, 2]}, *rest: float, c, d: Literal['=', ','] = '=', **more)"
    )
    odd = ApiSpec("f", "f", "/f", (ParamSpec("x", "positional_or_keyword", False, "x: Any = <odd>"), *params[2:4]))
    assert str(signature_of(odd)) == "(x=..., *rest, c)"
