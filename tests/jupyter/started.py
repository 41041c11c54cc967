"""A Jupyter server as on a hub, a process of its own; and what a server listens on."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nbcompose._protocol import address
from tests.serve_process import Served

TOKEN = "jupyters-own-token"


@contextlib.contextmanager
def started(home: Path) -> Iterator[tuple[str, int]]:
    """Its address, below a base_url, and its pid. Nothing of this user's configuration is read or written."""
    folders = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    process = subprocess.Popen(
        [
            sys.executable, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1", "--ServerApp.port=0",
            "--ServerApp.base_url=/user/name/", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}",
            "--ServerApp.jpserver_extensions={'nbcompose': True}", *(["--allow-root"] if os.getuid() == 0 else []),
        ],
        env={**os.environ, **folders},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    said = Served(process)
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/user/name/", said.read_until("http://127.0.0.1:"))
        assert found is not None
        yield found[0], process.pid
    finally:
        said.close()


def listeners(pid: int) -> list[str]:
    """The sockets at which the Jupyter server in this process hears of others that begin to run services."""
    return [name for name in address._addresses(address.LISTENER_PREFIX) if f".{pid}." in name]
