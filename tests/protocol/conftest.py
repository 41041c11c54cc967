"""The loop of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """They run on the loop that processes have which answer over the socket.

    asyncio's own loses a connection that it has accepted when it is closed, such as that of a Jupyter server on the
    same machine, which has noticed the socket of a test.
    """
    return {"uvloop": uvloop.new_event_loop}
