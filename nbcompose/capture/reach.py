"""What code may reach: names of its module, and attributes of the object that it is a method of. Reads bytecode."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import TypeVar

from nbcompose.capture.instructions import Instruction, instructions_of

_IGNORED = frozenset({"RESUME", "COPY", "SWAP"})
_STORES_ATTRIBUTE = ("STORE_ATTR", "DELETE_ATTR")
_PASSED_BY = ("STORE_", "DELETE_", "MAKE_CELL", "LOAD_CLOSURE")  # they do not read a variable
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
        instructions = [i for i in instructions_of(inner) if i.name not in _IGNORED]
        for instruction in instructions:
            if _is_of_module(instruction):
                names[instruction.value] = None
                if not instruction.name.startswith("LOAD_"):
                    stores.add(instruction.value)
            if instruction.name == "STORE_DEREF" and instruction.value in code.co_freevars:
                rebinds.add(instruction.value)
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


def _is_of_module(instruction: Instruction) -> bool:
    """Whether it is about a name of the module. What the body of a class binds is the class's."""
    return instruction.kind == "name" and (instruction.name.startswith("LOAD_") or instruction.name.endswith("_GLOBAL"))


def _note_uses(code: CodeType, instructions: list[Instruction], watched: set[str], variables: dict[str, Used]) -> None:
    for i, instruction in enumerate(instructions):
        following = instructions[i + 1 : i + 3]
        for name in _loaded(instruction, code, watched):
            used = variables.setdefault(name, Used())
            if name == "__class__" and following[-1].name.startswith("LOAD_SUPER_ATTR"):
                continue  # `super()`
            if isinstance(instruction.value, tuple) or not following or following[0].kind != "attribute":
                used.whole = True
                continue
            used.attributes.add(following[0].value)
            if following[0].name in _STORES_ATTRIBUTE:
                used.stored.add(following[0].value)


def _loaded(instruction: Instruction, code: CodeType, watched: set[str]) -> set[str]:
    """The variable that an instruction reads, if it is watched; all that one is about of which we know no more."""
    name, value = instruction.name, instruction.value
    if instruction.kind == "name":
        return {value} if name.startswith("LOAD_") else set()
    if instruction.kind not in ("local", "cell") or name.startswith(_PASSED_BY):
        return set()
    if name == "LOAD_FAST" and (value in code.co_cellvars or value in code.co_freevars):
        return set()  # from 3.13 on, a LOAD_FAST of a cell only passes it to a function that is made here
    return watched.intersection(value if isinstance(value, tuple) else (value,))
