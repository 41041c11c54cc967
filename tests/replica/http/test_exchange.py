"""Deadlines of exchanges: which of the clocks that run for one and the same deadline is told of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nbcompose._replica.http.access import Access
from nbcompose._replica.http.asgi import AsgiExchange
from nbcompose._replica.http.endpoints import Site
from nbcompose._service.decorators import api
from nbcompose.errors import CallCancelled, DeadlineExceeded
from tests.patience import PATIENCE
from tests.replica.http.http_server import Runtime, declared


class Service:
    @api
    async def ask(self) -> None: ...


async def result(work: Any, timeout: float) -> Any:
    """The result of a call with that much time."""
    site = Site(Runtime(declared(Service)[0]), Access())
    exchange = AsgiExchange(site, {"method": "POST", "path": "/ask", "headers": []})

    async def call() -> Any:
        exchange.start_call("Front.ask", timeout)
        return await exchange.result(work)

    exchange._task = task = asyncio.create_task(call())
    async with asyncio.timeout(PATIENCE):
        try:
            return await task
        finally:
            assert task.cancelling() == 0
            exchange.connection_lost()


async def fail(error: Exception | None) -> None:
    """A call that takes for ever, or fails at once with `error`."""
    if error is not None:
        raise error
    await asyncio.Event().wait()


@pytest.mark.parametrize("below", [None, DeadlineExceeded("Leaf.check: no answer")])
async def test_the_call_s_own_limit_is_told_whoever_sees_first_that_it_is_over(below: DeadlineExceeded | None) -> None:
    with pytest.raises(DeadlineExceeded) as told:
        await result(fail(below), 0.0)
    assert str(told.value) == "Front.ask took longer than the 0 s that it had"
    assert told.value.__cause__ is below


async def test_what_had_less_time_than_the_call_tells_of_itself() -> None:
    below = DeadlineExceeded("https://elsewhere/check did not answer in time")
    with pytest.raises(DeadlineExceeded) as told:
        await result(fail(below), 60.0)
    assert told.value is below


@pytest.mark.parametrize("timeout", [0.0, 60.0])
async def test_a_timeout_of_the_api_s_own_stays_what_it_is(timeout: float) -> None:
    own = TimeoutError("the database is slow")
    with pytest.raises(TimeoutError) as told:
        await result(fail(own), timeout)
    assert told.value is own


async def test_what_ends_well_although_it_was_told_to_end_is_the_result() -> None:
    async def insist() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        raise AssertionError

    assert await result(insist(), 0.0) == "saved"


async def test_a_client_that_has_gone_already_cancels_the_call() -> None:
    site = Site(Runtime(declared(Service)[0]), Access())
    exchange = AsgiExchange(site, {"method": "POST", "path": "/ask", "headers": []})
    exchange._hop = "Front.ask"
    exchange.connection_lost()
    exchange._task = asyncio.ensure_future(exchange.result(fail(None)))
    with pytest.raises(CallCancelled, match=r"Front\.ask: the client has gone"):
        await asyncio.wait_for(exchange._task, PATIENCE)
