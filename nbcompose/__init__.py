"""nbcompose: compose models without leaving the notebook.

`%load_ext nbcompose` makes a `%%service` cell a running model server. The names here are the declaration API, which
is that of BentoML's model composition (`import nbcompose as bentoml`).
"""

from typing import Any

from lazy_loader import attach_stub

__version__ = "0.1.0"

# Loaded when first used, from where `__init__.pyi` says: the import is quick, and needs neither Jupyter nor torch.
_load, _, _names = attach_stub(__name__, __file__)
__all__ = sorted([*(name for name in _names if not name.startswith("_")), "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _names:
        raise AttributeError(f"module 'nbcompose' has no attribute {name!r}")
    return _load(name)


def __dir__() -> list[str]:
    return __all__
