"""Service proxies: how user code calls a service (`self.other.f(x)`, `self.other.to_async.f(x)`, `Answer.ask(x)`).

A proxy works with every `Transport` (sockets, HTTP, in this process; see `_rpc/transport.py`). The objects that an
asynchronous call returns are in `_rpc/awaitables.py`.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Generator
from functools import cached_property
from types import CodeType, FrameType
from typing import Any, Self

from nbcompose._rpc.awaitables import AsyncItems, LateCall, SyncItems, Target, UnawaitedCall, declared, passed
from nbcompose._rpc.stream_sources import Inbox
from nbcompose._rpc.transport import Args, Kwargs, Transport, find_api
from nbcompose._schema import Uncalled
from nbcompose._service import Described, uncalled_service
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CallContext, current_call
from nbcompose.errors import Misuse, UnknownApi


class Method(Described):
    """Callable for one api of a service (base class). The api is looked up at each call: the service may change."""

    _timeout: float | None = None  # of each call, in place of the service's; see `options`

    def __init__(self, caller: Transport, name: str, holder: str) -> None:
        self._apis = caller.apis()
        super().__init__(caller.service, name, _find(caller, self._apis, name), holder)
        self._caller = caller
        self._target = Target(caller, name, holder, self.form)

    @property
    def is_known(self) -> bool:
        return self._api is not None

    def options(self, *, timeout: float) -> Self:
        """The same api with other limits: `Answer.ask.options(timeout=5)("…")`.

        Args:
            timeout: Seconds that each call may take, in place of the service's `--timeout`, shorter or longer. The
                deadline of the api that makes the call still holds.

        Raises:
            nbcompose.errors.Misuse: It is not a number of seconds above 0.
        """
        if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout < math.inf:
            raise Misuse(f"timeout={timeout!r} must be a number of seconds above 0")
        other = copy.copy(self)
        other._timeout = timeout
        return other

    def _outgoing(self) -> tuple[ApiSpec | None, CallContext, FrameType]:
        """Return the api if it is known, the context of the calling api (or a new one, the root of a trace), and the
        frame of the calling code.
        """
        try:
            frame = sys._getframe(2)
        except ValueError:  # the call is the outermost frame of its thread
            frame = sys._getframe(1)
        apis = self._caller.apis()
        if apis is not self._apis:
            self._api = _find(self._caller, apis, self.__name__)
            self._apis = apis
        context = current_call.get() or CallContext()
        return self._api, context if self._timeout is None else context.within(self._timeout), frame

    def _wait(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext, code: CodeType, at: int) -> Any:
        __tracebackhide__ = True
        if not api.stream and self._caller.blocks(context):
            raise self._target.blocking(api)
        if kwargs:
            kwargs = declared(api, kwargs, self.__qualname__, code, at)
        if api.stream_params:
            return self._wait_and_serve(api, args, kwargs, context)
        result = self._caller.call_sync(api, args, kwargs, context)
        if not api.stream:
            return result
        return SyncItems(self._target, args, kwargs, context, self._iterate(api, result, context))

    def _wait_and_serve(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        """As `_wait`, for an api that takes streams: this thread makes the items of its own while it waits."""
        __tracebackhide__ = True
        inbox = Inbox()
        args, kwargs = passed(api, args, kwargs, self._caller, inbox)
        if api.stream:
            result = self._caller.call_sync(api, args, kwargs, context)
            items = self._iterate(api, result, context)
            return SyncItems(self._target, args, kwargs, context, _served(items, inbox))
        try:
            with inbox:
                return self._caller.call_sync(api, args, kwargs, context)
        finally:
            inbox.close()

    def _iterate(
        self, api: ApiSpec, items: Generator[Any, None, None], context: CallContext
    ) -> Generator[Any, None, None]:
        """Yield the items. Only iterating blocks: an iterator made on the event loop may be consumed elsewhere."""
        __tracebackhide__ = True
        if self._caller.blocks(context):
            raise self._target.blocking(api)
        yield from items

    def _give(
        self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext, code: CodeType, at: int
    ) -> UnawaitedCall | AsyncItems:
        if kwargs:
            kwargs = declared(api, kwargs, self.__qualname__, code, at)
        if api.stream_params:
            args, kwargs = passed(api, args, kwargs, self._caller, None)
        if api.stream:
            return AsyncItems(self._target, args, kwargs, context, code, at)
        return UnawaitedCall(self._target, args, kwargs, context, code, at)


class SyncMethod(Method):
    """Blocking call: returns the result, or an iterator if the api yields."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        api, context, frame = self._outgoing()
        if api is None:
            if self._caller.blocks(context):
                raise self._target.blocking(None)
            api = self._caller.learn_sync(self.__name__, context)
        return self._wait(api, args, kwargs, context, frame.f_code, frame.f_lasti)


