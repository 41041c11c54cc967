"""Code as steps and where they lead, in the order in which they run: the same for every layout of the source.

Where instructions lie depends on lines, too: which part of a condition comes first, which jump leads to another one.
"""

from __future__ import annotations

import bisect
import dis
from collections.abc import Iterable
from types import CodeType
from typing import NamedTuple

from nbcompose.capture.instructions import Instruction, instructions_of

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
