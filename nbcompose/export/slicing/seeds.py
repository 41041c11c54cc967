"""Random numbers: a script that draws fewer of them than the notebook, from the same seed, gets others. Pure."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence

from nbcompose.export.reading import known
from nbcompose.export.reading.effects import called, last, root
from nbcompose.export.reading.statements import Statement
from nbcompose.export.slicing import refusals
from nbcompose.export.slicing.course import Course, is_definition, is_import

_WEIGHTLESS = {"Flatten", "GELU", "Identity", "LogSoftmax", "MSELoss", "NLLLoss", "CrossEntropyLoss", "BCELoss", "ReLU",
               "Sigmoid", "Softmax", "Tanh"}  # fmt: skip
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


def unseeded(course: Course, order: Sequence[int], wanted: Mapping[int, set[str]]) -> Iterator[str]:
    """A line for each statement of a script that draws random numbers which nothing in it has seeded before."""
    seeded = set[str]()
    for index in order:
        statement = course.statements[index]
        if is_definition(statement) or is_import(statement):
            continue
        nodes = [statement.node, *(course.statements[i].node for i in course.callable_in(statement.names.calls, index))]
        calls = [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call)]
        found = {library for call in calls if (library := _library(course, call, index))}
        if found - seeded:
            names = sorted(n for n in wanted.get(index, ()) if course.is_value(n, index + 1)) or ["NAME"]
            values = refusals.listed([f"`{name}`" for name in names])
            yield (
                f"{refusals.place(statement)} draws random numbers that nothing has seeded: {values} may be different "
                f"each time: {' '.join(f'--freeze {name}' for name in names)} keeps what is here"
            )
        seeded |= {library for call in calls for library in _seeds(course, call, index)}


def _library(course: Course, call: ast.Call, index: int) -> str:
    """Whose random numbers a call draws: "random", "numpy" or "torch"; "" where it draws none."""
    origin = course.origin(called(call.func), index)
    top, _, rest = origin.partition(".")
    if last(call.func) in _SEEDS:
        return ""
    if top == "random" or origin.startswith("numpy.random."):
        return "" if last(call.func) in _GENERATORS and call.args else top
    if top == "torch" and (
        rest.startswith(("rand", "normal", "bernoulli", "multinomial", "nn.init.")) or _is_layer(rest)
    ):
        return top
    return ""


def _is_layer(rest: str) -> bool:
    """`nn.Linear`, whose weights are drawn."""
    return rest.startswith("nn.") and rest.rpartition(".")[2] in known.LAYERS - _WEIGHTLESS


def _seeds(course: Course, call: ast.Call, index: int) -> set[str]:
    origin, function = course.origin(called(call.func), index), last(call.func)
    if function == "set_seed":
        return {"random", "numpy", "torch"}
    return {origin.partition(".")[0]} if function in _SEEDS else set()


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
