"""`Binding`: which argument belongs to which parameter, in both directions, without looking at the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbcompose.schema import problems
from nbcompose.spec import ApiSpec


class Binding:
    """Positional and keyword arguments of one api <-> a dict by parameter name. `*args` and `**kwargs` keep theirs."""

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
        # Whether every argument may be passed to the method by name.
        self._is_plain = len(self._by_keyword) == self._count
        self._passed_by_position = tuple(
            n for n in self._positional if self._var_positional or kinds[n] == "positional_only"
        )

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name. Raises InvalidArgument for what does not fit the signature."""
        if len(args) <= len(self._positional) and kwargs.keys() <= self._by_keyword:
            bound = dict(zip(self._positional, args, strict=False))
            if kwargs:
                if not bound.keys().isdisjoint(kwargs):
                    raise problems.doubled(self._label, sorted(bound.keys() & kwargs.keys()), self._spec.signature)
                bound.update(kwargs)
            if len(bound) == self._count or self._required <= bound.keys():
                return bound
        return self._bind_rest(args, kwargs)

    def _bind_rest(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that is not common: `*args`, `**kwargs`, and mistakes."""
        signature, most = self._spec.signature, len(self._positional)
        if len(args) > most and self._var_positional is None:
            raise problems.too_many(self._label, len(args), most, signature)
        bound = dict(zip(self._positional, args, strict=False))
        rest = {name: value for name, value in kwargs.items() if name not in self._by_keyword}
        if rest and self._var_keyword is None:
            raise problems.unknown(self._label, sorted(rest), signature)
        named = {name: value for name, value in kwargs.items() if name in self._by_keyword}
        if bound.keys() & named.keys():
            raise problems.doubled(self._label, sorted(bound.keys() & named.keys()), signature)
        bound.update(named)
        if self._required - bound.keys():
            raise problems.missing(self._label, [n for n in self._order() if n not in bound], signature)
        if self._var_positional is not None and len(args) > most:
            bound[self._var_positional] = tuple(args[most:])
        if self._var_keyword is not None and rest:
            bound[self._var_keyword] = rest
        return bound

    def _order(self) -> list[str]:
        return [p.name for p in self._spec.params if p.name in self._required]

    def call_arguments(self, arguments: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What to call the method with, `(args, kwargs)`."""
        if self._is_plain:
            return (), arguments
        rest = dict(arguments)
        extra = rest.pop(self._var_positional, ()) if self._var_positional is not None else ()
        more = rest.pop(self._var_keyword, {}) if self._var_keyword is not None else {}
        given = [i for i, name in enumerate(self._passed_by_position) if name in rest]
        # What is passed by position has no gaps: a gap is filled with the parameter's own default.
        upto = len(self._passed_by_position) if extra else (given[-1] + 1 if given else 0)
        args = [rest.pop(name) if name in rest else self._defaults[name] for name in self._passed_by_position[:upto]]
        return (*args, *extra), {**rest, **more}
