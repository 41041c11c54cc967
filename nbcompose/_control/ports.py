"""HTTP port of a service: bound by the supervisor, shared by the service's replicas, kept across versions."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

import psutil

from nbcompose._host import keep_from_children
from nbcompose._spec import Http, ServiceSpec
from nbcompose.errors import LaunchError, PortInUse


def listen(
    spec: ServiceSpec, known: Iterable[tuple[socket.socket | None, Http]], favorite: int | None = None
) -> socket.socket:
    """Return a duplicate of a socket of an earlier version where it fits `spec` too, or a new one.

    `known`: sockets of the service's versions, each with the setting that it was bound for. Raises as `bind`.
    """
    for sock, bound in known:
        if sock is not None and serves(sock, bound, spec.http):
            return keep_from_children(sock.dup())
    return bind(spec, favorite)


def bind(spec: ServiceSpec, favorite: int | None = None) -> socket.socket:
    """Return a listening socket as `spec.http` says; where that leaves the port open, on `favorite` if it is free.

    Raises `PortInUse`, which names the process where it can be seen, and `LaunchError` for an impossible host.
    """
    if spec.http.port == 0 and favorite is not None:
        try:
            return _bind(spec, favorite)
        except PortInUse:
            pass
    return _bind(spec, spec.http.port)


def serves(sock: socket.socket, bound: Http, wanted: Http) -> bool:
    """Whether `sock`, which was bound for `bound`, also satisfies `wanted`."""
    return bound.host == wanted.host and wanted.port in (0, port_of(sock))


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _bind(spec: ServiceSpec, port: int) -> socket.socket:
    sock: socket.socket | None = None
    try:
        found = socket.getaddrinfo(spec.http.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(_message(spec, port, error)) from None
        raise LaunchError(f"{spec.name}: {spec.http.host!r} is no address of this machine ({error})") from None
    return keep_from_children(sock)


def _message(spec: ServiceSpec, port: int, error: OSError) -> str:
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
        pass  # processes of other users cannot be inspected
    return ""
