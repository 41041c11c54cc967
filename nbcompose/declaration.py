"""`@service`, `@api`, `depends` and the hooks: what a user writes about a class.

`declare` turns a class and its options into a `ServiceSpec` (options.py reads the options); how a service is called
once it runs is installed from above (`Service.connect`, `Dependency.bind`), so that this module knows of no process.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, overload

from nbcompose.errors import DeclarationError, Mistake, NbcomposeError
from nbcompose.options import ApiOptions, Problems, read_service_options
from nbcompose.schema import ApiSchema
from nbcompose.spec import ApiSpec, DependencySpec, Location, ParamSpec, ServiceSpec

F = TypeVar("F", bound=Callable[..., Any])

API = "__nbcompose_api__"
HOOK = "__nbcompose_hook__"
SERVICE = "__nbcompose_service__"

# What a `Service` itself answers to; an api of that name could not be reached.
RESERVED_NAMES = frozenset({"to_async", "to_sync", "spec", "name", "inner", "url", "token", "connect"})
RESERVED_ROUTES = frozenset({"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})

_PARAM_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.VAR_POSITIONAL: "var_positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "var_keyword",
}


@overload
def api(function: F, /) -> F: ...
@overload
def api(
    *,
    name: str | None = None,
    route: str | None = None,
    batchable: bool = False,
    batch_dim: int | tuple[int, int] = 0,
    max_batch_size: int = 100,
    max_latency_ms: float | None = None,
) -> Callable[[F], F]: ...
def api(function: Any = None, /, **options: Any) -> Any:
    """Make a method one that others may call: over HTTP, from other services, from the notebook.

    The method may be plain, `async`, a generator or an async generator. `name` is what callers say (the method's name
    by default), `route` its HTTP path (`/name`). `batchable=True` joins concurrent calls along `batch_dim` (one
    number, or one for the input and one for the result) into lists, arrays or tensors of at most `max_batch_size`
    items; the first call waits at most `max_latency_ms` milliseconds for company, and not at all by default.

    Mistakes are reported when the class becomes a service, all of them at once.
    """

    def mark(method: Any) -> Any:
        setattr(method, API, ApiOptions(options))
        return method

    return mark if function is None else mark(function)


def on_startup(method: F) -> F:
    """Call this method (plain or `async`) in each replica after `__init__`, before the first call."""
    setattr(method, HOOK, "startup")
    return method


def on_shutdown(method: F) -> F:
    """Call this method (plain or `async`) in each replica after its last call, before it ends."""
    setattr(method, HOOK, "shutdown")
    return method


class Dependency:
    """`attribute = depends(...)` of a service class; on an instance it is the other service, ready to be called.

    `self.other.f(x)` calls and waits; `await self.other.to_async.f(x)` waits without blocking the event loop.
    """

    def __init__(self, target: Any, url: str | None, token: str | None) -> None:
        self.target = target
        self.url = url
        self.token = token
        self._attribute = ""
        self._handle: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self._handle is None:
            cls = type(instance).__name__
            raise NbcomposeError(
                f"{cls}.{self._attribute} is not connected: this {cls} was made from the bare class. "
                f"Call the service itself, `{cls}()`, for an instance whose dependencies work."
            )
        return self._handle

    def bind(self, handle: Any) -> None:
        """Install how the other service is called in this process (a replica holds one instance)."""
        self._handle = handle

    def __reduce__(self) -> tuple[Any, ...]:
        # A dependent carries the name of what it depends on, never the other service's class and captures.
        return (_restore_dependency, (self.spec("").service, self.url, self.token, self._attribute))

    def spec(self, attribute: str) -> DependencySpec:
        return DependencySpec(attribute, _target_name(self.target), self.url)


def _restore_dependency(target: str, url: str | None, token: str | None, attribute: str) -> Dependency:
    dependency = Dependency(target, url, token)
    dependency._attribute = attribute
    return dependency


def _target_name(target: Any) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, Service):
        return target.spec.name
    declared: Service | None = getattr(target, "__dict__", {}).get(SERVICE)
    return declared.spec.name if declared is not None else str(getattr(target, "__name__", target))


def depends(target: Any = None, /, *, url: str | None = None, token: str | None = None) -> Any:
    """Another service as an attribute of this one.

    `target` is a service (its class), or the name of one, so that cells may come in any order. `url` is the address
    of an nbcompose service elsewhere, with `token` where it wants one.
    """
    return Dependency(target, url, token)


class Service:
    """A declared service: `Answer.ask(...)` calls it where it runs, `Answer()` builds an instance in this process."""

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self.__doc__ = spec.cls.__doc__
        self.__name__ = spec.name
        self.__module__ = spec.cls.__module__
        self.__qualname__ = spec.cls.__qualname__

    # Set from above, once for the process: how a service that runs is called; how one is built in this process.
    connect: Callable[[Service], Any] | None = None
    build: Callable[[Service], Any] | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def inner(self) -> type[Any]:
        """The class as it was written."""
        return self.spec.cls

    def __call__(self) -> Any:
        """An instance in this process, for tests: dependencies too, with the validation of the served one."""
        if Service.build is None:
            raise NbcomposeError("import nbcompose before building a service in this process")
        return Service.build(self)

    def _handle(self) -> Any:
        if Service.connect is None:
            raise NbcomposeError(
                f"{self.name} does not run: put %%service above its class, or use `{self.name}()` "
                "for an instance in this process"
            )
        return Service.connect(self)

    @property
    def to_async(self) -> Any:
        """The same service, whose apis are awaited (or iterated with `async for`)."""
        return self._handle().to_async

    @property
    def to_sync(self) -> Any:
        return self._handle().to_sync

    @property
    def url(self) -> str:
        """Where it answers over HTTP, e.g. `http://127.0.0.1:41233`."""
        return str(self._handle().url)

    @property
    def token(self) -> str:
        """The bearer token that HTTP calls need; changes with the kernel."""
        return str(self._handle().token)

    def __getattr__(self, attribute: str) -> Any:
        spec: ServiceSpec | None = self.__dict__.get("spec")
        if spec is None or attribute.startswith("__"):
            raise AttributeError(attribute)
        if spec.api(attribute) is None:
            known = ", ".join(a.name for a in spec.apis)
            raise AttributeError(f"{spec.name} has no api {attribute!r}; it has: {known}")
        return getattr(self._handle(), attribute)

    def __dir__(self) -> list[str]:
        return sorted({*(a.name for a in self.spec.apis), "to_async", "to_sync", "url", "token", "spec", "inner"})

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.inner,)  # `class Better(Answer):` extends the class

    def __reduce__(self) -> tuple[Any, ...]:
        # What captures a service captures its name and apis, not its class.
        return (Service, (replace(self.spec, cls=type(self.spec.cls.__name__, (), {"__doc__": self.__doc__})),))

    def __repr__(self) -> str:
        return f"<service {self.name}: {', '.join(a.signature for a in self.spec.apis)}>"


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
        return Service(declare(decorated, options))

    return wrap if cls is None else wrap(cls)


def declare(cls: type[Any], options: Mapping[str, Any]) -> ServiceSpec:
    """The spec of a class with these `@service` options. Raises `DeclarationError` with all that is wrong."""
    if isinstance(cls, Service):
        raise DeclarationError(f"{cls.name} is a service already: use one @service, or one %%service")
    if not isinstance(cls, type):
        raise DeclarationError(f"@service goes on a class, not on {cls!r}")
    location = locate(cls)
    problems = Problems(location)
    values = read_service_options(options, cls.__name__, problems)
    apis = _apis(cls, problems)
    dependencies = _dependencies(cls, problems)
    _check_init(cls, problems)
    spec = ServiceSpec(
        cls=cls,
        apis=tuple(apis),
        dependencies=dependencies,
        on_startup=_hooks(cls, "startup"),
        on_shutdown=_hooks(cls, "shutdown"),
        location=location,
        **values,
    )
    for d in dependencies:
        if d.service == spec.name and d.url is None:
            problems.add(f"{spec.name} depends on itself ({d.attribute})")
    problems.raise_if_any(f"{cls.__name__} cannot be a service:")
    return spec


def locate(thing: Any) -> Location:
    """File and line of a function, or of a class (its first method where the class itself does not say)."""
    code = getattr(inspect.unwrap(thing) if callable(thing) else thing, "__code__", None)
    if code is not None:
        return Location(code.co_filename, code.co_firstlineno)
    for member in vars(thing).values():
        method = getattr(member, "__func__", member)
        if hasattr(method, "__code__") and method.__qualname__.startswith(f"{thing.__qualname__}."):
            return Location(method.__code__.co_filename, _class_line(thing, method.__code__))
    return Location()


def _class_line(cls: type, code: Any) -> int:
    # Python 3.13 has __firstlineno__; before that: the nearest `class` line above the method.
    known = cls.__dict__.get("__firstlineno__")
    if isinstance(known, int):
        return known
    lines = linecache.getlines(code.co_filename)
    for number in range(min(code.co_firstlineno, len(lines)), 0, -1):
        if lines[number - 1].lstrip().startswith(f"class {cls.__name__}"):
            return number
    return int(code.co_firstlineno)


def _members(cls: type) -> dict[str, Any]:
    """Attributes by name, those of base classes included, in the order they were written."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base))
    return found


