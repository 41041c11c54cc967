"""The declaration API: `@service` makes a class a service; what else a user writes about one is gathered here.

Marks on methods are marks.py's, dependencies dependency.py's, a class is read into a spec by reading.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from nbcompose.declaration.dependency import Dependency, depends
from nbcompose.declaration.handle import Service, UnreadService
from nbcompose.declaration.marks import API, HOOK, api, on_shutdown, on_startup
from nbcompose.declaration.reading import declare
from nbcompose.host.owner import in_replica

__all__ = [
    "API",
    "HOOK",
    "Dependency",
    "Service",
    "api",
    "declare",
    "depends",
    "on_shutdown",
    "on_startup",
    "service",
]


@overload
def service(cls: type[Any], /) -> Service: ...
@overload
def service(**options: Any) -> Callable[[type[Any]], Service]: ...
def service(cls: type[Any] | None = None, /, **options: Any) -> Any:
    """Make a class a service.

    Options: `name`; `device` ("cpu", "cuda", "cuda:1", "mps"); `replicas` (also `workers`), processes; `threads`,
    worker threads of each replica for apis that are not `async`; `resources` {"cpu", "gpu", "memory"};
    `traffic` {"timeout" in seconds, "max_concurrency", "max_queue"}; `envs`, environment variables;
    `http` {"port", "cors"}; `strict`, refuse to start where memory falls short.

    Raises `DeclarationError` with every mistake, each with its file and line.
    """

    def wrap(decorated: type[Any]) -> Service:
        if in_replica() and isinstance(decorated, type):  # the owner has read it already
            return UnreadService(decorated, options.get("name"), lambda: declare(decorated, options))
        return Service(declare(decorated, options))

    return wrap if cls is None else wrap(cls)
