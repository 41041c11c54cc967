"""Connections to services by their addresses: where each answers, and with which token, is asked of its process."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import Any, Protocol

from nbcompose._jupyter.rewriting import Target
from nbcompose._jupyter.upstream import Connections, Upstream
from nbcompose._protocol import Client, messages
from nbcompose.errors import CallError, DeadlineExceeded, NbcomposeError, ServiceUnavailable, UnknownService

# seconds that it is known where a service answers: not longer, because its port may be another process's soon
KNOWN_FOR = 1.0
# seconds that a process may take to say it again; one that is so busy cannot have given up the port either
BUSY_AFTER = 0.25
REACH_WITHIN = 10.0


class RuntimesLike(Protocol):
    """See `finding.Runtimes`."""

    async def find(self, where: str) -> Any:
        """Return the process that an address names, whose `client` is a `Client`. Raises `CallError`."""


@dataclass(slots=True)
class _Known:
    """Where a service answers; `until` when that is taken for granted."""

    answer: messages.Reach | None = None
    until: float = 0.0
    asking: asyncio.Task[messages.Reach] | None = None


class Reaching:
    """Where services answer, and with which token: asked for over the private sockets of their processes."""

    def __init__(self, known_for: float = KNOWN_FOR) -> None:
        self._known_for = known_for
        self._known: weakref.WeakKeyDictionary[Client, dict[str, _Known]] = weakref.WeakKeyDictionary()

    async def reach(self, client: Client, service: str) -> messages.Reach:
        """Return where a service answers. Raises `CallError`, and what the process says that went wrong."""
        services = self._known.setdefault(client, {})
        known = services.setdefault(service, _Known())
        if known.answer is not None and asyncio.get_running_loop().time() < known.until:
            return known.answer
        if known.asking is None:
            known.asking = asyncio.ensure_future(self._ask(client, service, known))
            known.asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        asking, earlier = known.asking, known.answer
        if earlier is not None and not (await asyncio.wait((asking,), timeout=BUSY_AFTER))[0]:
            return earlier
        return await asyncio.shield(asking)

    def forget(self, client: Client, service: str) -> None:
        """Ask once more next time: it does not answer there."""
        self._known.get(client, {}).pop(service, None)

    async def _ask(self, client: Client, service: str, known: _Known) -> messages.Reach:
        try:
            answer = await client.ask({"type": "reach", "service": service}, messages.Reach, REACH_WITHIN)
            known.answer, known.until = answer, asyncio.get_running_loop().time() + self._known_for
            return answer
        except BaseException:
            self.forget(client, service)
            raise
        finally:
            known.asking = None


class Services:
    """The services that can be reached."""

    def __init__(self, runtimes: RuntimesLike, connections: Connections | None = None) -> None:
        self._runtimes = runtimes
        self._reaching = Reaching()
        self._connections = Connections() if connections is None else connections

    async def open(self, target: Target, *, fresh: bool = False) -> tuple[Upstream, messages.Reach]:
        """Return a connection to a service, and how it is spoken to. Raises `CallError`, which says what to do."""
        name = target.service
        client = (await self._runtimes.find(target.where)).client
        for attempt in (1, 2):
            reach = await self._reach(client, target)
            try:
                return await self._connections.open(_address(reach), fresh=fresh), reach
            except OSError as error:
                self._reaching.forget(client, name)  # its port is another one, after it was stopped and started
                if attempt == 2:
                    raise ServiceUnavailable(
                        f"{name} cannot be reached at {reach['host']}:{reach['port']}: {error}; if it is starting, try "
                        f"again; if it was stopped, run its cell"
                    ) from None
        raise AssertionError("it is returned or raised in the loop")

    async def _reach(self, client: Client, target: Target) -> messages.Reach:
        name = target.service
        try:
            return await self._reaching.reach(client, name)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{error}: where {name} answers is not known") from None
        except UnknownService as error:
            raise UnknownService(
                f"{error} (in {target.where}); run the cell that declares it, or correct the name"
            ) from None
        except ServiceUnavailable as error:
            raise ServiceUnavailable(f"{error}; if it was stopped, run its cell") from None
        except CallError:
            raise
        except ConnectionError:
            raise ServiceUnavailable(
                f"the process of {target.where} has ended, and {name} with it: run the notebook again"
            ) from None
        except NbcomposeError as error:
            raise ServiceUnavailable(str(error)) from None

    def close(self) -> None:
        """Close the connections that are kept."""
        self._connections.close()


def _address(reach: messages.Reach) -> tuple[str, int]:
    # A service that listens on all addresses of the machine is called at the one that stays on it.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(reach["host"], reach["host"])
    return host, reach["port"]


def authority(reach: messages.Reach) -> str:
    """Return the `Host` of a service."""
    host, port = _address(reach)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
