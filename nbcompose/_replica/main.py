"""Entry point of a replica process: start-up, serving, shutdown.

The zygote forks it, or it is started cold (`_control/engines/local.py`). It inherits five open files (`InheritedFds`),
reports its progress in notes to the supervisor, serves until it is told to stop, and ends when its owner process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvloop

from nbcompose._host import device, enter_replica, forking, random_state, wait_for_end
from nbcompose._hub import ModelProgress
from nbcompose._protocol import address
from nbcompose._replica.bootstrap import InheritedFds, Launch, load_spec, prepare_process
from nbcompose._replica.control import ControlLink, Phase, Recording, Renewal, Reporter, StartFailure, Up
from nbcompose._replica.http import Access, HttpBackend, HttpDoor, HttpServer
from nbcompose._replica.instance import Runtime
from nbcompose._replica.output import end_lines, install
from nbcompose._replica.terminal import terminal
from nbcompose._rpc import (
    Client,
    Connection,
    DeclaredProxy,
    HttpTransport,
    LoadTable,
    Portal,
    SocketTransport,
    adopt,
    describe_aside,
    is_tame,
    serve,
)
from nbcompose._service import Dependency, Service, add_connector
from nbcompose._spec import ServiceSpec
from nbcompose._user_exceptions import said
from nbcompose.errors import NbcomposeError
from nbcompose.models import models_of, prefetch

LINGER = 1.0  # seconds that idle callers have to close their connections


class Callers:
    """Listens for calls from other processes and passes them to `runtime`. Used on the replica's loop."""

    def __init__(self, runtime: Runtime) -> None:
        self.on_call = runtime.on_call
        self._runtime = runtime
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def listen(self) -> str:
        """Start to answer calls; return the address."""
        where = address.fresh(f"nbcompose.call.{os.getpid()}")
        self._server = await serve(address.listen(where), "a caller", self, self._opened, self._closed)
        return where

    async def left(self) -> None:
        """Wait until every caller has disconnected, which it does when it receives a route without this replica.

        Calls are answered meanwhile, so none that was on its way is lost. A caller that stays connected without making
        calls is not waited for.
        """
        while True:
            await self._runtime.under_way.none()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    while self._connections:
                        self._empty.clear()
                        await self._empty.wait()
            if self._runtime.under_way.number == 0:
                return

    def on_note(self, topic: str, value: Any) -> None:
        """Do nothing: callers send no notes."""

    def _opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()


logger = logging.getLogger("nbcompose.replica")


def run(files: InheritedFds) -> None:
    """Run the replica. Never returns: the process exits here, without the caller's clean-up."""
    code = 1
    try:
        _redirect_output(files.output)
        _watch_owner(files.owner)
        _part_from_parent(files)
        forking.raise_limit()
        code = _run_to_its_end(files)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            end_lines(None)
        os._exit(code)


def _run_to_its_end(files: InheritedFds) -> int:
    """Run the loop until the replica has ended by itself; user code cannot stop it. Returns the exit status."""
    others = forking.open_files()
    # Never closed: that would wait for threads, which may be in C code, and for tasks that do not end.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    main = loop.create_task(_main(files, others))
    while True:
        try:
            code: int = loop.run_until_complete(main)
            return code
        except (SystemExit, KeyboardInterrupt) as error:
            # Raised by a task that an api has created, or by a callback. The loop must go on for the other calls.
            if main.done() or not _Replica.serving:
                raise
            logger.error("a task, or a callback, of an api has raised %s: the replica goes on", said(error))


