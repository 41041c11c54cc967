"""Clients that call a service over HTTP for as long as it is edited: a process of its own. Every call is counted.

    python -m benchmarks.edit_load URL CLIENTS      prints a line when all have had an answer, then a `Load`

The token is the first line of its input, whose end is the sign to stop: clients go on for `AFTER` seconds. A client
sends its next call when it has the answer to the last one, on one kept connection, and never sends a call twice. A
call fails when its status is not 200, or its connection breaks.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

CLIENTS = 16
CALLS = 50_000  # of one client, at most
SECONDS = 300.0
AFTER = 2.0  # seconds: by then, nobody is answered by a version that was replaced
PATIENCE = 30.0  # seconds that one call may take
FAILED = ""  # in the place of an answer
RESPITE = 0.01  # seconds after a failure, so that a server that is gone is not asked without end


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it: calls by answer, failures by kind, and each client's last answer, or `FAILED`.

    `after`: answers to calls that were made after the sign to stop. `full`: every client went on until then.
    """

    answers: dict[str, int]
    after: dict[str, int]
    failures: dict[str, int]
    last: list[str]
    seconds: float
    full: bool

    @property
    def calls(self) -> int:
        return sum(self.answers.values()) + self.failed

    @property
    def during(self) -> int:
        """Those that were made before the sign."""
        return self.calls - sum(self.after.values())

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


class Client(threading.Thread):
    """One of them. `begun` is set when it has had an answer, or is done."""

    def __init__(self, url: str, token: str, stop: threading.Event) -> None:
        super().__init__()
        parts = urlsplit(url)
        self.answers: Counter[str] = Counter()
        self.after: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.last = FAILED
        self.full = False
        self.begun = threading.Event()
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=PATIENCE)
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        self._stop_asked = stop

    def run(self) -> None:
        deadline = time.monotonic() + SECONDS
        for _ in range(CALLS):
            now, asked = time.monotonic(), self._stop_asked.is_set()
            if not self.full and asked:
                self.full, deadline = True, now + AFTER
            if now > deadline:
                break
            self.last = self._call()
            if self.last != FAILED:
                self.begun.set()
                self.after[self.last] += asked
        self.begun.set()
        self._connection.close()

    def _call(self) -> str:
        """The answer, or `FAILED`."""
        try:
            self._connection.request("POST", self._path, "{}", self._headers)
            response = self._connection.getresponse()
            content = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return self._failed(type(error).__name__)
        if response.status != 200:
            return self._failed(f"{response.status} {content[:200]}")
        # BentoML answers a str as bare text.
        answer = str(json.loads(content) if "json" in response.headers.get_content_type() else content)
        self.answers[answer] += 1
        return answer

    def _failed(self, kind: str) -> str:
        self.failures[kind] += 1
        self._stop_asked.wait(RESPITE)
        return FAILED


class Running:
    """The load while it is made."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def stop(self) -> Load:
        """Raises `RuntimeError` where it ended before."""
        said, _ = self._process.communicate(timeout=3 * PATIENCE)
        load = Load(**json.loads(said))
        if not load.full:
            raise RuntimeError(f"the load ended before the edits: {load.calls} calls in {load.seconds:.0f} s")
        return load


@contextmanager
def load_elsewhere(url: str, token: str) -> Iterator[Running]:
    """`CLIENTS` clients call `url` while the block runs, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.edit_load", url, str(CLIENTS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            process.stdin.write(f"{token}\n")
            process.stdin.flush()
            process.stdout.readline()
            yield Running(process)
        finally:
            if process.poll() is None:
                process.kill()


def main(url: str, clients: int) -> None:
    token = sys.stdin.readline().strip()
    stop = threading.Event()
    threads = [Client(url, token, stop) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.begun.wait()
    print("every client has had an answer", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    load = Load(
        answers=dict(sum((t.answers for t in threads), Counter())),
        after=dict(+sum((t.after for t in threads), Counter())),
        failures=dict(sum((t.failures for t in threads), Counter())),
        last=[t.last for t in threads],
        seconds=time.perf_counter() - begin,
        full=all(t.full for t in threads),
    )
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
