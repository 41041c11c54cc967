"""Async work for an api that may be cancelled: what sync code in a thread waits for ends when its caller gives up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from nbcompose.tracing import CallContext

T = TypeVar("T")


class Over(Exception):
    """The end of what yields: StopAsyncIteration may not leave a coroutine."""


async def step(items: AsyncGenerator[T, None]) -> T:
    """The next item. Raises `Over`."""
    try:
        return await anext(items)
    except StopAsyncIteration:
        raise Over from None


async def with_cancel(context: CallContext, call: Coroutine[Any, Any, T]) -> T:
    """Await `call`, and cancel it when the api that makes it is cancelled.

    For sync apis: their thread cannot be stopped, but what it waits for can. Async ones are cancelled as tasks.
    On the loop where the api's context is cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    context.on_cancel(task.cancel)
    try:
        return await call
    finally:
        context.forget(task.cancel)


async def cancellable_items(context: CallContext, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """As `with_cancel`, for what yields."""
    async with contextlib.aclosing(items):
        while True:
            try:
                item = await with_cancel(context, step(items))
            except Over:
                return
            yield item
            del item  # it may be large, and the next one may be long in coming
