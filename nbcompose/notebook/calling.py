"""Calls that the notebook makes: as any other, but their errors are shown without nbcompose's own frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcompose.calling.caller import Args, Caller, Kwargs
from nbcompose.calling.proxy import Proxy
from nbcompose.errors import UnknownService
from nbcompose.export.checks.recording import RecordedCaller, Recording
from nbcompose.notebook.failures import from_the_caller
from nbcompose.registry import Registry
from nbcompose.spec import ApiSpec
from nbcompose.tracing import CallContext


class Handle:
    """A running service as the notebook calls it: its apis, and where it answers over HTTP.

    Raises `UnknownService`, with the way to start it.
    """

    def __init__(self, registry: Registry, name: str, shell: InteractiveShell, recording: Recording) -> None:
        if name not in registry.names():
            known = ", ".join(registry.names()) or "none"
            raise from_the_caller(
                UnknownService(
                    f"{name} does not run: run the cell that defines it, with %%service in its first line. "
                    f"Running: {known}"
                ),
                shell,
            )
        self._registry = registry
        self._name = name
        self._proxy = Proxy(NotebookCaller(RecordedCaller(registry.caller(name), recording), shell))

    @property
    def to_async(self) -> Any:
        return self._proxy.to_async

    @property
    def to_sync(self) -> Any:
        return self._proxy.to_sync

    @property
    def url(self) -> str:
        return self._registry.url(self._name)

    @property
    def token(self) -> str:
        return self._registry.token(self._name) or ""

    def __getattr__(self, api: str) -> Any:
        return getattr(self._proxy, api)


class NotebookCaller:
    """A `Caller` (see caller.py) around another."""

    def __init__(self, caller: Caller, shell: InteractiveShell) -> None:
        self.service = caller.service
        self._caller = caller
        self._shell = shell

    def apis(self) -> tuple[ApiSpec, ...] | None:
        return self._caller.apis()

    async def learn(self, api: str, context: CallContext) -> ApiSpec:
        with self._briefly():
            return await self._caller.learn(api, context)

    def learn_sync(self, api: str, context: CallContext) -> ApiSpec:
        with self._briefly():
            return self._caller.learn_sync(api, context)

    async def call(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        with self._briefly():
            return await self._caller.call(api, args, kwargs, context)

    async def stream(self, api: str, args: Args, kwargs: Kwargs, context: CallContext) -> AsyncGenerator[Any, None]:
        with self._briefly():
            async with contextlib.aclosing(self._caller.stream(api, args, kwargs, context)) as items:
                async for item in items:
                    yield item

    def call_sync(self, api: ApiSpec, args: Args, kwargs: Kwargs, context: CallContext) -> Any:
        with self._briefly():
            result = self._caller.call_sync(api, args, kwargs, context)
        return self._iterate(result) if api.stream else result

    def blocks(self, context: CallContext) -> bool:
        return self._caller.blocks(context)

    def _iterate(self, items: Generator[Any, None, None]) -> Generator[Any, None, None]:
        with self._briefly():
            yield from items

    @contextlib.contextmanager
    def _briefly(self) -> Iterator[None]:
        try:
            yield
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
            raise from_the_caller(error, self._shell)  # noqa: B904  it is the same error
