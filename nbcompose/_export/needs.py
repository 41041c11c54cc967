"""Needs: follows names backward from services to the statements that they need; also checks random seeds."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from nbcompose._export import diagnostics, known
from nbcompose._export.definitions import Definitions
from nbcompose._export.effects import called, last, root
from nbcompose._export.magics import magic_in
from nbcompose._export.statements import Statement, has_api
from nbcompose._export.values import END

COSTLY = 60.0  # seconds

_NOTEBOOKS = {"IPython", "ipykernel", "ipywidgets"}  # not installed where a script runs

_GIVEN = {
    *dir(builtins),
    "__file__",
    "__annotations__",
    "__builtins__",
    "__qualname__",
    "__module__",
    "__firstlineno__",
}


class Needs:
    """Collects the statements that services need.

    `taken`: the needed statements. `after`: for each, the statements that must come before it; `called`: those needed
    by what it calls. `found`: the definitions that each immediate read gets; `found_later`: the same for functions that
    only replicas call.
    """

    def __init__(
        self,
        definitions: Definitions,
        freeze: Collection[str] = (),
        recompute: Collection[str] = (),
        known: Collection[str] = (),
    ) -> None:
        self.definitions = definitions
        self.taken: set[int] = set()
        self.after: dict[int, set[int]] = {}
        self.called: dict[int, set[int]] = {}
        self.found: dict[tuple[int, str], list[int]] = {}  # the definitions that each immediate read gets
        self.found_later: dict[tuple[int, str], list[int]] = {}
        self.frozen: set[str] = set()
        self.values: set[str] = set()  # names that are neither functions nor classes nor imports
        self.refused: dict[str, tuple[int, int]] = {}  # text → position in the list
        self.wanted: dict[int, set[str]] = {}  # the names for which each statement was taken
        self._objections: dict[tuple[diagnostics.Objection, str, str], list[tuple[str, Statement, Statement, int]]] = {}
        self._freeze = set(freeze)
        self._recompute = set(recompute)
        self._known = set(known)
        self._seen: set[tuple[int, int]] = set()
        self._stars = [
            s for s in definitions.statements if isinstance(s.node, ast.ImportFrom) and s.node.names[0].name == "*"
        ]

    def take(self, index: int, called_at: int = END) -> None:
        """Take a statement and all that it needs. What its functions read is read at position `called_at`."""
        todo = [(index, called_at)]
        while todo:
            index, at = todo.pop()
            if index not in self.taken:
                self.taken.add(index)
                todo += self._at_once(index)
            if (index, at) not in self._seen:
                self._seen.add((index, at))
                todo += [(i, at) for i in self._later(index, at)]

    def _at_once(self, index: int) -> Iterable[tuple[int, int]]:
        """Yield the statements needed when a statement runs, each with the position at which its
        functions are called.
        """
        statement = self.definitions.statements[index]
        self._look_inside(index)
        before = self.after.setdefault(index, set())
        for name in sorted(self.definitions.may_read(index) | set(self._on(statement))):
            made = self._resolve(name, index, index)
            self.found[index, name] = made
            before.update(made)
            yield from ((i, END) for i in made)
            if name in statement.names.calls:
                yield from self._call(index, self.definitions.callable_in([name], index))
        if statement.names.handed:
            yield from self._call(index, [index])

    def _call(self, index: int, functions: list[int]) -> Iterable[tuple[int, int]]:
        """Yield what the call of functions needs: the names that they read must be bound before the statement runs."""
        todo, seen = list(functions), set[int]()
        while todo:
            function = todo.pop()
            if function in seen:
                continue
            seen.add(function)
            yield function, index
            todo += [i for i in self._later(function, index) if not self.definitions.is_service(i)]
        self.called.setdefault(index, set()).update(seen - {index})

    def _later(self, index: int, at: int) -> list[int]:
        names = self.definitions.statements[index].names
        soft = {n for n in names.soft - names.later if self.definitions.knows(n)}
        found = set[int]()
        for name in sorted(names.later | soft):
            made = self._resolve(name, at, index, at_once=False)
            if at == END:
                self.found_later[index, name] = made
            found.update(made)
        return sorted(found)

    def _on(self, statement: Statement) -> Iterable[str]:
        """Return the variables of services on which the statement depends by registered name."""
        services = self.definitions.services.items()
        return (v for v, i in services if registered(self.definitions.statements[i]) in statement.names.depends)

    def _resolve(self, name: str, before: int, reader: int, *, at_once: bool = True) -> list[int]:
        statement = self.definitions.statements[reader]
        if name in self._freeze:
            return self._frozen(name)
        made = self.definitions.find(name, before)
        if not made.by and not at_once and before != END:
            made = self.definitions.find(name)
        if not made.by and made.deleted is not None:
            self.refuse(diagnostics.deleted(name, statement, self.definitions.statements[made.deleted]), reader)
            return []
        if not made.by:
            self._unbound(name, reader, at_once=at_once)
            return []
        kept = [self._checked(name, i, reader) for i in made.all() if i != reader]
        for index in kept:
            self.wanted.setdefault(index, set()).add(name)
        if any(not self.definitions.statements[i].is_plain for i in made.by):
            self.values.add(name)
        return sorted(set(kept))

    def _frozen(self, name: str) -> list[int]:
        made = self.definitions.find(name)
        self.frozen.add(name)
        for index in made.by[:1]:
            statement = self.definitions.statements[index]
            if statement.is_import or statement.is_definition:
                self.refuse(diagnostics.frozen_definition(name, statement), index)
        return []

    def _unbound(self, name: str, reader: int, *, at_once: bool) -> None:
        statement = self.definitions.statements[reader]
        if name in statement.names.defines or (name in _GIVEN and name not in diagnostics.NOTEBOOK_ONLY):
            return
        later = self.definitions.find(name)
        if at_once and later.by:
            self.refuse(diagnostics.too_early(name, statement, self.definitions.statements[min(later.by)]), reader)
        elif name != "get_ipython" or not _magics(statement):
            reason = diagnostics.unexplained(name, statement, self._stars, live=name in self._known)
            self.refuse(reason + diagnostics.hint(name, self.definitions.statements), reader)

    def _checked(self, name: str, index: int, reader: int) -> int:
        """Return the statement, or another one with the same code; object where it cannot be run again."""
        made = self.definitions.statements[index]
        if name in self.definitions.services and self.definitions.services[name] == index:
            return index
        if made.failed or not made.cell.current:
            other = self._same_again(name, index)
            if other is not None:
                return other
            if not made.cell.current or not self._sets_module(name, index):
                self._object(diagnostics.failed if made.failed else diagnostics.overtaken, name, reader, index)
        elif made.magic:
            self._object(diagnostics.from_magic, name, reader, index)
        elif made.names.awaits:
            self._object(diagnostics.awaits, name, reader, index)
        elif (
            (made.cell.seconds or 0) > COSTLY
            and not made.is_plain
            and not self._recompute & {name, *made.names.defines}
        ):
            self._object(diagnostics.costly, name, reader, index)
        return index

    def _sets_module(self, name: str, index: int) -> bool:
        """Whether it is an import, or a call that seeds or sets something in a module: it does not depend on the rest
        of its cell.
        """
        statement = self.definitions.statements[index]
        makers = [self.definitions.statements[i] for i in self.definitions.find(name, index + 1).by]
        return isinstance(statement.node, ast.Expr | ast.Import | ast.ImportFrom) and all(m.is_import for m in makers)

    def _object(self, why: diagnostics.Objection, name: str, reader: int, index: int) -> None:
        """Note an objection to a statement; those of one cell are reported together."""
        statements = self.definitions.statements
        key = why, statements[index].cell.label, statements[index].magic
        self._objections.setdefault(key, []).append((name, statements[reader], statements[index], index))

    def _same_again(self, name: str, index: int) -> int | None:
        """Return the same import, function, class or constant in a cell that still exists; None where there is none."""
        made = self.definitions.statements[index]
        if not made.is_plain:
            return None
        for other in self.definitions.versions(name):
            statement = self.definitions.statements[other]
            if statement.cell.current and not statement.cell.failed and ast.dump(statement.node) == ast.dump(made.node):
                return other
        return None

    def _look_inside(self, index: int) -> None:
        """Refuse what a script cannot contain, inside a statement."""
        statement = self.definitions.statements[index]
        if isinstance(statement.node, ast.If) and "__name__" in ast.unparse(statement.node.test):
            self.refuse(diagnostics.guarded(statement), index)
        for magic in _magics(statement) if not statement.magic else ():
            self.refuse(diagnostics.notebook_only(statement, magic), index)
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for module in _modules(node):
                    if module.startswith("tqdm.notebook"):
                        self.refuse(diagnostics.notebook_bar(statement, ast.unparse(node)), index)
                    elif module.partition(".")[0] in _NOTEBOOKS:
                        self.refuse(diagnostics.notebook_only(statement, ast.unparse(node)), index)
        for inside in services_inside(statement):
            self.refuse(diagnostics.hidden(statement, inside.name), index)

    def refuse(self, reason: str, index: int) -> None:
        self.refused.setdefault(reason, (index, len(self.refused)))

    def reasons(self) -> list[str]:
        """Return all refusals, in the order of the cells; one for several names of a cell with the same reason."""
        refused = dict(self.refused)
        for (why, *_), noted in self._objections.items():
            found = diagnostics.Found([(name, asks, made) for name, asks, made, _ in noted])
            refused.setdefault(why(found), (noted[0][3], len(refused)))
        return sorted(refused, key=refused.__getitem__)


def services_inside(statement: Statement) -> list[ast.ClassDef]:
    """Return classes with an api inside another statement: `if`, `try`, ..."""
    if statement.is_definition:
        return []
    return [n for n in ast.walk(statement.node) if isinstance(n, ast.ClassDef) and has_api(n)]


def registered(statement: Statement) -> str:
    """Return the name by which others may depend on a service: that of the magic, the decorator, or the class."""
    if statement.options and statement.options.get("name"):
        return str(statement.options["name"])
    for decorator in getattr(statement.node, "decorator_list", []):
        for keyword in getattr(decorator, "keywords", []):
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return str(getattr(statement.node, "name", ""))


def _magics(statement: Statement) -> list[str]:
    return [m for m in map(magic_in, ast.walk(statement.node)) if m]


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]


_WEIGHTLESS = {"Flatten", "GELU", "Identity", "LogSoftmax", "MSELoss", "NLLLoss", "CrossEntropyLoss", "BCELoss", "ReLU",
               "Sigmoid", "Softmax", "Tanh"}  # fmt: skip
_SEEDS = {"seed", "manual_seed"}
_GENERATORS = {"default_rng", "Random", "RandomState"}


def random_otherwise(definitions: Definitions, taken: Collection[int]) -> Iterator[str]:
    """Yield a note for each source of random numbers from which statements draw that are not in the script."""
    statements = definitions.statements
    for name, seed in _sources(definitions, taken).items():
        draws = [i for i in range(seed + 1, len(statements)) if _draws(statements[i], name)]
        missing = [i for i in draws if i not in taken and statements[i].cell.current and not statements[i].failed]
        if missing and any(i in taken for i in draws if i > missing[0]):
            yield (
                f"{diagnostics.place(statements[missing[0]])} draws random numbers from `{name}`, and the script does "
                "not: those that it draws are others than here; --freeze NAME keeps a value as it is"
            )


def unseeded(definitions: Definitions, order: Sequence[int], wanted: Mapping[int, set[str]]) -> Iterator[str]:
    """Yield a line for each statement of a script that draws random numbers which nothing before it has seeded."""
    seeded = set[str]()
    for index in order:
        statement = definitions.statements[index]
        if statement.is_definition or statement.is_import:
            continue
        nodes = [
            statement.node,
            *(definitions.statements[i].node for i in definitions.callable_in(statement.names.calls, index)),
        ]
        calls = [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call)]
        found = {library for call in calls if (library := _library(definitions, call, index))}
        if found - seeded:
            names = sorted(n for n in wanted.get(index, ()) if definitions.is_value(n, index + 1)) or ["NAME"]
            values = diagnostics.listed([f"`{name}`" for name in names])
            yield (
                f"{diagnostics.place(statement)} draws random numbers that nothing has seeded: {values} may be "
                f"different each time: {' '.join(f'--freeze {name}' for name in names)} keeps what is here"
            )
        seeded |= {library for call in calls for library in _seeds(definitions, call, index)}


def _library(definitions: Definitions, call: ast.Call, index: int) -> str:
    """Return whose random numbers a call draws: "random", "numpy" or "torch"; "" for none."""
    origin = definitions.origin(called(call.func), index)
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
    """Whether a name of torch is a layer with random weights, such as `nn.Linear`."""
    return rest.startswith("nn.") and rest.rpartition(".")[2] in known.LAYERS - _WEIGHTLESS


def _seeds(definitions: Definitions, call: ast.Call, index: int) -> set[str]:
    origin, function = definitions.origin(called(call.func), index), last(call.func)
    if function == "set_seed":
        return {"random", "numpy", "torch"}
    return {origin.partition(".")[0]} if function in _SEEDS else set()


def _sources(definitions: Definitions, taken: Collection[int]) -> dict[str, int]:
    """Return modules that are seeded, and generators, each with its statement."""
    found = {}
    for index in sorted(taken):
        node = definitions.statements[index].node
        call = getattr(node, "value", None)
        if not isinstance(call, ast.Call):
            continue
        if isinstance(node, ast.Expr) and last(call.func) in _SEEDS and root(call.func):
            found[root(call.func)] = index
        elif isinstance(node, ast.Assign) and last(call.func) in _GENERATORS:
            found.update({target.id: index for target in node.targets if isinstance(target, ast.Name)})
    return found


def _draws(statement: Statement, name: str) -> bool:
    if statement.is_definition:
        return False
    calls = (n.func for n in ast.walk(statement.node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return any(root(call) == name and last(call) not in _SEEDS | _GENERATORS and _is_random(call) for call in calls)


def _is_random(function: ast.Attribute) -> bool:
    """Whether a method draws: `np.random.choice`, `random.choice`, `torch.randn`, or any method of a variable:
    `rng.normal`.
    """
    text = ast.unparse(function)
    return "rand" in text or (text.count(".") == 1 and text.partition(".")[0] not in ("np", "numpy", "torch"))
