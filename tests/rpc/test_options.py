"""`Answer.ask.options(timeout=…)`: a limit of one's own on a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nbcompose import api, depends, service
from nbcompose._tracing.spans import CallContext
from nbcompose.errors import DeadlineExceeded, NbcomposeError
from tests.conftest import Running
from tests.patience import PATIENCE


@service(traffic={"timeout": 0.3}, threads=4)
class Slow:
    @api
    async def wait(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    @api
    async def items(self, seconds: float) -> Any:
        yield 1
        await asyncio.sleep(seconds)
        yield 2


@service
class Front:
    slow = depends(Slow)

    @api
    async def within(self, seconds: float, timeout: float) -> float:
        return await self.slow.wait.options(timeout=timeout)(seconds)


def test_a_context_with_a_timeout_of_its_own() -> None:
    outer = CallContext(trace_id=7, span_id=3)
    inner = outer.within(5.0)
    assert (inner.trace_id, inner.span_id, outer.deadline) == (7, 3, None)
    assert inner.deadline is not None
    assert inner.limited(1.0) == inner.deadline  # whatever the service allows
    told: list[str] = []
    inner.on_cancel(lambda: told.append("cancelled"))
    outer.cancel()
    assert (inner.cancelled, told) == (True, ["cancelled"])


def test_the_deadline_of_the_api_that_calls_still_holds() -> None:
    outer = CallContext(deadline=1.0)
    assert outer.within(1e9).deadline == 1.0


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), float("nan"), True, "5", None])
def test_what_is_no_timeout(timeout: Any) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds above 0"):
        Front().slow.wait.options(timeout=timeout)


async def test_in_the_process_it_is_taken() -> None:
    assert await Front().within(0.0, PATIENCE) == 0.0


def test_of_a_service_that_does_not_run() -> None:
    with pytest.raises(NbcomposeError, match="Slow does not run"):
        Slow.wait.options(timeout=5.0)


@pytest.mark.system
def test_shorter_and_longer_than_the_service_allows(running: Running) -> None:
    slow = running.up(Slow)
    with pytest.raises(DeadlineExceeded):
        slow.wait(PATIENCE)
    assert slow.wait.options(timeout=PATIENCE)(0.5) == 0.5
    with pytest.raises(DeadlineExceeded, match=r"within the 0[.]\d+ s that it had"):
        slow.wait.options(timeout=0.1)(PATIENCE)
    assert list(slow.items.options(timeout=PATIENCE)(0.5)) == [1, 2]
    with pytest.raises(DeadlineExceeded):
        list(slow.items(PATIENCE))


@pytest.mark.system
async def test_of_a_dependency_and_in_async_code(running: Running) -> None:
    front = running.up(Slow, Front) and running.registry.proxy("Front")
    assert await front.to_async.within(0.5, PATIENCE) == 0.5
    with pytest.raises(DeadlineExceeded):
        await front.to_async.within(PATIENCE, 0.1)
    # The caller's own deadline holds, however long the call that it makes may take.
    with pytest.raises(DeadlineExceeded):
        await front.to_async.within.options(timeout=0.2)(PATIENCE, PATIENCE)
