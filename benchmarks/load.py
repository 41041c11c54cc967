"""The HTTP load generator: a process of its own, the same for every peer, and as thin as it can be.

HTTP/1.1 with keep-alive over plain asyncio protocols: httpx or aiohttp would cost more than some of the servers.

    python -m benchmarks.load URL CLIENTS CALLS SECONDS BODY      prints a `Load` as JSON

Without a BODY ("") it is a GET. `BENCH_AUTHORIZATION` is sent where it is set, or else `NBCOMPOSE_TOKEN`.

Each of CLIENTS connections sends its next call when it has the answer to the last one. It ends after CALLS calls or
SECONDS seconds. A call fails when its status is not 200, or its connection breaks (a new one is then made), or it has
no answer `PATIENCE` seconds after the end.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. `p50` and `p99` are seconds of the calls that succeeded."""

    calls: int
    failures: int
    seconds: float
    p50: float
    p99: float
    outcomes: dict[str, int]

    @property
    def rate(self) -> float:
        """Successful calls a second."""
        return (self.calls - self.failures) / self.seconds


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self.ends = False  # the server has said that this was the last answer
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if separator and _complete(head.lower(), body) and not self._answer.done():
            self._buffer = b""
            self.ends = b"connection: close" in head.lower()
            self._answer.set_result(int(head[9:12]))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def send(self, request: bytes) -> int:
        """The status of the answer; ConnectionError when the connection is, or goes, away."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("closed between two calls")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


def _complete(head: bytes, body: bytes) -> bool:
    """Whether `body` is all of it; `head` is in lower case."""
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    _, _, rest = head.partition(b"content-length:")
    return len(body) >= int(rest.split(b"\r\n", 1)[0] or 0)


def request(url: str, body: str, authorization: str) -> bytes:
    """A call, as it goes over a connection that is kept; without a body a GET."""
    parts = urlsplit(url)
    content = body.encode()
    about = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if body else ""
    authorization = f"Authorization: {authorization}\r\n" if authorization else ""
    head = (
        f"{'POST' if body else 'GET'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}{about}"
        "Accept: application/json\r\n\r\n"
    )
    return head.encode() + content


def _authorization() -> str:
    token = os.environ.get("NBCOMPOSE_TOKEN")
    return os.environ.get("BENCH_AUTHORIZATION") or (f"Bearer {token}" if token else "")


class Clients:
    """What the clients of one run share: calls left, the time, and what came of each call."""

    def __init__(self, url: str, calls: int, seconds: float, body: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._request = request(url, body, _authorization())
        self._left = iter(range(calls))
        self._deadline = time.perf_counter() + seconds
        self._open: set[Connection] = set()
        self.durations: list[float] = []
        self.outcomes: Counter[str] = Counter()

    async def client(self) -> None:
        connection: Connection | None = None
        for _ in self._left:
            start = time.perf_counter()
            if start > self._deadline:
                break
            try:
                connection = connection or await self._connect()
                status = await connection.send(self._request)
            except OSError as error:
                self.outcomes[type(error).__name__] += 1
                self._close(connection)
                connection = None
                continue
            self.outcomes[str(status)] += 1
            if connection.ends:
                self._close(connection)
                connection = None
            if status == 200:
                self.durations.append(time.perf_counter() - start)
        self._close(connection)

    def give_up(self) -> None:
        for connection in self._open:
            connection.close()

    async def _connect(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        self._open.add(connection)
        return connection

    def _close(self, connection: Connection | None) -> None:
        if connection is not None:
            connection.close()
            self._open.discard(connection)


async def generate(url: str, clients: int, calls: int, seconds: float, body: str) -> Load:
    run = Clients(url, calls, seconds, body)
    watchdog = asyncio.get_running_loop().call_later(seconds + PATIENCE, run.give_up)
    begin = time.perf_counter()
    await asyncio.gather(*(run.client() for _ in range(clients)))
    elapsed = time.perf_counter() - begin
    watchdog.cancel()
    durations = sorted(run.durations)
    done = run.outcomes.total()
    return Load(
        calls=done,
        failures=done - run.outcomes["200"],
        seconds=elapsed,
        p50=statistics.median(durations) if durations else math.nan,
        p99=durations[int(len(durations) * 0.99)] if durations else math.nan,
        outcomes=dict(run.outcomes),
    )


def generate_elsewhere(
    url: str, clients: int, calls: int, body: object = None, seconds: float = 60, authorization: str = ""
) -> Load:
    """`generate` in a process of its own with the caller's CPU affinity. Without a body the calls are GETs."""
    content = "" if body is None else json.dumps(body)
    command = [sys.executable, "-m", "benchmarks.load", url, str(clients), str(calls), str(seconds), content]
    environment = {**os.environ, "BENCH_AUTHORIZATION": authorization}
    answer = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, timeout=seconds + 2 * PATIENCE, env=environment
    )
    return Load(**json.loads(answer.stdout))


if __name__ == "__main__":
    _, url, clients, calls, seconds, body = sys.argv
    load = uvloop.run(generate(url, int(clients), int(calls), float(seconds), body))
    print(json.dumps(asdict(load)))
