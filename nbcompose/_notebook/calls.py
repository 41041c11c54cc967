"""Calls from the notebook: tracebacks without nbcompose's own frames, and example calls in Python and curl."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._control import Handle, Registry
from nbcompose._export.check import RecordedTransport, Recording
from nbcompose._notebook.tracebacks import from_the_caller
from nbcompose._rpc import Args, Intercepted, Kwargs, Transport
from nbcompose._spec import ApiSpec, ParamSpec
from nbcompose.errors import UnknownService

_LITERALS: dict[str, Any] = {"str": "...", "int": 1, "float": 0.5, "bool": True, "dict": {}, "list": []}


# Result types that are files, which a terminal cannot show, by the last part of their names.
_FILES = {"Image", "Path", "PosixPath", "bytes", "bytearray"}


def python_call(variable: str, api: ApiSpec) -> str:
    """Return an example call, e.g. `Answer.ask("...")`; for an api that yields, a loop over it."""
    arguments = []
    for p in _needed(api):
        value = _value(p)
        text = "..." if value is None else json.dumps(value) if value is not True else "True"
        arguments.append(f"{p.name}={text}" if p.kind == "keyword_only" else text)
    call = f"{variable}.{api.name}({', '.join(arguments)})"
    return f"for item in {call}: print(item)" if api.stream else call


def curl_call(variable: str, api: ApiSpec) -> str:
    """Return a line for a cell that calls the api over HTTP. IPython inserts the address and the token when it runs."""
    body = json.dumps({p.name: "..." if (value := _value(p)) is None else value for p in _needed(api)})
    braces = body.replace("{", "{{").replace("}", "}}")  # single braces are expanded by IPython
    saves = api.returns.removesuffix(" | None").rpartition(".")[2] in _FILES
    flags = " -N" if api.stream else " -o answer" if saves else ""
    return (
        f'!curl -s{flags} {{{variable}.url}}{api.route} -H "Authorization: Bearer {{{variable}.token}}"'
        f" -H \"Content-Type: application/json\" -d '{braces}'"
    )


def _needed(api: ApiSpec) -> list[ParamSpec]:
    return [p for p in api.params if p.required]


def _value(p: ParamSpec) -> Any:
    """Return an example value of the parameter's type where it is simple; None where the user has to choose one."""
    annotation = p.text.partition(":")[2].strip()
    if annotation.startswith("list[") and annotation.endswith("]"):
        inner = _LITERALS.get(annotation[5:-1])
        return None if inner is None else [inner]
    return _LITERALS.get(annotation.partition("[")[0])


class NotebookHandle(Handle):
    """A running service as the notebook calls it. Raises `UnknownService`, with the way to start it."""

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
        super().__init__(registry, name, NotebookTransport(RecordedTransport(registry.caller(name), recording), shell))


class NotebookTransport(Intercepted):
    """A `Transport` around another one that shortens the tracebacks of errors."""

    def __init__(self, transport: Transport, shell: InteractiveShell) -> None:
        super().__init__(transport)
        self._shell = shell

    @contextlib.contextmanager
    def calling(self, api: str, args: Args, kwargs: Kwargs) -> Iterator[Callable[[], None]]:
        with self.learning():
            yield lambda: None

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        try:
            yield
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
            raise from_the_caller(error, self._shell)  # noqa: B904  it is the same error
