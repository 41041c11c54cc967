"""Listening sockets that end with the process that made them.

A forked child has its own hold on every open file. A worker that a notebook forks may live on when the kernel is
killed, and would keep our ports and addresses taken, with nobody to answer.
"""

from __future__ import annotations

import os
import socket
import weakref

_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def keep_from_children(sock: socket.socket) -> socket.socket:
    """Have `sock` closed in whatever this process forks from now on."""
    _sockets.add(sock)
    return sock


def _close_in_child() -> None:
    for sock in list(_sockets):
        if sock.fileno() != -1:
            os.close(sock.detach())  # detached: the child may reuse the number, which the object must not close again
    _sockets.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
