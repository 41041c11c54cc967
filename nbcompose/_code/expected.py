"""Fingerprint that a class will have when its cell runs: of a class that was read from the text, among the notebook's
values as they are.

It is taken on another thread than the one that runs cells, so it is taken of values that stay as they are meanwhile:
while a cell runs, of those that cannot change in place. Where it could differ from the fingerprint that the cell's run
takes, it raises `CannotTell`.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from nbcompose._code.bytecode import codes_in, globals_of
from nbcompose._code.captured import Outdated, Versions, functions_in, functions_of
from nbcompose._code.diff import Fingerprint, Part
from nbcompose._code.digests import DERIVED, Budget, CannotTell, Digester, Large
from nbcompose._code.fingerprint import LIMIT, Walk
from nbcompose._rpc import is_notebooks
from nbcompose._schema import renew
from nbcompose._service import Dependency, Service
from nbcompose._spec import ServiceSpec

SECONDS = 0.5  # that comparing the values of one class may take
SCALARS = frozenset({bool, int, float, complex, str, bytes, type(None), type(...)})
_CONSTANT = (ModuleType, BuiltinFunctionType, Service, Dependency)


@dataclass(frozen=True, slots=True)
class Around:
    """The notebook around classes that were read from a cell.

    `main`: its names as they are; `space`: as they will be when the cell has run, of which `made` are those that the
    cell binds. `busy`: a cell runs, so values may change at any time.
    """

    main: Mapping[str, Any]
    space: Mapping[str, Any]
    made: Mapping[str, Any]
    busy: bool = False


def expected_fingerprint(spec: ServiceSpec, around: Around) -> Fingerprint:
    """Return the fingerprint that the service gets when its cell runs now. Raises `CannotTell`."""
    versions = _Versions(spec.cls, around.space)
    for api in spec.apis:  # as `deployment_of` does
        renew(getattr(spec.cls, api.method), versions.newest)
    return _Walk(spec.cls, around, versions).fingerprint(spec)


class _Versions(Versions):
    """Classes of which two versions are in use are not compared."""

    def differs(self, thing: Any) -> bool:
        if self.newest(thing) is not thing:
            raise CannotTell(f"it uses {thing.__name__} as it was before the cell of {thing.__name__} was run again")
        return False


class _Digester(Digester):
    """Makes digests that are equal to those of the cell's run, or none."""

    def digest(self, value: Any, flat: bool = False) -> str:
        found = self.told(value, flat)
        if found is None:
            raise CannotTell(f"it uses a value that cannot be compared, or not in {SECONDS:g} s")
        return found


class _Walk(Walk):
    def __init__(self, cls: type[Any], around: Around, versions: _Versions) -> None:
        self._around = around
        self._budget = Budget(SECONDS)
        self._redefined = {n: value for n, value in around.made.items() if around.main.get(n, self) is not value}
        self._read = {id(value) for value in around.made.values()}
        super().__init__(cls, Large(LIMIT, {}, self._digester_of_large), versions)

    def globals_of(self, function: FunctionType) -> Mapping[str, Any]:
        space: Mapping[str, Any] = function.__globals__
        return self._around.space if space is self._around.main else space

    def names_around(self) -> Mapping[str, Any]:
        return self._around.space

    def _part(self, name: str, value: Any) -> Part:
        if self._around.busy and id(value) not in self._read and not _is_fixed(value, set()):
            raise CannotTell(f"a cell runs, and may change {name}")
        return super()._part(name, value)

    def _digester(self) -> Digester:
        return _Digester(
            self.ours, tuple(self.bases), self.large, budget=self._budget, versions=self._versions, watch=self._watch
        )

    def _digester_of_large(self, value: Any) -> Digester:
        return _Digester(whole=value, budget=self._budget, watch=self._watch)

    def _watch(self, thing: Any) -> None:
        """Raise `CannotTell` for what is in a value and depends on names that the cell binds anew, or cannot be sent to
        a replica.
        """
        cls = thing if issubclass(type(thing), type) else type(thing)
        first = getattr(cls, "__qualname__", "").partition(".")[0]
        if getattr(cls, "__module__", "") == "__main__" and first in self._redefined and id(cls) not in self._read:
            raise CannotTell(f"it uses a value of the {first} that the cell defines anew")
        if type(thing) is FunctionType and thing.__globals__ is self._around.main:
            for name in globals_of(thing.__code__):
                if name in self._redefined:
                    raise CannotTell(f"it uses a value with {thing.__name__} in it, which uses {name}")
        try:
            if cls is thing:
                self._versions.check(cls)
            else:
                self._versions.differs(cls)
        except Outdated as error:
            raise CannotTell(f"it uses {cls.__name__}, which {error}") from None


def _is_fixed(value: Any, seen: set[int]) -> bool:
    """Whether a value of the notebook cannot change in place, as far as its digest has it."""
    if id(value) in seen or type(value) in SCALARS:
        return True
    seen.add(id(value))
    kind = type(value)
    if kind in (tuple, frozenset):
        return all(_is_fixed(item, seen) for item in value)
    if issubclass(kind, _CONSTANT) or kind.__module__ in ("typing", "types"):
        return True
    if kind is FunctionType:
        return all(_is_fixed(part, seen) for part in _parts_of_function(value))
    if issubclass(kind, type):
        return not is_notebooks(value) or all(_is_fixed(part, seen) for part in _parts_of_class(value))
    functions = list(functions_in(value))  # what a decorator of the library has made of one
    return bool(functions) and all(_is_fixed(function, seen) for function in functions)


def _parts_of_function(function: FunctionType) -> Iterator[Any]:
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _parts_of_class(cls: type[Any]) -> Iterator[Any]:
    for base in cls.__mro__[:-1]:
        if is_notebooks(base):
            yield from (m for name, m in list(vars(base).items()) if name not in DERIVED and name != "__annotations__")


def code_handing_on(cls: type[Any]) -> str:
    """Return a method of a class that its code takes without calling it, or may take by name: an instance may hold it,
    and then cannot be given new code. "" where there is none.
    """
    methods = {name for base in cls.__mro__[:-1] for name, member in vars(base).items() if list(functions_in(member))}
    plain = {n for n in methods if not isinstance(inspect.getattr_static(cls, n, None), property)}
    for base in cls.__mro__[:-1]:
        for function in functions_of(base):
            for code in codes_in(function.__code__):
                if "getattr" in code.co_names:
                    return "by name"
                for instruction in dis.get_instructions(code):
                    taken = instruction.opname == "LOAD_ATTR" and "NULL" not in instruction.argrepr
                    if taken and instruction.argval in plain:
                        return str(instruction.argval)
    return ""
