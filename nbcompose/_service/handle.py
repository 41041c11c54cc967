"""`Service`: the object that a declared class's name refers to. `Answer.ask(...)` calls the running service.

How a service that runs is called is told by connectors (`add_connector`), so that this module knows of no process.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

from nbcompose import settings
from nbcompose._schema import Uncalled
from nbcompose._service.signature import Described, service_help, uncalled_service
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose.errors import NbcomposeError, UnknownApi

# Builds a service in this process. Imported when one is first built, because it brings an HTTP client.
BUILDER = "nbcompose._replica.in_process"

# Serves a service as an ASGI application. Imported with the first request: replicas import modules that make one.
SERVER = "nbcompose._control.asgi"

# Shows a graph. Imported on first use, because it needs a notebook.
DRAWER = "nbcompose._notebook.graph.display"


# Knows the Jupyter server that has started a kernel. Imported in kernels only.
LINKS = "nbcompose._notebook.links"

# What calls a service where it runs; None where it does not know the service.
Connector = Callable[["Service"], Any]

_connectors: list[Connector] = []


def add_connector(connector: Connector) -> Callable[[], None]:
    """Have `connector` asked where a service runs: the one that was added last is asked first.

    Returns:
        A function that removes it again.
    """
    _connectors.append(connector)

    def remove() -> None:
        if connector in _connectors:
            _connectors.remove(connector)

    return remove


class Service(Uncalled):
    """A declared service: `Answer.ask(...)` calls the running service, `Answer()` makes an instance in this process."""

    def __init__(self, spec: ServiceSpec) -> None:
        if not isinstance(spec, ServiceSpec):
            # `Base.__init__(self)` in a class that extends a service: `self` is an instance of the user's class, not a
            # `Service`.
            raise TypeError(f"{type(spec).__name__} extends a service: write `super().__init__()`")
        self.spec = spec
        self._document(spec.cls.__doc__)
        self.__name__ = spec.name
        self.__module__ = spec.cls.__module__
        self.__qualname__ = spec.cls.__qualname__

    def _document(self, doc: str | None) -> None:
        self._doc = doc  # of the class
        self.__doc__ = service_help(self.spec.name, doc, self.spec.apis)

    def _uncalled(self) -> str:
        return uncalled_service(self.spec.name, self.spec.name, self.spec.apis)

    @property
    def name(self) -> str:
        """The name under which the service is registered."""
        return self.spec.name

    @property
    def inner(self) -> type[Any]:
        """The class as it was written.

        Raises:
            NbcomposeError: The class is not in this process, only its name and apis.
        """
        self._need_class()
        return self.spec.cls

    def _need_class(self) -> None:
        if self.spec.cls is object:
            raise NbcomposeError(
                f"the class of {self.name} is not in this process: what uses a service takes its name and apis along. "
                f"Write `{self.name.lower()} = depends({self.name})` in the class that uses it, to call the one that "
                "runs; for an instance of your own, move what both need into a plain class, without @service"
            )

    def __call__(self) -> Any:
        """Make an instance in this process, for tests, with its dependencies and the validation of a served one.

        Returns:
            The instance.

        Raises:
            NbcomposeError: The class is not in this process, as in the replicas of another service.
        """
        self._need_class()
        return importlib.import_module(BUILDER).build(self)

    def _handle(self) -> Any:
        for connector in reversed(_connectors):
            handle = connector(self)
            if handle is not None:
                return handle
        raise NbcomposeError(
            f"{self.name} does not run: put %%service above its class, or use `with nbcompose.run({self.name}):` in a "
            f"program, or `{self.name}()` for an instance in this process"
        )

    @property
    def to_async(self) -> Any:
        """The same service with apis that are awaited (or iterated with `async for`)."""
        return self._handle().to_async

    @property
    def to_sync(self) -> Any:
        """The same service with apis that block (or are iterated with `for`)."""
        return self._handle().to_sync

    @property
    def url(self) -> str:
        """The address at which it answers over HTTP, e.g. `http://127.0.0.1:41233`."""
        return str(self._handle().url)

    @property
    def link(self) -> str:
        """The address of its page, for a person: through the Jupyter server, behind its login, where the server has
        nbcompose's extension; otherwise `url` with `/docs`.
        """
        if "ipykernel" in sys.modules:
            return str(importlib.import_module(LINKS).page(self.name, self.url))
        return f"{self.url}/docs"

    @property
    def token(self) -> str:
        """The bearer token that HTTP calls need; changes with the kernel."""
        return str(self._handle().token)

    def asgi(
        self, *, token: str | None = None, allowed_hosts: Iterable[str] = ()
    ) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """Make an ASGI application of what the service serves over HTTP, e.g. `app.mount("/answer", Answer.asgi())`.

        It has the routes of `nbcompose serve`: the apis, `/docs`, `/openapi.json`, `/healthz`, `/readyz`, `/metrics`.
        Calls go to replicas. A service that runs in this process already, in the notebook or by `nbcompose.run`, is
        called where it runs. Otherwise the application starts it, with all that it depends on, when the server starts
        (ASGI's lifespan) and stops it with the server. Where the application is mounted in another one, which seldom
        passes the lifespan on, that is with the first call, and at the end of the process. Each worker process of a
        server has a graph of its own.

        Args:
            token: What callers must send; by default the value of NBCOMPOSE_TOKEN in the environment.
            allowed_hosts: Names that the `Host` header may carry; `"*"`: any. Without a token no other names are
                accepted, but for this machine's own where a request comes over its loopback interface.

        Returns:
            A coroutine function of `scope`, `receive` and `send`. Nothing is started or imported before its first use.

        Raises:
            NbcomposeError: No header could carry the token.
        """
        token = settings.checked_token(settings.token() if token is None else token)
        hosts, lock, made = tuple(allowed_hosts), threading.Lock(), list[Any]()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            with lock:
                if not made:
                    made.append(importlib.import_module(SERVER).asgi_app(self, token, hosts))
            await made[0](scope, receive, send)

        return application

    def graph(self) -> None:
        """Show what it calls, directly or not, as a live picture in the notebook.

        Raises:
            NbcomposeError: The service does not run.
        """
        self._handle()  # raises an error with advice if the service does not run
        importlib.import_module(DRAWER).graph(self)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "spec" or attribute.startswith("__"):
            raise AttributeError(attribute)
        spec = self.spec
        api = spec.api(attribute)
        if api is None:
            if attribute.startswith("_"):  # libraries probe any object for such
                raise self._unknown(attribute, ())
            try:
                handle = self._handle()
            except NbcomposeError:
                raise self._unknown(attribute, ()) from None
            transport = handle._transport
            serving = tuple(a.name for a in transport.apis() or ())
            if attribute not in serving:
                raise transport.unknown(self._unknown(attribute, serving))
            return getattr(handle, attribute)  # the version before serves, since this one could not
        try:
            handle = self._handle()
        except NbcomposeError:
            return UnconnectedApi(self, api)
        return getattr(handle, attribute)

    def _unknown(self, api: str, serving: Iterable[str]) -> UnknownApi:
        known = ", ".join(serving or (a.name for a in self.spec.apis))
        return UnknownApi(f"{self.spec.name} has no api {api!r}; it has: {known}")

    def __dir__(self) -> list[str]:
        return sorted(
            {
                *(a.name for a in self.spec.apis),
                "to_async",
                "to_sync",
                "url",
                "link",
                "token",
                "asgi",
                "graph",
                "spec",
                "inner",
                "name",
            }
        )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.inner,)  # `class Better(Answer):` extends the class

    def __reduce__(self) -> tuple[Any, ...]:
        # Capturing a service captures its name and apis, not its class.
        return (_restore, (replace(self.spec, cls=object), self._doc, self.__module__, self.__qualname__))

    def __repr__(self) -> str:
        return f"<service {self.name}: {', '.join(a.signature for a in self.spec.apis)}>"


class UnreadService(Service):
    """A service whose class is read on first use: a replica imports a whole module, but runs only one of its classes.

    Its name and class are known without reading it: reading one class would read all its dependencies, recursively.
    """

    def __init__(self, cls: type[Any], name: str | None, read: Callable[[], ServiceSpec]) -> None:
        self._cls = cls
        self._read = read
        self._doc = self.__doc__ = cls.__doc__
        self.__name__ = name or cls.__name__
        self.__module__ = cls.__module__
        self.__qualname__ = cls.__qualname__

    @cached_property
    def spec(self) -> ServiceSpec:  # type: ignore[override]
        return self._read()

    @property
    def name(self) -> str:
        return self.__name__

    @cached_property
    def inner(self) -> type[Any]:
        settle_bases(self._cls)
        return self._cls


class UnconnectedApi(Described):
    """An api of a service that does not run. It can be inspected; calling it raises an error that says what to do."""

    def __init__(self, service: Service, api: ApiSpec) -> None:
        super().__init__(service.name, api.name, api)
        self._service = service

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._service._handle(), self.__name__)(*args, **kwargs)

    def options(self, **options: Any) -> Any:
        return getattr(self._service._handle(), self.__name__).options(**options)


def settle_bases(cls: type) -> None:
    """Replace services with their classes in `__orig_bases__`: a pickled service does not contain its class."""
    for base in cls.__mro__:
        written = vars(base).get("__orig_bases__", ())
        if any(isinstance(b, Service) for b in written):
            base.__orig_bases__ = tuple(b.inner if isinstance(b, Service) else b for b in written)  # type: ignore[attr-defined]


def _restore(spec: ServiceSpec, doc: str | None, module: str, qualname: str) -> Service:
    service = Service(spec)
    service._document(doc)
    service.__module__, service.__qualname__ = module, qualname
    return service


# Attributes of `Service` itself, which would hide an api of the same name.
RESERVED_NAMES = frozenset({"spec", *(name for name in vars(Service) if not name.startswith("_"))})
