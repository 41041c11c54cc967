"""Fixtures that make specs and schemas from plain classes, as `service.py` does from decorated ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import pytest

from nbcompose._schema.api import ApiSchema
from nbcompose._spec import ApiSpec, ParamKind, ParamSpec

MakeSpec = Callable[..., ApiSpec]


def _spec(owner: type, method: str = "f", **changes: Any) -> ApiSpec:
    function = getattr(owner, method)
    signature = inspect.signature(function)
    params = tuple(
        ParamSpec(
            name=p.name,
            kind=cast(ParamKind, p.kind.name.lower()),
            required=p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD),
            text=str(p),
        )
        for p in list(signature.parameters.values())[1:]
    )
    result = signature.return_annotation
    returns = "" if result is signature.empty else inspect.formatannotation(result)
    fields: dict[str, Any] = {
        "name": method,
        "method": method,
        "route": f"/{method}",
        "params": params,
        "returns": returns,
        "stream": inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function),
        "is_async": inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
        "doc": inspect.getdoc(function) or "",
    }
    return ApiSpec(**(fields | changes))


@pytest.fixture
def make_spec() -> MakeSpec:
    """The spec of a method, by default of `f`."""
    return _spec


@pytest.fixture
def schema_of() -> Callable[..., ApiSchema]:
    """The schema of a method of a class, by default of `f`."""
    return lambda owner, method="f", **changes: ApiSchema.of(owner, _spec(owner, method, **changes))


@pytest.fixture
def schema_for() -> Callable[[Any], ApiSchema]:
    """The schema of an api `f(x: T) -> T`, for an annotation T."""

    def make(annotation: Any) -> ApiSchema:
        class Svc:
            def f(self, x):
                return x

        Svc.f.__annotations__ = {"x": annotation, "return": annotation}
        return ApiSchema.of(Svc, _spec(Svc))

    return make
