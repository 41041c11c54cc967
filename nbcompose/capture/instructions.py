"""The instructions of code, in one form for every version of Python and every layout of the source.

What they say is read by reach.py (names) and digests.py (meaning). Compilers join instructions, thread jumps and leave
gaps as lines and versions have it; here, each instruction does one thing, and what does nothing is left out.
"""

from __future__ import annotations

import dis
import re
from collections.abc import Iterator
from types import CodeType
from typing import Any, Literal, NamedTuple

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
