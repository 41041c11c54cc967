"""A Jupyter server in a process of its own, started as on a hub: what the extension does from its start to its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tornado.websocket import websocket_connect

from tests.jupyter.started import listeners
from tests.patience import PATIENCE, until
from tests.serve_process import serving

pytestmark = pytest.mark.system

TOKEN = secrets.token_urlsafe(16)
HEADERS = {"Authorization": f"token {TOKEN}"}


@contextlib.contextmanager
def jupyter_server(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and where it answers."""
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root",
        "--ServerApp.base_url=/user/name/", f"--ServerApp.root_dir={home}", f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.jpserver_extensions=nbcompose=True", "--ServerApp.allow_unauthenticated_access=False",
        "--ServerApp.jpserver_extensions=jupyter_server_terminals=False",
    ]  # fmt: skip
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    with subprocess.Popen(
        command, env={**os.environ, **folders}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"http://127\.0\.0\.1:\d+/user/name/", line):
                    break
            else:
                pytest.fail("it has ended:\n" + "".join(said))
            yield process, found[0]
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


async def test_it_listens_from_its_start_and_is_gone_with_its_end(tmp_path: Path) -> None:
    async with httpx.AsyncClient() as http, contextlib.AsyncExitStack() as stack:
        process, url = stack.enter_context(jupyter_server(tmp_path))
        await until(lambda: listeners(process.pid))
        watch = await websocket_connect(f"{url.replace('http', 'ws')}nbcompose/api/watch?token={TOKEN}")
        stack.callback(watch.close)
        watch.write_message('{"type": "look", "on": true}')
        served = stack.enter_context(serving("chain_services:Leaf", "--port", "0"))
        name = f"serve-{served.process.pid}"
        while not (one := in_list(json.loads(str(await watch.read_message())), name)) or not one["services"]:
            pass
        assert one["services"][0]["name"] == "Leaf"
        found = (await http.get(f"{url}nbcompose/api/services", headers=HEADERS)).json()["runtimes"]
        assert in_list({"runtimes": found}, name)["services"][0]["link"] == f"/user/name/nbcompose/at/{name}/Leaf/"
        http.cookies.clear()  # who comes with a token gets one
        assert (await http.get(f"{url}nbcompose/api/services")).status_code == 403
        process.terminate()
        while await watch.read_message() is not None:
            pass
        await until(lambda: process.poll() is not None)
        assert listeners(process.pid) == []
        assert (await http.post(f"{served.url}/add", json={"a": 1})).json() == 2  # it does not mind


def in_list(message: dict[str, Any], name: str) -> Any:
    return next((one for one in message.get("runtimes", []) if one["id"] == name), None)
