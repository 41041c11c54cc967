"""What code may reach: names of its module, and attributes of the object that it is a method of. Reads bytecode."""

from __future__ import annotations

import dis
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import TypeVar

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_LOCALS = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "STORE_FAST_LOAD_FAST")
_IGNORED = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "COPY", "SWAP"})
_STORES_ATTRIBUTE = ("STORE_ATTR", "DELETE_ATTR")
_OF_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", *_STORES_ATTRIBUTE)
_OPAQUE = frozenset({"eval", "exec", "locals", "vars"})  # they find `self` without being given it

T = TypeVar("T")


def per_code(read: Callable[[CodeType], T]) -> Callable[[CodeType], T]:
    """Remembers what was read of code for as long as the code lives: it never changes, and is looked at often."""
    known: dict[int, tuple[weakref.ref[CodeType], T]] = {}

    def look(code: CodeType) -> T:
        key = id(code)
        found = known.get(key)
        if found is not None and found[0]() is code:
            return found[1]
        result = read(code)
        known[key] = (weakref.ref(code, lambda _: known.pop(key, None)), result)
        return result

    return look


@dataclass(slots=True)
class Used:
    """How code uses a variable. `attributes`: those that it names; `whole`: it does something else with it, too."""

    attributes: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Reach:
    """`names`: looked up in the module, or set there; `stores`: set there; `variables`: how names of the module, of
    enclosing functions, and the first parameter are used; `rebinds`: variables of enclosing functions that it sets.
    """

    names: tuple[str, ...]
    stores: frozenset[str]
    variables: Mapping[str, Used]
    rebinds: frozenset[str]


@per_code
def reach_of(code: CodeType) -> Reach:
    """What code reaches, with the functions, lambdas and comprehensions in it."""
    names: dict[str, None] = {}
    stores: set[str] = set()
    rebinds: set[str] = set()
    variables: dict[str, Used] = {}
    for inner in codes_in(code):
        watched = {*inner.co_freevars, *(code.co_varnames[:1] if inner is code else ())}
        instructions = [i for i in dis.get_instructions(inner) if i.opname not in _IGNORED]
        for instruction in instructions:
            if instruction.opname in _READS | _WRITES:
                names[str(instruction.argval)] = None
            if instruction.opname in _WRITES:
                stores.add(str(instruction.argval))
            if instruction.opname == "STORE_DEREF" and instruction.argval in code.co_freevars:
                rebinds.add(str(instruction.argval))
        _note_uses(inner, instructions, watched, variables)
    return Reach(tuple(names), frozenset(stores), variables, frozenset(rebinds))


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of the functions, lambdas and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def globals_of(code: CodeType) -> tuple[str, ...]:
    """The names that code looks up in its module, or sets there."""
    return reach_of(code).names


def stores_of(code: CodeType) -> frozenset[str]:
    """The names of its module that code sets while it runs (`global`)."""
    return reach_of(code).stores


def attributes_of_self(code: CodeType) -> frozenset[str] | None:
    """The attributes of its first argument that a method names; None where it may reach any of them.

    It may where it hands `self` on: to another function (`getattr` too), into a list, into another object.
    """
    if not code.co_argcount:  # an item of `*args` is `self`
        return None if code.co_flags & inspect.CO_VARARGS else frozenset()
    names = set(reach_of(code).names)
    found = attributes_of(code, code.co_varnames[0])
    if found is None or names & _OPAQUE or names >= {"super", "getattr"}:
        return None
    return found.union(*(inner.co_names for inner in codes_in(code))) if "super" in names else found


def attributes_of(code: CodeType, variable: str) -> frozenset[str] | None:
    """The attributes that code names of a variable; None where it may reach any of them."""
    used = reach_of(code).variables.get(variable)
    if used is None:
        return frozenset()
    return None if used.whole else frozenset(used.attributes)


def _note_uses(
    code: CodeType, instructions: list[dis.Instruction], watched: set[str], variables: dict[str, Used]
) -> None:
    for i, instruction in enumerate(instructions):
        following = instructions[i + 1 : i + 3]
        loaded = _loaded(instruction, code, watched)
        for name in loaded:
            used = variables.setdefault(name, Used())
            if name == "__class__" and following[-1].opname.startswith("LOAD_SUPER_ATTR"):
                continue  # `super()`
            if name != loaded[-1] or not following or not following[0].opname.startswith(_OF_ATTRIBUTES):
                used.whole = True
                continue
            used.attributes.add(str(following[0].argval))
            if following[0].opname in _STORES_ATTRIBUTE:
                used.stored.add(str(following[0].argval))


def _loaded(instruction: dis.Instruction, code: CodeType, watched: set[str]) -> list[str]:
    """The variables that an instruction pushes, the last on top. Some versions push two at once."""
    value = instruction.argval
    if instruction.opname in _READS:
        return [str(value)]
    if not instruction.opname.startswith(_LOCALS):
        return []
    names = [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
    if not watched & set(names):
        return []
    if instruction.opname.startswith("LOAD_FAST") and (names[-1] in code.co_cellvars or names[-1] in code.co_freevars):
        return []  # from 3.13 on, a LOAD_FAST of a cell only passes it to a function that is made here
    return [n for n in names[:-1] if n in watched] + [names[-1]]