class AsyncMethod(Method):
    """Asynchronous call: returns an awaitable, or an async iterator if the api yields."""

    form = ".to_async"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        api, context, frame = self._outgoing()
        if api is None:
            return LateCall(self._target, args, kwargs, context, frame.f_code, frame.f_lasti, as_declared=False)
        return self._give(api, args, kwargs, context, frame.f_code, frame.f_lasti)


class DeclaredMethod(Method):
    """Call in the form that the api declares: asynchronous for an `async def`, blocking for a plain method."""

    as_declared = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        api, context, frame = self._outgoing()
        if api is None:
            if self._caller.blocks(context):
                return LateCall(self._target, args, kwargs, context, frame.f_code, frame.f_lasti, as_declared=True)
            api = self._caller.learn_sync(self.__name__, context)
        call = self._give if api.is_async else self._wait
        return call(api, args, kwargs, context, frame.f_code, frame.f_lasti)


def _served(items: Generator[Any, None, None], inbox: Inbox) -> Generator[Any, None, None]:
    """Yield the items; the thread that waits for one makes those of the streams that it has passed."""
    __tracebackhide__ = True
    try:
        while True:
            try:
                with inbox:
                    item = next(items)
            except StopIteration:
                return
            yield item
            del item
    finally:
        items.close()
        inbox.close()


def _find(caller: Transport, apis: tuple[ApiSpec, ...] | None, name: str) -> ApiSpec | None:
    try:
        return None if apis is None else find_api(caller.service, apis, name)
    except UnknownApi as error:
        raise caller.unknown(error) from None


class Proxy(Uncalled):
    """A service as user code sees it. `f(x)` blocks (or iterates); `.to_async.f(x)` is awaited (or `async for`).

    `holder` is the expression by which user code refers to it, for messages: the service's name, or `self.other`.
    """

    _method: type[Method] = SyncMethod

    def __init__(self, caller: Transport, holder: str | None = None) -> None:
        self._caller = caller
        self._holder = caller.service if holder is None else holder

    @cached_property
    def to_async(self) -> AsyncProxy:
        return AsyncProxy(self._caller, self._holder)

    @cached_property
    def to_sync(self) -> Proxy:
        return Proxy(self._caller, self._holder)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = self._method(self._caller, name, self._holder)
        if method.is_known:
            self.__dict__[name] = method  # the next lookup does not reach `__getattr__`
        return method

    def _uncalled(self) -> str:
        form = self._method.form
        return uncalled_service(self._caller.service, f"{self._holder}{form}", self._caller.apis() or ())

    def __dir__(self) -> list[str]:
        return sorted([*(a.name for a in self._caller.apis() or ()), "to_async", "to_sync"])

    def __repr__(self) -> str:
        return f"<service {self._caller.service}>"


class AsyncProxy(Proxy):
    """Proxy of the same service whose calls are asynchronous."""

    _method = AsyncMethod

    def __repr__(self) -> str:
        return f"<service {self._caller.service}, awaited>"


class DeclaredProxy(Proxy):
    """Proxy of a dependency: each api is called in the form that it declares, so an `async def` is awaited."""

    _method = DeclaredMethod