def _redirect_output(output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    install()
    faulthandler.enable(file=2)  # a crash in C code leaves Python's stack in the log


def _part_from_parent(files: InheritedFds) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    forking.keep_handlers_from_children()
    # ■ and Ctrl-C reach a replica as cancelled calls. Not SIG_IGN: programs that it starts would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    for fd in files:
        os.set_inheritable(fd, False)  # not for programs that user code starts
    forking.keep_numbers_from_children(files)
    random_state.renew()


def _watch_owner(owner: int) -> None:
    """End this process, and the processes it has started, when the owner process ends, however that happens.

    The end of a pipe alone does not suffice: a forked child of the owner keeps it open. Neither does
    PR_SET_PDEATHSIG: a replica's parent is the zygote.
    """

    def wait() -> None:
        wait_for_end(owner)
        end_now()

    threading.Thread(target=wait, name="nbcompose-owner", daemon=True).start()


def end_now() -> None:
    """Kill (SIGKILL) this process and its children, which share its process group."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


async def _main(files: InheritedFds, others: set[int]) -> int:
    forking.keep_numbers_from_children(forking.open_files() - others)  # files of the event loop
    client = _StartClient(LoadTable(files.board))
    link = ControlLink(client)
    client.post_mortem = link.post_mortem
    control = socket.socket(fileno=files.control)
    link.connection = await adopt(control, "the supervisor", link, link.on_closed)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, link.on_note, "stop", 10.0)
    try:
        launch = await link.launch
        return await _Replica(files, client, link, launch).live()
    except asyncio.CancelledError:
        return 0
    finally:
        if link.orphaned:
            end_now()


class _Replica:
    """The replica from its launch message to its exit: start, serve, stop."""

    serving = False  # it is up: from now on exceptions of user code do not end the process

    def __init__(self, files: InheritedFds, client: _StartClient, link: ControlLink, launch: Launch) -> None:
        self._files = files
        self._client = client
        self._link = link
        self._launch = launch
        self._phase = Phase.IMPORT

    async def live(self) -> int:
        """Start, serve and stop; return the exit status."""
        starting: asyncio.Future[tuple[Runtime, Callers, HttpDoor]] = asyncio.ensure_future(self._start())
        ends: list[asyncio.Future[Any]] = [starting, self._link.stop]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            # Stopped during start: no hook has anything to clean up, and user code may be in C code.
            return 0
        error = starting.exception()
        if error is not None:
            detail = await describe_aside(error, hop=self._launch.spec.name)
            self._link.tell("failed", StartFailure(self._phase, detail))
            if is_tame(error):
                traceback.print_exception(error)
            else:  # Python would print it without limits
                print(detail.text, file=sys.stderr)
            await self._link.leave()
            return 3
        await self._serve(*starting.result())
        await self._link.leave()
        return 0

    async def _serve(self, runtime: Runtime, callers: Callers, door: HttpDoor) -> None:
        """Serve until told to stop, then until the calls under way are done, within the given grace period."""
        _Replica.serving = True
        reporter = Reporter(self._link, runtime, self._client)
        self._link.operations["report"] = reporter.report_now
        reporting = asyncio.ensure_future(reporter.run())
        grace = await self._link.stop
        self._link.tell("leaving", None)  # after a SIGTERM the supervisor does not know yet, nor do callers
        runtime.leave()
        async with asyncio.TaskGroup() as leaving:
            leaving.create_task(_within(grace, callers.left()))
            leaving.create_task(door.shut(grace))
        cut = await runtime.stop()
        reporting.cancel()
        reporter.report()
        self._link.tell("cut", cut)

    async def _start(self) -> tuple[Runtime, Callers, HttpDoor]:
        launch, link = self._launch, self._link
        await self._enter(Phase.IMPORT)
        enter_replica(launch.spec.name)
        terminal.install(launch.spec.name)
        prepare_process(launch)
        remove = add_connector(functools.partial(_refuse_direct_calls, object))
        spec = load_spec(launch)
        remove()
        add_connector(functools.partial(_refuse_direct_calls, spec.cls))
        await self._download(spec)
        await self._enter(Phase.LOAD)
        _bind_dependencies(spec, self._client)
        board = LoadTable(self._files.board)
        runtime = Runtime(spec, launch.index, launch.slot, board, launch.torch_threads, self._client)
        with self._client.telling(functools.partial(link.tell, "waiting")):
            await runtime.start()
        # Loaded objects stay: exclude them from garbage collections during calls.
        gc.collect()
        gc.freeze()
        callers = Callers(runtime)
        where = await callers.listen()
        access = Access.of(launch.spec.http, launch.token, launch.allowed_hosts)
        sock = forking.keep_from_children(socket.socket(fileno=self._files.http)) if launch.exposed else None
        door = HttpDoor(sock, lambda: HttpServer(HttpBackend(runtime, self._client), access))
        door.open()
        recording = Recording(runtime)
        await recording.record(launch.record)
        link.operations.update({**Renewal(runtime, door).operations(), **recording.operations()})
        link.tell("up", Up(where, device()))
        return runtime, callers, door

    async def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._link.tell("phase", phase)
        await asyncio.sleep(0)  # send the note before user code may block the loop

    async def _download(self, spec: ServiceSpec) -> None:
        """Download all models before `__init__` asks for their paths: with progress, and stopped when told to stop."""
        if not models_of(spec.cls):
            return
        await self._enter(Phase.DOWNLOAD)
        loop = asyncio.get_running_loop()

        def progress(report: ModelProgress) -> None:
            loop.call_soon_threadsafe(self._link.tell, "progress", report)

        await asyncio.to_thread(prefetch, spec.cls, progress, self._link.stop.done)


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)


class _StartClient(Client):
    """A client that reports which service it waits for during the start: `__init__` may call one that is not up yet."""

    def __init__(self, board: LoadTable) -> None:
        super().__init__(board)
        self._tell: Callable[[str], None] | None = None

    @contextlib.contextmanager
    def telling(self, tell: Callable[[str], None]) -> Iterator[None]:
        """`tell` gets the service that the start waits for; "" once it goes on."""
        self._tell = tell
        try:
            yield
        finally:
            self._tell = None

    async def changed(self, service: str) -> None:
        if self._tell is not None:
            self._tell(service)
        await super().changed(service)
        if self._tell is not None:
            self._tell("")


def _bind_dependencies(spec: ServiceSpec, client: Client) -> None:
    portal = Portal(asyncio.get_running_loop(), threading.get_ident())
    for dependency in spec.dependencies:
        declared = next(vars(c)[dependency.attribute] for c in spec.cls.__mro__ if dependency.attribute in vars(c))
        assert isinstance(declared, Dependency)
        holder = f"self.{dependency.attribute}"
        if dependency.url is not None:
            declared.bind(DeclaredProxy(HttpTransport(dependency.url, declared.token, portal), holder))
        else:
            declared.bind(DeclaredProxy(SocketTransport(dependency.service, client, portal), holder))


def _refuse_direct_calls(cls: type[Any], service: Service) -> Any:
    place = service.__module__, service.__qualname__
    if any((base.__module__, base.__qualname__) == place for base in cls.__mro__[1:]):
        raise NbcomposeError(
            f"{cls.__name__} extends {service.name}, which is a service: write `super()` for `{service.name}`, as in "
            "`super().an_api(...)`"
        )
    raise NbcomposeError(
        f"{service.name} is another service: write `{service.name.lower()} = depends({service.name})` in the class and "
        f"call `self.{service.name.lower()}`"
    )


def start() -> None:
    """Cold start from the command line; argv[1]: the inherited files. `zygote.start` says why with `python -c`."""
    run(InheritedFds(*map(int, sys.argv[1].split(","))))
