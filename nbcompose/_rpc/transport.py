"""Transport interface: how a proxy reaches a service; base class for services in other processes; socket transport.

See `_rpc/proxy.py` for the callers, `_rpc/client.py` for the choice of a replica.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from threading import get_ident
from typing import Any, Protocol

from nbcompose._rpc.blocking import BlockedThread, Portal, cancellable_items, serving, with_cancel
from nbcompose._rpc.client import Client
from nbcompose._rpc.client_calls import ConnectionClosed
from nbcompose._rpc.stream_arguments import Outlet
from nbcompose._rpc.stream_sources import Inbox, source_of
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import CallError, NbcomposeError, RemoteTraceback, ReplicaDied, UnknownApi

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Transport(Protocol):
    """One way to reach a service. `context` belongs to the api that makes the call."""

    service: str

    def apis(self) -> tuple[ApiSpec, ...] | None:
        """Return the apis of the service; None while they are not known."""
        ...

    def unknown(self, error: UnknownApi) -> UnknownApi:
        """Return the error for an api that the service has not, with what is known besides of why."""
        ...

    def learn(self, api: str, context: CallContext) -> Coroutine[Any, Any, ApiSpec]:
        """Return the api of that name; wait until the service is known. Raises `UnknownApi`, `ServiceUnavailable`."""
        ...

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        """As `learn`, for synchronous code."""
        ...

    def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]:
        """Return the result; may be awaited on any event loop."""
        ...

    def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        """Yield the items; may be iterated over on any event loop."""
        ...

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        """Return the result, or an iterator over the items, for synchronous code."""
        ...

    def blocks(self, context: CallContext) -> bool:
        """Whether synchronous code that waits here would block the event loop that must answer the call."""
        ...

    def reference(self, api: str, args: Args, kwargs: Kwargs, context: CallContext, to: Transport) -> Any:
        """Return a call of an api that yields, for the service at the other end of `to` to make: a `StreamReference`.

        None where that service cannot reach this one by itself.
        """
        ...

    def reaches(self, client: Client) -> bool:
        """Whether the service calls other services by the same routes as this client."""
        ...

    def sent(self, value: Any, inbox: Inbox | None) -> Any:
        """Return what is passed for a live value, an argument that is a stream. `inbox`: of the thread that waits."""
        ...


class RemoteTransport(ABC):
    """Transport to a service in another process (base class).

    Public methods may be used from any thread and loop; `_learn`, `_call` and `_stream` run on the portal's loop.
    """

    def __init__(self, service: str, portal: Portal) -> None:
        self.service = service
        self._portal = portal

    @abstractmethod
    def apis(self) -> tuple[ApiSpec, ...] | None: ...

    @abstractmethod
    def _learn(self, api: str, context: CallContext) -> Coroutine[Any, Any, ApiSpec]: ...

    @abstractmethod
    def _call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]: ...

    @abstractmethod
    def _stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]: ...

    def unknown(self, error: UnknownApi) -> UnknownApi:
        return error

    def reference(self, api: str, args: Args, kwargs: Kwargs, context: CallContext, to: Transport) -> Any:
        return None

    def reaches(self, client: Client) -> bool:
        return False

    def sent(self, value: Any, inbox: Inbox | None) -> Any:
        return Outlet(source_of(value, self._portal, inbox))

    def learn(self, api: str, context: CallContext) -> Coroutine[Any, Any, ApiSpec]:
        work = self._learn(api, context)
        return work if self._portal.inside else self._portal.join(with_cancel(context, work))

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        return self._portal.run(with_cancel(context, self._learn(api, context)))

    def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]:
        # The kernel's loop is not the portal's, nor is a loop that a synchronous api runs in its thread.
        work = self._call(api, args, kwargs, context)
        if get_ident() == self._portal.thread:  # `inside`, without a call
            return work
        return self._portal.join(with_cancel(context, work))

    def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        items = self._stream(api, args, kwargs, context)
        return items if self._portal.inside else self._portal.join_items(cancellable_items(context, items))

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        __tracebackhide__ = True
        if api.stream:
            return self._iterate(self._stream(api.name, args, kwargs, context), context)
        try:
            return self._wait(api.name, args, kwargs, context)
        except Exception as error:
            raise _from_elsewhere(error)  # noqa: B904  it is the same error

    def _wait(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        __tracebackhide__ = True
        return self._portal.run(with_cancel(context, self._call(api, args, kwargs, context)))

    def blocks(self, context: CallContext) -> bool:
        return self._portal.inside

    def _iterate(self, items: AsyncGenerator[Any, None], context: CallContext) -> Generator[Any, None, None]:
        __tracebackhide__ = True
        try:
            yield from self._portal.iterate(cancellable_items(context, items))
        except Exception as error:
            raise _from_elsewhere(error)  # noqa: B904  it is the same error


class SocketTransport(RemoteTransport):
    """Transport to a service of the same graph, over Unix sockets."""

    def __init__(self, service: str, client: Client, portal: Portal) -> None:
        super().__init__(service, portal)
        self._client = client

    def reference(self, api: str, args: Args, kwargs: Kwargs, context: CallContext, to: Transport) -> Any:
        return self._client.reference(self.service, api, args, kwargs, context) if to.reaches(self._client) else None

    def reaches(self, client: Client) -> bool:
        return client is self._client

    def apis(self) -> tuple[ApiSpec, ...] | None:
        route = self._client.routes.get(self.service)
        return route.apis if route is not None and route.apis else None

    async def _learn(self, api: str, context: CallContext) -> ApiSpec:
        return find_api(self.service, await self._client.known_apis(self.service, context), api)

    def _call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]:
        return self._client.call(self.service, api, (args, kwargs), context)

    def _wait(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        __tracebackhide__ = True
        if self._portal.interruptible or serving.inbox is not None:
            return super()._wait(api, args, kwargs, context)
        waiter: BlockedThread[Any] = BlockedThread()
        began = time.monotonic()

        def begin() -> None:
            context.on_cancel(waiter.cancel)
            if not waiter.done():
                give_up = self._client.begin(self.service, api, (args, kwargs), context, waiter)
                if give_up is not None:
                    waiter.give_up = give_up
                else:
                    waiter.follow(self._portal.loop.create_task(self._call(api, args, kwargs, context)))

        try:
            return self._portal.wait(waiter, begin)
        except (ConnectionClosed, ReplicaDied) as error:
            if isinstance(error, ReplicaDied) and not self._client.may_resend(self.service, api, error):
                self._portal.run(self._client.explain(error))
                raise
            again = self._client.call(self.service, api, (args, kwargs), context, since=began)
            return self._portal.run(with_cancel(context, again))
        finally:
            context.forget(waiter.cancel)

    def _stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        return self._client.stream(self.service, api, (args, kwargs), context)


class Intercepted:
    """A `Transport` around another one. Subclasses say in which context its calls run."""

    def __init__(self, transport: Transport) -> None:
        self.service = transport.service
        self._transport = transport

    def calling(self, api: str, args: Args, kwargs: Kwargs) -> AbstractContextManager[Callable[[], None]]:
        """The context of one call, on the thread or task that makes it. Its value is called for each item of a stream,
        before that is handed out.
        """
        raise NotImplementedError

    def learning(self) -> AbstractContextManager[None]:
        """The context of a look-up of an api."""
        return contextlib.nullcontext()

    def apis(self) -> tuple[ApiSpec, ...] | None:
        return self._transport.apis()

    def unknown(self, error: UnknownApi) -> UnknownApi:
        return self._transport.unknown(error)

    async def learn(self, api: str, context: CallContext) -> ApiSpec:
        with self.learning():
            return await self._transport.learn(api, context)

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        with self.learning():
            return self._transport.learn_sync(api, context)

    async def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        with self.calling(api, args, kwargs):
            return await self._transport.call(api, args, kwargs, context)

    async def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        with self.calling(api, args, kwargs) as item_comes:
            async with contextlib.aclosing(self._transport.stream(api, args, kwargs, context)) as items:
                async for item in items:
                    item_comes()
                    yield item

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        __tracebackhide__ = True
        if api.stream:
            return self._iterate(api, args, kwargs, context)
        with self.calling(api.name, args, kwargs):
            return self._transport.call_sync(api, args, kwargs, context)

    def blocks(self, context: CallContext) -> bool:
        return self._transport.blocks(context)

    def reference(self, api: str, args: Args, kwargs: Kwargs, context: CallContext, to: Transport) -> Any:
        return self._transport.reference(api, args, kwargs, context, to)

    def reaches(self, client: Client) -> bool:
        return self._transport.reaches(client)

    def sent(self, value: Any, inbox: Inbox | None) -> Any:
        return self._transport.sent(value, inbox)

    def _iterate(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Generator[Any, None, None]:
        __tracebackhide__ = True
        with (
            self.calling(api.name, args, kwargs) as item_comes,
            contextlib.closing(self._transport.call_sync(api, args, kwargs, context)) as items,
        ):
            for item in items:
                item_comes()
                yield item


def find_api(service: str, apis: tuple[ApiSpec, ...], name: str) -> ApiSpec:
    """Return the api of that name. Raises `UnknownApi` (also an AttributeError), which lists the known ones."""
    for api in apis:
        if api.name == name:
            return api
    raise UnknownApi(f"{service} has no api {name!r}; it has: {', '.join(a.name for a in apis)}").from_below()


def _from_elsewhere(error: Exception) -> Exception:
    """Return the error without nbcompose's own frames; the remote frames are in its `__cause__`."""
    if isinstance(error, NbcomposeError):
        error.from_below()
    if isinstance(error, CallError) or isinstance(error.__cause__, RemoteTraceback):
        error.__traceback__ = None
    return error
