"""`nbcompose serve --reload`: watches the user's modules, and deploys a saved file like a re-run cell.

`Watched` imports the modules and detects changes, `Reloader` applies them. See `_code/diff.py` for what a change
requires.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import linecache
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from watchfiles import watch

from nbcompose._code import Deployment, Fingerprint, Plan, UserModules, comparable, swappable
from nbcompose._control.entry import file_of, find_entry
from nbcompose._control.registry import Registry
from nbcompose._control.status import Status
from nbcompose._host import handling
from nbcompose._replica import ModuleSource, SourceFinder, spec_of
from nbcompose._rpc import SLICE, background
from nbcompose._service import Service
from nbcompose.errors import CaptureError, Incompatible, NbcomposeError, UnknownService

LOOK = 2000  # milliseconds; changes that the system does not report (network folders) are detected after this time


class Watched:
    """The modules that `target` (see `find_entry`) imports from its own folder, or from below the current one."""

    def __init__(self, target: str) -> None:
        self.target = target
        file = file_of(target)
        self.folder = file.parent if file is not None else Path.cwd()
        self._finder = _Finder(self.folder, file)
        self._seen: dict[str, bytes | None] = {}  # content of each file at its last import
        self._entry = ""
        self._failed = False
        self._missing = ""

    @property
    def modules(self) -> UserModules:
        return UserModules(self._finder.sources)

    def load(self) -> Service:
        """Import the entry again, with every module of the user, and return it.

        Raises what `find_entry` raises, and then restores `sys.modules`.
        """
        if self._finder not in sys.meta_path:
            sys.meta_path.insert(0, self._finder)
        before = self._finder.sources
        loaded = {name: sys.modules.pop(name) for name in before if name in sys.modules}
        self._seen = {file: _read(file) for file in self._seen}
        self._finder.sources = {}
        importlib.invalidate_caches()
        linecache.checkcache()
        try:
            entry = find_entry(self.target, self._entry)
        except BaseException as error:
            self._note_failure(error)
            self._finder.sources = before
            sys.modules.update(loaded)
            raise
        self._entry, self._failed, self._missing = entry.name, False, ""
        self._seen = {source.file: source.text for source in self._finder.sources.values()}
        return entry

    def _note_failure(self, error: BaseException) -> None:
        self._failed = True
        self._missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        if self._is_there_now():
            self._missing = ""  # the module exists: the error has another cause
        for name, source in self._finder.sources.items():
            sys.modules.pop(name, None)
            self._seen[source.file] = source.text

    def looks(self, stopped: threading.Event) -> Iterator[bool]:
        """Yield whether something has changed, on every file event and at least every `LOOK` ms; until `stopped` is
        set.
        """
        while not stopped.is_set():
            folders = self._folders()
            for events in watch(
                *folders, watch_filter=lambda _, path: path.endswith(".py"), recursive=False, stop_event=stopped,
                rust_timeout=LOOK, yield_on_timeout=True, raise_interrupt=False, ignore_permission_denied=True,
            ):  # fmt: skip
                yield self._changed(bool(events))
                if self._folders() != folders:
                    break

    def _changed(self, touched: bool) -> bool:
        """Whether a file differs from its last import, or a failed import may succeed now.

        `touched`: the system reported a change. A file that is missing then may be about to be written again.
        """
        for file, text in self._seen.items():
            now = _read(file)
            if now != text and (now is not None or not touched):
                return True
        return self._failed and (touched or self._is_there_now())

    def _is_there_now(self) -> bool:
        """Whether the module that was not found exists now."""
        path = self.folder / self._missing.replace(".", "/")
        return bool(self._missing) and (path.with_suffix(".py").exists() or (path / "__init__.py").exists())

    def _folders(self) -> list[str]:
        folders = {str(self.folder), *(os.path.dirname(file) for file in self._seen)}
        return sorted(folder for folder in folders if os.path.isdir(folder))


class _Finder(SourceFinder):
    """Imports the modules of a folder from their current source, and records that source."""

    def __init__(self, folder: Path, entry: Path | None) -> None:
        super().__init__({})
        self.sources: dict[str, ModuleSource] = {}
        self._folder = folder
        self._entry = entry

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._entry is not None and name == self._entry.stem:
            return self._take(name, str(self._entry))
        found = PathFinder.find_spec(name, path)
        file = found.origin if found is not None and found.has_location else None
        if file is None or not file.endswith(".py") or not _is_users(Path(file), self._folder):
            return None
        return self._take(name, os.path.abspath(file))

    def _take(self, name: str, file: str) -> ModuleSpec | None:
        text = _read(file)
        if text is None:
            return None
        self.sources[name] = ModuleSource(file, text)
        return spec_of(name, self.sources[name])


def _is_users(file: Path, folder: Path) -> bool:
    """Whether a file is below the folder, and not part of something installed there."""
    if not file.is_relative_to(folder):
        return False
    inside = file.relative_to(folder).parts
    installed = [p for p in (PACKAGE, Path(sys.prefix)) if p.is_relative_to(folder) and p != folder]
    hidden = any(part.startswith(".") or part in ("site-packages", "dist-packages") for part in inside)
    return not hidden and not any(file.is_relative_to(p) for p in installed)


def _read(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except OSError:  # it does not exist, perhaps only for a moment
        return None


Say = Callable[[str], None]

PACKAGE = Path(__file__).parents[1]  # nbcompose's own folder
_MACHINERY = (str(PACKAGE), "<frozen")


class Reloader:
    """Deploys changes of the user's files to the services of a registry, until stopped.

    `pack` makes the deployments of an entry and its dependencies, dependencies first.
    """

    def __init__(
        self,
        registry: Registry,
        watched: Watched,
        pack: Callable[[Service], Sequence[Deployment]],
        say: Say,
        stop_first: bool,
    ) -> None:
        self._registry = registry
        self._watched = watched
        self._pack = pack
        self._say = say
        self._stop_first = stop_first
        self._imported: dict[str, Fingerprint] = {}  # what the replicas of each service have imported
        self._coming: dict[str, Coming] = {}
        self._held: list[Deployment] = []
        self._gone: list[str] = []

    def run(self, entry: Service, stopped: threading.Event) -> None:
        """Start the services, watch, and apply saved files. Raises what `Registry.deploy` raises for the first
        versions.

        Files saved while a change is applied are applied together after it. A version that is still loading is
        cancelled if the files no longer match it.
        """
        for deployment in self._packed(entry):
            self._begin(deployment, Plan("replace"))
        for changed in self._watched.looks(stopped):
            if changed:
                self._reload(stopped)
            elif self._held and not self._coming:
                self._bring_about(self._held, stopped)

    def _packed(self, entry: Service) -> list[Deployment]:
        """Return the deployments of all services that are in the files now."""
        modules = self._watched.modules
        found = []
        for deployment in self._pack(entry):
            serving = self._registry.deployment(deployment.spec.name)
            imported = self._imports_of(deployment.spec.name)
            found.append(
                comparable(deployment, modules, serving.fingerprint if serving is not None else None, imported)
            )
        return found

    # -- one reload, on the watching thread

    def _reload(self, stopped: threading.Event) -> None:
        try:
            with _interruptible(stopped):
                wanted = self._packed(self._watched.load())
        except KeyboardInterrupt:
            return
        except (Exception, SystemExit) as error:
            reason = traceback.format_exception_only(error)[-1].strip()
            self._say(f"{self._watched.target} could not be loaded, the versions before serve on:\n{told(error)}")
            for name in self._registry.names():
                self._registry.mark(name, out_of_date_reason=reason)
            return
        names = [d.spec.name for d in wanted]
        self._gone = [name for name in self._registry.names() if name not in names]
        self._make_way(wanted)
        if not self._bring_about(wanted, stopped) and not self._gone:
            self._say("nothing has changed")
        self._run(self._forget_gone())

    def _make_way(self, wanted: Sequence[Deployment]) -> None:
        """Remove exposed services that are no longer the entry, so that the new entry gets the port."""
        entries = [d.spec.name for d in wanted if d.exposed]
        for name in self._registry.names():
            known = self._registry.deployment(name)
            if known is not None and known.exposed and name not in entries:
                self._say(f"{name}: stopped, since {', '.join(entries)} is to answer where it did")
                self._registry.remove(name)
                self._gone = [gone for gone in self._gone if gone != name]

    def _bring_about(self, wanted: Sequence[Deployment], stopped: threading.Event) -> bool:
        """Start all that has to be done, and wait for hot swaps. Returns whether there was anything to do."""
        self._held = []
        busy = [self._bring(deployment) for deployment in wanted]
        self._see_swaps(stopped)
        held, self._held = self._held, []
        for deployment in held:  # the changes of their dependents have been started by now
            self._bring(deployment, last=not self._coming)
        self._see_swaps(stopped)
        return any(busy)

    def _bring(self, deployment: Deployment, last: bool = False) -> bool:
        """Start what one service needs. Returns whether that is anything."""
        name = deployment.spec.name
        coming = self._coming.get(name)
        if coming is not None and deployment.is_same(coming.deployment):
            return True
        plan = self._registry.plan(deployment)
        if coming is not None:
            self._give_up(name, coming, plan)
        if plan.action == "nothing":
            self._registry.mark(name, out_of_date_reason="")
            return coming is not None
        try:
            self._begin(deployment, plan)
        except Incompatible as error:
            if last:
                self._refused(name, error)
            else:
                self._held.append(deployment)
        except NbcomposeError as error:
            self._refused(name, error)
        return True

    def _begin(self, deployment: Deployment, plan: Plan) -> None:
        name, why = deployment.spec.name, ""
        if plan.action == "swap":
            try:
                deployment = swappable(deployment, self._watched.modules, self._imports_of(name))
            except CaptureError as error:
                why = str(error)
        status = self._status(name)
        before = status.version if status is not None else 0
        misfits = self._registry.deploy(deployment, stop_first=self._stop_first)
        for line in misfits if not self._held else ():  # the held deployments may be the matching ones
            self._say(f"{name}: {line}")
        self._registry.mark(name, out_of_date_reason="")
        coming = Coming(deployment, before, why, is_swap=plan.action == "swap" and not why)
        self._coming[name] = coming
        coming.future = self._run(self._see_through(name, coming))

    def _give_up(self, name: str, coming: Coming, plan: Plan) -> None:
        """Cancel a version that is starting and no longer wanted."""
        coming.cancel()
        self._coming.pop(name, None)
        if plan.action != "replace":  # a replacement cancels it by itself
            self._registry.abandon(name)
        if plan.action == "nothing":
            self._say(f"{name}: the version that serves is what is wanted again")

    def _refused(self, name: str, error: NbcomposeError) -> None:
        self._say(f"{name}: could not be replaced, the version before serves on: {error}")
        self._registry.mark(name, out_of_date_reason=str(error).partition("\n")[0])

    def _see_swaps(self, stopped: threading.Event) -> None:
        """Wait for hot swaps: they are fast, and the next change must see their result."""
        swaps = [c.future for c in list(self._coming.values()) if c.is_swap and c.future is not None]
        while not stopped.is_set() and concurrent.futures.wait(swaps, timeout=SLICE).not_done:
            pass

    def _status(self, name: str) -> Status | None:
        with contextlib.suppress(UnknownService):
            return self._registry.status(name)
        return None

    def _imports_of(self, name: str) -> Fingerprint | None:
        """Return what the service's replicas have imported; None where they may have imported different versions."""
        status = self._status(name)
        return self._imported.get(name) if status is not None and not status.restarts else None

    # -- the outcome, on the registry's loop

    async def _see_through(self, name: str, coming: Coming) -> None:
        """Wait for the outcome, and report it."""
        changed = asyncio.Event()
        unsubscribe = self._registry.subscribe(lambda _: changed.set())
        try:
            while (outcome := coming.outcome(await self._registry.settle(name))) is None:
                await changed.wait()
                changed.clear()
        except UnknownService:  # it was stopped meanwhile
            return
        finally:
            unsubscribe()
            if self._coming.get(name) is coming:
                del self._coming[name]
        if outcome.imported and coming.deployment.fingerprint is not None:
            self._imported[name] = coming.deployment.fingerprint
        if outcome.line:
            self._say(f"{name}: {outcome.line}")
        await self._forget_gone()

    async def _forget_gone(self) -> None:
        """Stop the services that are no longer in the files, once nothing that serves depends on them."""
        if self._coming or self._held:
            return
        for name in list(self._gone):
            others = [d for n in self._registry.names() if n != name and (d := self._registry.deployment(n))]
            if not any(name in {x.service for x in d.spec.dependencies if x.url is None} for d in others):
                self._gone.remove(name)
                with contextlib.suppress(UnknownService):
                    await self._registry.remove_async(name)
                    self._say(f"{name}: removed, since it is no more in {self._watched.target}")

    def _run(self, work: Coroutine[object, object, None]) -> concurrent.futures.Future[None]:
        return asyncio.run_coroutine_threadsafe(work, background().loop)


