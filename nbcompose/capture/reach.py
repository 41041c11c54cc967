"""What code may reach: names of its module, and attributes of the object that it is a method of. Reads bytecode."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_IGNORED = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "COPY", "SWAP"})
_OF_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR", "LOAD_SUPER_ATTR")


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of the functions, lambdas and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def globals_of(code: CodeType) -> Iterator[str]:
    """The names that code looks up in its module, or sets there."""
    for inner in codes_in(code):
        for instruction in dis.get_instructions(inner):
            if instruction.opname in _READS | _WRITES:
                yield str(instruction.argval)


def stores_of(code: CodeType) -> Iterator[str]:
    """The names of its module that code sets while it runs (`global`)."""
    for inner in codes_in(code):
        yield from (str(i.argval) for i in dis.get_instructions(inner) if i.opname in _WRITES)


def attributes_of_self(code: CodeType) -> set[str] | None:
    """The attributes of its first argument that a method names; None where it may reach any of them.

    It may where it hands `self` on: to another function (`getattr` too), into a list, into another object.
    """
    if not code.co_argcount:
        return set()
    found = _attributes_of(code, code.co_varnames[0])
    if found is not None and "super" in code.co_names:
        found.update(code.co_names)
    return found


def _attributes_of(code: CodeType, variable: str) -> set[str] | None:
    found: set[str] = set()
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _IGNORED]
    for instruction, following in pairwise(instructions):
        loaded = _loaded(instruction)
        if variable not in loaded or (instruction.opname.startswith("LOAD_FAST") and variable in code.co_cellvars):
            continue  # from 3.13 on, a LOAD_FAST of a cell only passes it to a function that is made here
        if loaded[-1] != variable or not following.opname.startswith(_OF_ATTRIBUTES):
            return None
        found.add(str(following.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and variable in constant.co_freevars:
            inner = _attributes_of(constant, variable)
            if inner is None:
                return None
            found |= inner
    return found


def _loaded(instruction: dis.Instruction) -> tuple[str, ...]:
    """The variables that an instruction pushes, the last on top. Some versions push two at once."""
    if not instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF", "STORE_FAST_LOAD_FAST")):
        return ()
    value = instruction.argval
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)
