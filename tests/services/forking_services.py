"""Services whose apis start processes of their own, in all the ways there are."""

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nbcompose import api, depends, service

SHOW_FILES = """
import json, os
found = {}
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        pass  # that of the folder
print(json.dumps(found))
"""


def files_here():
    """What this process has open."""
    done = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(FileNotFoundError):
            done[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return done


def handlers_here():
    """The handlers of signals that are not those of a new process, and whether a loop is woken up by signals."""
    usual = {signal.SIG_DFL, signal.SIG_IGN, None, signal.default_int_handler}
    odd = [s.name for s in signal.valid_signals() if isinstance(s, signal.Signals) and signal.getsignal(s) not in usual]
    ignored = [s.name for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD) if signal.getsignal(s) == signal.SIG_IGN]
    return {"handled": odd, "ignored": ignored, "wakeup": signal.set_wakeup_fd(-1)}


def wait_for_signal(ready):
    """Until a signal ends this. KeyboardInterrupt is what SIGINT is in a Python process."""
    try:
        os.write(ready, b"x")
        while True:
            signal.pause()
    except KeyboardInterrupt:
        os._exit(42)


def forked(function, *arguments):
    """The pid of a child that runs `function` and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            function(*arguments)
        except BaseException as error:
            print(f"in the child: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def told(function):
    """What `function` returns in a forked child."""
    readable, writable = os.pipe()
    pid = forked(lambda: os.write(writable, json.dumps(function()).encode()))
    os.close(writable)
    with open(readable, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def live_on(own_session, ready):
    if own_session:
        os.setsid()
    for fd in (1, 2):
        os.close(fd)
    os.write(ready, b"x")
    os.close(ready)
    while True:
        signal.pause()


def living_child(own_session):
    """The pid of a child that lives on; it has its session when this returns."""
    readable, writable = os.pipe()
    pid = forked(live_on, own_session, writable)
    os.close(writable)
    with open(readable, "rb") as pipe:
        assert pipe.read() == b"x"
    return pid


@service
class Leaf:
    @api
    def pid(self) -> int:
        return os.getpid()

    @api
    def add(self, n: int) -> int:
        return n + 1

    @api
    def hold(self, begun: str) -> int:
        Path(begun).touch()
        while True:
            time.sleep(60)

    @api
    def child(self, own_session: bool = False) -> int:
        """The pid of a child that lives on."""
        return living_child(own_session)


@service(threads=4)
class Parent:
    leaf = depends(Leaf)

    def __init__(self) -> None:
        self.mine = open("/dev/zero", "rb")  # noqa: SIM115  a file of the user's

    @api
    def pid(self) -> int:
        return os.getpid()

    @api
    def pool(self, method: str) -> list[int]:
        with multiprocessing.get_context(method).Pool(2) as pool:  # its end sends SIGTERM to its workers
            return pool.map(abs, [-1, -2, 3])

    @api
    def executor(self, method: str) -> list[int]:
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            return list(pool.map(abs, [-1, -2, 3]))

    @api
    async def pool_on_the_loop(self, method: str) -> list[int]:
        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(abs, [-1, -2, 3])

    @api
    async def program(self) -> str:
        process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode()

    @api
    def signalled(self, start: str, number: int) -> int:
        """How a child ends that gets a signal."""
        readable, writable = os.pipe()
        if start == "fork":
            pid = forked(wait_for_signal, writable)
        elif start == "program":
            code = f"import forking_services as f; f.wait_for_signal({writable})"
            environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
            pid = subprocess.Popen([sys.executable, "-c", code], pass_fds=[writable], env=environment).pid
        else:
            context: Any = multiprocessing.get_context(start)
            ready, sending = context.Pipe(duplex=False)
            process = context.Process(target=_wait_in_process, args=(sending,))
            process.start()
            ready.recv()
            os.close(readable)
            os.close(writable)
            os.kill(process.pid, number)
            process.join()
            return process.exitcode
        os.read(readable, 1)
        os.close(readable)
        os.close(writable)
        os.kill(pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @api
    def stopped_by_many(self, count: int) -> int:
        """As many children, each ended by SIGTERM."""
        return sum(self.signalled("fork", signal.SIGTERM) == -signal.SIGTERM for _ in range(count))

    @api
    def ended_at_once(self, method: str, count: int) -> int:
        """As many children, each ended before it has had time to do anything."""
        ended = 0
        for _ in range(count):
            context: Any = multiprocessing.get_context(method)
            process = context.Process(target=signal.pause)
            process.start()
            process.terminate()
            process.join()
            ended += process.exitcode == -signal.SIGTERM
        return ended

    @api
    def grandchild(self) -> list[object]:
        """What a child sets up is its children's: a handler, and a file that has the number of one of ours."""
        readable, writable = os.pipe()
        pid = forked(_set_up, writable)
        os.close(writable)
        with open(readable, "rb") as pipe:
            text = pipe.read()
        os.waitpid(pid, 0)
        return json.loads(text)

    @api
    def files(self) -> dict[str, str]:
        return {str(fd): name for fd, name in files_here().items()}

    @api
    def files_of_child(self) -> dict[str, str]:
        return {str(fd): name for fd, name in told(files_here).items()}

    @api
    async def files_of_child_of_the_loop(self) -> dict[str, str]:
        return {str(fd): name for fd, name in told(files_here).items()}

    @api
    def files_of_program(self) -> dict[str, str]:
        done = subprocess.run([sys.executable, "-c", SHOW_FILES], close_fds=False, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    @api
    def handlers_of_child(self) -> dict[str, object]:
        return told(handlers_here)

    @api
    async def handlers_of_child_of_the_loop(self) -> dict[str, object]:
        return told(handlers_here)

    @api
    async def loop_of_child(self) -> list[str]:
        """A child that has an event loop of its own, forked on the parent's."""
        return told(_use_a_loop)

    @api
    async def calls_of_child_of_the_loop(self) -> list[str]:
        return told(self._call)

    @api
    def calls_of_child(self) -> list[str]:
        return told(self._call)

    def _call(self) -> list[str]:
        found = []
        for call in (lambda: self.leaf.add(1), lambda: asyncio.run(_awaited(self.leaf))):
            try:
                found.append(str(call()))
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}")
        return found

    @api
    def child_that_ends_as_a_program_does(self) -> int:
        """It tidies up all that it has of its parent's."""
        pid = os.fork()
        if pid == 0:
            gc.collect()
            sys.modules.clear()
            gc.collect()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @api
    def ask_leaf(self, n: int) -> int:
        return self.leaf.add(n)

    @api
    def wait_for_leaf(self, begun: str) -> int:
        return self.leaf.hold(begun)

    @api
    def child(self, own_session: bool = False) -> int:
        return living_child(own_session)


def asking_over_http(url):
    @service
    class Asks:
        leaf = depends(url=url)

        @api
        def ask(self) -> dict[str, str]:
            """What a child has open after a call over HTTP."""
            assert self.leaf.add(1) == 2
            return {str(fd): name for fd, name in told(files_here).items()}

    return Asks


async def _awaited(leaf):
    return await leaf.to_async.add(1)


def _wait_in_process(sending):
    try:
        sending.send("ready")
        while True:
            signal.pause()
    except KeyboardInterrupt:
        os._exit(42)


def _set_up(writable):
    for fd, name in files_here().items():
        if fd > 2 and name == os.devnull:
            os.close(fd)  # which was one of ours
    files = [socket.socketpair() for _ in range(20)]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    seen = told(lambda: [signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, [a.send(b"x") for a, _ in files]])
    os.write(writable, json.dumps(seen).encode())


def _use_a_loop():
    try:
        running = str(asyncio.get_running_loop())
    except RuntimeError as error:
        running = str(error)

    async def sleep():
        await asyncio.sleep(0)
        return "slept"

    return [running, asyncio.run(sleep())]
