"""Imports go down the layers only, and never in a circle."""

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
    "errors spec raised",
    "host plan topology tracing unawaited timeline batching hub huggingface_hub_adapter",
    "schema",
    "declaration models",
    "wire",
    "calling",
    "replica",
    "engine",
    "capture overview rollout runtimes switchboard registry",
    "ipython_adapter ipykernel_adapter",
    "entry watching reloading serving export notebook cli",
)
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
    assert {name.split(".")[1] for name in modules()} - {"_version"} == RANK.keys()


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
