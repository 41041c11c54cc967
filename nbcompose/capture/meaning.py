"""What a service's class means, part by part: what plan.py compares.

Its methods, its class attributes and bases, and, followed through the notebook's own functions and classes, the helpers
and values that its code uses. What is imported from elsewhere counts by its name.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from nbcompose.capture.calls import calls_of
from nbcompose.capture.captured import functions_in, is_notebooks
from nbcompose.capture.digests import TooLarge, digest_of, identity_of
from nbcompose.capture.reach import attributes_of_self, globals_of, stores_of
from nbcompose.declaration import Dependency, Service
from nbcompose.plan import Meaning, Part
from nbcompose.spec import ServiceSpec

LIMIT = 16 * 2**20  # bytes; a larger value is compared by content only where the name stands for another object

_ROOTS = (
    "__init__", "__new__", "__post_init__", "__getattr__", "__getattribute__", "__setattr__", "__delattr__",
    "__init_subclass__", "__del__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__",
)  # fmt: skip
# What Python itself puts into a class.
_DERIVED = frozenset({
    "__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__abstractmethods__", "_abc_impl",
    "__parameters__", "__orig_bases__", "__annotate__", "__annotate_func__", "__annotations_cache__",
})  # fmt: skip

Ours = Callable[[Any], bool]


class _Plain:
    """How large an instance is whose state is all in its `__dict__`."""


def meaning_of(spec: ServiceSpec, known: Meaning | None = None) -> Meaning:
    """The meaning of a service's class as it is now.

    `known`, an earlier one, spares the content of large values (`LIMIT`) that are still the same objects: a change in
    place is not seen in those.
    """
    walk = _Walk(spec.cls, known)
    walk.service()
    return Meaning(
        parts=walk.parts,
        roots=frozenset(walk.roots(spec.on_startup)),
        rigid=_rigid(spec.cls, walk.ours),
        stores=frozenset(walk.stores),
        calls=tuple(calls_of(spec, walk.bases)),
        large=walk.large,
    )


def _rigid(cls: type[Any], ours: Ours) -> str:
    """Why instances of a class cannot be given new code."""
    if any("__slots__" in vars(base) for base in cls.__mro__ if ours(base) or base is cls):
        return f"{cls.__name__} has __slots__, and keeps its state there"
    if (cls.__basicsize__, cls.__itemsize__) != (_Plain.__basicsize__, _Plain.__itemsize__):
        return f"{cls.__name__} extends a type that keeps its state outside of __dict__"
    if type(cls).__module__ not in ("builtins", "abc"):
        return f"{cls.__name__} has the metaclass {type(cls).__name__}"
    return ""


class _Walk:
    """One class, and what it uses."""

    def __init__(self, cls: type[Any], known: Meaning | None) -> None:
        self.cls = cls
        self.bases = [base for base in cls.__mro__ if base is cls or self.ours(base)]
        self.parts: dict[str, Part] = {}
        self.stores: set[str] = set()
        self.large: dict[str, Any] = {}
        self._known = known
        self._todo: list[tuple[str, Any]] = []
        self._members: dict[str, set[str]] = {}  # the parts that an attribute of `self` may be, by its name

    def ours(self, thing: Any) -> bool:
        return is_notebooks(thing) or getattr(thing, "__module__", None) == self.cls.__module__

    def roots(self, hooks: tuple[str, ...]) -> Iterator[str]:
        for name in (*_ROOTS, *hooks):
            yield from self._members.get(name, ())

    def service(self) -> None:
        """Take in the class itself, and then what it uses."""
        for base in self.bases:
            for name in vars(base):
                self._members.setdefault(name, set()).add(f"{base.__qualname__}.{name}")
        for base in self.bases:
            self._class(base)
        while self._todo:
            name, value = self._todo.pop(0)
            if name not in self.parts:
                self.parts[name] = self._part(name, value)

    # -- the service's own class, and those of the notebook that it extends

    def _class(self, base: type[Any]) -> None:
        shape = (
            [f"{b.__module__}.{b.__qualname__}" for b in base.__bases__],
            repr(vars(base).get("__orig_bases__")),
            vars(base).get("__slots__"),
            f"{type(base).__module__}.{type(base).__qualname__}",
        )
        self.parts[base.__qualname__] = Part("class", digest_of(shape))
        for name, member in vars(base).items():
            if name not in _DERIVED:
                self.parts[f"{base.__qualname__}.{name}"] = self._member(name, member)

    def _member(self, name: str, member: Any) -> Part:
        functions = list(functions_in(member))
        if not functions:
            if name == "__annotations__":
                return Part("method", digest_of({k: _text(v) for k, v in member.items()}))
            return Part("method" if name == "__doc__" else "attribute", self._digest(name, member))
        uses: set[str] = set()
        digests = [type(member).__qualname__]
        for function in functions:
            digests.append(self._function(function, uses))
        # The value of a cached property is in the instance, where new code would find it.
        kept = isinstance(member, functools.cached_property)
        return Part("attribute" if kept else "method", digest_of(digests), frozenset(uses))

    # -- functions, and what they use

    def _function(self, function: FunctionType, uses: set[str]) -> str:
        """The digest of a function's own code; adds to `uses` what else it may reach, and sees that it is looked at."""
        code = function.__code__
        for name in dict.fromkeys(globals_of(code)):
            if name in function.__globals__:
                uses.add(self._use(name, function.__globals__[name]))
        self.stores.update(stores_of(code))
        own = attributes_of_self(code)
        for name in self._members if own is None else own:
            uses |= self._members.get(name, set())
        inner = []
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            inner.append(self._cell(name, cell, uses))
        signature = inspect.signature(function, follow_wrapped=False)
        for parameter in signature.parameters.values():
            if self.ours(parameter.default) and isinstance(parameter.default, FunctionType | type):
                uses.add(self._use(parameter.default.__name__, parameter.default))
        for annotation in function.__annotations__.values():
            uses.update(self._use(t.__name__, t) for t in _types_in(annotation) if self.ours(t) and t is not self.cls)
        attributes = {k: v for k, v in vars(function).items() if k != "__wrapped__"}
        own_parts = (
            code, [_text(p.default) if self.ours(p.default) else p.default for p in signature.parameters.values()],
            {k: _text(v) for k, v in function.__annotations__.items()}, attributes, function.__doc__, inner,
        )  # fmt: skip
        return digest_of(own_parts)

    def _cell(self, name: str, cell: Any, uses: set[str]) -> str:
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            return "empty"
        if isinstance(value, type) and value in self.bases:
            return "the class itself"
        if isinstance(value, FunctionType) and self.ours(value):
            return self._function(value, uses)
        return self._digest(name, value)

    def _use(self, name: str, value: Any) -> str:
        """Note that a value is used under a name of the notebook; returns the name of its part."""
        # Once its cell has run, the name of the class stands for the service.
        value = value.inner if isinstance(value, Service) and value.inner is self.cls else value
        if isinstance(value, type) and value in self.bases:
            return str(value.__qualname__)
        self._todo.append((name, value))
        return name

    def _part(self, name: str, value: Any) -> Part:
        if isinstance(value, ModuleType):
            return Part("module", value.__name__)
        if isinstance(value, Service | Dependency):
            return Part("value", repr(type(value).__name__) + getattr(value, "name", repr(value)))
        if isinstance(value, FunctionType) and self.ours(value):
            uses: set[str] = set()
            return Part("function", self._function(value, uses), frozenset(uses))
        if isinstance(value, type) and self.ours(value):
            return self._type(value)
        return Part("value", self._digest(name, value))

    def _type(self, cls: type[Any]) -> Part:
        """A class that is no service: its digest has all of it, and what its methods use besides."""
        uses: set[str] = set()
        for base in cls.__mro__:
            if self.ours(base):
                for member in vars(base).values():
                    for function in functions_in(member):
                        names = dict.fromkeys(globals_of(function.__code__))
                        space = function.__globals__
                        uses.update(self._use(n, space[n]) for n in names if n in space and space[n] is not cls)
                        self.stores.update(stores_of(function.__code__))
        return Part("type", digest_of(cls), frozenset(uses), identity_of(cls))

    # -- values

    def _digest(self, name: str, value: Any) -> str:
        """By content; a large one that is the object it was has the digest that it had."""
        if isinstance(value, type | FunctionType) and not self.ours(value):
            return f"{value.__module__}.{value.__qualname__}"
        before = self._known.parts.get(name) if self._known is not None else None
        limit = LIMIT if before is not None else None
        try:
            digest = digest_of(value, limit)
        except TooLarge:
            assert before is not None
            assert self._known is not None
            same = self._known.large.get(name)
            digest = before.digest if same is not None and same() is value else digest_of(value)
        if _is_large(value):
            with contextlib.suppress(TypeError):  # text, bytes: looked at each time
                self.large[name] = weakref.ref(value)
        return digest


def _is_large(value: Any) -> bool:
    return isinstance(getattr(value, "nbytes", None), int) and value.nbytes > LIMIT


def _text(thing: Any) -> str:
    """What a person would write: equal for a class that was made anew."""
    return inspect.formatannotation(thing)


def _types_in(annotation: Any) -> Iterator[type[Any]]:
    if isinstance(annotation, type):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _types_in(part)
