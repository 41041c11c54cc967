"""Diagnostics: messages that say why something cannot be exported: the place, the problem, the fix. Pure text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nbcompose._export.effects import last
from nbcompose._export.magics import shorten
from nbcompose._export.statements import Statement

NOTEBOOK_ONLY = {"get_ipython", "display"}
_HISTORY = re.compile(r"_+|_i+|_i?\d+|In|Out|_ih|_oh|_dh")


def place(statement: Statement) -> str:
    return f"{statement.cell.label}, line {statement.line}"


def who(statement: Statement) -> str:
    """Return how a message refers to the statement that needs something."""
    if statement.is_definition:
        return last_name(statement)
    return f"the statement in {place(statement)}"


def last_name(statement: Statement) -> str:
    return str(getattr(statement.node, "name", "")) or last(getattr(statement.node, "target", None))


def unexplained(name: str, reader: Statement, stars: Sequence[Statement], *, live: bool) -> str:
    where = f"{place(reader)}: {who(reader)} needs `{name}`"
    if name in NOTEBOOK_ONLY:
        return f"{where}, which only a notebook has: take it out"
    if _HISTORY.fullmatch(name):
        return f"{where}, the notebook's own history: give the value a name of its own, in a cell"
    if stars:
        lines = " or ".join(f"`{_named(s, name)}` in {place(s)}" for s in stars)
        return f"{where}, which no cell sets by name. If it is from an import of `*`, write {lines}"
    if live:
        return (
            f"{where}, which was set by something else than a cell: set it in one, or store its value: --freeze {name}"
        )
    return f"{where}, which no cell sets: set it in one"


def hint(name: str, statements: Sequence[Statement]) -> str:
    """Return where a name that no statement sets may come from, as the rest of a sentence; ""
    where nothing is found.
    """
    for statement in statements:
        source = statement.cell.source.strip()
        if statement.magic.startswith("%run ") and statement.cell.current:
            return f". If it is from `{shorten(statement.magic)}` in {place(statement)}, import it from that file"
        wrong = statement.magic.removeprefix(source)
        if not source.startswith("%%") and wrong != statement.magic and re.search(rf"\b{re.escape(name)}\b", source):
            return f". It is in {statement.cell.label}, which is no Python{wrong}" if wrong else ""
    return ""


def _named(star: Statement, name: str) -> str:
    module = star.text.strip().splitlines()[-1].split("import")[0].removeprefix("from").strip()
    return f"from {module} import {name}"


def too_early(name: str, reader: Statement, maker: Statement) -> str:
    return (
        f"{place(reader)}: {who(reader)} uses `{name}` before it is defined, in {place(maker)}: "
        "move the one cell above the other"
    )


def deleted(name: str, reader: Statement, by: Statement) -> str:
    return (
        f"{place(by)}: `del {name}`, but {who(reader)} needs it: take that line out, and run the cell that sets {name}"
    )


@dataclass(frozen=True, slots=True)
class Found:
    """Required names that one cell makes, each with the statement that needs it and the one that made it."""

    noted: Sequence[tuple[str, Statement, Statement]]

    @property
    def maker(self) -> Statement:
        return self.noted[0][2]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _, _ in self.noted))

    @property
    def needed(self) -> str:
        """The place, the names, and what needs them."""
        readers = dict.fromkeys(who(reader) for _, reader, _ in self.noted)
        if len(self.names) == 1:
            return f"{place(self.maker)}: `{self.names[0]}`, which {next(iter(readers))} needs"
        needs = "needs" if len(readers) == 1 else "need"
        return f"{self.maker.cell.label}: {listed(self.quoted)}, which {listed([*readers])} {needs}"

    @property
    def quoted(self) -> list[str]:
        return [f"`{name}`" for name in self.names]

    @property
    def made(self) -> str:
        how = dict.fromkeys("set" if name in maker.names.defines else "changed" for name, _, maker in self.noted)
        return f"{self.be('was', 'were')} {' or '.join(how)}"

    @property
    def store(self) -> str:
        frozen = " ".join(f"--freeze {name}" for name in self.names)
        return f"store {self.be('its value', 'their values')}: {frozen}"

    def be(self, one: str, several: str) -> str:
        return one if len(self.names) == 1 else several

    @property
    def is_code(self) -> bool:
        return all(maker.is_definition or maker.is_import for _, _, maker in self.noted)


Objection = Callable[[Found], str]


def listed(words: Sequence[str]) -> str:
    """Return words as a list in prose: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def overtaken(found: Found) -> str:
    if found.is_code:
        _, reader, _ = found.noted[0]
        return (
            f"{found.needed}, {found.be('is', 'are')} from a cell that was edited or deleted since: run "
            f"{found.be('it', 'them')} again in a cell that is there, then the cell of {place(reader)}"
        )
    return (
        f"{found.needed}, {found.made} by a cell that was edited or deleted since: run the cells that make "
        f"{found.be('it', 'them')} again, or {found.store}"
    )


