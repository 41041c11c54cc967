"""Why something cannot be exported: the cell and the line, what is wrong, the way out. Pure text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbcompose.export.reading.effects import last
from nbcompose.export.reading.magics import shorten
from nbcompose.export.reading.statements import Statement
from nbcompose.export.slicing.course import is_definition, is_import

NOTEBOOK_ONLY = {"get_ipython", "display"}
_HISTORY = re.compile(r"_+|_i+|_i?\d+|In|Out|_ih|_oh|_dh")


def place(statement: Statement) -> str:
    return f"{statement.cell.label}, line {statement.line}"


def who(statement: Statement) -> str:
    """How a message names the one that needs something."""
    if is_definition(statement):
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
    """Where a name that no statement sets may be from all the same."""
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


def overtaken(name: str, reader: Statement, maker: Statement) -> str:
    if is_definition(maker) or is_import(maker):
        rerun = f"run it again in a cell that is there, then the cell of {place(reader)}"
        return f"{_needed(name, reader, maker)}, is from a cell that was edited or deleted since: {rerun}"
    return (
        f"{_needed(name, reader, maker)}, was {_made(maker, name)} by a cell that was edited or deleted since: "
        f"run the cells that make it again, or store its value: --freeze {name}"
    )


def _needed(name: str, reader: Statement, maker: Statement) -> str:
    return f"{place(maker)}: `{name}`, which {who(reader)} needs"


def _made(maker: Statement, name: str) -> str:
    return "set" if name in maker.defines else "changed"


def failed(name: str, reader: Statement, maker: Statement) -> str:
    way = "" if is_definition(maker) or is_import(maker) else f", or store its value: --freeze {name}"
    return (
        f"{_needed(name, reader, maker)}, was {_made(maker, name)} by a cell that failed: "
        f"run it again without the error{way}"
    )


def from_magic(name: str, reader: Statement, maker: Statement) -> str:
    shell = "use subprocess.run" if maker.magic.startswith("!") else "write it in Python"
    return (
        f"{_needed(name, reader, maker)}, is the result of `{shorten(maker.magic)}`, which only "
        f"a notebook has: {shell}, or store its value: --freeze {name}"
    )


def notebook_only(maker: Statement, line: str) -> str:
    return f"{place(maker)}: {who(maker)} has `{shorten(line)}`, which only a notebook has: take it out"


def notebook_bar(maker: Statement, line: str) -> str:
    return f"{notebook_only(maker, line).removesuffix('take it out')}use tqdm.auto, which is the same here"


def awaits(name: str, reader: Statement, maker: Statement) -> str:
    return (
        f"{_needed(name, reader, maker)}, is awaited outside of a function, which only a notebook "
        f"can: use asyncio.run(...), or store its value: --freeze {name}"
    )


def costly(name: str, reader: Statement, maker: Statement) -> str:
    return (
        f"{_needed(name, reader, maker)}, is from a cell that ran for {_duration(maker)}: store its "
        f"value: --freeze {name}, or let each start of the script work it out again: --recompute {name}"
    )


def _duration(maker: Statement) -> str:
    seconds = maker.cell.seconds or 0
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


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
    """The same of a notebook that does not run here: values are elsewhere."""
    return reason.replace(
        "store its value: --freeze", "store its value, in the running notebook: %export FILE --freeze"
    )


def frozen_definition(name: str, maker: Statement) -> str:
    kind = "an import" if is_import(maker) else "a class or a function"
    return f"--freeze {name}: it is {kind} ({place(maker)}): only values can be stored"


def frozen_beside(name: str, other: str, maker: Statement) -> str:
    return f"{place(maker)}: sets `{name}`, which is to be frozen, and `{other}`, which is not: --freeze {other} too"


def unneeded(option: str, name: str, known: Sequence[str]) -> str:
    return f"--{option} {name}: no service needs it; they need: {', '.join(known) or 'no value'}"


def tangled(name: str, reader: Statement) -> str:
    return (
        f"{place(reader)}: {who(reader)} needs `{name}` as it was before a later cell set it anew: give the two values "
        "different names"
    )
