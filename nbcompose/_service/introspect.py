"""Turn a class and its `@service` options into a `ServiceSpec`, or report every mistake (`declare`).

Options are read by `_service/options.py`, annotations by `_schema`, the class and its methods by this module.
"""

from __future__ import annotations

import collections.abc
import inspect
import linecache
import re
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Self, TypeVar, get_origin
from weakref import WeakKeyDictionary

from nbcompose._schema import (
    ApiSchema,
    StreamKind,
    field_of,
    is_required,
    of_function,
    stream_kind,
    variables_of,
    written_signature,
)
from nbcompose._service.dependency import Dependency
from nbcompose._service.handle import RESERVED_NAMES, Service, settle_bases
from nbcompose._service.options import Problems, read_api_options, read_service_options
from nbcompose._service.signature import annotation_text, default_text
from nbcompose._spec import ApiSpec, DependencySpec, Location, ParamSpec, ServiceSpec
from nbcompose.errors import DeclarationError, Mistake

# Attributes that `@api` and the hooks set on a method.
API = "__nbcompose_api__"
HOOK = "__nbcompose_hook__"

RESERVED_ROUTES = frozenset({"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
OPENAI_ROUTES = "/v1/"  # what `openai=True` answers is below it
ROUTE = re.compile(r"/[^\s?#{}]*")

_PARAM_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.VAR_POSITIONAL: "var_positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "var_keyword",
}
_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_SYNC_STREAMS = (collections.abc.Iterator, collections.abc.Generator)
_ASYNC_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator)


def declare(cls: type[Any], options: Mapping[str, Any]) -> ServiceSpec:
    """Return the spec of a class with these `@service` options. Raises `DeclarationError` with every mistake."""
    if isinstance(cls, Service):
        raise DeclarationError(f"{cls.name} is a service already: use one @service, or one %%service")
    if not isinstance(cls, type):
        raise DeclarationError(f"@service goes on a class, not on {cls!r}")
    settle_bases(cls)
    location = locate(cls)
    problems = Problems(location)
    values = read_service_options(options, cls.__name__, problems)
    apis = _apis(cls, problems, openai=values["openai"])
    dependencies = _dependencies(cls, problems)
    _check_construction(cls, problems)
    spec = ServiceSpec(
        cls=cls,
        apis=tuple(apis),
        dependencies=dependencies,
        on_startup=_hooks(cls, "startup", problems),
        on_shutdown=_hooks(cls, "shutdown", problems),
        location=location,
        **values,
    )
    for d in dependencies:
        if d.service == spec.name and d.url is None:
            problems.add(f"{spec.name} depends on itself ({d.attribute})")
    problems.raise_if_any(f"{cls.__name__} cannot be a service:")
    return spec


# -- the class


def _hooks(cls: type, when: str, problems: Problems) -> tuple[str, ...]:
    found = []
    for name, (member, mark) in marks_of(cls, HOOK).items():
        if mark != when:
            continue
        if required := _required(member)[1:]:
            where = locate(member)
            problems.add(f"@on_{when} {name} takes {', '.join(required)}, but is called without arguments", where)
        found.append(name)
    return tuple(found)


def _check_construction(cls: type, problems: Problems) -> None:
    abstract = sorted(getattr(cls, "__abstractmethods__", ()))
    if abstract:
        problems.add(f"{cls.__name__} has abstract methods: {', '.join(abstract)}")
    init = inspect.getattr_static(cls, "__init__")
    if init is object.__init__:
        return
    if inspect.iscoroutinefunction(init):
        problems.add("__init__ cannot be async: put what it awaits in an async method with @on_startup", locate(init))
    if required := _required(init)[1:]:
        problems.add(
            f"__init__ takes {', '.join(required)}, but nbcompose calls it without arguments: give them defaults",
            locate(init),
        )


def _required(function: Any) -> list[str]:
    """Return the parameters without a default, `self` included; none if the signature is unknown."""
    try:
        parameters = written_signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in _STARS]


