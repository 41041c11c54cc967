"""The HTTP port of a service: bound once by the supervisor, shared by the service's replicas, kept over restarts."""

from __future__ import annotations

import errno
import socket

import psutil

from nbcompose.errors import PortInUse
from nbcompose.spec import ServiceSpec


def bind(spec: ServiceSpec) -> socket.socket:
    """A listening socket where `spec.http` says. Raises `PortInUse`, which names the process where it can be seen."""
    family, _, _, _, address = socket.getaddrinfo(
        spec.http.host, spec.http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(_message(spec, error)) from None
        raise
    return sock


def _message(spec: ServiceSpec, error: OSError) -> str:
    port = spec.http.port
    if error.errno == errno.EACCES:
        return f"{spec.name}: port {port} may only be used by the administrator: choose one above 1023, or 0 for any"
    holder = _holder(port)
    return (
        f"{spec.name}: port {port} is in use{f' by {holder}' if holder else ''}: choose another, or 0 for any free one"
    )


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # other users' processes are not ours to see
    return ""
