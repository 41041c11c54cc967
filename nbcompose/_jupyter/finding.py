"""Which processes of this user run services: found without polling, and named as URLs name them.

A process that begins or ceases to run services knocks (`_protocol/address.py`) at the socket that `Runtimes` listens
on, upon which it looks. To each process that it has found it holds a connection: its end is the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, TypedDict, cast
from urllib.parse import quote

from jupyter_server.utils import ensure_async

from nbcompose._protocol import Client, RunningProcess, address, messages, wire
from nbcompose.errors import CallError, DeadlineExceeded, NbcomposeError, ProtocolError, ServiceUnavailable

ANSWER_WITHIN = 10.0  # seconds until a process that says nothing is listed as one that does not answer
SOON, LATER = 0.05, 60.0  # seconds until a process that has closed the connection is looked for again
MOST_TITLE = 200  # characters that are shown of what a process calls itself
NOTEBOOK = ".ipynb"
SILENT = "does not answer"
OLD = "does not speak the runtime protocol: does it run an older nbcompose?"

Kind = Literal["kernel", "serve"]
# A process has been found, or has ended; its services have come, gone or changed their state; their numbers have.
Change = Literal["started", "ended", "changed", "numbers"]
Listener = Callable[[Change, "Runtime"], None]


class UnknownRuntime(CallError, LookupError):
    """No process that runs services has that kernel id, number or notebook."""

    status = 404


class SessionManager(Protocol):
    """What is used of Jupyter's own."""

    def list_sessions(self) -> Any: ...


class LinkedService(messages.Service):
    """`link`: the path under which the Jupyter server passes requests on to the service; "" where it has no HTTP."""

    link: str


class Listed(TypedDict):
    """A process as it is listed. `path`: that of the notebook whose session is open, "" if none. `trouble`: why its
    services are not known, "" where they are. `kernel`: the kernel's id, "" for a program. `stopped`: services that
    cells of the notebook started, and that were stopped since.
    """

    id: str
    kind: Kind
    pid: int
    title: str
    path: str
    kernel: str
    version: str
    trouble: str
    services: list[LinkedService]
    stopped: list[messages.StoppedService]


