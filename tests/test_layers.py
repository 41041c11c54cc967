"""Imports go down the layers only, never in a circle, and into another room through its face (`__init__.pyi`)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import nbcompose

ROOT = Path(nbcompose.__file__).parent

# The lowest first; a module may import from its own layer and from those above it in this list.
LAYERS = (
    "errors settings _spec _units _user_exceptions",
    "_protocol",
    "_host _hub _tracing",
    "_schema",
    "_service models streams",
    "_rpc",
    "llms",
    "_replica",
    "_code",
    "_control",
    "_ipython_adapter _export",
    "_notebook _jupyter",
    "cli",
)
PUBLIC_ROOMS = ("nbcompose", "nbcompose.llms")  # users import what their faces name
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module but the package's own `__init__`, which loads its names when they are asked for."""
    found = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts): p for p in ROOT.rglob("*.py")}
    return {
        name.removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
        for name, path in found.items()
        if name != "nbcompose.__init__"
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """What a module imports when it runs, inside functions too; what only type checkers read is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from imports(node)


@cache
def edges() -> dict[str, set[str]]:
    known = modules()
    found: dict[str, set[str]] = {}
    for name, tree in known.items():
        wanted = [w for w in imports(tree) if w.startswith("nbcompose.")]
        found[name] = {w if w in known else w.rpartition(".")[0] for w in wanted} & known.keys()
    return found


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[1] for name in modules()} == RANK.keys()


def test_imports_go_down() -> None:
    up = [
        f"{name} imports {target}"
        for name, targets in edges().items()
        for target in targets
        if RANK[target.split(".")[1]] > RANK[name.split(".")[1]]
    ]
    assert up == []


def test_there_is_no_circle() -> None:
    TopologicalSorter(edges()).prepare()


def room_of(module: str) -> str:
    """The innermost package that a module is in; "" for the files beside the rooms."""
    return next((p for p in _parents(module) if p in faces()), "")


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 1, -1)]


@cache
def faces() -> dict[str, set[str]]:
    """What each room lets others import: names, and modules that are used by their name."""
    found = {}
    for path in ROOT.rglob("__init__.pyi"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
        assert all(alias.name == alias.asname for alias in imported), path
        found[".".join(path.parent.relative_to(ROOT.parent).parts)] = {alias.name for alias in imported}
    return found


def test_every_room_has_a_face() -> None:
    rooms = {".".join(path.parent.relative_to(ROOT.parent).parts) for path in ROOT.rglob("__init__.py")}
    assert rooms == faces().keys()


def test_no_module_has_the_name_of_something_that_its_room_exports() -> None:
    for path in ROOT.rglob("__init__.pyi"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module for a in node.names}
        assert not names & {module.stem for module in path.parent.glob("*.py")}, path


def test_other_rooms_are_entered_through_their_face() -> None:
    inside = []
    for name, tree in modules().items():
        for wanted in imports(tree):
            home, _, attribute = wanted.rpartition(".")
            room = home if home in faces() else room_of(home)
            if room in ("", "nbcompose") or room == room_of(name) or not wanted.startswith("nbcompose."):
                continue
            if home != room or attribute not in faces()[room]:
                inside.append(f"{name} imports {wanted}")
    assert inside == []


def test_faces_export_what_others_use() -> None:
    used = {wanted for name, tree in modules().items() for wanted in imports(tree)}
    face = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    public = {
        f"nbcompose.{(node.module or '')}.{alias.name}"
        for node in face.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    unused = [
        f"{r}.{n}"
        for r, names in faces().items()
        if r not in PUBLIC_ROOMS
        for n in names
        if f"{r}.{n}" not in used | public
    ]
    assert unused == []
