"""What of a notebook's names is IPython's, not its user's, and works in the kernel only."""

from __future__ import annotations

import sys
from typing import Any

_BUILTINS = ("open", "exit", "quit")  # for which IPython has something else, under the same name


def is_ipythons(value: Any) -> bool:
    """Whether it is `get_ipython`, or stands there for a builtin."""
    space: Any = getattr(value, "__globals__", None)
    owner = space.get("__name__") if isinstance(space, dict) else type(value).__module__
    return isinstance(owner, str) and owner.split(".")[0] == "IPython"


def is_builtin(name: str, value: Any) -> bool:
    """Whether a replica has the builtin of that name instead."""
    return name in _BUILTINS and is_ipythons(value)


def places() -> dict[int, tuple[str, str]]:
    """By `id`: module and name of what takes their place in a replica."""
    space = vars(sys.modules["__main__"])
    return {id(space[n]): ("builtins", n) for n in _BUILTINS if n in space and is_ipythons(space[n])}