def _dependencies(cls: type, problems: Problems) -> tuple[DependencySpec, ...]:
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        members.update(vars(base))
    declared = {name: member for name, member in members.items() if isinstance(member, Dependency)}
    found = []
    for attribute, member in declared.items():
        mistake = _mistake_in(member)
        if mistake:
            problems.add(f"{attribute} = {mistake}")
        else:
            found.append(member.spec(attribute))
    return tuple(found)


def _mistake_in(dependency: Dependency) -> str:
    target, url = dependency.target, dependency.url
    if (target is None) == (url is None):
        return "depends(...) takes either a service or url="
    if dependency.token is not None and url is None:
        return "depends(..., token=) is for url=: services of one graph need no token"
    if url is not None and _has_secrets(url):
        return (
            "depends(url=...): leave user, password, query and fragment out of the url, which graphs and errors show; "
            "give token= instead"
        )
    if url is not None and not (isinstance(url, str) and re.match(r"https?://[^/\s]", url)):
        return f"depends(url={url!r}): the url begins with http:// or https:// and names a host"
    if isinstance(target, type) and not marks_of(target, API):
        return f"depends({target.__name__}): {target.__name__} has no @api method"
    if target is not None and (not target or not isinstance(target, str | type | Service)):
        return f"depends({target!r}): a service, or the name of one, is wanted"
    return ""


def _has_secrets(url: Any) -> bool:
    """Whether a url may contain secrets, even if it is invalid otherwise."""
    return isinstance(url, str) and any(c in url for c in "@?#")


# -- its apis


def _apis(cls: type, problems: Problems, *, openai: bool) -> list[ApiSpec]:
    members: dict[str, tuple[Any, Mapping[str, Any]]] = marks_of(cls, API)
    if not members:
        problems.add(f"{cls.__name__} has no api: put @api on at least one method")
    apis: list[ApiSpec] = []
    for method, (member, options) in members.items():
        if isinstance(member, staticmethod | classmethod | property):
            kind = type(member).__name__
            problems.add(f"@api {method} is a {kind}; an api is a plain method with `self`", locate(member))
            continue
        spec = _api(cls, method, member, options, problems)
        if spec is not None:
            apis.append(spec)
    _check_names(apis, members, problems, openai)
    return apis


def _check_names(apis: list[ApiSpec], members: Mapping[str, Any], problems: Problems, openai: bool) -> None:
    for i, spec in enumerate(apis):
        where = locate(members[spec.method][0])
        if spec.name in RESERVED_NAMES or not spec.name.isidentifier() or spec.name.startswith("_"):
            problems.add(f"an api cannot be called {spec.name!r}: choose another with @api(name=...)", where)
        if not ROUTE.fullmatch(spec.route):
            problems.add(f"{spec.name}: route={spec.route!r} begins with / and has no blank, ?, #, {{ or }}", where)
        elif spec.route in RESERVED_ROUTES or spec.route.startswith("/docs/"):
            problems.add(f"{spec.name}: the route {spec.route} is nbcompose's own", where)
        elif openai and spec.route.startswith(OPENAI_ROUTES):
            problems.add(
                f"{spec.name}: with openai=True, routes below {OPENAI_ROUTES} are those of OpenAI's interface: choose "
                "another than " + spec.route,
                where,
            )
        for other in apis[:i]:
            if other.name == spec.name or other.route == spec.route:
                problems.add(f"{other.method} and {spec.method} have the same name or route", where)