def failed(found: Found) -> str:
    way = "" if found.is_code else f", or {found.store}"
    return f"{found.needed}, {found.made} by a cell that failed: run it again without the error{way}"


def from_magic(found: Found) -> str:
    shell = "use subprocess.run" if found.maker.magic.startswith("!") else "write it in Python"
    return (
        f"{found.needed}, {found.be('is', 'are')} the result of `{shorten(found.maker.magic)}`, which only "
        f"a notebook has: {shell}, or {found.store}"
    )


def awaits(found: Found) -> str:
    return (
        f"{found.needed}, {found.be('is', 'are')} awaited outside of a function, which only a notebook "
        f"can: use asyncio.run(...), or {found.store}"
    )


def costly(found: Found) -> str:
    again = " ".join(f"--recompute {name}" for name in found.names)
    return (
        f"{found.needed}, {found.be('is', 'are')} from a cell that ran for {_duration(found.maker)}: {found.store}, "
        f"or let each start of the script work {found.be('it', 'them')} out again: {again}"
    )


def _duration(maker: Statement) -> str:
    seconds = maker.cell.seconds or 0
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def guarded(maker: Statement) -> str:
    return (
        f'{place(maker)}: {who(maker)} runs only where `__name__` is "__main__", which it is not where services run: '
        "take what they need out of the `if`"
    )


def notebook_only(maker: Statement, line: str) -> str:
    return f"{place(maker)}: {who(maker)} has `{shorten(line)}`, which only a notebook has: take it out"


def notebook_bar(maker: Statement, line: str) -> str:
    return f"{notebook_only(maker, line).removesuffix('take it out')}use tqdm.auto, which is the same here"


def repeated(name: str, maker: Statement, times: int) -> str:
    return (
        f"{place(maker)}: `{name}` was changed {times} times, by a cell that ran {times} times: restart the kernel "
        f"and run each cell once, or store its value: --freeze {name}"
    )


def hidden(maker: Statement, name: str) -> str:
    return (
        f"{place(maker)}: the service {name} is defined inside another statement: move it to the top level of its cell"
    )


def of_a_file(reason: str) -> str:
    """Return the reason as it reads for a notebook file: only the running notebook has the values."""
    return reason.replace(
        "store its value: --freeze", "store its value, in the running notebook: %export FILE --freeze"
    )


def frozen_definition(name: str, maker: Statement) -> str:
    kind = "an import" if maker.is_import else "a class or a function"
    return f"--freeze {name}: it is {kind} ({place(maker)}): only values can be stored"


def frozen_beside(name: str, others: Sequence[str], maker: Statement) -> str:
    too = " ".join(f"--freeze {other}" for other in others)
    are = "is" if len(others) == 1 else "are"
    return (
        f"{place(maker)}: sets `{name}`, which is to be frozen, and {listed([f'`{o}`' for o in others])}, which {are} "
        f"not: {too} too"
    )


def unneeded(option: str, name: str, known: Sequence[str]) -> str:
    return f"--{option} {name}: no service needs it; they need: {', '.join(known) or 'no value'}"


def tangled(name: str, reader: Statement) -> str:
    return (
        f"{place(reader)}: {who(reader)} needs `{name}` as it was before a later cell set it anew: give the two values "
        "different names, or set it up in one cell"
    )
