"""Signatures, annotations, defaults and help as text, as a person would write them: for `?`, completion, tooltips and
cards.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import PurePath
from types import EllipsisType, NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, Union, get_args, get_origin

from nbcompose._schema import Uncalled
from nbcompose._spec import ApiSpec, ParamSpec

MAX_DEFAULT = 80  # characters of a default value that are shown

_PREFIXES = {"numpy": "np.", "pandas": "pd.", "torch": "torch."}
_ENUM = re.compile(r"<([\w.]+\.\w+): [^<>]*>")  # an enum member inside another value's repr
_CODE = re.compile(r"\b(?:datetime|decimal|fractions|uuid|__main__)\.(?=\w+\()")


def annotation_text(annotation: Any) -> str:
    """Return an annotation as text, e.g. `list[int] | None`; "" if there is none. Of `Annotated`, only the type is
    shown.
    """
    if annotation is inspect.Signature.empty:
        return ""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return _source(annotation)
    if annotation is None or annotation is NoneType:
        return "None"
    if isinstance(annotation, EllipsisType):
        return "..."
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{_listed(annotation)}]"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return annotation_text(arguments[0])
    if origin is Union or origin is UnionType:
        return " | ".join(map(annotation_text, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(default_text, arguments))}]"
    if origin is not None:
        return f"{_name(annotation)}[{_listed(arguments)}]" if arguments else _name(annotation)
    return _name(annotation)


def default_text(default: Any) -> str:
    """Return a default value as text that is the same in every process: without addresses, and bounded in length."""
    if type(default).__name__ == "FieldInfo":
        if default.default_factory is not None:
            name = getattr(default.default_factory, "__name__", "...")
            return f"{name}()" if name.isidentifier() else "..."
        default = default.default
    if isinstance(default, str | bytes | int | float) and not isinstance(default, Enum):
        text = repr(default)
    else:
        text = _value(default)
    return "..." if len(text) > MAX_DEFAULT or "\n" in text or text.startswith("<") else text


def _value(default: Any) -> str:
    if isinstance(default, PurePath):
        return f"Path({str(default)!r})"
    if inspect.isroutine(default) or isinstance(default, type):
        return str(getattr(default, "__name__", "..."))
    try:
        text = repr(default)
    except Exception:  # a user's __repr__ may raise anything
        return "..."
    text = _CODE.sub("", _ENUM.sub(r"\1", text))
    return "..." if re.search(r" at 0x[0-9a-f]+", text) else text


def _listed(annotations: Any) -> str:
    return ", ".join(map(annotation_text, annotations))


def _name(of: Any) -> str:
    name = getattr(of, "__qualname__", None) or getattr(of, "__name__", None)
    if name is None:
        return str(inspect.formatannotation(of))
    package = str(getattr(of, "__module__", "")).partition(".")[0]
    return _PREFIXES.get(package, "") + str(name).rpartition("<locals>.")[2]


def _source(text: str) -> str:
    """Return an annotation that is a string unchanged, except for `Annotated`."""
    if "Annotated[" not in text:
        return text
    try:
        return ast.unparse(_Plain().visit(ast.parse(text, mode="eval")))
    except SyntaxError:
        return text


class _Plain(ast.NodeTransformer):
    """Replaces `Annotated[X, ...]` with `X`."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        named = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        if named == "Annotated" and isinstance(node.slice, ast.Tuple) and node.slice.elts:
            return node.slice.elts[0]
        return node


