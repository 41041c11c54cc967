"""The public names, and what it costs to import them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import nbcompose

PUBLIC = [
    "NbcomposeError",
    "Service",
    "UnknownArgumentWarning",
    "__version__",
    "api",
    "cancelled",
    "depends",
    "device",
    "errors",
    "graph",
    "load_ipython_extension",
    "models",
    "on_shutdown",
    "on_startup",
    "run",
    "serve",
    "service",
    "settings",
    "trace",
    "traces",
    "unload_ipython_extension",
]

HEAVY = (
    "IPython",
    "anywidget",
    "ipykernel",
    "jupyter_client",
    "torch",
    "transformers",
    "pandas",
    "PIL",
    "pygraphviz",
    "tornado",
    "httpx",
)


def test_the_names_are_these() -> None:
    assert nbcompose.__all__ == PUBLIC
    assert dir(nbcompose) == PUBLIC


@pytest.mark.parametrize("name", [n for n in PUBLIC if "ipython" not in n])
def test_each_of_them_is_there(name: str) -> None:
    assert getattr(nbcompose, name) is not None


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'nbcompose' has no attribute 'sevrice'"):
        nbcompose.sevrice  # type: ignore[attr-defined]


@pytest.mark.system
@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import nbcompose", set()),
        ("from nbcompose import api, depends, models, on_shutdown, on_startup, service", {"httpx"}),
        ("import nbcompose.cli", {"httpx", "tornado"}),
    ],
)
def test_an_import_loads_nothing_heavy(statement: str, allowed: set[str]) -> None:
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(json.loads(done.stdout)) <= allowed


@pytest.mark.system
def test_every_module_can_be_imported_first() -> None:
    # Whoever imports just one of them must not depend on what others have imported before.
    for module in (
        "nbcompose._service.decorators",
        "nbcompose._control.registry",
        "nbcompose._replica.main",
        "nbcompose._rpc.connection",
    ):
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
