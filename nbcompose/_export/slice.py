"""Slice: the statements that services need, and their order in the script."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nbcompose._export import diagnostics
from nbcompose._export.definitions import Definitions, Quiet
from nbcompose._export.known import is_setting
from nbcompose._export.magics import note, shorten
from nbcompose._export.needs import Needs, random_otherwise, registered, services_inside, unseeded
from nbcompose._export.statements import Statement
from nbcompose.errors import ExportRefused


@dataclass(frozen=True, slots=True)
class Slice:
    """What a script needs, in an order in which it can run.

    `services` and `entries`: variables, in dependency order. `frozen`: names to load from files beside the script.
    `notes`: what was dropped and the user should know. `unseeded`: reasons why values may differ from the notebook's.
    `wanted`: the names for which each statement is included.
    """

    statements: tuple[Statement, ...]
    services: tuple[str, ...]
    entries: tuple[str, ...]
    frozen: tuple[str, ...]
    notes: tuple[str, ...]
    unseeded: tuple[str, ...] = ()
    wanted: tuple[frozenset[str], ...] = ()


def needed(
    statements: Sequence[Statement],
    entries: Sequence[str] | None = None,
    freeze: Collection[str] = (),
    *,
    recompute: Collection[str] = (),
    versions: Mapping[str, str] | None = None,
    known: Collection[str] = (),
) -> Slice:
    """Return what the entry services need. By default these are the services that no other depends on; `entries` names
    others, by variable or by registered name.

    `freeze`: names whose present values are loaded; `recompute`: names that may take long; `versions`: for a service,
    the label of the run whose class serves; without it, `%services rollback` counts. `known`: names that are set in a
    live notebook. Raises `ExportRefused`.
    """
    statements = [s for s in statements if s.ran]
    _check_services(statements)
    chosen, notes = _chosen(statements, versions)
    loud = set[Quiet]()
    while True:
        definitions = Definitions(statements, chosen, freeze, loud)
        variables = _entries(definitions, entries)
        needs = Needs(definitions, freeze, recompute, known)
        for variable in variables:
            needs.take(definitions.services[variable])
        _take_settings(definitions, needs)
        order = ordered(needs)
        undone = definitions.undone(needs.taken) - loud
        if not undone:
            break
        loud |= undone
    _check_options(needs, freeze, recompute)
    if reasons := needs.reasons():
        raise ExportRefused("a script of these services would not do what the notebook does:", reasons)
    by_index = {index: variable for variable, index in definitions.services.items()}
    services = [by_index[i] for i in order if i in by_index]
    return Slice(
        statements=tuple(statements[i] for i in order),
        services=tuple(services),
        entries=tuple(v for v in services if v in variables) if entries is None else tuple(variables),
        frozen=tuple(sorted(needs.frozen)),
        notes=(*notes, *_dropped(definitions, needs.taken), *random_otherwise(definitions, needs.taken)),
        wanted=tuple(frozenset(needs.wanted.get(i, ())) for i in order),
        unseeded=tuple(unseeded(definitions, order, needs.wanted)),
    )


def _check_services(statements: Sequence[Statement]) -> None:
    """Raise `ExportRefused` for %%service cells with wrong options."""
    cells = [s for s in statements if re.match(r"%%service(?!\w)", s.magic) and s.cell.current and not s.failed]
    if cells:
        raise ExportRefused("these cells do not run:", [f"{s.cell.label}: {s.magic}" for s in cells])


def _entries(definitions: Definitions, names: Sequence[str] | None) -> list[str]:
    if not definitions.services:
        hidden = [diagnostics.hidden(s, n.name) for s in definitions.statements for n in services_inside(s)]
        raise (
            ExportRefused("there is no service to export:", hidden)
            if hidden
            else ExportRefused(
                "there is no service to export: a service is a class with an @api method, in a cell that begins with "
                "%%service"
            )
        )
    if names:
        return list(dict.fromkeys(_variable(definitions, name) for name in names))
    below = {v: _below(definitions, v) for v in definitions.services}
    found = [
        v for v in definitions.services if not any(v in below[other] for other in definitions.services if other != v)
    ]
    if not found:
        raise ExportRefused(
            f"{', '.join(definitions.services)} depend on one another: name the one to be served with --entry NAME"
        )
    return found


def _variable(definitions: Definitions, name: str) -> str:
    if name in definitions.services:
        return name
    for variable, index in definitions.services.items():
        if registered(definitions.statements[index]) == name:
            return variable
    raise ExportRefused(f"no service is called {name!r}; there are: {', '.join(definitions.services)}")


def _below(definitions: Definitions, variable: str) -> set[str]:
    """Return the services that a service needs."""
    needs = Needs(definitions)
    needs.take(definitions.services[variable])
    return {v for v, i in definitions.services.items() if i in needs.taken and v != variable}


def _chosen(statements: Sequence[Statement], versions: Mapping[str, str] | None) -> tuple[dict[str, int], list[str]]:
    """Return, for services, the statement whose class serves, where that is not the last; and notes about it."""
    definitions = Definitions(statements)
    if versions is None:
        return _rolled_back(definitions)
    chosen, notes = dict[str, int](), list[str]()
    for variable, label in versions.items():
        runs = [i for i in definitions.versions(variable) if statements[i].cell.label == label]
        if not runs:
            continue
        chosen[variable] = runs[-1]
        last = definitions.versions(variable)[-1]
        if ast.dump(statements[runs[-1]].node) != ast.dump(statements[last].node):
            newer = statements[last].cell.label
            notes.append(f"{variable}: the script has the version that serves, of {label}; {newer} has another")
    return chosen, notes


def _rolled_back(definitions: Definitions) -> tuple[dict[str, int], list[str]]:
    chosen, notes = dict[str, int](), list[str]()
    variables = {registered(definitions.statements[i]): v for v, i in definitions.services.items()}
    for index, statement in enumerate(definitions.statements):
        words = statement.magic.split()
        if words[:2] != ["%services", "rollback"]:
            continue
        for name in words[2:]:
            runs = [i for i in definitions.versions(variables.get(name, "")) if i < index and definitions.is_service(i)]
            if len(runs) > 1 and runs[-1] == definitions.versions(variables[name])[-1]:
                chosen[variables[name]] = runs[-2]
                notes.append(f"{statement.cell.label}: `{statement.magic}`: the script has the version "
                             f"of {definitions.statements[runs[-2]].cell.label}")  # fmt: skip
    return chosen, notes


def _take_settings(definitions: Definitions, needs: Needs) -> None:
    """Take statements that set environment variables, which may affect services, and `__future__` imports."""
    last = max(needs.taken)
    for index, statement in enumerate(definitions.statements):
        sets = _sets_environment(statement.node) or (statement.is_future and index < last)
        if sets and statement.cell.current and not statement.failed:
            needs.take(index)


def _sets_environment(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return any(ast.unparse(t).startswith(("os.environ[", "environ[")) for t in node.targets)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func) in ("os.environ.update", "os.environ.setdefault", "os.putenv")
    return False


def _check_options(needs: Needs, freeze: Iterable[str], recompute: Iterable[str]) -> None:
    values = sorted(needs.values | needs.frozen)
    for option, names, known in (("freeze", freeze, needs.frozen), ("recompute", recompute, needs.values)):
        for name in names:
            if name not in known:
                needs.refuse(diagnostics.unneeded(option, name, values), -1)
    for index in needs.taken:
        statement = needs.definitions.statements[index]
        for name in sorted(needs.definitions.affects(index) & needs.frozen):
            others = sorted(needs.wanted.get(index, set()) - needs.frozen)
            if others:
                needs.refuse(diagnostics.frozen_beside(name, others, statement), index)


def _dropped(definitions: Definitions, taken: set[int]) -> list[str]:
    """Return notes on what the script lacks; one for a cell that ran several times."""
    said: dict[str, None] = {}
    for index, statement in enumerate(definitions.statements):
        if not statement.cell.current or statement.failed or index in taken:
            continue
        if statement.magic and note(statement.magic):
            said[f"{statement.cell.label}: {note(statement.magic)}"] = None
        elif _sets_process(definitions, index):
            said[f"{diagnostics.place(statement)}: `{_code(statement)}` is not part of the script: no service "
                 "needs what it sets"] = None  # fmt: skip
    return list(said)


def _code(statement: Statement) -> str:
    return shorten("\n".join(line for line in statement.text.splitlines() if not line.startswith("#")))


def _sets_process(definitions: Definitions, index: int) -> bool:
    """Whether a call sets something for the process: `set_seed(0)`, `load_dotenv()` by imported functions, and
    `sys.path`, which in a script would come after the imports.
    """
    node = definitions.statements[index].node
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    called = ast.unparse(node.value.func)
    if called.startswith("sys.path."):
        return True
    return is_setting(called) and any(definitions.statements[i].is_import for i in definitions.find(called, index).by)


def ordered(needs: Needs) -> list[int]:
    """Return the statements in the script's order, without repeated runs that make no difference; refuse those that do.

    Services come last, unless the values that they read at once would then be others: then they come where they ran.
    """
    last = _once(needs, _sorted(needs, services_last=True))
    _refuse_repeated(needs, last[0])
    if needs.refused or not _tangled(needs, *last):
        return last[0]
    as_run = _once(needs, _sorted(needs, services_last=False))
    for index, name in _tangled(needs, *as_run):
        needs.refuse(diagnostics.tangled(name, needs.definitions.statements[index]), index)
    return as_run[0]


def _sorted(needs: Needs, *, services_last: bool) -> list[int]:
    done: dict[int, None] = {}
    under_way: set[int] = set()

    def first(indexes: Iterable[int]) -> list[int]:
        return sorted(indexes, key=lambda i: (_rank(needs, i, services_last), i))

    def emit(index: int) -> None:
        if index in done or index in under_way:
            return
        under_way.add(index)
        for other in first(needs.after.get(index, set()) | needs.called.get(index, set())):
            emit(other)
        done[index] = None

    for index in first(needs.taken):
        emit(index)
    return list(done)


def _rank(needs: Needs, index: int, services_last: bool) -> int:
    if needs.definitions.statements[index].is_import:
        return 0
    return 2 if services_last and needs.definitions.is_service(index) else 1


def _once(needs: Needs, order: list[int]) -> tuple[list[int], dict[int, int]]:
    """Return the statements without those that repeat an earlier one, and for each statement the one that is kept."""
    kept: list[int] = []
    same: dict[int, int] = {}
    alike: dict[str, list[int]] = {}  # places in `kept` of statements with the same text
    for index in order:
        places = alike.setdefault(ast.dump(needs.definitions.statements[index].node), [])
        twin = next((kept[n] for n in places if _is_again(needs.definitions, kept[n], index, kept[n + 1 :])), index)
        same[index] = twin
        if twin == index:
            places.append(len(kept))
            kept.append(index)
    return kept, same


def _is_again(definitions: Definitions, first: int, index: int, between: list[int]) -> bool:
    """Whether a statement has no effect after an earlier one with the same text."""
    one, again = definitions.statements[first], definitions.statements[index]
    if definitions.is_once(index):
        return False
    if one.cell.key != again.cell.key and not again.is_plain:
        return False
    involved = definitions.affects(index) | definitions.reads(index)
    kept_by = definitions.kept_by(index)  # `c = []; d = c; c = []`: the second is another list
    return not any(
        (involved | kept_by) & definitions.affects(i, index) or involved & definitions.statements[i].names.deletes
        for i in between
    )


def _refuse_repeated(needs: Needs, kept: list[int]) -> None:
    statements = needs.definitions.statements
    place = {i: (statements[i].cell.key, statements[i].line, statements[i].node.col_offset) for i in kept}
    runs = Counter(place[i] for i in kept if needs.definitions.is_once(i))
    for index in kept:
        statement = statements[index]
        times = runs[place[index]]
        if times > 1:
            name = min(needs.definitions.affects(index))
            needs.refuse(diagnostics.repeated(name, statement, times), index)
            runs[place[index]] = 0


def _tangled(needs: Needs, kept: list[int], same: dict[int, int]) -> list[tuple[int, str]]:
    """Return reads that would get other definitions than in the notebook, by following the script in the same way."""
    script = needs.definitions.rearranged(kept)
    position = {index: n for n, index in enumerate(kept)}
    found: list[tuple[int, str]] = []
    for (index, name), made in needs.found.items():
        if index in position:
            have = [kept[p] for p in script.find(name, position[index]).all()]
            found += [(index, name)] if _differ(needs, index, have, made, same) else []
    for (index, name), made in needs.found_later.items():
        have = [kept[p] for p in script.find(name).all()]
        found += [(index, name)] if _differ(needs, index, have, made, same) else []
    return found


def _differ(needs: Needs, reader: int, have: list[int], wanted: list[int], same: dict[int, int]) -> bool:
    """Whether the definitions differ. Imports come first in a script: their order does not matter."""
    have = [index for index in have if index != reader]
    want = list(dict.fromkeys(same[i] for i in wanted))
    if all(needs.definitions.statements[i].is_import for i in (*have, *want)):
        return set(have) != set(want)
    return bool(want) and have != want
