"""Fingerprint of a service's class: digests of its parts, which `_code/diff.py` compares.

Parts are its methods, class attributes and bases, and the helpers and values of the notebook that its code uses,
directly or not. What is imported from elsewhere counts by its name.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, get_origin

from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose._code.bytecode import Used, attributes_of, attributes_of_self, codes_in, reach_of
from nbcompose._code.captured import Versions, functions_in, is_builtin
from nbcompose._code.dependency_calls import calls_of
from nbcompose._code.diff import Fingerprint, Kind, Part, reached_from
from nbcompose._code.digests import DERIVED, Digester, Large, digest_of, digest_of_code
from nbcompose._code.undefined import Undefined, is_opaque, is_undefined, undefined_in
from nbcompose._rpc import class_key, implementations, is_notebooks
from nbcompose._schema import annotations_of, written_signature
from nbcompose._service import Dependency, Service
from nbcompose._spec import ServiceSpec

ROOTS = (
    "__init__", "__new__", "__post_init__", "__getattr__", "__getattribute__", "__setattr__", "__delattr__",
    "__init_subclass__", "__del__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__",
)  # fmt: skip
GATES = frozenset({"__class__", "__getattribute__", "__getattr__", "__dir__"})  # to any attribute
# Their members say nothing of an instance.
NEUTRAL = frozenset({"builtins", "abc", "typing", "typing_extensions"})
STATELESS = frozenset({"dataclasses", "reprlib"})  # what their functions keep is of one call
# Values that code cannot have changed in place.
FIXED = (int, float, complex, str, bytes, bool, type(None), type, FunctionType, ModuleType, Service)
LIMIT = 16 * 2**20  # bytes; a larger value is compared by content only where the name stands for another object


def fingerprint_of(spec: ServiceSpec, known: Fingerprint | None = None) -> Fingerprint:
    """The meaning of a service's class as it is now.

    `known`, an earlier one, spares the content of large values (`LIMIT`) that are still the same objects: a change in
    place is not seen in those.
    """
    large = Large(LIMIT, known.large if known is not None else {})
    return Walk(spec.cls, large, Versions(spec.cls)).fingerprint(spec)


class Walk:
    """One class, and what it uses."""

    def __init__(self, cls: type[Any], large: Large, versions: Versions) -> None:
        self.cls = cls
        self.large = large
        self._versions = versions
        self.bases = [base for base in cls.__mro__ if base is cls or self.ours(base)]
        self.parts: dict[str, Part] = {}
        self.stores: set[str] = set()
        self._labels = labels_of([base for base in cls.__mro__ if base.__module__ not in NEUTRAL])
        self._members: dict[str, set[str]] = {}  # the parts that an attribute of `self` may be, by its name
        self._used: dict[str, list[Any]] = {}
        self._todo: list[tuple[str, Any]] = []
        self._entered: set[int] = set()  # functions that are being looked at: one may call itself
        self._apart: dict[str, str] = {}  # parts whose code keeps state where a swap would lose it, and where that is
        self._memos: dict[str, str] = {}  # the same, for parts that any call may reach
        self._now = ""  # the part that is being looked at,
        self._method = ""  # and the method of a class, where it is one
        self._codes: dict[CodeType, None] = {}  # all code that has been looked at
        self._lacking: list[tuple[str, str, FunctionType]] = []  # functions with undefined names: part, method

    def fingerprint(self, spec: ServiceSpec) -> Fingerprint:
        self.service()
        roots = frozenset(self.members_called((*ROOTS, *spec.on_startup)))
        return Fingerprint(
            parts=self.parts,
            roots=roots,
            rigid=rigid(spec.cls, self.bases) or self.kept_apart(reached_from(roots, self.parts)),
            stores=frozenset(self.stores),
            calls=tuple(calls_of(spec, self.bases)),
            undefined=tuple(self.undefined(spec)),
            large=self.large.found,
        )

    def globals_of(self, function: FunctionType) -> Mapping[str, Any]:
        return function.__globals__

    def names_around(self) -> Mapping[str, Any]:
        """The names of the class's module."""
        return vars(sys.modules.get(self.cls.__module__, ModuleType("")))

    def ours(self, thing: Any) -> bool:
        return is_notebooks(thing) or getattr(thing, "__module__", None) == self.cls.__module__

    def members_called(self, names: tuple[str, ...]) -> Iterator[str]:
        for name in names:
            yield from self._members.get(name, ())

    def kept_apart(self, reached: Mapping[str, str]) -> str:
        """Where state is, other than in the instance; "" where it has it all."""
        apart = {n: where for n, where in self._apart.items() if n in reached} | self._memos
        return next((f"{name} {where}" for name, where in apart.items()), "")

    def undefined(self, spec: ServiceSpec) -> Iterator[Undefined]:
        """The names that nothing defines, in code that the service's apis and hooks may reach."""
        if not self._lacking:
            return
        if is_opaque(self._codes):
            return
        named = {name for code in self._codes for inner in codes_in(code) for name in inner.co_names}
        called = {*(a.method for a in spec.apis), *spec.on_startup, *spec.on_shutdown, *ROOTS}
        reached = reached_from(frozenset(self.members_called(tuple(called))), self.parts)
        for part, method, function in self._lacking:
            is_called = not method or method in called | named or method.startswith("__")
            if part in reached and is_called:
                yield from undefined_in(function, frozenset(self.stores))

    def service(self) -> None:
        """Take in the class itself, and then what it uses."""
        for base, label in self._labels.items():
            for name in vars(base):
                self._members.setdefault(name, set()).add(f"{label}.{name}")
        for base, label in self._labels.items():
            if base in self.bases:
                self._class(base, label)
            else:
                self._library_class(base, label)
        while self._todo:
            self._method = ""
            self._now, value = self._todo.pop(0)
            self._add(self._now, self._part(self._now, value))

    def _add(self, name: str, part: Part) -> None:
        """Two things of one name (of two modules, say) are one part: it changes when either does."""
        if (before := self.parts.get(name)) is not None:
            identity = " ".join(filter(None, (before.identity, part.identity)))
            part = Part(before.kind, f"{before.digest} {part.digest}", before.uses | part.uses, identity)
        self.parts[name] = part

    # -- the service's own class, and those that it extends

    def _class(self, base: type[Any], label: str) -> None:
        shape = (
            [f"{b.__module__}.{b.__qualname__}" for b in base.__bases__],
            [text_of(b) for b in vars(base).get("__orig_bases__", ())],
            vars(base).get("__slots__"),
            f"{type(base).__module__}.{type(base).__qualname__}",
        )
        self._add(label, Part("class", digest_of(shape)))
        for name, member in vars(base).items():
            if name not in DERIVED and name != "__annotations__":
                self._now = f"{label}.{name}"
                self._add(self._now, self._member(name, member))
        if annotations := annotations_of(base):
            self._now = f"{label}.__annotations__"
            uses: set[str] = set()
            self._add(
                self._now, Part("method", digest_of({k: self._annotation(v, uses) for k, v in annotations.items()}))
            )

    def _library_class(self, base: type[Any], label: str) -> None:
        """Code that is imported does not change, but it may call what the class has overridden."""
        for name, member in vars(base).items():
            uses: set[str] = set()
            for function in functions_in(member) if not isinstance(member, staticmethod) else ():
                self._reach_members(function, uses)
            if uses:
                self._add(f"{label}.{name}", Part("method", "", frozenset(uses)))

    def _member(self, name: str, member: Any) -> Part:
        functions = list(functions_in(member))
        uses: set[str] = set()
        self._method = name
        if name == "__doc__":
            return Part("method", digest_of(member))
        if not functions:
            if isinstance(member, type) and self.ours(member):
                return self._type(member, "attribute")
            return self._value(member, "attribute")
        bound = name == "__new__" or not isinstance(member, staticmethod)
        digests = [shell_of(member)]
        for function in functions:
            digests.append(self._function(function, uses, bound=bound, said=name not in ROOTS))
        if isinstance(member, classmethod):
            code = functions[-1].__code__
            self._note_stores(self.cls, reach_of(code).variables, code.co_varnames[0] if code.co_argcount else "")
        # The value of a cached property is in the instance, where new code would find it.
        kept = isinstance(member, functools.cached_property)
        return Part("attribute" if kept else "method", digest_of(digests), frozenset(uses))

    # -- functions, and what they use

    def _function(self, function: FunctionType, uses: set[str], bound: bool = False, said: bool = True) -> str:
        """The digest of a function's own code; adds to `uses` what else it may reach, and sees that it is looked at.

        `bound`: its first argument is the instance. `said`: its docstring counts.
        """
        if id(function) in self._entered:
            return "itself"
        self._entered.add(id(function))
        try:
            inner = self._globals_and_cells(function, uses, bound)
        finally:
            self._entered.discard(id(function))
        if bound:
            self._reach_members(function, uses)
        signature = written_signature(function, follow_wrapped=False)
        defaults = [self._default(p.default, uses) for p in signature.parameters.values()]
        space = self.globals_of(function)
        annotations = {k: self._annotation(v, uses, space) for k, v in annotations_of(function).items()}
        attributes = {k: v for k, v in vars(function).items() if k != "__wrapped__"}
        doc = function.__doc__ if said else None
        code = digest_of_code(function.__code__)
        return digest_of([code, defaults, annotations, self._digest(attributes), doc, inner])

    def _globals_and_cells(self, function: FunctionType, uses: set[str], bound: bool) -> list[str]:
        reach, space = reach_of(function.__code__), self.globals_of(function)
        self.stores.update(reach.stores)
        self._codes[function.__code__] = None
        if any(is_undefined(name, space) for name in reach.names):
            self._lacking.append((self._now, self._method, function))
        if reach.rebinds:
            self._apart[self._now] = f"keeps {', '.join(sorted(reach.rebinds))} outside of the instance"
        for name in reach.names:
            if name in space and not is_builtin(name, space[name]):
                value = space[name]
                uses.add(self._use(name, value))
                self._through(function, name, value, uses)
        inner = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not filled yet
                inner.append("empty")
                continue
            self._through(function, name, value, uses)
            inner.append(self._cell(function, name, value, uses, bound))
        return inner

    def _reach_members(self, function: FunctionType, uses: set[str]) -> None:
        own = attributes_of_self(function.__code__)
        if own is None or own & GATES:
            own = frozenset(self._members)
        uses.update(self.members_called(tuple(own)))

    def _through(self, function: FunctionType, name: str, value: Any, uses: set[str]) -> None:
        """What code reaches by the name of a class or function: `Answer.load()`, `helper.cache = ...`."""
        value = self._meant(value)
        variables = reach_of(function.__code__).variables
        if isinstance(value, type) and value in self.bases:
            own = attributes_of(function.__code__, name)
            uses.update(self.members_called(tuple(self._members if own is None else own)))
        if isinstance(value, type | FunctionType) and self.ours(value):
            self._note_stores(value, variables, name)

    def _note_stores(self, thing: Any, variables: Mapping[str, Used], name: str) -> None:
        used = variables.get(name)
        stored = used.stored if used is not None else set()
        declared = self._members if thing in self.bases else {}
        if lost := sorted(stored - declared.keys()):
            self._apart[self._now] = f"sets {thing.__name__}.{lost[0]}, which is outside of the instance"

    def _cell(self, function: FunctionType, name: str, value: Any, uses: set[str], bound: bool) -> str:
        """The digest of a variable of an enclosing function."""
        if isinstance(value, type) and value in self.bases:
            return "the class itself"
        if isinstance(value, FunctionType) and self.ours(value):
            return self._function(value, uses, bound=bound)  # what a decorator has wrapped
        if isinstance(value, type) and self.ours(value):
            return self._use(value.__name__, value)
        if not isinstance(value, FIXED) and function.__globals__.get("__name__") not in STATELESS:
            self._apart[self._now] = f"uses {name}, which is outside of the instance"
        part = self._value(value, "value")
        return f"{part.digest} {part.identity}"

    def _default(self, value: Any, uses: set[str]) -> str:
        if isinstance(value, FunctionType | type) and self.ours(value):
            uses.add(self._use(value.__name__, value))
            return str(value.__qualname__)
        if isinstance(value, dict | list | set):
            self._memos[self._now] = "has a default that may change, which is outside of the instance"
        return self._digest(value)

    def _annotation(self, annotation: Any, uses: set[str], space: Mapping[str, Any] | None = None) -> str:
        """The text of an annotation; the notebook's classes in it are looked at, too."""
        if space is None:
            space = self.names_around()
        for found in map(self._versions.newest, types_in(annotation, space)):
            if self.ours(found) and found is not self.cls:
                uses.add(self._use(found.__name__, found))
        if isinstance(annotation, str):
            return annotation
        said = list(metadata_in(annotation))
        return f"{text_of(annotation)} {self._digest(said) if said else ''}"

    # -- what they use

    def _use(self, name: str, value: Any) -> str:
        """Note that a value is used under a name of the notebook; returns the name of its part."""
        value = self._versions.newest(self._meant(value))
        if isinstance(value, type) and value in self.bases:
            return self._labels[value]
        values = self._used.setdefault(name, [])
        if not any(known is value for known in values):
            values.append(value)
            self._todo.append((name, value))
        return name

    def _meant(self, value: Any) -> Any:
        """Once its cell has run, the name of the class stands for the service."""
        return value.spec.cls if isinstance(value, Service) and value.spec.cls is self.cls else value

    def _part(self, name: str, value: Any) -> Part:
        if isinstance(value, functools._lru_cache_wrapper) and isinstance(value.__wrapped__, FunctionType):
            part = self._part(name, value.__wrapped__)
            return Part("function", digest_of([part.digest, value.cache_parameters()]), part.uses)
        if isinstance(value, ModuleType):
            return Part("module", value.__name__)
        if isinstance(value, Service | Dependency):
            return Part("value", f"{type(value).__name__} {value.name if isinstance(value, Service) else value!r}")
        if isinstance(value, FunctionType) and self.ours(value):
            uses: set[str] = set()
            functions = list(functions_in(value))
            digests = [shell_of(value), *(self._function(f, uses) for f in functions)]
            return Part("function", digest_of(digests), frozenset(uses))
        if isinstance(value, type) and self.ours(value):
            return self._type(value, "type")
        return self._value(value, "value")

    def _type(self, cls: type[Any], kind: Kind) -> Part:
        """A class that is no service: its digest has all of it, and what its methods use besides."""
        uses: set[str] = set()
        for base in cls.__mro__:
            if self.ours(base) and base not in self.bases:
                for self._method, member in list(vars(base).items()):
                    for function in functions_in(member):
                        self._globals_and_cells(function, uses, bound=False)
                for annotation in annotations_of(base).values():
                    self._annotation(annotation, uses)
        digester = self._digester()
        digest = digester.digest(cls, flat=True)
        return Part(kind, digest, frozenset(uses), " ".join(sorted({*digester.classes, class_key(cls)})))

    # -- values

    def _digester(self) -> Digester:
        return Digester(self.ours, tuple(self.bases), self.large, versions=self._versions)

    def _digest(self, value: Any) -> str:
        return self._value(value, "value").digest

    def _value(self, value: Any, kind: Kind) -> Part:
        if isinstance(value, type | FunctionType) and not self.ours(value):
            return Part(kind, f"{value.__module__}.{value.__qualname__}")
        digester = self._digester()
        digest = digester.digest(value)
        return Part(kind, digest, identity=" ".join(sorted(digester.classes)))


