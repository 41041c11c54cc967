"""Binding HTTP ports on the real machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nbcompose._control.ports import bind, port_of, serves
from nbcompose._spec import Http, ServiceSpec
from nbcompose.errors import LaunchError, PortInUse

SPEC = ServiceSpec("Writer", object, ())


def spec(**http: object) -> ServiceSpec:
    return replace(SPEC, http=Http(**http))  # type: ignore[arg-type]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield port_of(sock)


def test_a_port_in_use_names_its_process(taken: int) -> None:
    with pytest.raises(PortInUse, match=rf"Writer: port {taken} is in use by \S+ \(pid {os.getpid()}\): choose"):
        bind(spec(port=taken))


def test_any_port_is_the_favorite_where_that_is_free(taken: int) -> None:
    with bind(spec(port=0)) as sock:
        favorite = port_of(sock)
    with bind(spec(port=0), favorite) as sock:
        assert port_of(sock) == favorite
    with bind(spec(port=0), taken) as sock:
        assert port_of(sock) not in (0, taken)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_that_is_not_this_machine(host: str) -> None:
    with pytest.raises(LaunchError, match=rf"Writer: '{host}' is no address of this machine"):
        bind(spec(host=host))


def test_what_a_socket_serves() -> None:
    http = Http(port=0)
    with bind(spec()) as sock:
        assert serves(sock, http, Http(port=0))
        assert serves(sock, http, Http(port=port_of(sock)))
        assert not serves(sock, http, Http(port=port_of(sock) + 1))
        assert not serves(sock, http, Http(port=0, host="0.0.0.0"))
