"""Objects that an asynchronous call returns: an awaitable, or an async iterator for an api that yields.

As with a coroutine, the call starts when it is awaited or becomes a task: until then nothing is sent.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncGenerator, Coroutine, Generator
from dataclasses import replace
from types import CodeType
from typing import Any

from nbcompose._rpc.item_stream import ArrivingStream
from nbcompose._rpc.stream_arguments import ServiceStream, StreamReference, taken
from nbcompose._rpc.stream_sources import Inbox
from nbcompose._rpc.transport import Args, Kwargs, Transport
from nbcompose._schema import CallSite, Unawaited, is_stream
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import BlockingCall, Misuse, NotAwaited, NotAwaitedWarning, UnknownArgumentWarning


class Target:
    """The api that a call is for. `holder`: the user's expression for the service; `form`: ".to_async" or ""."""

    __slots__ = ("caller", "form", "holder", "name")

    def __init__(self, caller: Transport, name: str, holder: str, form: str) -> None:
        self.caller = caller
        self.name = name
        self.holder = holder
        self.form = form

    @property
    def label(self) -> str:
        return f"{self.caller.service}.{self.name}"

    @property
    def written(self) -> str:
        return f"{self.holder}{self.form}.{self.name}(...)"

    @property
    def to_sync(self) -> str:
        return f"{self.holder}.to_sync.{self.name}(...)"

    @property
    def returns(self) -> str:
        """What the api returns, as text; "" where that is not known."""
        return next((api.returns for api in self.caller.apis() or () if api.name == self.name), "")

    def blocking(self, api: ApiSpec | None) -> BlockingCall:
        """Return the error for a call that would block the event loop."""
        to_async = f"{self.holder}.to_async.{self.name}(...)"
        ways = f"`await {to_async}`", f"`async for item in {to_async}`"
        way = f"{ways[0]}, or {ways[1]} where it yields" if api is None else ways[api.stream]
        return BlockingCall(
            f"{self.label}(...) waits on the event loop, which nothing else could use meanwhile: "
            f"in async code write {way}"
        )


class UnawaitedCall(Unawaited, Coroutine[Any, Any, Any]):
    """Awaitable of one call, to be awaited once. `code` and `at` say where it was made, see `CallSite.of`.

    One that is dropped without being awaited causes a warning, once for each place.
    """

    __slots__ = ("__weakref__", "_args", "_at", "_code", "_context", "_is_told", "_kwargs", "_running", "_target")

    def __init__(
        self, target: Target, args: Args, kwargs: Kwargs, context: CallContext, code: CodeType, at: int
    ) -> None:
        self._target = target
        self._args: Args | None = args  # None: it has started
        self._kwargs = kwargs
        self._context = context
        self._code = code
        self._at = at
        self._running: Coroutine[Any, Any, Any] | None = None
        self._is_told = False

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._begin().__await__()

    # The coroutine protocol, for tasks and other code that runs coroutines.

    def send(self, value: Any) -> Any:
        __tracebackhide__ = True
        if self._running is None:
            self._running = self._begin()
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        __tracebackhide__ = True
        if self._running is None:
            self.close()
            self._running = _nothing()
        return self._running.throw(*error)

    def close(self) -> None:
        self._args = None
        if self._running is not None:
            self._running.close()

    def __del__(self) -> None:
        if self._args is not None and not self._is_told and not sys.is_finalizing():
            warn_once(self._site, self._target.label, str(self._error()), NotAwaitedWarning)

    def _begin(self) -> Coroutine[Any, Any, Any]:
        args, self._args = self._args, None
        if args is None:
            raise self._used()
        return self._target.caller.call(self._target.name, args, self._kwargs, self._context)

    def _used(self) -> RuntimeError:
        return RuntimeError(f"this call of {self._target.label} has been awaited already: call it again")

    @property
    def _site(self) -> CallSite:
        return CallSite.of(self._code, self._at)

    def misused(self) -> NotAwaited:
        self._is_told = True
        return self._error()

    def _error(self) -> NotAwaited:
        target = self._target
        why = (
            "and not awaited, so there is no answer yet"
            if self._args is not None
            else "and its answer is what `await` gave"
        )
        return NotAwaited(
            f"{target.label} was called at {self._site} {why}: "
            f"write `await {target.written}`, or `{target.to_sync}` in code that is not async"
        )

    def __bool__(self) -> bool:
        # Since Python 3.12 asyncio tests a task's coroutine for truth when it formats the task.
        if sys._getframe(1).f_globals.get("__name__") == "asyncio.base_tasks":
            return True
        raise self.misused()

    def __getattr__(self, name: str) -> Any:
        if name in ("__name__", "__qualname__"):  # read where tasks are shown
            return self._target.label
        if name.startswith("_"):  # libraries probe any object for such names
            raise AttributeError(name)
        raise self._error()  # not `misused`: `hasattr` may swallow this error, so the warning must still come

    def __repr__(self) -> str:
        state = "not awaited" if self._args is not None else "awaited"
        return f"<call of {self._target.label} at {self._site}, {state}>"


