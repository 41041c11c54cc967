"""What is awaited on behalf of an api ends when the caller of that api gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from nbcompose._rpc.blocking import cancellable_items, with_cancel
from nbcompose._tracing.spans import CallContext


async def forever(begun: asyncio.Event) -> None:
    begun.set()
    await asyncio.Event().wait()


async def test_a_result_and_no_callback_left() -> None:
    context = CallContext()
    assert await with_cancel(context, asyncio.sleep(0, "x")) == "x"
    context.cancel()  # cancels nothing of ours
    await asyncio.sleep(0)


async def test_the_context_cancels_what_is_awaited() -> None:
    context, begun = CallContext(), asyncio.Event()
    task = asyncio.ensure_future(with_cancel(context, forever(begun)))
    await begun.wait()
    context.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_context_that_is_cancelled_already_lets_nothing_begin_to_wait() -> None:
    context = CallContext()
    context.cancel()
    task = asyncio.ensure_future(with_cancel(context, forever(asyncio.Event())))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_streams_too_between_items_and_while_one_is_awaited() -> None:
    for at_once in (True, False):
        closed = asyncio.Event()
        waiting = asyncio.Event()

        async def items(closed: asyncio.Event = closed, waiting: asyncio.Event = waiting) -> AsyncGenerator[int, None]:
            try:
                yield 1
                waiting.set()
                await asyncio.Event().wait()
            finally:
                closed.set()

        context = CallContext()
        stream = cancellable_items(context, items())
        assert await anext(stream) == 1
        if at_once:
            context.cancel()
        task = asyncio.ensure_future(anext(stream))
        if not at_once:
            await waiting.wait()
            context.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed.is_set()


async def test_a_stream_that_is_left_early_is_closed() -> None:
    closed = asyncio.Event()

    async def items() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    stream = cancellable_items(CallContext(), items())
    assert await anext(stream) == 1
    await stream.aclose()
    assert closed.is_set()
