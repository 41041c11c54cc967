"""What user code holds of another service: `self.other.f(x)`, `self.other.to_async.f(x)`, `Answer.ask(x)`.

One class does it for each kind of caller: caller.py says how a call is made (over the wire, over HTTP, in this
process), this module how it looks from Python.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, NamedTuple

from nbcompose.calling.caller import Caller, WireCaller, find_api
from nbcompose.declaration.signature import Described
from nbcompose.errors import BlockingCall, UnknownArgumentWarning
from nbcompose.spec import ApiSpec
from nbcompose.tracing import CallContext, current_call

__all__ = ["AsyncMethod", "AsyncProxy", "Caller", "Proxy", "SyncMethod", "WireCaller", "find_api"]


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
        if name.startswith("_"):
            raise AttributeError(name)
        return SyncMethod(self._caller, name, _lookup(self._caller, name))

    def __dir__(self) -> list[str]:
        return sorted([*(a.name for a in self._caller.apis() or ()), "to_async", "to_sync"])

    def __repr__(self) -> str:
        return f"<service {self._caller.service}>"


class AsyncProxy(Proxy):
    """The same service, awaited."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return AsyncMethod(self._caller, name, _lookup(self._caller, name))

    def __repr__(self) -> str:
        return f"<service {self._caller.service}, awaited>"


class _Method(Described):
    def __init__(self, caller: Caller, name: str, api: ApiSpec | None) -> None:
        super().__init__(caller.service, name, api)
        self._caller = caller


class SyncMethod(_Method):
    """`service.api`: call it and wait; an api that yields gives an iterator."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        context = _outgoing()
        if self._caller.blocks(context):
            raise BlockingCall(
                f"{self.__qualname__}(...) waits for its answer on the event loop, which nothing else could use "
                f"meanwhile: in async code write `await self.<dependency>.to_async.{self.__name__}(...)`, "
                "or `async for` over it where it yields"
            )
        api = self._api if self._api is not None else self._caller.learn_sync(self.__name__, context)
        if kwargs:
            kwargs = _declared(api, kwargs, self.__qualname__, _call_site())
        return self._caller.call_sync(api, args, kwargs, context)


class AsyncMethod(_Method):
    """`service.to_async.api`: a coroutine, or an async iterator where the api yields."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        context = _outgoing()
        if self._api is None:
            return AwaitOrIterate(self._caller, self.__name__, args, kwargs, context, _call_site())
        if kwargs:
            kwargs = _declared(self._api, kwargs, self.__qualname__, _call_site())
        if self._api.stream:
            return self._caller.stream(self._api.name, args, kwargs, context)
        return self._caller.call(self._api.name, args, kwargs, context)


class AwaitOrIterate(Coroutine[Any, Any, Any]):
    """A call of an api that is not known yet (its service does not exist): await it, or iterate over it."""

    def __init__(
        self,
        caller: Caller,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: CallContext,
        site: CallSite,
    ) -> None:
        self._caller = caller
        self._name = name
        self._args = args
        self._kwargs = kwargs
        self._context = context
        self._site = site
        self._started: Coroutine[Any, Any, Any] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._call().__await__()

    # So that it may be a task.

    def send(self, value: Any) -> Any:
        if self._started is None:
            self._started = self._call()
        return self._started.send(value)

    def throw(self, *error: Any) -> Any:
        if self._started is None:
            self._started = self._call()
        return self._started.throw(*error)

    def close(self) -> None:
        if self._started is not None:
            self._started.close()

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        api, kwargs = await self._learn()
        if not api.stream:
            raise TypeError(f"{self._label} gives one value and yields nothing: write `await {self._name}(...)`")
        items = self._caller.stream(self._name, self._args, kwargs, self._context)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    async def _call(self) -> Any:
        api, kwargs = await self._learn()
        if api.stream:
            raise TypeError(f"{self._label} yields: write `async for item in {self._name}(...)`")
        return await self._caller.call(self._name, self._args, kwargs, self._context)

    async def _learn(self) -> tuple[ApiSpec, dict[str, Any]]:
        api = await self._caller.learn(self._name, self._context)
        return api, _declared(api, self._kwargs, self._label, self._site)

    @property
    def _label(self) -> str:
        return f"{self._caller.service}.{self._name}"


class CallSite(NamedTuple):
    """The line of user code that makes a call."""

    file: str
    line: int


# Where an unknown argument has been warned of. Not left to Python's own registry of warnings, which forgets all when
# anybody changes a filter, as many libraries do.
_warned: set[tuple[CallSite, str, tuple[str, ...]]] = set()


def _call_site() -> CallSite:
    frame = sys._getframe(2)
    return CallSite(frame.f_code.co_filename, frame.f_lineno)


def _declared(api: ApiSpec, kwargs: dict[str, Any], label: str, site: CallSite) -> dict[str, Any]:
    """`kwargs` without those that the api does not declare; says so, once for each place that makes such a call."""
    names = {p.name for p in api.params}
    if kwargs.keys() <= names or any(p.kind == "var_keyword" for p in api.params):
        return kwargs
    unknown = tuple(k for k in kwargs if k not in names)
    if (site, label, unknown) not in _warned:
        warnings.warn_explicit(
            f"{label} does not declare {', '.join(unknown)}: ignored. Its signature is {api.signature}",
            UnknownArgumentWarning,
            site.file,
            site.line,
        )
        _warned.add((site, label, unknown))
    return {k: v for k, v in kwargs.items() if k in names}


def _outgoing() -> CallContext:
    """The context of the api that makes a call, or a new one: the root of a trace."""
    return current_call.get() or CallContext()


def _lookup(caller: Caller, name: str) -> ApiSpec | None:
    apis = caller.apis()
    return None if apis is None else find_api(caller.service, apis, name)