class Runtime:
    """A process that runs services.

    `id` is the kernel's id, which a restart does not change, or `serve-PID`; `client` a connection for requests, open
    from the moment that it is known until it has ended; `trouble` why it cannot be asked, "" where it can.
    """

    def __init__(self, process: RunningProcess, changed: Listener) -> None:
        self.process = process
        self.id = f"serve-{process.pid}"
        self.kind: Kind = "serve"
        self.kernel = self.title = self.version = self.trouble = ""
        self.client = Client(process, patient=True)
        self.services: list[messages.Service] | None = None  # None: nobody looks, or nothing has been said yet
        self.stopped: list[messages.StoppedService] = []  # as it has said last
        self.known = asyncio.Event()  # it has said hello, or is in trouble
        self.is_foreign = False
        self.is_open = False
        self.is_announced = False  # listeners have been told of it
        self._changed = changed
        self._inside: set[str] = set()  # the services that are known not to answer over HTTP
        self._watching: asyncio.Task[None] | None = None
        self._seen = asyncio.Event()  # its services are known, or it is in trouble

    async def hold(self) -> None:
        """Keep the connection; returns when the process has closed it, or is of another user."""
        silence = self._expect()
        try:
            async with self.client:
                silence.cancel()
                hello = self.client.hello
                self.kernel, self.version = (wire.printable(hello[name], 100) for name in ("kernel", "version"))
                self.title = wire.printable(wire.masked(hello["title"][:1000]), MOST_TITLE)
                if self.kernel:
                    self.id, self.kind = self.kernel, "kernel"
                self.trouble, self.is_open, self.is_announced = "", True, True
                self.known.set()
                self._changed("started", self)
                following = asyncio.ensure_future(self._follow())
                try:
                    await self.client.lost()
                finally:
                    following.cancel()
        except PermissionError:  # under a name like ours
            self.is_foreign = True
            self.known.set()
        except ProtocolError as error:
            self._fail(wire.printable(str(error), 300))
            await self._until_closed()
        except ConnectionError:
            if self.process in await asyncio.to_thread(address.find):
                self._fail(OLD)
                await self._until_closed()
        finally:
            silence.cancel()
            self.is_open = False
            self.unwatch()
            self.known.set()
            self._seen.set()

    def watch(self) -> None:
        """Keep `services` as they are, from now on."""
        if self.is_open and self._watching is None:
            self._seen.clear()
            self._watching = asyncio.ensure_future(self._watch())

    def unwatch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = self.services = None
            self.trouble = "" if self.is_open else self.trouble

    async def seen(self) -> None:
        """Wait until there is something to list of it."""
        await self.known.wait()
        if self._watching is not None:
            await self._seen.wait()

    async def ask_services(self) -> tuple[list[messages.Service], str] | None:
        """Return its services, and why they are not known; None where it has ended."""
        if not self.is_open:
            return [], self.trouble or SILENT
        try:
            said = await self.client.ask({"type": "ps"}, messages.Ps, ANSWER_WITHIN)
        except DeadlineExceeded:
            return [], SILENT
        except ConnectionError:
            return None
        except NbcomposeError as error:
            return [], wire.printable(str(error), 300)
        self._take_addresses(said)
        self.stopped = said.get("stopped", [])
        return [_without_url(service) for service in said["services"]], ""

    def has_address(self, service: str) -> bool:
        """Whether a service answers over HTTP, as far as is known."""
        return service not in self._inside

    def _take_addresses(self, said: messages.Ps) -> None:
        # Not those that do: a service that starts later would not be among them.
        ready = (service for service in said["services"] if service["state"] == "ready")
        self._inside = {service["name"] for service in ready if not service["url"]}

    async def _follow(self) -> None:
        """Tell when services come, go or change their state: also while nobody looks, and at no cost to calls."""
        change: Change = "numbers"  # what there is at the beginning is no change
        with contextlib.suppress(ConnectionError, ProtocolError):  # it ends, or does not know `brief`
            async with contextlib.aclosing(self.client.stream({"type": "watch", "brief": True})) as states:
                async for _ in states:
                    with contextlib.suppress(DeadlineExceeded):
                        self._take_addresses(await self.client.ask({"type": "ps"}, messages.Ps, ANSWER_WITHIN))
                    self._changed(change, self)
                    change = "changed"

    async def _watch(self) -> None:
        silence = self._expect()
        try:
            async with contextlib.aclosing(self.client.stream({"type": "watch"})) as states:
                async for state in states:
                    silence.cancel()
                    self.services, self.trouble, self.stopped = state["services"], "", state.get("stopped", [])
                    self._seen.set()
                    self._changed("numbers", self)
        except ConnectionError:
            pass  # it ends, which `hold` sees too
        except NbcomposeError as error:
            self._fail(wire.printable(str(error), 300))
        finally:
            silence.cancel()
            self._seen.set()

    def _expect(self) -> asyncio.TimerHandle:
        """Say that it does not answer, if it does not. It may come to answer later: nothing gives up."""
        return asyncio.get_running_loop().call_later(ANSWER_WITHIN, self._fail, SILENT)

    def _fail(self, trouble: str) -> None:
        self.trouble, self.is_announced = trouble, True
        self.known.set()
        self._seen.set()
        self._changed("changed", self)

    async def _until_closed(self) -> None:
        """Return when a process that is not understood has closed a connection that says nothing."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(sock=address.connect(self.process.address))
            try:
                while await reader.read(wire.CHUNK):
                    pass
            finally:
                writer.close()


class Runtimes:
    """All of them. `sessions` says which kernel a notebook has, `base_url` is the server's.

    Used on the server's loop. `start` may be called again at any time.
    """

    def __init__(
        self, sessions: SessionManager, base_url: str, log: logging.Logger | logging.LoggerAdapter[Any]
    ) -> None:
        self._sessions = sessions
        self._base_url = base_url
        self._log = log
        self._held: dict[RunningProcess, Runtime] = {}
        self._holding: dict[RunningProcess, asyncio.Task[None]] = {}
        self._listeners: list[Listener] = []
        self._lookers = 0
        self._is_stopped = False
        self._address = ""
        self._knocks: asyncio.Server | None = None
        self._scan: asyncio.Task[None] | None = None  # under way
        self._next: asyncio.Task[None] | None = None  # begins when that has ended
        self._soon: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen for knocks, and look for the first time."""
        self._is_stopped = False
        if not self._address:
            address.sweep()
            where = address.listener_address()
            sock = address.listen(where)
            # It is `stop`'s to close from here on: nothing else runs before it is known, and to serve takes a while.
            self._knocks = await asyncio.start_unix_server(self._knocked, sock=sock, start_serving=False)
            self._address = where
            await self._knocks.start_serving()
        await self.look()

    async def stop(self) -> None:
        """Close all connections. Nothing is looked for, and so none made, before `start` is called again."""
        self._is_stopped = True
        if self._knocks is not None:
            self._knocks.close()
            address.remove(self._address)
            self._knocks, self._address = None, ""
        tasks = [*self._holding.values(), *(task for task in (self._scan, self._next) if task is not None), *self._soon]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- looking

    async def look(self) -> None:
        """Look which processes there are, in a thread: at what is there now, not at what an earlier look has seen."""
        if self._is_stopped:
            return
        if self._next is None:
            self._next = asyncio.ensure_future(self._look_after(self._scan))
        await asyncio.shield(self._next)

    def look_soon(self) -> None:
        """As `look`, without waiting."""
        task = asyncio.ensure_future(self.look())
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    async def _look_after(self, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._scan, self._next = self._next, None
        found = set(await asyncio.to_thread(address.find))
        for process in self._held.keys() - found:
            self._holding[process].cancel()
        for process in found - self._held.keys():
            runtime = self._held[process] = Runtime(process, self._changed)
            self._holding[process] = asyncio.ensure_future(self._hold(runtime))

    async def _hold(self, runtime: Runtime) -> None:
        try:
            await runtime.hold()
            delay = SOON
            while runtime.process in await asyncio.to_thread(address.find):
                # It was killed, and not all of its sockets are closed yet; or it is of another user, or has closed what
                # it does not understand.
                await asyncio.sleep(delay)
                delay = min(2 * delay, LATER)
        except Exception:
            self._log.exception("nbcompose: the process %s is not listed any more", runtime.process.pid)
        finally:
            del self._held[runtime.process], self._holding[runtime.process]
            if runtime.is_announced:
                self._tell("ended", runtime)

    def _knocked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            address.check_transport(writer.transport)
            self.look_soon()
        except OSError:  # another user's process
            pass
        finally:
            writer.close()

    async def settle(self) -> None:
        """Wait until each of them has said who it is, or is known not to answer."""
        waiting = [runtime.seen() for runtime in self._listable()]
        await asyncio.gather(*waiting)

    # -- one of them

    async def find(self, where: str) -> Runtime:
        """Return the process that a URL names, for requests by its `client`.

        Args:
            where: A kernel's id, `serve-PID`, or the path of a notebook whose session is open.

        Raises:
            UnknownRuntime: There is none. The message says which there are.
            ServiceUnavailable: It does not answer, or speaks another version of the protocol.
        """
        runtime = await self._named(where)
        if runtime is None or not runtime.is_open:  # it may have begun a moment ago
            await self.look()
            await self.settle()
            runtime = await self._named(where)
        if runtime is None:
            known = [f"{r.id} ({r.title})" for r in self._listable()]
            raise UnknownRuntime(
                f"no process that runs services is called {wire.printable(where, 200)!r}: run %load_ext nbcompose in "
                f"the notebook, or nbcompose serve; there are: {', '.join(known) or 'none'}"
            )
        if not runtime.is_open:
            raise ServiceUnavailable(f"process {runtime.process.pid} {runtime.trouble or SILENT}")
        return runtime

    async def _named(self, where: str) -> Runtime | None:
        # The newest of several: one that has been restarted may not have ended yet.
        by_id = {runtime.id: runtime for runtime in self._listable() if runtime.known.is_set()}
        if where in by_id:
            return by_id[where]
        if where.endswith(NOTEBOOK):
            kernels = [kernel for path, kernel in await self._open_notebooks() if path == where.strip("/")]
            return next((by_id[kernel] for kernel in reversed(kernels) if kernel in by_id), None)
        return None

    async def _open_notebooks(self) -> list[tuple[str, str]]:
        """Return paths and kernel ids of the open sessions: at present, and not at the kernels' start."""
        sessions = await ensure_async(self._sessions.list_sessions())
        # A console beside a notebook has its kernel too: what comes last, the notebook's name, counts.
        ordered = sorted(sessions, key=lambda session: session.get("type") == "notebook")
        return [(session["path"].strip("/"), session["kernel"]["id"]) for session in ordered if session.get("kernel")]

    async def _paths(self) -> dict[str, str]:
        """Return a path of each kernel with an open session."""
        return {kernel: path for path, kernel in await self._open_notebooks()}

    # -- all of them

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called at each change, until the function that is returned is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def watch(self) -> Callable[[], None]:
        """Keep the services of all processes as they are, until the function that is returned is called."""
        self._lookers += 1
        for runtime in self._listable():
            runtime.watch()
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._lookers -= 1
                for runtime in self._listable() if self._lookers == 0 else ():
                    runtime.unwatch()

        return leave

    async def watched(self) -> list[Listed]:
        """Return the list as it is known, while somebody watches; who has not said anything yet is left out."""
        paths = await self._paths()
        runtimes = [r for r in self._listable() if r.services is not None or r.trouble]
        return [self._listed(r, paths, r.services or (), r.trouble) for r in runtimes]

    async def ask(self) -> list[Listed]:
        """Return the list after a look, and with what each process answers now."""
        asked, paths = await asyncio.gather(self._ask(), self._paths())
        return [self._listed(runtime, paths, services, trouble) for runtime, services, trouble in asked]

    async def services(self) -> list[tuple[Runtime, list[messages.Service]]]:
        """Return the processes that answer, with their services."""
        return [(runtime, services) for runtime, services, trouble in await self._ask() if not trouble]

    async def _ask(self) -> list[tuple[Runtime, list[messages.Service], str]]:
        await self.look()
        await self.settle()
        runtimes = self._listable()
        answers = await asyncio.gather(*(runtime.ask_services() for runtime in runtimes))
        return [(runtime, *answer) for runtime, answer in zip(runtimes, answers, strict=True) if answer is not None]

    def _listable(self) -> list[Runtime]:
        return [runtime for runtime in self._held.values() if not runtime.is_foreign]

    def _listed(
        self, runtime: Runtime, paths: dict[str, str], services: Iterable[messages.Service], trouble: str
    ) -> Listed:
        path = paths.get(runtime.kernel, "")
        return {
            "id": runtime.id,
            "kind": runtime.kind,
            "pid": runtime.process.pid,
            "title": path.rpartition("/")[2] or runtime.title or "?",
            "path": path,
            "kernel": runtime.kernel,
            "version": runtime.version,
            "trouble": trouble,
            "services": [{**service, "link": self._link(runtime, service["name"])} for service in services],
            "stopped": [] if trouble else runtime.stopped,
        }

    def _link(self, runtime: Runtime, service: str) -> str:
        if not runtime.has_address(service):
            return ""
        return f"{self._base_url}nbcompose/at/{quote(runtime.id, safe='')}/{quote(service, safe='')}/"

    def _changed(self, change: Change, runtime: Runtime) -> None:
        if change == "started" and self._lookers:
            runtime.watch()
        self._tell(change, runtime)

    def _tell(self, change: Change, runtime: Runtime) -> None:
        for listener in list(self._listeners):
            listener(change, runtime)


def _without_url(service: messages.ListedService) -> messages.Service:
    """A browser reaches services through this server only."""
    return cast(messages.Service, {name: value for name, value in service.items() if name != "url"})
