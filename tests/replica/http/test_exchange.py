"""Calls from outside: which of the clocks that run for one and the same deadline is told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbcompose._replica.http.backend import HttpBackend
from nbcompose._replica.instance import Runtime
from nbcompose._rpc.client import Client
from nbcompose._spec import ApiSpec
from nbcompose._tracing.spans import CallContext
from nbcompose.errors import DeadlineExceeded
from tests.patience import PATIENCE


class Below:
    """A replica whose calls take for ever, or fail at once with `error`."""

    def __init__(self, error: Exception | None) -> None:
        self.spec = SimpleNamespace(name="Front", traffic=SimpleNamespace(timeout=60.0))
        self.index, self.load = 0, 0
        self._error = error

    async def invoke(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    async def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        yield 1
        await self.invoke(api, arguments, context)


async def outcome(error: Exception | None, timeout: float, is_stream: bool) -> BaseException:
    """What a call raises."""
    outside = HttpBackend(cast("Runtime", Below(error)), Client())
    api = cast("ApiSpec", SimpleNamespace(name="ask"))
    context = outside.context(None, timeout)
    call = aget(outside.stream(api, {}, context)) if is_stream else outside.invoke(api, {}, context)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TimeoutError) as raised:
            await call
    return raised.value


async def aget(items: AsyncGenerator[Any, None]) -> list[Any]:
    return [item async for item in items]


streams = pytest.mark.parametrize("is_stream", [False, True])


@streams
@pytest.mark.parametrize("below", [None, DeadlineExceeded("Leaf.check: no answer")])
async def test_the_call_s_own_limit_is_told_whoever_sees_first_that_it_is_over(
    below: DeadlineExceeded | None, is_stream: bool
) -> None:
    told = await outcome(below, 0.0, is_stream)
    assert type(told) is DeadlineExceeded
    assert str(told) == "Front.ask took longer than the 0 s that it had"
    assert told.__cause__ is below or below is None


@streams
async def test_what_had_less_time_than_the_call_tells_of_itself(is_stream: bool) -> None:
    below = DeadlineExceeded("https://elsewhere/check did not answer in time")
    assert await outcome(below, 60.0, is_stream) is below


@streams
@pytest.mark.parametrize("timeout", [0.0, 60.0])
async def test_a_timeout_of_the_api_s_own_stays_what_it_is(timeout: float, is_stream: bool) -> None:
    own = TimeoutError("the database is slow")
    assert await outcome(own, timeout, is_stream) is own
