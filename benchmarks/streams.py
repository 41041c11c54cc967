"""What a stream costs that is the argument of a call.

python -m benchmarks.streams             every row; writes build/streams.md and build/streams.json (make bench-streams)
python -m benchmarks.streams --quick     fewer rounds and items: whether it works

An item is the time at which it was made; its consumer subtracts that from its own, of the clock that all processes of
the machine share. Between two items the producer pauses, so that each finds everybody waiting: what is timed is the way
of one item. The yardstick pauses too, since a processor that has slept is slower. Processes are on one CPU in the rows
with a yardstick, which are taken in turn, as in `README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import nbcompose
from benchmarks import machine, report, yardsticks
from benchmarks.machine import pinned
from benchmarks.rounds import ROUNDS, median
from benchmarks.row import Aim, Figure, Row
from benchmarks.servers import BUILD
from benchmarks.stream_services import PAUSE, Pipeline, Reader, Writer

LINES = 100_000
ABANDONED = 1000


def ratios(rounds: int, count: int) -> list[Row]:
    """The rows with a yardstick, in turn."""
    with pinned(), nbcompose.run(Pipeline) as pipeline:
        takes: dict[str, Callable[[], float]] = {
            "direct": lambda: statistics.median(pipeline.direct(count)),
            "relayed": lambda: statistics.median(pipeline.relayed(count)),
            "first": lambda: statistics.median(pipeline.first(count // 10)),
            "hop": lambda: statistics.median(pipeline.hop(count)),
            "least RPC": lambda: statistics.median(yardsticks.measure("rpc", count, PAUSE)),
        }
        for take in takes.values():
            take()
        samples: dict[str, list[float]] = {name: [] for name in takes}
        for _ in range(rounds):
            for name, take in random.sample(list(takes.items()), len(takes)):
                samples[name].append(take())
    return [
        _row("item, producer → consumer, direct, p50, one CPU", Aim(1.5), "least RPC", "direct", "least RPC", samples),
        _row(
            "item, relayed through the caller, p50, one CPU", Aim(2.2), "the direct one", "relayed", "direct", samples
        ),
        _row("first item of the consumer after the first of the producer", Aim(3), "one hop", "first", "hop", samples),
    ]


def _row(what: str, aim: Aim, yardstick: str, ours: str, other: str, samples: dict[str, list[float]]) -> Row:
    pairs = list(zip(samples[ours], samples[other], strict=True))
    return Row(
        what,
        aim,
        yardstick,
        Figure.of(samples[ours], "s"),
        Figure.of(samples[other], "s"),
        median([a / b for a, b in pairs]),
        samples={ours: samples[ours], other: samples[other]},
    )


async def both_ways(url: str, lines: int) -> tuple[float, int, list[int]]:
    """Send lines to `Reader.echoes` and read what comes, at once. Returns seconds, lines that came, and the memory of
    the replica in bytes, on the way.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /echoes HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/x-ndjson\r\n"
    writer.write(f"{head}Accept: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    memory: list[int] = []

    async def send() -> None:
        for first in range(0, lines, 500):
            data = b"".join(b'{"text": "word %d"}\n' % i for i in range(first, min(first + 500, lines)))
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
            if first % (lines // 10) == 0:
                memory.append(await asyncio.to_thread(Reader.memory))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    begin, count = time.perf_counter(), 0
    sending = asyncio.ensure_future(send())
    await reader.readuntil(b"\r\n\r\n")
    while size := int(await reader.readline(), 16):
        data = await reader.readexactly(size + 2)
        for line in data.splitlines():
            if line:
                assert json.loads(line) == f"word {count}", (line, count)
                count += 1
    await sending
    seconds = time.perf_counter() - begin
    writer.close()
    await writer.wait_closed()
    return seconds, count, memory


def abandon(streams: int) -> dict[str, dict[str, int]]:
    """Leave streams at random places; return what each process has more of than before, of what may be left."""
    chosen = random.Random(0)

    def one(at: int) -> None:
        words: Any = Writer.words(100) if at % 2 else (f"word {i}" for i in range(100))
        if at % 3:
            Reader.some(words, chosen.randrange(100))
            return
        items: Any = Reader.echoes(words)
        for _ in range(chosen.randrange(100)):
            next(items)
        items.close()

    for at in range(30):
        one(at)
    before = {"Writer": Writer.left(), "Reader": Reader.left()}
    for at in range(streams):
        one(at)
    time.sleep(1)
    after = {"Writer": Writer.left(), "Reader": Reader.left()}
    return {
        name: {kind: after[name][kind] - number for kind, number in found.items()} for name, found in before.items()
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and items: whether it works")
    quick = parser.parse_args(arguments).quick
    about = machine.describe()
    print(", ".join(f"{key} {value}" for key, value in about.items()), file=sys.stderr)
    rows = ratios(2 if quick else ROUNDS, 200 if quick else 1000)
    lines, streams = (2000, 60) if quick else (LINES, ABANDONED)
    with nbcompose.run(Pipeline), nbcompose.run(Reader, http=True) as reader:
        seconds, count, memory = asyncio.run(both_ways(reader.url, lines))
        left = abandon(streams)
    growth = (max(memory) - memory[len(memory) // 4]) / 2**20
    said = [
        f"- {lines:,} lines both ways over HTTP at once: {count:,} came, {lines / seconds:,.0f} lines/s each way; the "
        f"replica's memory grew by {growth:.1f} MiB after the first quarter",
        f"- {streams:,} streams abandoned at random places; what each process has more of than before: {left}",
    ]
    print(report.table(rows, ()))
    print("\n".join(["", report.notes(rows), *said]))
    if not quick:
        report.write(BUILD, rows, about, "streams", ())
    return 0 if count == lines else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
