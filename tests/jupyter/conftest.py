"""A real Jupyter server with the extension, on the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest
from jupyter_server.auth import Authorizer
from pytest_jupyter.jupyter_core import (  # noqa: F401  (fixtures)
    echo_kernel_spec,
    jp_config_dir,
    jp_data_dir,
    jp_env_config_path,
    jp_env_jupyter_path,
    jp_environ,
    jp_home_dir,
    jp_kernel_dir,
    jp_runtime_dir,
    jp_system_config_path,
    jp_system_jupyter_path,
)
from pytest_jupyter.jupyter_server import (  # noqa: F401
    jp_argv,
    jp_auth_header,
    jp_base_url,
    jp_configurable_serverapp,
    jp_create_notebook,
    jp_fetch,
    jp_http_port,
    jp_logging_stream,
    jp_nbconvert_templates,
    jp_root_dir,
    jp_server_cleanup,
    jp_serverapp,
    jp_template_dir,
    jp_web_app,
    jp_ws_fetch,
)
from pytest_jupyter.pytest_tornasync import (  # noqa: F401
    http_server,
    http_server_client,
    io_loop,
)
from tornado.testing import bind_unused_port

from nbcompose._jupyter.app import NbcomposeExtension
from nbcompose._jupyter.finding import Change, Runtime, Runtimes
from tests.patience import PATIENCE

NO_ONE = {"Authorization": "token of-somebody-else"}
LOAD = "%load_ext nbcompose\nfrom nbcompose import api"
TABLE = """
%%service
class Table:
    @api
    def rows(self, n: int) -> list[int]:
        if n > 9:
            raise LookupError("too many")
        return list(range(n))

    @api
    def words(self, n: int) -> Iterator[str]:
        for number in range(n):
            yield f"word {number} "
""".strip()


@contextlib.asynccontextmanager
async def closing(connection: Any) -> AsyncIterator[Any]:
    """A WebSocket that is closed at the end: `close` alone begins that, and the socket stays open until the answer."""
    try:
        yield connection
    finally:
        connection.close()
        async with asyncio.timeout(PATIENCE):
            while await connection.read_message() is not None:
                pass


class Changes:
    """What the listeners of `Runtimes` have been told: for waiting until something happens."""

    def __init__(self, runtimes: Runtimes) -> None:
        self.seen: list[tuple[Change, Runtime]] = []
        self._new = asyncio.Event()
        runtimes.subscribe(self._note)

    def _note(self, change: Change, runtime: Runtime) -> None:
        self.seen.append((change, runtime))
        self._new.set()

    async def until(self, change: Change, wanted: Callable[[Runtime], bool]) -> Runtime:
        """The first process to which that has happened, since these changes are noted."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._new.clear()
                found = next((runtime for what, runtime in self.seen if what == change and wanted(runtime)), None)
                if found is not None:
                    return found
                await self._new.wait()


class Notebook:
    """A notebook whose session is open, and its kernel."""

    def __init__(self, server: Any, fetch: Callable[..., Awaitable[Any]]) -> None:
        self._server = server
        self._fetch = fetch
        self.session = self.kernel = ""

    async def open(self, path: str) -> None:
        kernel = {"name": "python3"}
        body = {"path": path, "name": path, "type": "notebook", "kernel": kernel}
        answer = await self._fetch("api", "sessions", method="POST", body=json.dumps(body), request_timeout=PATIENCE)
        self._take(json.loads(answer.body))

    async def change(self, **change: Any) -> None:
        """As a front end does that renames the notebook, or gives it another kernel."""
        answer = await self._fetch(
            "api", "sessions", self.session, method="PATCH", body=json.dumps(change), request_timeout=PATIENCE
        )
        self._take(json.loads(answer.body))

    async def run(self, code: str, wait: bool = True) -> None:
        """Run a cell; without `wait` until it has begun."""
        client = self._server.kernel_manager.get_kernel(self.kernel).client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=PATIENCE)
            if wait:
                reply = await client.execute(code, reply=True, timeout=PATIENCE)
                assert reply["content"]["status"] == "ok", reply["content"]
                return
            client.execute(code)
            while (await client.get_iopub_msg(timeout=PATIENCE))["msg_type"] != "stream":
                pass
        finally:
            client.stop_channels()

    async def restart(self) -> None:
        await self._server.kernel_manager.restart_kernel(self.kernel)

    @property
    def process(self) -> Any:
        return self._server.kernel_manager.get_kernel(self.kernel).provisioner.process

    def _take(self, session: dict[str, Any]) -> None:
        self.session, self.kernel = session["id"], session["kernel"]["id"]