@dataclass(eq=False)
class Coming:
    """A candidate of a reload. `before`: number of the version that served; `why`: what prevented a hot swap."""

    deployment: Deployment
    before: int
    why: str
    is_swap: bool
    future: concurrent.futures.Future[None] | None = None

    def cancel(self) -> None:
        if self.future is not None:
            self.future.cancel()

    def outcome(self, status: Status) -> Outcome | None:
        """Return the outcome; None while it is not known."""
        if status.state == "failed":
            return Outcome(f"could not start: {status.error}")
        if status.out_of_date_reason:
            return Outcome(
                f"could not be replaced, the version before serves on: {status.error or status.out_of_date_reason}"
            )
        if status.version <= self.before or any(r.state == "starting" for r in status.replicas):
            return None
        return Outcome(
            f"{status.change_reason}, since {self.why}" if self.why else status.change_reason,
            imported=not status.swapped,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a candidate: a line for the user. `imported`: the serving replicas have imported their class again."""

    line: str
    imported: bool = False


def told(error: BaseException) -> str:
    """Return an error as text, with only the user's own frames."""
    if isinstance(error, NbcomposeError):
        return str(error)
    shown = link = traceback.TracebackException.from_exception(error)
    while link is not None:
        link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(_MACHINERY)]
        link = link.__cause__ or link.__context__  # type: ignore[assignment]
    return "".join(shown.format()).rstrip()


@contextlib.contextmanager
def _interruptible(stopped: threading.Event) -> Iterator[None]:
    """Make a signal that ends the process end a running import as well."""

    def end(*_: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handling(end, signal.SIGINT, signal.SIGTERM):
        yield