# -- what is said of a class, a member, an annotation


class _Plain:
    """How large an instance is whose state is all in its `__dict__`."""


def rigid(cls: type[Any], bases: Sequence[type[Any]]) -> str:
    """Why instances of a class, one that has these bases of the notebook, cannot be given new code; "" if they can."""
    if any("__slots__" in vars(base) for base in bases):
        return f"{cls.__name__} has __slots__, and keeps its state there"
    if (cls.__basicsize__, cls.__itemsize__) != (_Plain.__basicsize__, _Plain.__itemsize__):
        return f"{cls.__name__} extends a type that keeps its state outside of __dict__"
    if type(cls).__module__ not in ("builtins", "abc"):
        return f"{cls.__name__} has the metaclass {type(cls).__name__}"
    return ""


def labels_of(classes: list[type[Any]]) -> dict[type[Any], str]:
    """A name for each class; a base may be called like what extends it."""
    found: dict[type[Any], str] = {}
    for cls in classes:
        label = cls.__qualname__
        while label in found.values():
            label = f"the former {label}"
        found[cls] = label
    return found


def shell_of(member: Any) -> str:
    """What a member is besides the functions in it."""
    parts: list[Any] = [type(member).__qualname__]
    if isinstance(member, property):
        parts += [member.fget is None, member.fset is None, member.fdel is None, member.__doc__]
    elif isinstance(member, functools.partialmethod):
        parts += [member.args, member.keywords]
    elif isinstance(member, functools._lru_cache_wrapper):
        parts.append(member.cache_parameters())
    elif (by_type := implementations(member)) is not None:
        parts.append([text_of(cls) for cls in by_type])
    return digest_of(parts)


def text_of(thing: Any) -> str:
    """The annotation as a person would write it: equal for a class that was defined again."""
    return re.sub(r" at 0x[0-9a-f]+", "", inspect.formatannotation(thing))


def metadata_in(annotation: Any) -> Iterator[Any]:
    """What `Annotated` says besides a type."""
    yield from getattr(annotation, "__metadata__", ())
    for part in getattr(annotation, "__args__", ()):
        yield from metadata_in(part)


def types_in(annotation: Any, space: Mapping[str, Any]) -> Iterator[Any]:
    """The classes, new types and aliases that an annotation names."""
    named = get_origin(annotation) if is_typealiastype(get_origin(annotation)) else annotation
    if isinstance(named, type) or is_newtype(named) or is_typealiastype(named):
        yield named
    if isinstance(annotation, str):
        try:
            names = compile(annotation, "<annotation>", "eval").co_names
        except SyntaxError:
            return
        yield from (space[name] for name in names if isinstance(space.get(name), type))
    for part in getattr(annotation, "__args__", ()):
        yield from types_in(part, space)
