"""The order of a script's statements: imports, values and functions, services; each after what it needs at once."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable

from nbcompose.export.slicing import refusals
from nbcompose.export.slicing.course import Course, is_import
from nbcompose.export.slicing.needs import Needs
from nbcompose.export.slicing.values import is_plain


def ordered(needs: Needs) -> list[int]:
    """Of a statement that ran several times, once is enough where it makes no difference, and refused where it does.

    Services come last, unless the values that they read at once have others later: then where they ran.
    """
    last = _once(needs, _sorted(needs, services_last=True))
    _refuse_repeated(needs, last[0])
    if needs.refused or not _tangled(needs, *last):
        return last[0]
    as_run = _once(needs, _sorted(needs, services_last=False))
    for index, name in _tangled(needs, *as_run):
        needs.refuse(refusals.tangled(name, needs.course.statements[index]), index)
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
    if is_import(needs.course.statements[index]):
        return 0
    return 2 if services_last and needs.course.is_service(index) else 1


def _once(needs: Needs, order: list[int]) -> tuple[list[int], dict[int, int]]:
    """The statements without those that do again what was done, and for each the one that stands for it."""
    kept: list[int] = []
    same: dict[int, int] = {}
    alike: dict[str, list[int]] = {}  # places in `kept` of statements of the same text
    for index in order:
        places = alike.setdefault(ast.dump(needs.course.statements[index].node), [])
        twin = next((kept[n] for n in places if _is_again(needs.course, kept[n], index, kept[n + 1 :])), index)
        same[index] = twin
        if twin == index:
            places.append(len(kept))
            kept.append(index)
    return kept, same


def _is_again(course: Course, first: int, index: int, between: list[int]) -> bool:
    """Whether a statement does nothing that the first, which has the same text, has not done already."""
    one, again = course.statements[first], course.statements[index]
    if course.is_once(index):
        return False
    if one.cell.key != again.cell.key and not is_plain(again):
        return False
    involved = course.affects(index) | course.reads(index)
    kept_by = course.kept_by(index)  # `c = []; d = c; c = []`: the second is another list
    return not any((involved | kept_by) & course.affects(i) or involved & course.statements[i].deletes for i in between)


def _refuse_repeated(needs: Needs, kept: list[int]) -> None:
    statements = needs.course.statements
    place = {i: (statements[i].cell.key, statements[i].line, statements[i].node.col_offset) for i in kept}
    runs = Counter(place[i] for i in kept if needs.course.is_once(i))
    for index in kept:
        statement = statements[index]
        times = runs[place[index]]
        if times > 1:
            name = min(needs.course.affects(index))
            needs.refuse(refusals.repeated(name, statement, times), index)
            runs[place[index]] = 0


def _tangled(needs: Needs, kept: list[int], same: dict[int, int]) -> list[tuple[int, str]]:
    """Reads that would come upon something else than in the notebook: the script is followed as the notebook was."""
    script = needs.course.rearranged(kept)
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
    """Imports come first in a script: among them there is no order."""
    have = [index for index in have if index != reader]
    want = list(dict.fromkeys(same[i] for i in wanted))
    if all(is_import(needs.course.statements[i]) for i in (*have, *want)):
        return set(have) != set(want)
    return bool(want) and have != want