def _api(cls: type, method: str, function: Any, options: Mapping[str, Any], problems: Problems) -> ApiSpec | None:
    where = locate(function)
    parameters = list(written_signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        problems.add(f"@api {method} takes no `self`", where)
        return None
    if _is_no_instance(parameters[0], function, cls):
        first = _param(parameters[0], parameters[0].annotation).text
        problems.add(f"@api {method} takes no `self`: the instance would be {first}. Put `self` before it", where)
        return None
    params, returns = _written(function, cls)
    stream, is_async = _kind(cls, method, function, problems, where)
    values = read_api_options(options, method, problems, where)
    if values["batch"] is not None and stream:
        problems.add(f"{method}: a batchable api returns one list of results; it cannot yield", where)
    taken = _stream_params(cls, method, function, params, is_async, problems, where)
    if values["batch"] is not None and taken:
        problems.add(f"{method}: a batchable api takes lists; its parameter {taken[0]} cannot be a stream", where)
    if values["batch"] is not None and (len(parameters) < 2 or parameters[1].kind in _STARS):
        problems.add(f"{method}: a batchable api takes the list of inputs as its first parameter", where)
    spec = ApiSpec(
        method=method,
        params=params,
        returns=returns,
        stream=stream,
        is_async=is_async,
        doc=inspect.getdoc(function) or "",
        stream_params=taken,
        **values,
    )
    try:
        ApiSchema.of(cls, spec)
    except DeclarationError as error:
        problems.extend(error.mistakes or [Mistake(str(error), where.file, where.line)])
    return spec


def _is_no_instance(first: inspect.Parameter, function: Any, cls: type) -> bool:
    """Whether the first parameter of a method is not meant to be the instance, whatever that is called there: it has a
    default, or an annotation other than the class, a base, `Self` or a type variable.
    """
    if first.name == "self":
        return False
    meant = of_function(inspect.unwrap(function), cls)[0].get(first.name)
    of = (None, Self, Any, *cls.__mro__[:-1])
    known = isinstance(meant, TypeVar) or any(meant is kind or (kind and get_origin(meant) is kind) for kind in of)
    return first.default is not first.empty or not known


def _kind(cls: type, method: str, function: Any, problems: Problems, where: Location) -> tuple[bool, bool]:
    """Return whether an api yields, and whether it runs on the event loop.

    A plain method annotated `-> Iterator[...]` returns a generator from elsewhere, so it yields, too.
    """
    plain = inspect.unwrap(function)
    if inspect.isasyncgenfunction(plain):
        return True, True
    if inspect.isgeneratorfunction(plain):
        return True, False
    returns = of_function(plain, cls)[0].get("return")
    returns = get_origin(returns) or returns
    yields = returns in _SYNC_STREAMS or returns in _ASYNC_STREAMS
    if inspect.iscoroutinefunction(plain):
        if yields:
            problems.add(f"{method} is async and returns an iterator: let it `yield` the items itself", where)
        return False, True
    return yields, returns in _ASYNC_STREAMS


def _stream_params(
    cls: type,
    method: str,
    function: Any,
    params: tuple[ParamSpec, ...],
    is_async: bool,
    problems: Problems,
    where: Location,
) -> tuple[str, ...]:
    """Return the parameters that take a stream; report those that the api cannot read."""
    meant = of_function(inspect.unwrap(function), cls)[0]
    wanted = StreamKind.ASYNC if is_async else StreamKind.SYNC
    taken = []
    for param in params:
        kind = stream_kind(meant.get(param.name, Any))
        if kind is None:
            continue
        if kind is StreamKind.INSIDE:
            problems.add(f"{method}: {param.text}: a stream is a parameter by itself, not a part of another", where)
            continue
        if param.kind in ("var_positional", "var_keyword"):
            problems.add(f"{method}: {param.text}: each stream needs a parameter of its own", where)
            continue
        if kind is not wanted:
            way = (
                "in an `async def` it is an AsyncIterator[...], since waiting for an item of an Iterator would stop "
                "the event loop that brings it"
                if is_async
                else "in a plain `def` it is an Iterator[...], since only an `async def` can read an AsyncIterator"
            )
            problems.add(f"{method}: {param.text}: {way}", where)
        taken.append(param.name)
    return tuple(taken)


# Parameters and results as written: resolving annotations changes the function, as do defaults that are a `Field(...)`.
_texts: WeakKeyDictionary[Any, tuple[tuple[ParamSpec, ...], str]] = WeakKeyDictionary()


def _written(function: Any, cls: type) -> tuple[tuple[ParamSpec, ...], str]:
    """Return the parameters of a method, without `self`, and its return annotation, as written."""
    plain = inspect.unwrap(function)
    is_bound = bool(variables_of(plain, cls))
    if plain in _texts and not is_bound:
        return _texts[plain]
    signature = written_signature(plain)
    parameters = list(signature.parameters.values())[1:]
    meant, returns = of_function(plain, cls)[0], signature.return_annotation
    if is_bound:
        parameters = [p.replace(annotation=meant.get(p.name, p.annotation)) for p in parameters]
        returns = meant.get("return", returns)
    written = tuple(_param(p, meant.get(p.name)) for p in parameters), annotation_text(returns)
    if not is_bound:
        _texts[plain] = written
    return written


def _param(p: inspect.Parameter, meant: Any) -> ParamSpec:
    """Return the spec of parameter `p` as written; `meant` is its resolved annotation."""
    required = is_required(p, meant)
    default = field_of(meant) if p.default is p.empty else p.default
    text = _STARS.get(p.kind, "") + p.name
    equals = "="
    if annotation := annotation_text(p.annotation):
        text, equals = f"{text}: {annotation}", " = "
    if not required and p.kind not in _STARS:
        text += equals + default_text(default)
    return ParamSpec(p.name, _PARAM_KINDS[p.kind], required, text)  # type: ignore[arg-type]


# -- marks


def marks_of(cls: type, name: str) -> dict[str, tuple[Any, Any]]:
    """Return the members of a class that have a mark: (member, mark) by attribute, in the order they were written.

    An overriding method inherits the mark of the method that it overrides, unless it has its own.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for base in reversed(cls.__mro__):
        for attribute, member in vars(base).items():
            mark = _mark_of(member, name)
            if mark is not None:
                found[attribute] = member, mark
            elif attribute in found and callable(member):
                found[attribute] = member, found[attribute][1]
            else:
                found.pop(attribute, None)
    return found


def _mark_of(member: Any, name: str) -> Any:
    """Return a member's mark from its `__dict__`. Not `getattr`: some objects have every attribute, or raise."""
    inner = None
    if isinstance(member, staticmethod | classmethod):
        inner = member.__func__
    elif isinstance(member, property):
        inner = member.fget
    for holder in (member, inner):
        try:
            mark = None if isinstance(holder, type) else object.__getattribute__(holder, "__dict__").get(name)
        except AttributeError:  # it has no attributes of its own
            continue
        if mark is not None:
            return mark
    return None


# -- where it was written, in a module or a cell of the notebook


def locate(thing: Any) -> Location:
    """Return file and line of a function, or of the `class` line of a class; an empty location if unknown."""
    if isinstance(thing, type):
        return _locate_class(thing)
    function = _function(thing)
    return Location(function.__code__.co_filename, function.__code__.co_firstlineno) if function else Location()


def _function(member: Any) -> FunctionType | None:
    """Return the function inside a class member. Other objects are not inspected: they may have every attribute."""
    member = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    member = member.fget if isinstance(member, property) else member
    inner = inspect.unwrap(member) if isinstance(member, FunctionType) else None
    return inner if isinstance(inner, FunctionType) else None


def _locate_class(cls: type) -> Location:
    for function in filter(None, map(_function, vars(cls).values())):
        code = function.__code__
        # Skip functions that a decorator generated (a dataclass's __init__): they have no source.
        if code.co_filename != "<string>" and function.__qualname__.startswith(f"{cls.__qualname__}."):
            return Location(code.co_filename, _class_line(cls, code.co_filename, code.co_firstlineno))
    try:
        file = inspect.getsourcefile(cls) or ""
    except (OSError, TypeError):  # not from a file, and no method tells which cell it is from
        return Location()
    return Location(file, _class_line(cls, file, len(linecache.getlines(file))) if file else 0)


def _class_line(cls: type, file: str, before: int) -> int:
    lines = linecache.getlines(file)
    # From Python 3.13 on a class has the line of its first decorator; before that, search upwards from a method.
    known = vars(cls).get("__firstlineno__")
    numbers = range(known, len(lines) + 1) if isinstance(known, int) else range(min(before, len(lines)), 0, -1)
    line = re.compile(rf"\s*class\s+{re.escape(cls.__name__)}\b")
    return next((n for n in numbers if line.match(lines[n - 1])), known or before)
