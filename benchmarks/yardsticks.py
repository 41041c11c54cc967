"""Raw costs of this machine, to divide by: in processes of their own, so that their affinity is the row's.

    python -m benchmarks.yardsticks ping-pong|rpc CALLS [PAUSE]     seconds of each round trip over a Unix socket, as
                                                                    JSON; with PAUSE seconds of rest after each

`ping-pong` is what the kernel takes for it: blocking calls and nothing else. `rpc` is the least that a call from one
Python process to another takes: event loops, a frame, pickle, a future at one end and a task at the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Literal, cast

import uvloop

SIZE = 64
WARM_UP = 200
HEADER = struct.Struct("<II")  # length of the body, id of the call

Yardstick = Literal["ping-pong", "rpc"]


def measure(yardstick: Yardstick, calls: int, pause: float = 0.0) -> list[float]:
    """Seconds of each call, in two fresh processes with the caller's CPU affinity.

    `pause`: seconds of rest after each call, as in a row that has one: one that wakes up is slower.
    """
    command = [sys.executable, "-m", "benchmarks.yardsticks", yardstick, str(calls), str(pause)]
    answer: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return answer


# -- blocking sockets


def ping_pong(connection: socket.socket, calls: int, pause: float) -> list[float]:
    """`SIZE` bytes there and back."""
    message = b"x" * SIZE
    durations = []
    for _ in range(calls):
        start = time.perf_counter()
        connection.sendall(message)
        connection.recv(SIZE)
        durations.append(time.perf_counter() - start)
        if pause:
            time.sleep(pause)
    return durations


def pong(connection: socket.socket) -> None:
    while data := connection.recv(SIZE):
        connection.sendall(data)


# -- event loops


class Frames(asyncio.Protocol):
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._left = b""
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._left + data if self._left else data
        while len(data) >= HEADER.size:
            length, number = HEADER.unpack_from(data)
            end = HEADER.size + length
            if len(data) < end:
                break
            self.received(number, pickle.loads(data[HEADER.size : end]))
            data = data[end:]
        self._left = data

    def received(self, number: int, value: object) -> None:
        raise NotImplementedError

    def send(self, number: int, value: object) -> None:
        assert self._transport is not None
        body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._transport.write(HEADER.pack(len(body), number) + body)


class Caller(Frames):
    """Each call has a future."""

    def __init__(self) -> None:
        super().__init__()
        self._futures: dict[int, asyncio.Future[object]] = {}
        self._number = 0

    async def call(self, name: str, *arguments: object) -> object:
        self._number += 1
        future = self._futures[self._number] = self._loop.create_future()
        self.send(self._number, (name, arguments))
        return await future

    def received(self, number: int, value: object) -> None:
        self._futures.pop(number).set_result(value)


class Callee(Frames):
    """Each call has a task. The loop holds a task until it waits for something, which none of these does."""

    def received(self, number: int, value: object) -> None:
        self._loop.create_task(self._run(number, *cast(tuple[str, tuple[object, ...]], value)))

    async def _run(self, number: int, name: str, arguments: tuple[object, ...]) -> None:
        self.send(number, await getattr(self, name)(*arguments))

    async def echo(self, text: str) -> str:
        return text


def rpc(connection: socket.socket, calls: int, pause: float) -> list[float]:
    """A call with a str of `SIZE` characters, and the same back."""

    async def run() -> list[float]:
        _, caller = await asyncio.get_running_loop().create_connection(Caller, sock=connection)
        text = "x" * SIZE
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            await caller.call("echo", text)
            durations.append(time.perf_counter() - start)
            if pause:
                await asyncio.sleep(pause)
        return durations

    durations: list[float] = uvloop.run(run())
    return durations


def answer_rpc(connection: socket.socket) -> None:
    async def run() -> None:
        _, callee = await asyncio.get_running_loop().create_connection(Callee, sock=connection)
        await callee.closed

    uvloop.run(run())


# -- the two processes

ENDS: dict[str, tuple[Callable[[socket.socket, int, float], list[float]], Callable[[socket.socket], None]]] = {
    "ping-pong": (ping_pong, pong),
    "rpc": (rpc, answer_rpc),
}


def main(yardstick: str, calls: int, pause: float = 0.0) -> None:
    call, answer = ENDS[yardstick]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.fork() == 0:
        ours.close()
        answer(theirs)
        os._exit(0)
    theirs.close()
    with ours:
        durations = call(ours, WARM_UP + calls, pause)
    os.wait()
    print(json.dumps(durations[WARM_UP:]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:]))