class LateCall(UnawaitedCall):
    """A call of an api that is not known yet (its service does not exist): await it, or iterate over it.

    `as_declared`: raise `BlockingCall` if the api turns out to be a plain method or generator.
    """

    __slots__ = ("_as_declared",)

    def __init__(
        self,
        target: Target,
        args: Args,
        kwargs: Kwargs,
        context: CallContext,
        code: CodeType,
        at: int,
        *,
        as_declared: bool,
    ) -> None:
        super().__init__(target, args, kwargs, context, code, at)
        self._as_declared = as_declared

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        args, self._args = self._args or (), None
        api = await self._learn()
        target = self._target
        if not api.stream:
            raise Misuse(f"{target.label} gives one value and yields nothing: write `await {target.written}`")
        args, kwargs = passed(api, args, self._kwargs, target.caller, None)
        items = target.caller.stream(target.name, args, kwargs, self._context)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    def _begin(self) -> Coroutine[Any, Any, Any]:
        args, self._args = self._args, None
        if args is None:
            raise self._used()
        return self._learn_and_call(args)

    async def _learn_and_call(self, args: Args) -> Any:
        api = await self._learn()
        target = self._target
        if api.stream:
            raise Misuse(f"{target.label} yields: write `async for item in {target.written}`")
        args, kwargs = passed(api, args, self._kwargs, target.caller, None)
        return await target.caller.call(target.name, args, kwargs, self._context)

    async def _learn(self) -> ApiSpec:
        target = self._target
        api = await target.caller.learn(target.name, self._context)
        if self._as_declared and not api.is_async:
            raise target.blocking(api)
        if self._kwargs:
            self._kwargs = declared(api, self._kwargs, target.label, self._code, self._at)
        return api