def _hooks(cls: type, when: str) -> tuple[str, ...]:
    return tuple(name for name, member in _members(cls).items() if getattr(member, HOOK, None) == when)


def _check_init(cls: type, problems: Problems) -> None:
    init = _members(cls)["__init__"]
    if init is object.__init__:
        return
    required = [
        p.name
        for p in list(inspect.signature(init).parameters.values())[1:]
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if required:
        problems.add(
            f"__init__ takes {', '.join(required)}, but nbcompose calls it without arguments: give them defaults",
            locate(init),
        )


def _dependencies(cls: type, problems: Problems) -> tuple[DependencySpec, ...]:
    found = []
    for attribute, member in _members(cls).items():
        if not isinstance(member, Dependency):
            continue
        if (member.target is None) == (member.url is None):
            problems.add(f"{attribute} = depends(...) takes either a service or url=")
        elif member.url is not None and not member.url.startswith(("http://", "https://")):
            problems.add(f"{attribute} = depends(url={member.url!r}): the url begins with http:// or https://")
        elif isinstance(member.target, type) and not _api_members(member.target):
            problems.add(
                f"{attribute} = depends({member.target.__name__}): {member.target.__name__} has no @api method"
            )
        elif member.target is not None and not isinstance(member.target, str | type | Service):
            problems.add(f"{attribute} = depends({member.target!r}): a service, or the name of one, is wanted")
        else:
            found.append(member.spec(attribute))
    return tuple(found)


def _api_members(cls: type) -> dict[str, tuple[Any, ApiOptions]]:
    return {
        name: (member, options)
        for name, member in _members(cls).items()
        if (options := getattr(member, API, None) or getattr(getattr(member, "__func__", None), API, None))
    }


def _apis(cls: type, problems: Problems) -> list[ApiSpec]:
    members = _api_members(cls)
    if not members:
        problems.add(f"{cls.__name__} has no api: put @api on at least one method")
    apis: list[ApiSpec] = []
    for method, (member, options) in members.items():
        if isinstance(member, staticmethod | classmethod):
            problems.add(f"@api {method} is a {type(member).__name__}; an api is a plain method with `self`")
            continue
        spec = _api(cls, method, member, options, problems)
        if spec is not None:
            apis.append(spec)
    _check_names(apis, members, problems)
    return apis


def _check_names(apis: list[ApiSpec], members: Mapping[str, Any], problems: Problems) -> None:
    for i, spec in enumerate(apis):
        where = locate(members[spec.method][0])
        if spec.name in RESERVED_NAMES or not spec.name.isidentifier() or spec.name.startswith("_"):
            problems.add(f"an api cannot be called {spec.name!r}: choose another with @api(name=...)", where)
        if not spec.route.startswith("/") or any(c in spec.route for c in " ?#"):
            problems.add(f"{spec.name}: route={spec.route!r} begins with / and has no blank, ? or #", where)
        elif spec.route in RESERVED_ROUTES or spec.route.startswith("/docs/"):
            problems.add(f"{spec.name}: the route {spec.route} is nbcompose's own", where)
        for other in apis[:i]:
            if other.name == spec.name or other.route == spec.route:
                problems.add(f"{other.method} and {spec.method} have the same name or route", where)


def _api(cls: type, method: str, function: Any, options: ApiOptions, problems: Problems) -> ApiSpec | None:
    where = locate(function)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        problems.add(f"@api {method} takes no `self`", where)
        return None
    plain = inspect.unwrap(function)
    stream = inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain)
    values = options.read(method, problems, where)
    if values.batch is not None and stream:
        problems.add(f"{method}: a batchable api returns one list of results; it cannot yield", where)
    if values.batch is not None and len(parameters) < 2:
        problems.add(f"{method}: a batchable api takes the list of inputs as its first parameter", where)
    spec = ApiSpec(
        name=values.name,
        method=method,
        route=values.route,
        params=tuple(_param(p) for p in parameters[1:]),
        returns=_annotation(signature.return_annotation),
        stream=stream,
        is_async=inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain),
        batch=values.batch,
        doc=inspect.getdoc(function) or "",
    )
    try:
        ApiSchema.of(cls, spec)
    except DeclarationError as error:
        problems.extend(error.mistakes or [Mistake(str(error), where.file, where.line)])
    return spec


def _param(p: inspect.Parameter) -> ParamSpec:
    shown = p if isinstance(p.annotation, type(p.empty)) else p.replace(annotation=p.annotation)
    return ParamSpec(
        p.name,
        _PARAM_KINDS[p.kind],  # type: ignore[arg-type]
        p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD),
        str(shown).replace("'", "") if isinstance(p.annotation, str) else str(shown),
    )


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
