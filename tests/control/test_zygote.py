"""The zygote on its own: it forks what it is asked for, tells how that ends, and minds nobody else's signals."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from nbcompose._control.engines import zygote_client
from nbcompose._control.engines.base import NOT_WARM
from nbcompose._control.engines.local import LocalEngine, LocalProcess
from nbcompose._control.engines.zygote_client import Zygote
from nbcompose._control.logs import Written
from nbcompose._host.forking import open_files
from nbcompose._host.lifetime import close_owner_fd, open_owner_fd
from nbcompose._replica.bootstrap import InheritedFds
from nbcompose._rpc.load_table import LoadTable
from nbcompose._rpc.server_calls import IncomingCall
from tests.conftest import SERVICES, wait_for_end
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.system


class Nobody:
    """Takes what a replica says and does nothing."""

    def on_call(self, call: IncomingCall) -> None:
        raise AssertionError("a replica calls nobody on this channel")

    def on_note(self, topic: str, value: Any) -> None:
        pass


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalEngine]:
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "json")
    board = LoadTable.create()
    engine = LocalEngine(board)
    await engine.start()
    yield engine
    await engine.stop()
    board.close()


async def spawn(engine: LocalEngine, lines: list[Written] | None = None, *, heavy: bool = True) -> LocalProcess:
    """A replica that waits to be told what it is, and ends when its control channel is closed."""
    taken = lines if lines is not None else []
    process = await engine.spawn(
        "a replica", dict(os.environ), None, Nobody(), lambda _: None, taken.append, heavy=heavy
    )
    await until(lambda: process.connection.greeted)
    return process


async def end(process: LocalProcess) -> int | None:
    return await asyncio.wait_for(process.wait(), PATIENCE)


async def test_a_fork_is_a_process_of_its_own(engine: LocalEngine) -> None:
    process = await spawn(engine)
    there = psutil.Process(process.pid)

    assert process.cold == ""
    assert there.ppid() == engine.zygote_pid
    assert os.getsid(process.pid) == process.pid
    process.kill()
    assert await end(process) == -signal.SIGKILL


async def test_replicas_have_no_files_of_the_zygote_or_of_one_another(engine: LocalEngine) -> None:
    processes = [await spawn(engine) for _ in range(3)]
    counts = [psutil.Process(p.pid).num_fds() for p in processes]
    zygote = psutil.Process(engine.zygote_pid)
    await end_all(processes)
    before = zygote.num_fds()
    await end_all(await asyncio.gather(*(spawn(engine) for _ in range(10))))

    assert len(set(counts)) == 1
    assert zygote.num_fds() == before


async def end_all(processes: list[LocalProcess]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        assert await end(process) == -signal.SIGKILL


async def test_many_at_once_each_get_their_own(engine: LocalEngine) -> None:
    processes = await asyncio.gather(*(spawn(engine) for _ in range(20)))
    assert len({p.pid for p in processes}) == 20
    await end_all(processes)


async def test_one_who_gives_up_does_not_get_the_next_ones_replica(engine: LocalEngine) -> None:
    first = await spawn(engine)  # the zygote is warm
    tasks = [asyncio.create_task(spawn(engine)) for _ in range(12)]
    for _ in range(3):
        await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    processes = [p for p in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(p, LocalProcess)]

    assert len(processes) >= 6
    for process in processes:  # each is killed by the right pid, and its end told to the right one
        process.kill()
        assert await end(process) == -signal.SIGKILL
    assert psutil.pid_exists(first.pid)
    zygote = psutil.Process(engine.zygote_pid)
    for child in zygote.children():
        if child.pid != first.pid:
            await asyncio.to_thread(wait_for_end, child.pid)
    await end_all([first])


async def test_a_replica_whose_supervisor_hangs_up_ends(engine: LocalEngine) -> None:
    process = await spawn(engine)
    process.connection.close()
    assert await end(process) in (0, -signal.SIGKILL)


async def test_interrupts_of_the_kernel_are_not_the_zygotes(engine: LocalEngine) -> None:
    assert engine.zygote_pid is not None
    assert os.getsid(engine.zygote_pid) == engine.zygote_pid  # ■ signals the kernel's process group
    os.kill(engine.zygote_pid, signal.SIGINT)
    await end_all([await spawn(engine)])


async def test_a_zygote_that_dies_while_it_is_asked_is_replaced(engine: LocalEngine) -> None:
    await end_all([await spawn(engine)])
    zygote = engine.zygote_pid
    assert zygote is not None
    os.kill(zygote, signal.SIGSTOP)
    asking = [asyncio.create_task(spawn(engine)) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)  # they ask, and wait
    os.kill(zygote, signal.SIGKILL)

    processes = await asyncio.gather(*asking)
    assert {p.cold for p in processes} == {"the zygote failed: it ended unexpectedly (status -9)"}
    await end_all(processes)
    warm = await spawn(engine)
    assert warm.cold == ""
    assert engine.zygote_pid != zygote
    await end_all([warm])


async def test_a_zygote_that_is_not_understood_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the code that stands in the files when it starts: they may have been changed since."""
    other = """import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.send(b'{"ready": 1}\\n'); s.recv(1)"""
    monkeypatch.setattr(zygote_client, "START", other)
    board = LoadTable.create()
    engine = LocalEngine(board)
    await engine.start()
    process = await asyncio.wait_for(spawn(engine), PATIENCE)
    assert process.cold == "the zygote failed: it says what is not understood (KeyError: 'set')"
    await end_all([process])
    await engine.stop()
    board.close()


