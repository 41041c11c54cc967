"""Random numbers: a script that draws fewer of them than the notebook, from the same seed, gets others. Pure."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from nbcompose.export.reading.effects import last, root
from nbcompose.export.reading.statements import Statement
from nbcompose.export.slicing import refusals
from nbcompose.export.slicing.course import Course, is_definition

_SEEDS = {"seed", "manual_seed"}
_GENERATORS = {"default_rng", "Random", "RandomState"}


def random_otherwise(course: Course, taken: Collection[int]) -> Iterator[str]:
    """A note for each source of random numbers from which a statement draws that the script is without."""
    statements = course.statements
    for name, seed in _sources(course, taken).items():
        draws = [i for i in range(seed + 1, len(statements)) if _draws(statements[i], name)]
        missing = [i for i in draws if i not in taken and statements[i].cell.current and not statements[i].failed]
        if missing and any(i in taken for i in draws if i > missing[0]):
            yield (
                f"{refusals.place(statements[missing[0]])} draws random numbers from `{name}`, and the script does "
                "not: those that it draws are others than here; --freeze NAME keeps a value as it is"
            )


def _sources(course: Course, taken: Collection[int]) -> dict[str, int]:
    """Modules that are seeded, and generators; where."""
    found = {}
    for index in sorted(taken):
        node = course.statements[index].node
        call = getattr(node, "value", None)
        if not isinstance(call, ast.Call):
            continue
        if isinstance(node, ast.Expr) and last(call.func) in _SEEDS and root(call.func):
            found[root(call.func)] = index
        elif isinstance(node, ast.Assign) and last(call.func) in _GENERATORS:
            found.update({target.id: index for target in node.targets if isinstance(target, ast.Name)})
    return found


def _draws(statement: Statement, name: str) -> bool:
    if is_definition(statement):
        return False
    calls = (n.func for n in ast.walk(statement.node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return any(root(call) == name and last(call) not in _SEEDS | _GENERATORS and _is_random(call) for call in calls)


def _is_random(function: ast.Attribute) -> bool:
    """`np.random.choice`, `random.choice`, `torch.randn`, and any method of a variable: `rng.normal`."""
    text = ast.unparse(function)
    return "rand" in text or (text.count(".") == 1 and text.partition(".")[0] not in ("np", "numpy", "torch"))
