"""The types that an api declares: its resolved annotations, with every mistake in them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from nbcompose._schema import adapters, hints
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
