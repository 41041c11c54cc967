"""What user code holds of another service: `self.other.f(x)`, `self.other.to_async.f(x)`, `Answer.ask(x)`.

One class does it for each kind of caller: caller.py says how a call is made (over the wire, over HTTP, in this
process), this module how it looks from Python, methods.py what calling an api does.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from nbcompose.calling.caller import Caller, WireCaller, find_api
from nbcompose.calling.methods import AsyncMethod, DeclaredMethod, Method, SyncMethod

__all__ = ["AsyncMethod", "AsyncProxy", "Caller", "DeclaredProxy", "Proxy", "SyncMethod", "WireCaller", "find_api"]


class Proxy:
    """A service as user code sees it. `f(x)` waits (or iterates); `.to_async.f(x)` is awaited (or `async for`).

    `holder` is what user code calls it by, for messages: the service's name, or `self.other`.
    """

    _method: type[Method] = SyncMethod

    def __init__(self, caller: Caller, holder: str | None = None) -> None:
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
            self.__dict__[name] = method  # found without this from now on
        return method

    def __dir__(self) -> list[str]:
        return sorted([*(a.name for a in self._caller.apis() or ()), "to_async", "to_sync"])

    def __repr__(self) -> str:
        return f"<service {self._caller.service}>"


class AsyncProxy(Proxy):
    """The same service, awaited."""

    _method = AsyncMethod

    def __repr__(self) -> str:
        return f"<service {self._caller.service}, awaited>"


class DeclaredProxy(Proxy):
    """A dependency: each api is called as it is declared, so that an `async def` is awaited."""

    _method = DeclaredMethod
