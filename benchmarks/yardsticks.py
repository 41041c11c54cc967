"""Raw costs of this machine, to divide by: a process of its own, so that its affinity is the row's.

python -m benchmarks.yardsticks CALLS      seconds of each ping-pong of 64 bytes over a Unix socket, as JSON
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

SIZE = 64
WARM_UP = 200


def ping_pong(calls: int) -> list[float]:
    """Seconds of each round trip of `SIZE` bytes to a forked child, with blocking sockets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.fork() == 0:
        ours.close()
        while data := theirs.recv(SIZE):
            theirs.sendall(data)
        os._exit(0)
    theirs.close()
    message = b"x" * SIZE
    durations = []
    with ours:
        for _ in range(WARM_UP + calls):
            start = time.perf_counter()
            ours.sendall(message)
            ours.recv(SIZE)
            durations.append(time.perf_counter() - start)
    os.wait()
    return durations[WARM_UP:]


def ping_pong_elsewhere(calls: int) -> list[float]:
    """`ping_pong` in a fresh process with the caller's CPU affinity."""
    command = [sys.executable, "-m", "benchmarks.yardsticks", str(calls)]
    answer: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return answer


if __name__ == "__main__":
    print(json.dumps(ping_pong(int(sys.argv[1]))))
