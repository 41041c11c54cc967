"""The resolved signature of an api, with every mistake in it (`Declared`); arguments to parameters and back
(`Binding`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from nbcompose._schema import adapters, errors, hints
from nbcompose._schema.adapters import Adapter, adapter_of, stream_item
from nbcompose._schema.hints import written_signature
from nbcompose._spec import ApiSpec
from nbcompose.errors import DeclarationError, Mistake

# Errors of pydantic, or of an annotation that is evaluated late, for a type that cannot be handled.
UNUSABLE = (PydanticUserError, PydanticUndefinedAnnotation, SchemaError, NameError, TypeError)


@dataclass(frozen=True)
class Declared:
    """The types of one api. `result` is that of an item if the api yields; a missing annotation is Any.

    `defaults` are those of the signature, including that of a `Field(default)`. Default factories, called for each
    call, are in the annotation only.
    """

    label: str
    params: dict[str, Any]
    result: Any
    defaults: dict[str, Any]
    file: str
    line: int

    @classmethod
    def read(cls, owner: type, spec: ApiSpec) -> Declared:
        """Resolve the annotations of `owner.<method>`. Raises DeclarationError for names that do not exist."""
        method = inspect.unwrap(getattr(owner, spec.method))
        found, errors = hints.of_function(method, owner)
        label, (file, line) = f"{owner.__name__}.{spec.name}", _where(method)
        mistakes = [Mistake(_unresolved(label, name, error), file, line) for name, error in errors.items()]
        result = found.get("return", Any)
        if spec.stream:
            try:
                result = stream_item(result)
            except LookupError:
                message = f"{label} yields, so it returns no {spec.returns or result}: write `-> Iterator[...]`"
                mistakes.append(Mistake(f"{message}, or `-> AsyncIterator[...]` where it is async", file, line))
        if mistakes:
            raise DeclarationError(f"{label} has annotations that cannot be used:", mistakes)
        signature = written_signature(method).parameters
        misused = {name: adapters.misused(p.default, found.get(name, Any)) for name, p in signature.items()}
        if any(misused.values()):
            mistakes = [Mistake(f"{label}: `{name}`: {text}", file, line) for name, text in misused.items() if text]
            raise DeclarationError(f"{label} has parameters that cannot be used:", mistakes)
        params = {p.name: _collected(p.kind, found.get(p.name, Any)) for p in spec.params}
        plain = {n: p.default for n, p in signature.items() if p.default is not p.empty}
        defaults = {n: default for n, default in plain.items() if not isinstance(default, FieldInfo)}
        return cls(label, params, result, defaults, file, line)

    def explain(self, error: Exception) -> DeclarationError:
        """Return the error for types that were found but cannot be handled, by trying each annotation alone."""
        mistakes = [Mistake(message, self.file, self.line) for message in self._unusable()]
        if not mistakes:  # each annotation alone can be handled
            mistakes = [Mistake(_first_line(error), self.file, self.line)]
        return DeclarationError(f"{self.label} has annotations that cannot be used:", mistakes)

    def _unusable(self) -> Iterator[str]:
        for name, annotation in [*self.params.items(), ("return", self.result)]:
            try:
                adapter_of(Adapter(over_http=False).adapt(annotation))
            except UNUSABLE as error:
                yield _unresolved(self.label, name, error)


def _collected(kind: str, annotation: Any) -> Any:
    """The type of a parameter as a whole: a tuple for `*args: T`, a dict for `**kwargs: T`."""
    if kind == "var_positional":
        return tuple[annotation, ...]
    return dict[str, annotation] if kind == "var_keyword" else annotation


def _unresolved(label: str, name: str, error: Exception) -> str:
    what = f"{label}: the annotation of {'its result' if name == 'return' else f'`{name}`'}"
    if isinstance(error, (NameError, PydanticUndefinedAnnotation)):
        return (
            f"{what} names `{error.name}`, which does not exist when the service runs: import or define it at the top "
            "level of the module or notebook, not under `if TYPE_CHECKING:` or in a function, or leave it out"
        )
    return f"{what} cannot be used: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _where(method: Callable[..., Any]) -> tuple[str, int]:
    code = getattr(method, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)


class Binding:
    """Maps positional and keyword arguments of one api to a dict by parameter name, and back. `*args` and `**kwargs`
    stay one entry each.
    """

    __slots__ = (
        "_by_keyword",
        "_count",
        "_defaults",
        "_is_plain",
        "_label",
        "_passed_by_position",
        "_positional",
        "_required",
        "_spec",
        "_var_keyword",
        "_var_positional",
    )

    def __init__(self, label: str, spec: ApiSpec, defaults: Mapping[str, Any]) -> None:
        kinds = {p.name: p.kind for p in spec.params}
        self._label = label
        self._spec = spec
        self._defaults = defaults
        self._positional = tuple(n for n, k in kinds.items() if k in ("positional_only", "positional_or_keyword"))
        self._by_keyword = frozenset(n for n, k in kinds.items() if k in ("keyword_only", "positional_or_keyword"))
        self._required = frozenset(p.name for p in spec.params if p.required)
        self._var_positional = next((n for n, k in kinds.items() if k == "var_positional"), None)
        self._var_keyword = next((n for n, k in kinds.items() if k == "var_keyword"), None)
        self._count = len(kinds)
        # Whether every argument can be passed to the method by name.
        self._is_plain = len(self._by_keyword) == self._count
        self._passed_by_position = tuple(
            n for n in self._positional if self._var_positional or kinds[n] == "positional_only"
        )

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by parameter name. Raises InvalidArgument for what does not fit the signature.

        Extra positional arguments are under the name of `*args`, extra keywords under that of `**kwargs`.
        """
        if len(args) <= len(self._positional) and kwargs.keys() <= self._by_keyword:
            bound = dict(zip(self._positional, args, strict=False))
            if kwargs:
                if not bound.keys().isdisjoint(kwargs):
                    raise errors.doubled(self._label, sorted(bound.keys() & kwargs.keys()), self._spec.signature)
                bound.update(kwargs)
            if len(bound) == self._count or self._required <= bound.keys():
                return bound
        return self._bind_rest(args, kwargs)

    def _bind_rest(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Handle the uncommon cases: `*args`, `**kwargs`, and mistakes."""
        signature, most = self._spec.signature, len(self._positional)
        if len(args) > most and self._var_positional is None:
            raise errors.too_many(self._label, len(args), most, signature)
        bound = dict(zip(self._positional, args, strict=False))
        rest = {name: value for name, value in kwargs.items() if name not in self._by_keyword}
        if rest and self._var_keyword is None:
            raise errors.unknown(self._label, sorted(rest), signature)
        named = {name: value for name, value in kwargs.items() if name in self._by_keyword}
        if bound.keys() & named.keys():
            raise errors.doubled(self._label, sorted(bound.keys() & named.keys()), signature)
        bound.update(named)
        if self._required - bound.keys():
            raise errors.missing(self._label, [n for n in self._order() if n not in bound], signature)
        if self._var_positional is not None and len(args) > most:
            bound[self._var_positional] = tuple(args[most:])
        if self._var_keyword is not None and rest:
            bound[self._var_keyword] = rest
        return bound

    def _order(self) -> list[str]:
        return [p.name for p in self._spec.params if p.name in self._required]

    def call_arguments(self, arguments: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`(args, kwargs)` to call the method with, whatever the kinds of its parameters."""
        if self._is_plain:
            return (), arguments
        rest = dict(arguments)
        extra = rest.pop(self._var_positional, ()) if self._var_positional is not None else ()
        more = rest.pop(self._var_keyword, {}) if self._var_keyword is not None else {}
        given = [i for i, name in enumerate(self._passed_by_position) if name in rest]
        # Positional arguments cannot have gaps: fill a gap with the parameter's own default.
        upto = len(self._passed_by_position) if extra else (given[-1] + 1 if given else 0)
        args = [rest.pop(name) if name in rest else self._defaults[name] for name in self._passed_by_position[:upto]]
        return (*args, *extra), {**rest, **more}
