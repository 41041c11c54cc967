"""What tests share: services to run (`tests/services/`), and a started registry that says when something happens."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import inspect
import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import psutil
import pytest

from nbcompose._code.packing import deployment_of
from nbcompose._control import publisher
from nbcompose._control.registry import Registry
from nbcompose._control.status import Status
from nbcompose._host.devices import discover
from nbcompose._tracing import clock
from nbcompose.errors import NbcomposeError, UnknownService
from tests.optional import Absent
from tests.patience import PATIENCE

SERVICES = Path(__file__).parent / "services"
sys.path.insert(0, str(SERVICES))  # replicas get the same path

# jsonschema takes it where it is there, for a format of addresses: its import takes 2 s in each process of the tests.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# Where nothing else is said, httpx gives up after 5 s. One object says so, for its functions and all its clients.
limits = inspect.signature(httpx.Client).parameters["timeout"].default
limits.connect = limits.read = limits.write = limits.pool = PATIENCE
# What replicas have to tell may come late, and is what a test waits for.
publisher.COLLECT_WAIT = PATIENCE
# A slow machine makes examples slow, and no fault.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


CANARIES = Path(__file__).parent / "canaries"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Canaries come before all other tests: where an upstream release has changed something, they name the reason."""
    items.sort(key=lambda item: CANARIES not in item.path.parents)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """They are first in the report too: processes that run tests side by side tell of them in between."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    for outcome in ("error", "failed") if reporter is not None else ():
        reporter.stats.get(outcome, []).sort(key=lambda report: "canaries/" not in report.nodeid)


def pytest_collection_finish() -> None:
    """What is imported stays: tests that collect garbage need not go through all of it."""
    gc.collect()
    gc.freeze()
    # pytest adds its handlers to each logger that does not propagate, three times a test; torch has forty of them.
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch") and isinstance(logger, logging.Logger):
            logger.propagate = True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What this machine has not got: a GPU, or a library that a case of a table is about."""
    if item.get_closest_marker("gpu") and not discover():
        pytest.skip("needs an NVIDIA GPU")
    for value in (
        item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    ):
        if isinstance(value, Absent):
            value.skip()


class Running:
    """A registry that runs, and what tests want of it."""

    def __init__(self, keep: float = 0.0) -> None:
        self.registry = Registry(keep=keep)
        self.registry.start()
        self.pids: set[int] = set()
        self.registry.subscribe(self._note_pids)
        self.threads = concurrent.futures.ThreadPoolExecutor(64)

    def deploy(self, service: Any, *, compare: bool = False, **options: Any) -> None:
        """A first version, or one that replaces the one before; with `compare`, what the change calls for."""
        # Heavy: by the zygote, however little it has to import in tests.
        deployment = replace(deployment_of(service, **options), heavy=True)
        self.registry.deploy(deployment if compare else replace(deployment, fingerprint=None))

    def up(self, *services: Any, **options: Any) -> Any:
        """Start services, see that they become ready, and return what calls the first of them."""
        for service in services:
            self.deploy(service, **options)
        for service in services:
            status = self.registry.wait(service.name)
            assert status.state == "ready", f"{service.name} is {status.state}: {status.reason}\n{status.error}"
        return self.registry.proxy(services[0].name)

    def until(self, name: str, condition: Callable[[Status], bool]) -> Status:
        """The first status of a service that meets the condition. The present one counts."""
        heard: queue.SimpleQueue[Status] = queue.SimpleQueue()
        unsubscribe = self.registry.subscribe(heard.put)
        deadline = time.monotonic() + PATIENCE
        last: Status | None = None
        try:
            with contextlib.suppress(UnknownService):
                heard.put(self.registry.status(name))
            while True:
                try:
                    status = heard.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    pytest.fail(f"it did not happen within {PATIENCE:g} s; last: {last}")
                if status.name == name:
                    last = status
                    if condition(status):
                        return status
        finally:
            unsubscribe()

    def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Call from another thread; `.result(PATIENCE)` is what came of it."""
        return self.threads.submit(function, *args, **kwargs)

    def clear(self) -> None:
        for name in self.registry.names():
            with contextlib.suppress(NbcomposeError):
                self.registry.remove(name, grace=0.0)
        self.registry._past_logs.clear()  # a service of the next test may have the same name

    def close(self) -> None:
        self.clear()
        self.registry.stop()
        self.threads.shutdown(wait=False, cancel_futures=True)
        left = [pid for pid in self.pids if alive(pid)]
        assert not left, f"replicas that outlive their registry: {left}"

    def _note_pids(self, status: Status) -> None:
        self.pids.update(r.pid for r in status.replicas if r.pid is not None)


@pytest.fixture(scope="session", autouse=True)
def home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Notebooks leave files there for callers outside. Tests that run side by side have services of the same names,
    and so may the user. Settings and caches of other programs stay where they are.
    """
    home = Path.home()
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in ("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache"):
            patch.setenv(name, os.environ.get(name) or str(home / folder))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module", autouse=True)
def main_module() -> Iterator[None]:
    """What a file's tests make of `__main__`, as a shell does, is theirs."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture(scope="module", autouse=True)
def clock_of_deadlines() -> Iterator[None]:
    """It is behind once a service of a test has been at a breakpoint; another file's tests have their deadlines."""
    yield
    clock.monotonic, clock.behind = time.monotonic, 0.0


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment in which the module's registry is made; override it for another kind of engine."""
    return {"NBCOMPOSE_PRELOAD": "json"}


@pytest.fixture(scope="module")
def running_registry(environment: dict[str, str]) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        running = Running()
        yield running
        running.close()


@pytest.fixture
def running(running_registry: Running) -> Iterator[Running]:
    """The module's registry, without a service of another test."""
    yield running_registry
    running_registry.clear()


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT raises `KeyboardInterrupt`, also where pytest was started with SIGINT ignored, as background jobs are."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended (one that has may stay in the table until it is fetched)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(pid: int, within: float = PATIENCE) -> None:
    """Wait until a process has ended, whoever's child it is."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return

    async def end() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(fd, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), within)
        finally:
            loop.remove_reader(fd)

    try:
        asyncio.run(end())
    except TimeoutError:
        pytest.fail(f"process {pid} ({' '.join(psutil.Process(pid).cmdline())}) is still there after {within:g} s")
    finally:
        os.close(fd)
