"""Bytecode in one form for every version of Python and every layout of the source; the names that it may reach.

Compilers combine instructions, thread jumps and leave gaps, depending on the Python version and on line breaks. Here,
each instruction does one thing, instructions without effect are left out, and the order is that of execution, so that
equal code gives equal steps. `_code/digests.py` compares them.
"""

from __future__ import annotations

import bisect
import dis
import inspect
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Literal, NamedTuple, TypeVar

Kind = Literal["name", "attribute", "import", "local", "cell", "constant", "jump", ""]

_NOTHING = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN"})
_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})
_OF_ATTRIBUTES = re.compile(r".*_(ATTR|METHOD)")
# `LOAD_FAST_BORROW_LOAD_FAST_BORROW` is two of these; what is borrowed, or checked to be set, makes no difference.
_FAST = re.compile(r"((?:LOAD|STORE)_FAST(?:_AND_CLEAR)?)(?:_BORROW|_CHECK)?(?:_(?=LOAD|STORE)|$)")


class Instruction(NamedTuple):
    """`value`: the name, or the constant, that it is about. `argument`: that, and how, to be compared."""

    name: str
    kind: Kind
    value: Any
    argument: Any
    offset: int
    target: int | None = None  # the offset of the instruction that a jump leads to


def instructions_of(code: CodeType) -> Iterator[Instruction]:
    """The instructions of code, in their order; two may have one offset."""
    for read in dis.get_instructions(code):
        name, value, at = read.opname, read.argval, read.offset
        if name in _NOTHING:
            continue
        kind = _kind(read)
        if kind == "local" and (parts := _split(name, value)):
            yield from (Instruction(part, kind, of, of, at) for part, of in parts)
        elif name == "RETURN_CONST":
            yield Instruction("LOAD_CONST", kind, value, value, at)
            yield Instruction("RETURN_VALUE", "", None, None, at)
        elif name == "KW_NAMES":  # `dis` has the number of the constant only
            value = code.co_consts[read.arg or 0]
            yield Instruction(name, kind, value, value, at)
        elif kind == "jump":
            yield Instruction(re.sub("_(FORWARD|BACKWARD)", "", name), kind, None, None, at, value)
        else:
            yield Instruction(name, kind, value, value if kind == "constant" else read.argrepr or read.arg, at)


def _split(name: str, value: Any) -> list[tuple[str, str]]:
    """What an instruction does with local variables, one by one; empty where that is not known."""
    parts, values = _FAST.findall(name), value if isinstance(value, tuple) else (value,)
    return list(zip(parts, values, strict=True)) if len(parts) == len(values) else []


def _kind(instruction: dis.Instruction) -> Kind:
    name, code = instruction.opname, instruction.opcode
    if code in dis.hasname:
        return "attribute" if _OF_ATTRIBUTES.match(name) else "import" if name.startswith("IMPORT") else "name"
    if code in dis.haslocal or name.startswith(("LOAD_FAST", "STORE_FAST")):
        return "local"
    if code in dis.hasfree:
        return "cell"
    if code in dis.hasconst:
        return "constant"
    return "jump" if code in _JUMPS else ""


_ENDS = frozenset({"RETURN_VALUE", "RAISE_VARARGS", "RERAISE"})  # nothing follows
# A condition is put either way, so that what lies next need not be jumped to.
_INVERSE = {"POP_JUMP_IF_TRUE": "POP_JUMP_IF_FALSE", "POP_JUMP_IF_NOT_NONE": "POP_JUMP_IF_NONE"}


class Step(NamedTuple):
    """`following`: the steps that may come next, the handler of its exceptions last. `caught`: how that finds the
    stack.
    """

    instruction: Instruction
    caught: tuple[int, bool] | None
    following: list[int]


def steps_of(code: CodeType) -> list[Step]:
    """Every step that can be reached, from the first one on."""
    flow = _Flow(code)
    places: dict[int, int] = {}
    found: list[Step] = []
    todo = [flow.reached(0)]
    while todo:
        number = todo.pop()
        if number in places:
            continue
        places[number] = len(places)
        found.append(flow.step(number))
        todo.extend(reversed(found[-1].following))
    return [step._replace(following=[places[number] for number in step.following]) for step in found]


class _Flow:
    def __init__(self, code: CodeType) -> None:
        self._instructions = _without_lines(instructions_of(code))
        self._offsets = [i.offset for i in self._instructions]
        self._handled = list(getattr(dis.Bytecode(code), "exception_entries", ()))
        self._starts = [entry.start for entry in self._handled]  # the entries are in order, and apart

    def step(self, number: int) -> Step:
        """One instruction; what follows are numbers of instructions."""
        instruction = self._instructions[number]
        following: list[int] = []
        if instruction.name not in _ENDS and number + 1 < len(self._instructions):
            following.append(self.reached(number + 1))
        if instruction.target is not None:
            following.append(self.reached(self._at(instruction.target)))
        if instruction.name in _INVERSE:
            instruction = instruction._replace(name=_INVERSE[instruction.name])
            following.reverse()
        entry = bisect.bisect_right(self._starts, instruction.offset) - 1
        if entry < 0 or instruction.offset >= self._handled[entry].end:
            return Step(instruction, None, following)
        handler = self._handled[entry]
        following.append(self.reached(self._at(handler.target)))
        return Step(instruction, (handler.depth, handler.lasti), following)

    def reached(self, number: int) -> int:
        """The instruction that runs there: a jump without a condition only leads to it."""
        passed = set[int]()
        while number not in passed:
            passed.add(number)
            instruction = self._instructions[number]
            if instruction.target is None or not instruction.name.startswith("JUMP") or "_IF_" in instruction.name:
                break
            number = self._at(instruction.target)
        return number

    def _at(self, offset: int) -> int:
        return bisect.bisect_left(self._offsets, offset)


def _without_lines(instructions: Iterable[Instruction]) -> list[Instruction]:
    """Without the line of a class, which its body keeps from 3.13 on."""
    kept: list[Instruction] = []
    for instruction in instructions:
        if instruction.name == "STORE_NAME" and instruction.value == "__firstlineno__":
            kept.pop()
        else:
            kept.append(instruction)
    return kept


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
