"""Addresses of processes: private Unix sockets, on Linux with abstract names, which leave no file behind.

An address is a text: `@name` for an abstract socket, else a path. Only processes of the same user may connect, whatever
the permissions of the file: both ends ask the kernel for the peer's user id.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import sys
import tempfile
from pathlib import Path

from nbcompose._host import keep_from_children

ABSTRACT = sys.platform == "linux"


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
    sock = keep_from_children(socket.socket(socket.AF_UNIX))
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
    sock = keep_from_children(socket.socket(socket.AF_UNIX))
    try:
        sock.setblocking(False)
        sock.connect(_native(address))
        check_peer(sock)
    except FileNotFoundError as error:
        sock.close()
        raise ConnectionRefusedError(f"nothing listens at {address}") from error
    except BlockingIOError as error:
        sock.close()
        raise ConnectionRefusedError(f"whoever listens at {address} does not keep up with its callers") from error
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
