"""Private Unix sockets: their addresses, who may connect, and how the processes of this user are found by them.

An address is a text: `@name` for an abstract socket, else a path. On Linux the sockets are in the abstract namespace,
and are listed in /proc/net/unix: nothing is left behind, however a process ends. Only processes of the same user may
connect, whatever the permissions of the file: both ends ask the kernel for the peer's user id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ABSTRACT = sys.platform == "linux"
PREFIX = "nbcompose.runtime"  # of the sockets of processes that run services; the user's id and the pid follow
LISTENER_PREFIX = "nbcompose.server"  # of the sockets of processes that want to know when there are other ones


def fresh(prefix: str) -> str:
    """Return a new, unguessable address whose name begins with `prefix`."""
    name = f"{prefix}.{secrets.token_hex(8)}"
    return f"@{name}" if ABSTRACT else str(socket_folder() / name)


def socket_folder() -> Path:
    """Return this user's private folder for socket files, for systems without abstract sockets.

    The path is short: macOS limits a socket's path to 104 bytes. Raises `PermissionError` when the folder belongs to
    another user or is accessible to others.
    """
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"nbcompose-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} belongs to another user, or is open to others: remove it")
    return folder


def listen(address: str) -> socket.socket:
    """Return a listening, non-blocking socket bound to `address`."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(_native(address))
        sock.listen(512)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def connect(address: str) -> socket.socket:
    """Return a connected, non-blocking socket; never waits.

    Raises `ConnectionError` when no process listens or its accept queue is full, `PermissionError` when the listening
    process belongs to another user.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(_native(address))
        check_peer(sock)
    except FileNotFoundError as error:
        sock.close()
        raise ConnectionRefusedError(f"nothing listens at {address}") from error
    except BlockingIOError as error:
        sock.close()
        raise ConnectionRefusedError(f"the process at {address} does not keep up with its callers") from error
    except BaseException:
        sock.close()
        raise
    return sock


def remove(address: str) -> None:
    """Remove the socket file, if any, after the listening socket has been closed."""
    if not address.startswith("@"):
        Path(address).unlink(missing_ok=True)


def check_peer(sock: socket.socket) -> None:
    """Raise `PermissionError` unless the other end is a process of this user."""
    uid = peer_uid(sock)
    if uid != os.getuid():
        raise PermissionError(f"a process of user {uid} is at the other end of this socket: refused")


def check_transport(transport: asyncio.BaseTransport) -> None:
    """As `check_peer`, for a connection that an event loop has accepted."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as peer:
        check_peer(peer)


def peer_uid(sock: socket.socket) -> int:
    if sys.platform == "linux":
        size = struct.calcsize("3i")
        _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        return int(uid)
    # macOS and the BSDs: struct xucred { u_int version; uid_t uid; ... } through LOCAL_PEERCRED (1) at level 0.
    version_and_uid = sock.getsockopt(0, 1, 76)
    return int(struct.unpack_from("=II", version_and_uid)[1])


def _native(address: str) -> str:
    return "\0" + address[1:] if address.startswith("@") else address


# -- processes that run services


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process of this user that runs services, and where it answers."""

    pid: int
    address: str


def runtime_address() -> str:
    """Return a new address by which `find` finds this process."""
    return fresh(f"{PREFIX}.{os.getuid()}.{os.getpid()}")


def find() -> list[RunningProcess]:
    """Return the processes of this user that run services, sorted by pid. Reads /proc/net/unix, or a folder."""
    names = ((_pid(name), name) for name in _addresses(PREFIX))
    found = [RunningProcess(pid, name) for pid, name in names if pid is not None and is_alive(pid)]
    return sorted(found, key=lambda process: process.pid)


def listener_address() -> str:
    """Return a new address at which `knock` tells this process that others have begun or ceased to run services."""
    return fresh(f"{LISTENER_PREFIX}.{os.getuid()}.{os.getpid()}")


def knock() -> None:
    """Tell the processes of this user that want to know (a Jupyter server with the extension) to look with `find`.

    A connection to each that says nothing, and is closed at once. Never waits, and never fails: one that does not keep
    up has others to look for already.
    """
    with contextlib.suppress(OSError):
        for name in _addresses(LISTENER_PREFIX):
            with contextlib.suppress(OSError):
                connect(name).close()


def listeners() -> set[int]:
    """Return the pids of the processes of this user that `knock` tells: Jupyter servers that have the extension."""
    try:
        return {pid for name in _addresses(LISTENER_PREFIX) if (pid := _pid(name)) is not None}
    except OSError:
        return set()


def is_alive(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def sweep() -> None:
    """Remove socket files of processes that have ended, on systems without abstract sockets."""
    if ABSTRACT:
        return
    for path in socket_folder().glob("nbcompose.*"):
        pid = next((int(part) for part in reversed(path.name.split(".")[:-1]) if part.isdecimal()), None)
        if pid is not None and not is_alive(pid):
            path.unlink(missing_ok=True)


def _addresses(prefix: str) -> list[str]:
    prefix = f"{prefix}.{os.getuid()}."
    if not ABSTRACT:
        return [str(path) for path in socket_folder().glob(f"{prefix}*")]
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        return sorted({line.split()[-1] for line in file if f"@{prefix}" in line})


def _pid(name: str) -> int | None:
    with contextlib.suppress(ValueError, IndexError):
        pid = int(Path(name).name.lstrip("@").split(".")[3])
        return pid if pid > 0 else None  # other numbers stand for groups of processes
    return None