class AsyncItems(Unawaited, ServiceStream, AsyncGenerator[Any, None]):
    """Async iterator over the items of an api that yields. The call starts when the first item is requested."""

    __slots__ = ("__weakref__", "_args", "_at", "_code", "_context", "_is_taken", "_items", "_kwargs", "_target")

    def __init__(
        self, target: Target, args: Args, kwargs: Kwargs, context: CallContext, code: CodeType, at: int
    ) -> None:
        self._target = target
        self._args = args
        self._kwargs = kwargs
        self._context = context
        self._code = code
        self._at = at
        self._items: AsyncGenerator[Any, None] | None = None
        self._is_taken = False

    def refer(self, to: Transport) -> Any:
        """Give the stream away to a call over that transport: return what makes it, or None where it is relayed."""
        if self._is_taken:
            raise taken(f"the stream of {self._target.label}")
        if self._items is not None:
            if getattr(self._items, "ag_frame", self) is None:
                raise taken(f"the stream of {self._target.label}")
            return None
        target = self._target
        reference = target.caller.reference(target.name, self._args, self._kwargs, self._context, to)
        self._is_taken = reference is not None
        return reference

    def __aiter__(self) -> AsyncGenerator[Any, None]:
        if self._items is None:
            if self._is_taken:
                raise taken(f"the stream of {self._target.label}")
            target = self._target
            self._items = target.caller.stream(target.name, self._args, self._kwargs, self._context)
            self._args = ()
        return self._items  # so that this object adds no cost to each item

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        return self.__aiter__().__anext__()

    def asend(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self.__aiter__().asend(value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, Any]:
        return self.__aiter__().athrow(*error)

    def aclose(self) -> Coroutine[Any, Any, None]:
        return self.__aiter__().aclose()

    def made_by(self) -> tuple[str, str]:
        return self._target.label, self._target.returns

    def misused(self) -> NotAwaited:
        target = self._target
        return NotAwaited(
            f"{target.label}, called at {CallSite.of(self._code, self._at)}, gives its items to `async for`: write "
            f"`async for item in {target.written}`, or `for item in {target.to_sync}` in code that is not async"
        )

    def __repr__(self) -> str:
        return f"<items of {self._target.label}, called at {CallSite.of(self._code, self._at)}>"


class SyncItems(ServiceStream, Generator[Any, None, None]):
    """Iterator over the items of an api that yields, for sync code. The call starts when the first is requested."""

    __slots__ = ("__weakref__", "_args", "_context", "_is_begun", "_is_taken", "_items", "_kwargs", "_target")

    def __init__(
        self, target: Target, args: Args, kwargs: Kwargs, context: CallContext, items: Generator[Any, None, None]
    ) -> None:
        self._target = target
        self._args = args
        self._kwargs = kwargs
        self._context = context
        self._items = items
        self._is_begun = False
        self._is_taken = False

    def refer(self, to: Transport) -> Any:
        """As `AsyncItems.refer`."""
        if self._is_taken:
            raise taken(f"the stream of {self._target.label}")
        if self._is_begun:
            if getattr(self._items, "gi_frame", self) is None:
                raise taken(f"the stream of {self._target.label}")
            return None
        target = self._target
        reference = target.caller.reference(target.name, self._args, self._kwargs, self._context, to)
        if reference is not None:
            self._is_taken = True
            self._items.close()
        return reference

    def __iter__(self) -> Generator[Any, None, None]:
        if self._is_taken:
            raise taken(f"the stream of {self._target.label}")
        self._is_begun = True
        self._args, self._kwargs = (), {}
        return self._items  # so that this object adds no cost to each item

    def __next__(self) -> Any:
        __tracebackhide__ = True
        return next(self.__iter__())

    def send(self, value: Any) -> Any:
        return self.__iter__().send(value)

    def throw(self, *error: Any) -> Any:
        return self.__iter__().throw(*error)

    def close(self) -> None:
        self._is_begun = True
        self._items.close()

    def made_by(self) -> tuple[str, str]:
        return self._target.label, self._target.returns

    def __repr__(self) -> str:
        return f"<items of {self._target.label}>"


def passed(api: ApiSpec, args: Args, kwargs: Kwargs, to: Transport, inbox: Inbox | None) -> tuple[Args, Kwargs]:
    """Return the arguments of a call with its streams in the form in which they travel to the service.

    `inbox`: of the thread that makes the call, if it waits for the answer. Raises `StreamTaken`.
    """
    if not api.stream_params:
        return args, kwargs
    names = [p.name for p in api.params if p.kind in ("positional_only", "positional_or_keyword")]
    wanted = api.stream_params
    return (
        tuple(_sent(v, to, inbox) if i < len(names) and names[i] in wanted else v for i, v in enumerate(args)),
        {name: _sent(v, to, inbox) if name in wanted else v for name, v in kwargs.items()},
    )


def _sent(value: Any, to: Transport, inbox: Inbox | None) -> Any:
    if not is_stream(value):
        return value
    if isinstance(value, StreamReference):  # of a call that was recorded, and is made again
        return replace(value, left=None, route=None)
    refer = getattr(value, "refer", None) if isinstance(value, AsyncItems | SyncItems | ArrivingStream) else None
    reference = None if refer is None else refer(to)
    return to.sent(value, inbox) if reference is None else reference


def declared(api: ApiSpec, kwargs: Kwargs, label: str, code: CodeType, at: int) -> Kwargs:
    """Return `kwargs` without those that the api does not declare; warn about these once for each calling place."""
    names = {p.name for p in api.params}
    if kwargs.keys() <= names or any(p.kind == "var_keyword" for p in api.params):
        return kwargs
    unknown = tuple(k for k in kwargs if k not in names)
    told = f"{label} does not declare {', '.join(unknown)}: ignored. Its signature is {api.signature}"
    warn_once(CallSite.of(code, at), label, told, UnknownArgumentWarning)
    return {k: v for k, v in kwargs.items() if k in names}


def warn_once(site: CallSite, label: str, message: str, category: type[Warning]) -> None:
    """Warn about a call, once for each place and message."""
    key = site, label, message
    ours = object()
    if _warned.setdefault(key, ours) is not ours:  # atomic: another thread may be at the same place
        return
    try:
        warnings.warn_explicit(message, category, site.file, site.line)
    except BaseException:  # where warnings are errors, every one is raised
        del _warned[key]
        raise


# Warnings that have been given. Not left to Python's own registry, which is reset whenever a warning filter changes, as
# many libraries do.
_warned: dict[tuple[CallSite, str, str], object] = {}


async def _nothing() -> None: ...
