"""How a service is reached: the contract that proxies call by, and what is common to services in other processes.

How it looks from Python is proxy.py's; which replica answers, client.py's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, Protocol

from nbcompose._rpc.blocking import BlockedThread, Portal, cancellable_items, with_cancel
from nbcompose._rpc.client import Client
from nbcompose._rpc.client_calls import ConnectionClosed
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import CallError, NbcomposeError, RemoteTraceback, ReplicaDied, UnknownApi

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Transport(Protocol):
    """One way to reach a service. `context` is that of the api that makes the call."""

    service: str

    def apis(self) -> tuple[ApiSpec, ...] | None:
        """What the service offers; None while that is not known."""
        ...

    def learn(self, api: str, context: CallContext) -> Coroutine[Any, Any, ApiSpec]:
        """The api of that name, once the service is known. Raises `UnknownApi`, `ServiceUnavailable`."""
        ...

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        """As `learn`, for sync code."""
        ...

    def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]:
        """The result, for any event loop."""
        ...

    def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        """The items, for any event loop."""
        ...

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        """The result, or an iterator over the items, for sync code."""
        ...

    def blocks(self, context: CallContext) -> bool:
        """Whether sync code that waits here would stop the event loop that is to answer it."""
        ...


class RemoteCaller(ABC):
    """A service in another process. What subclasses add runs on the portal's loop; this may be used from anywhere."""

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

    def learn(self, api: str, context: CallContext) -> Coroutine[Any, Any, ApiSpec]:
        return self._from_here(self._learn(api, context), context)

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        return self._portal.run(with_cancel(context, self._learn(api, context)))

    def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]:
        return self._from_here(self._call(api, args, kwargs, context), context)

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

    def _from_here(self, work: Coroutine[Any, Any, Any], context: CallContext) -> Coroutine[Any, Any, Any]:
        # The notebook's own loop is not the portal's; nor is one that a sync api runs in its thread.
        return work if self._portal.inside else self._portal.join(with_cancel(context, work))

    def _iterate(self, items: AsyncGenerator[Any, None], context: CallContext) -> Generator[Any, None, None]:
        __tracebackhide__ = True
        try:
            yield from self._portal.iterate(cancellable_items(context, items))
        except Exception as error:
            raise _from_elsewhere(error)  # noqa: B904  it is the same error


class SocketTransport(RemoteCaller):
    """A service of the same graph, over the wire."""

    def __init__(self, service: str, client: Client, portal: Portal) -> None:
        super().__init__(service, portal)
        self._client = client

    def apis(self) -> tuple[ApiSpec, ...] | None:
        route = self._client.route(self.service)
        return route.apis if route is not None and route.apis else None

    async def _learn(self, api: str, context: CallContext) -> ApiSpec:
        return find_api(self.service, await self._client.known_apis(self.service, context), api)

    def _call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Coroutine[Any, Any, Any]:
        return self._client.call(self.service, api, (args, kwargs), context)

    def _wait(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        __tracebackhide__ = True
        if self._portal.interruptible:
            return super()._wait(api, args, kwargs, context)
        waiter: BlockedThread[Any] = BlockedThread()

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
                raise
            return super()._wait(api, args, kwargs, context)
        finally:
            context.forget(waiter.cancel)

    def _stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        return self._client.stream(self.service, api, (args, kwargs), context)


def find_api(service: str, apis: tuple[ApiSpec, ...], name: str) -> ApiSpec:
    """The api of that name. Raises `UnknownApi` (an AttributeError too) that lists those there are."""
    for api in apis:
        if api.name == name:
            return api
    raise UnknownApi(f"{service} has no api {name!r}; it has: {', '.join(a.name for a in apis)}").from_below()


def _from_elsewhere(error: Exception) -> Exception:
    """The error without the way that it took through nbcompose, which helps nobody; its cause has the remote frames."""
    if isinstance(error, NbcomposeError):
        error.from_below()
    if isinstance(error, CallError) or isinstance(error.__cause__, RemoteTraceback):
        error.__traceback__ = None
    return error