async def test_a_library_that_is_broken_or_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "no_such_library,breaks_on_import,json")
    monkeypatch.setenv("PYTHONPATH", str(SERVICES))
    board = LoadTable.create()
    engine = LocalEngine(board)
    await engine.start()
    process = await spawn(engine)
    assert process.cold == ""
    await end_all([process])
    await engine.stop()
    board.close()


async def test_what_is_being_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "slow_to_import")
    monkeypatch.setenv("PYTHONPATH", str(SERVICES))
    board = LoadTable.create()
    engine = LocalEngine(board)
    await engine.start()
    assert engine.warming() == "starting a process"
    waiting = asyncio.create_task(spawn(engine))
    await until(lambda: engine.warming() == "importing slow_to_import")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await engine.stop()
    board.close()


async def test_what_uses_no_heavy_library_does_not_wait_for_them(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end_all([await spawn(engine)])
    light = await spawn(engine, heavy=False)
    assert light.cold == ""  # the zygote is warm, and quicker
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "slow_to_import")
    monkeypatch.setenv("PYTHONPATH", str(SERVICES))
    board = LoadTable.create()
    warming = LocalEngine(board)
    await warming.start()
    first = await spawn(warming, heavy=False)
    assert first.cold == NOT_WARM
    await end_all([light, first])
    await warming.stop()
    board.close()


# -- what its owner makes of what goes wrong


def client() -> Zygote:
    """One that has no process, and takes its answers as they come."""
    zygote = Zygote(0, ("json",))
    zygote._warm.set()
    return zygote


async def test_a_program_that_cannot_be_started_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    before = open_files()
    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(BlockingIOError):
        client().start()
    assert open_files() == before


async def test_nobody_listening_to_it_any_more_is_its_end() -> None:
    owner = open_owner_fd()
    zygote = Zygote(owner, ("json",))
    zygote.start()
    assert zygote._living is not None
    assert zygote._process is not None
    assert zygote._socket is not None
    await zygote._warm.wait()
    zygote._living.cancel()  # as a loop does that ends
    await asyncio.wait([zygote._living])
    assert zygote._socket.fileno() == -1
    assert await asyncio.to_thread(zygote._process.wait, PATIENCE) == 0
    close_owner_fd(owner)


async def test_one_that_takes_no_requests_is_said_to_be_gone() -> None:
    zygote = client()
    zygote._socket, other = socket.socketpair()
    other.close()
    with pytest.raises(ConnectionResetError, match=r"it takes no requests: .*Broken pipe"):
        await zygote.fork(InheritedFds(*[zygote._socket.fileno()] * len(InheritedFds._fields)))
    zygote._socket.close()


async def test_a_replica_that_nobody_waits_for_any_more_is_killed() -> None:
    zygote = client()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.cancel()
    zygote._answers.append(answer)
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    zygote._take_child(process.pid)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL


async def test_its_end_is_the_error_of_all_that_wait_and_of_who_asks_later() -> None:
    zygote = client()
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    zygote._answers += [first, second]
    zygote._take_end("it was killed")
    for answer in (first, second):
        with pytest.raises(ConnectionResetError, match="it was killed"):
            await answer
    assert not zygote.alive
    with pytest.raises(ConnectionResetError, match="it was killed"):
        await zygote.fork(InheritedFds(*[0] * len(InheritedFds._fields)))
