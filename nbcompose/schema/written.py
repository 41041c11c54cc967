"""What functions and classes are annotated with, as far as it can be told: from Python 3.14 on annotations are
evaluated when somebody asks, and a name that does not exist is an error only then. Here it stays a string.

What annotations mean is `hints.py`'s matter.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, ForwardRef

from typing_extensions import Format, get_annotations

_LENIENT: dict[str, Any] = {"annotation_format": Format.FORWARDREF} if sys.version_info >= (3, 14) else {}


def annotations_of(thing: Any) -> dict[str, Any]:
    """The annotations of a function, or those that a class itself has, by name."""
    found = get_annotations(thing, format=Format.FORWARDREF)
    return {name: a.__forward_arg__ if isinstance(a, ForwardRef) else a for name, a in found.items()}


def written_signature(function: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """As `inspect.signature`, which would fail where a name does not exist."""
    return inspect.signature(function, follow_wrapped=follow_wrapped, **_LENIENT)