class Refusing(Authorizer):
    """Lets nobody do anything with services, and notes what was asked."""

    asked: list[tuple[str, str]]

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        type(self).asked.append((action, resource))
        return resource != "nbcompose"


async def log_in(fetch: Any, host: str, password: str) -> dict[str, str]:
    """The headers of a browser whose user has logged in by the form."""
    cookies: dict[str, str] = {}

    def sent() -> dict[str, str]:
        return {"Authorization": "", "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}

    async def ask(**options: Any) -> None:
        answer = await fetch(
            "login", headers={**sent(), "Host": host}, follow_redirects=False, raise_error=False, **options
        )
        for cookie in map(SimpleCookie, answer.headers.get_list("Set-Cookie")):
            cookies.update({name: morsel.value for name, morsel in cookie.items()})

    await ask()
    await ask(method="POST", body=urlencode({"password": password, "_xsrf": cookies["_xsrf"]}))
    return sent()


@pytest.fixture
def http_server_port() -> Iterator[tuple[socket.socket, int]]:
    """As pytest-jupyter's, which is closed by `http_server` only: many tests have a server that nobody connects to."""
    sock, port = bind_unused_port()
    with sock:
        yield sock, port


@pytest.fixture
async def jp_asyncio_loop() -> asyncio.AbstractEventLoop:
    """The loop of the test: pytest-asyncio runs it, and pytest-jupyter's fixtures come to it."""
    return asyncio.get_running_loop()


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    """As a coming default of Jupyter's has it: a handler that does not authenticate is refused."""
    extensions = {"nbcompose": True, "jupyter_server_terminals": False}  # its own handler would be refused
    return {"ServerApp": {"jpserver_extensions": extensions, "allow_unauthenticated_access": False}}


@pytest.fixture
async def runtimes(jp_serverapp: Any, jp_asyncio_loop: Any) -> AsyncIterator[Runtimes]:
    """What the server has found, after it has started."""
    [extension] = jp_serverapp.extension_manager.extension_apps["nbcompose"]
    assert isinstance(extension, NbcomposeExtension)
    await extension._start_jupyter_server_extension(jp_serverapp)
    yield extension.runtimes
    await extension.stop_extension()


@pytest.fixture
async def changes(runtimes: Runtimes) -> Changes:
    return Changes(runtimes)


@pytest.fixture
async def open_notebook(
    jp_serverapp: Any, jp_fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Awaitable[Notebook]]:
    """Opens a notebook, whose kernel ends with the server."""
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "")

    async def open_one(path: str) -> Notebook:
        notebook = Notebook(jp_serverapp, jp_fetch)
        await notebook.open(path)
        return notebook

    return open_one


@pytest.fixture
async def notebook(open_notebook: Callable[[str], Awaitable[Notebook]]) -> Notebook:
    """One with a service."""
    notebook = await open_notebook("notes/tables.ipynb")
    await notebook.run(LOAD)
    await notebook.run("from collections.abc import Iterator")
    await notebook.run(TABLE)
    return notebook


@pytest.fixture
def refusing(jp_server_config: dict[str, Any]) -> type[Refusing]:
    Refusing.asked = []
    jp_server_config["ServerApp"]["authorizer_class"] = Refusing
    return Refusing
