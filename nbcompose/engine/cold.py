"""A replica that imports everything by itself: where there is no zygote, or it would have imported with another
environment. What a replica does once it runs is replica/main.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Mapping

from nbcompose.errors import LaunchError
from nbcompose.replica.birth import Files


def start_cold(files: Files, environment: Mapping[str, str]) -> tuple[int, asyncio.Future[int | None]]:
    """A replica's pid, and its exit status to come. Raises `LaunchError`."""
    code = "from nbcompose.replica.main import start; start()"
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, ",".join(map(str, files))],
            pass_fds=tuple(files),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=files.output,
            stderr=files.output,
            start_new_session=True,
        )
    except OSError as error:
        raise LaunchError(f"a process could not be started: {error}") from error
    return process.pid, _exit_status(process)


def _exit_status(process: subprocess.Popen[bytes]) -> asyncio.Future[int | None]:
    """In a thread of its own: the loop's pool has a few, and a replica lives long."""
    loop = asyncio.get_running_loop()
    exit_status: asyncio.Future[int | None] = loop.create_future()

    def settle(status: int) -> None:
        if not exit_status.done():
            exit_status.set_result(status)

    def wait() -> None:
        status = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(settle, status)

    threading.Thread(target=wait, name=f"nbcompose-wait-{process.pid}", daemon=True).start()
    return exit_status
