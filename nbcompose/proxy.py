"""What user code holds of another service: `self.other.f(x)`, `self.other.to_async.f(x)`, `Answer.ask(x)`.

One class does it for each kind of caller: a `Caller` says how a call is made (over the wire, over HTTP, in this
process), this module how it looks from Python.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from typing import Any, Protocol

from nbcompose.client import Client, with_cancel
from nbcompose.errors import BlockingCall, CallError, RemoteTraceback, UnknownApi, UnknownArgumentWarning
from nbcompose.portal import Portal
from nbcompose.spec import ApiSpec
from nbcompose.tracing import CallContext, current_call


class Caller(Protocol):
    """One way to reach a service."""

    service: str

    def apis(self) -> tuple[ApiSpec, ...] | None:
        """What the service offers; None while that is not known."""
        ...

    def call(
        self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> Coroutine[Any, Any, Any]: ...

    def stream(
        self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> AsyncGenerator[Any, None]: ...

    def call_sync(
        self, api: ApiSpec | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> Any: ...


class WireCaller:
    """Calls over the wire, from the thread of the client's loop or, through the portal, from any other."""

    def __init__(self, service: str, client: Client, portal: Portal) -> None:
        self.service = service
        self._client = client
        self._portal = portal

    def apis(self) -> tuple[ApiSpec, ...] | None:
        route = self._client.route(self.service)
        return route.apis if route is not None and route.apis else None

    async def call(self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext) -> Any:
        call = self._client.call(self.service, api, (args, kwargs), context)
        # The notebook's own loop is not the client's.
        return await (call if self._portal.inside else self._portal.join(call))

    def stream(
        self, api: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> AsyncGenerator[Any, None]:
        items = self._client.stream(self.service, api, (args, kwargs), context)
        return items if self._portal.inside else self._portal.join_items(items)

    def call_sync(
        self, api: ApiSpec | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> Any:
        __tracebackhide__ = True
        if api is None:
            api = self._portal.run(with_cancel(context, self._learn(name)))
        if api.stream:
            return self._portal.iterate(self._client.stream(self.service, name, (args, kwargs), context))
        return self._portal.run(with_cancel(context, self.call(name, args, kwargs, context)))

    async def _learn(self, name: str) -> ApiSpec:
        """Wait until the service exists, to know whether the api yields."""
        while (apis := self.apis()) is None:
            await self._client.changed(self.service)
        return find_api(self.service, apis, name)


class Proxy:
    """A service as user code sees it. `f(x)` waits (or iterates); `.to_async.f(x)` is awaited (or `async for`)."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def to_async(self) -> AsyncProxy:
        return AsyncProxy(self._caller)

    @property
    def to_sync(self) -> Proxy:
        return Proxy(self._caller)

    def __getattr__(self, name: str) -> SyncMethod:
        return SyncMethod(self._caller, name, _lookup(self._caller, name))

    def __dir__(self) -> list[str]:
        return [*(a.name for a in self._caller.apis() or ()), "to_async", "to_sync"]

    def __repr__(self) -> str:
        return f"<service {self._caller.service}>"


class AsyncProxy(Proxy):
    """The same service, awaited."""

    def __getattr__(self, name: str) -> Any:
        return AsyncMethod(self._caller, name, _lookup(self._caller, name))


class _Method:
    def __init__(self, caller: Caller, name: str, api: ApiSpec | None) -> None:
        self._caller = caller
        self._name = name
        self._api = api
        self.__name__ = name
        self.__qualname__ = f"{caller.service}.{name}"
        if api is not None:
            self.__doc__ = f"{api.signature}\n\n{api.doc}".rstrip()

    def __repr__(self) -> str:
        return f"<api {self._caller.service}.{self._api.signature if self._api else self._name}>"

    @property
    def __signature__(self) -> inspect.Signature:
        """For `?`, completion and tooltips."""
        if self._api is None:
            raise AttributeError("__signature__")
        return inspect.Signature(
            [
                inspect.Parameter(
                    p.name,
                    getattr(inspect.Parameter, p.kind.upper()),
                    default=inspect.Parameter.empty if "=" not in p.text else _Shown(p.text.rpartition("=")[2].strip()),
                )
                for p in self._api.params
            ]
        )


class _Shown:
    """A default value of an api elsewhere, as its source text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class SyncMethod(_Method):
    """`service.api`: call it and wait; an api that yields gives an iterator."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        context = _outgoing()
        if context.on_loop:
            name = f"{self._caller.service}.{self._name}"
            raise BlockingCall(
                f"{name}(...) waits for its answer on the event loop, which nothing else could use meanwhile: "
                f"in an async api write `await self.<dependency>.to_async.{self._name}(...)`"
            )
        kwargs = known_arguments(self._api, kwargs, self)
        try:
            return self._caller.call_sync(self._api, self._name, args, kwargs, context)
        except Exception as error:
            if isinstance(error, CallError) or isinstance(error.__cause__, RemoteTraceback):
                error.__traceback__ = None  # how it came through nbcompose helps nobody
            raise


class AsyncMethod(_Method):
    """`service.to_async.api`: a coroutine, or an async iterator where the api yields."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        kwargs = known_arguments(self._api, kwargs, self)
        context = _outgoing()
        if self._api is None:
            return AwaitOrIterate(self._caller, self._name, args, kwargs, context)
        if self._api.stream:
            return self._caller.stream(self._name, args, kwargs, context)
        return self._caller.call(self._name, args, kwargs, context)


class AwaitOrIterate:
    """A call of an api that is not known yet (its service does not exist): await it, or iterate over it."""

    def __init__(
        self, caller: Caller, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: CallContext
    ) -> None:
        self._caller = caller
        self._arguments = (name, args, kwargs, context)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._caller.call(*self._arguments).__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._caller.stream(*self._arguments)


def _outgoing() -> CallContext:
    """The context of the api that makes a call, or a new one: the root of a trace."""
    return current_call.get() or CallContext()


def _lookup(caller: Caller, name: str) -> ApiSpec | None:
    if name.startswith("_"):
        raise AttributeError(name)
    apis = caller.apis()
    return None if apis is None else find_api(caller.service, apis, name)


def find_api(service: str, apis: tuple[ApiSpec, ...], name: str) -> ApiSpec:
    """The api of that name. Raises `UnknownApi` (an AttributeError too) that lists those there are."""
    for api in apis:
        if api.name == name:
            return api
    raise UnknownApi(f"{service} has no api {name!r}; it has: {', '.join(a.name for a in apis)}")


def known_arguments(api: ApiSpec | None, kwargs: dict[str, Any], where: _Method) -> dict[str, Any]:
    """`kwargs` without those that the api does not declare; says so, once for each place that makes such a call."""
    if api is None or not kwargs:
        return kwargs
    names = {p.name for p in api.params}
    if kwargs.keys() <= names or any(p.kind == "var_keyword" for p in api.params):
        return kwargs
    unknown = [k for k in kwargs if k not in names]
    warnings.warn(
        f"{where.__qualname__} does not declare {', '.join(unknown)}: ignored. Its signature is {api.signature}",
        UnknownArgumentWarning,
        stacklevel=3,
    )
    return {k: v for k, v in kwargs.items() if k in names}
