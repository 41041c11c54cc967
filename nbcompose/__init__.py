"""nbcompose: compose models without leaving the notebook.

`%load_ext nbcompose` makes a `%%service` cell a running model server. The names here are the declaration API, which
is that of BentoML's model composition (`import nbcompose as bentoml`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbcompose import errors, models
    from nbcompose.declaration import Service, api, depends, on_shutdown, on_startup, service
    from nbcompose.errors import NbcomposeError, UnknownArgumentWarning
    from nbcompose.host.devices import device
    from nbcompose.notebook.extension import load_ipython_extension, unload_ipython_extension
    from nbcompose.notebook.graph.show import graph
    from nbcompose.serving import serve
    from nbcompose.timeline import trace, traces
    from nbcompose.tracing import cancelled

__version__ = "0.1.0"

__all__ = [
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
    "serve",
    "service",
    "trace",
    "traces",
    "unload_ipython_extension",
]

# Loaded when first used: `import nbcompose` is quick, and needs neither Jupyter nor torch.
_HOMES = {
    "NbcomposeError": "nbcompose.errors",
    "Service": "nbcompose.declaration",
    "UnknownArgumentWarning": "nbcompose.errors",
    "api": "nbcompose.declaration",
    "cancelled": "nbcompose.tracing",
    "depends": "nbcompose.declaration",
    "device": "nbcompose.host.devices",
    "graph": "nbcompose.notebook.graph.show",
    "load_ipython_extension": "nbcompose.notebook.extension",
    "on_shutdown": "nbcompose.declaration",
    "on_startup": "nbcompose.declaration",
    "serve": "nbcompose.serving",
    "service": "nbcompose.declaration",
    "trace": "nbcompose.timeline",
    "traces": "nbcompose.timeline",
    "unload_ipython_extension": "nbcompose.notebook.extension",
}


def __getattr__(name: str) -> Any:
    if name in ("errors", "models"):
        return importlib.import_module(f"nbcompose.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nbcompose' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
