"""What `?`, completion and tooltips show of an api that lives elsewhere, from its spec: signature and docstring."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from nbcompose.spec import ApiSpec


class Described:
    """Base of what stands for an api. `_api` None: nothing is known of it yet."""

    def __init__(self, service: str, name: str, api: ApiSpec | None) -> None:
        self._api = api
        self.__name__ = name
        self.__qualname__ = f"{service}.{name}"
        if api is not None:
            self.__doc__ = api.doc or None

    def __repr__(self) -> str:
        return f"<api {self.__qualname__}>" if self._api is None else f"<api {self.__qualname__}{_shape(self._api)}>"

    @property
    def __signature__(self) -> inspect.Signature:
        if self._api is None:
            raise AttributeError("__signature__")
        return signature_of(self._api)


class Shown:
    """An annotation or a default value of an api elsewhere, as its source text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature_of(api: ApiSpec) -> inspect.Signature:
    """The signature, whose annotations and defaults are `Shown`: only their text is known here."""
    try:
        tree = ast.parse(f"def api{_shape(api)}: ...").body[0]
        assert isinstance(tree, ast.FunctionDef)
        parameters = list(_parameters(tree.args))
    except SyntaxError:  # a default whose text is not Python
        parameters = [
            inspect.Parameter(
                p.name,
                getattr(inspect.Parameter, p.kind.upper()),
                default=_default("" if _is_needed(p.kind, p.required) else "..."),
            )
            for p in api.params
        ]
    returns = Shown(api.returns) if api.returns else inspect.Signature.empty
    return inspect.Signature(parameters, return_annotation=returns)


def _shape(api: ApiSpec) -> str:
    """The signature without the name."""
    return api.signature[len(api.name) :]


def _is_needed(kind: str, required: bool) -> bool:
    return required or kind.startswith("var_")


def _default(text: str) -> object:
    return Shown(text) if text else inspect.Parameter.empty


def _parameters(arguments: ast.arguments) -> Iterator[inspect.Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    for i, (argument, default) in enumerate(zip(positional, [*defaults, *arguments.defaults], strict=True)):
        first = i < len(arguments.posonlyargs)
        kind = inspect.Parameter.POSITIONAL_ONLY if first else inspect.Parameter.POSITIONAL_OR_KEYWORD
        yield _parameter(argument, kind, default)
    if arguments.vararg is not None:
        yield _parameter(arguments.vararg, inspect.Parameter.VAR_POSITIONAL)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, inspect.Parameter.KEYWORD_ONLY, default)
    if arguments.kwarg is not None:
        yield _parameter(arguments.kwarg, inspect.Parameter.VAR_KEYWORD)


def _parameter(argument: ast.arg, kind: inspect._ParameterKind, default: ast.expr | None = None) -> inspect.Parameter:
    return inspect.Parameter(
        argument.arg,
        kind,
        default=inspect.Parameter.empty if default is None else Shown(ast.unparse(default)),
        annotation=inspect.Parameter.empty if argument.annotation is None else Shown(ast.unparse(argument.annotation)),
    )