class Described(Uncalled):
    """Base class of an api's proxy: name, docstring, signature. `_api` is None while nothing is known of the api.

    `holder`: the expression for the service in user code; `form` stands between that and the name. `as_declared`: an
    `async def` is awaited without `.to_async`. `help(Answer.ask)` shows `__doc__`, which is made when it is read.
    """

    form = ""
    as_declared = False

    def __init__(self, service: str, name: str, api: ApiSpec | None, holder: str = "") -> None:
        self._api = api
        self._holder = holder or service
        self.__name__ = name
        self.__qualname__ = f"{service}.{name}"

    def _uncalled(self) -> str:
        api, call = self._api, f"{self._holder}{self.form}.{self.__name__}(…)"
        is_awaited = api is not None and not api.stream and (bool(self.form) or (self.as_declared and api.is_async))
        return (
            f"the api {self.__qualname__} itself, which was not called: did you mean "
            f"{f'`await {call}`' if is_awaited else call}?"
        )

    def __init_subclass__(cls) -> None:
        cls.__doc__ = Described.__doc__  # a property, also where a class says what it is for

    def help_fields(self) -> list[tuple[str, str]]:
        """Return what help says, as pairs of a title and a text; empty while nothing is known of the api."""
        api = self._api
        if api is None:
            return []
        doc = [("Docstring", api.doc)] if api.doc else []
        return [
            ("Signature", f"{self._holder}{self.form}.{api.signature}"),
            *doc,
            ("Call", self._how_to_call(api)),
            ("HTTP", f"POST {api.route}"),
        ]

    def _how_to_call(self, api: ApiSpec) -> str:
        blocking, awaited = f"{self._holder}.{api.name}(...)", f"{self._holder}.to_async.{api.name}(...)"
        if self.as_declared and api.is_async:
            blocking, awaited = f"{self._holder}.to_sync.{api.name}(...)", blocking
        if api.stream:
            calls = [f"`for item in {blocking}:`", f"`async for item in {awaited}:`"]
        else:
            calls = [f"`{blocking}` waits for the answer", f"`await {awaited}` does not block the event loop"]
        if self.form or (self.as_declared and api.is_async):
            calls.reverse()
        return "; ".join(calls)

    def __repr__(self) -> str:
        return f"<api {self.__qualname__}>" if self._api is None else f"<api {self.__qualname__}{_shape(self._api)}>"

    @property
    def __signature__(self) -> inspect.Signature:
        if self._api is None:
            raise AttributeError("__signature__")
        return signature_of(self._api)


def uncalled_service(name: str, holder: str, apis: Sequence[ApiSpec]) -> str:
    """Return what is said of a service that is given as a value."""
    such = f", such as {holder}.{apis[0].name}(…)" if apis else ""
    return f"the service {name} itself: did you mean a call of one of its apis{such}?"


def _documentation(self: Described) -> str | None:
    """The docstring of the api, and how it is called."""
    fields = dict(self.help_fields())
    if not fields:
        return None
    doc = fields.get("Docstring", "")
    return f"{doc}\n\n".lstrip() + f"Call: {fields['Call']}.\nHTTP: {fields['HTTP']}"


Described.__doc__ = property(_documentation)  # type: ignore[assignment]


def service_help(name: str, doc: str | None, apis: Sequence[ApiSpec]) -> str:
    """Return the docstring of a service: that of its class, and what it can be asked."""
    lines = "\n".join(f"  {'async ' if api.is_async else ''}{api.signature}" for api in apis)
    shown = f"{inspect.cleandoc(doc)}\n\n" if doc else ""
    return (
        f"{shown}Apis:\n{lines}\n\n"
        f"Call: `{name}.{apis[0].name}(...)` calls the running service; `{name}.to_async` has the same apis to be "
        f"awaited; `{name}()` makes an instance in this process. HTTP: `{name}.url` with `{name}.token`."
    )


class SourceText:
    """An annotation or default value of a remote api, as its source text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature_of(api: ApiSpec) -> inspect.Signature:
    """Return the signature; its annotations and defaults are `SourceText`, as only their text is known here."""
    try:
        parameters = [_parameter(p) for p in api.params]
    except SyntaxError:  # a default whose text is not Python
        parameters = [_parameter(replace(p, text=p.name), "..." if _may_be_left_out(p) else "") for p in api.params]
    return inspect.Signature(parameters, return_annotation=_source_text(api.returns))


def _shape(api: ApiSpec) -> str:
    """Return the signature without the name."""
    return api.signature[len(api.name) :]


def _may_be_left_out(p: ParamSpec) -> bool:
    return not p.required and not p.kind.startswith("var_")


def _parameter(p: ParamSpec, default: str = "") -> inspect.Parameter:
    definition = ast.parse(f"def api({p.text}): ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    [argument] = filter(None, [*arguments.args, arguments.vararg, arguments.kwarg])
    return inspect.Parameter(
        p.name,
        getattr(inspect.Parameter, p.kind.upper()),
        default=_source_text(default or "".join(map(ast.unparse, arguments.defaults))),
        annotation=_source_text(ast.unparse(argument.annotation) if argument.annotation is not None else ""),
    )


def _source_text(text: str) -> object:
    return SourceText(text) if text else inspect.Parameter.empty
