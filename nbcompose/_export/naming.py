"""Names in a script: the names that its imports bind, and imports that must be added."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterable, Iterator


class ScriptNames:
    """The names at the top level of a script. `imports`: its own; `taken`: the names bound by anything else.

    `used`: names of imports that were requested; `added`: imports to add for them.
    """

    def __init__(self, imports: Iterable[ast.stmt], taken: Collection[str]) -> None:
        bound = dict.fromkeys(pair for node in imports for pair in bindings(node))
        times = Counter(name for name, _ in bound)
        self._origins = {name: origin for name, origin in bound if name not in taken and times[name] == 1}
        self._taken = {*taken, *times}
        self.added: list[str] = []
        self.used: set[str] = set()

    def origin(self, node: ast.expr) -> str:
        """Return the full name of an expression, e.g. "nbcompose.service" for `bentoml.service`; "" where it is
        unknown.
        """
        if isinstance(node, ast.Name):
            return self._origins.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self.origin(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def module(self, module: str, favorite: str = "") -> str:
        """Return the script's name of a module; `favorite` is its name if the import has to be added."""
        favorite = favorite or module
        name = self._known(module, favorite)
        if not name:
            name = self._free(favorite)
            self._add(name, module, f"import {module}" + (f" as {name}" if name != module else ""))
        self.used.add(name)
        return name

    def member(self, module: str, member: str, favorite: str = "") -> str:
        """Return the script's name of `module.member`: `service`, or `bentoml.service` where it imports no names from
        it.

        The second form is also used where the name `service` is taken, except for a module in a package, which is not
        imported for this.
        """
        favorite = favorite or member
        name = self._known(f"{module}.{member}", favorite)
        if not name and "." not in module and (self._by_module(module) or favorite in self._taken):
            return f"{self.module(module)}.{member}"
        if not name:
            name = self._free(favorite)
            line = f"from {module} import {member}" + (f" as {name}" if name != member else "")
            self._add(name, f"{module}.{member}", line)
        self.used.add(name)
        return name

    def _known(self, origin: str, favorite: str) -> str:
        names = [name for name, found in self._origins.items() if found == origin]
        return favorite if favorite in names else next(iter(names), "")

    def _by_module(self, module: str) -> bool:
        """Whether the script imports the module, and no names from it."""
        origins = self._origins.values()
        return module in origins and not any(origin.rpartition(".")[0] == module for origin in origins)

    def _free(self, favorite: str) -> str:
        name = favorite
        while name in self._taken:
            name += "_"
        return name

    def _add(self, name: str, origin: str, line: str) -> None:
        self._taken.add(name)
        self._origins[name] = origin
        self.added.append(line)


def bindings(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the names that an import binds, each with the full name of its value."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, f"{'.' * node.level}{node.module or ''}.{alias.name}"
