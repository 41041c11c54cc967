"""Which annotation has which `Leaf`: the one place that knows all of them, and the one place to add another."""

from __future__ import annotations

import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any, get_origin

import numpy as np

from nbcompose.schema.arrays import Array, Frame, Interval, Moment, Scalar, Series, Tensor, Values
from nbcompose.schema.leaf import Leaf
from nbcompose.schema.media import Base64, Image, Upload

# Libraries that are looked up where they are loaded, never imported: a type of theirs exists only then.
_LIBRARIES: tuple[tuple[str, str, Callable[[type], Leaf]], ...] = (
    ("torch", "Tensor", Tensor),
    ("pandas", "DataFrame", Frame),
    ("pandas", "Series", Series),
    ("pandas", "Index", Values),
    ("pandas.api.extensions", "ExtensionArray", Values),
    ("pandas", "Timestamp", Moment),
    ("pandas", "Timedelta", Moment),
    ("pandas", "Period", Moment),
    ("pandas", "Interval", Interval),
    ("PIL.Image", "Image", Image),
)


def leaf_for(annotation: Any, *, over_http: bool) -> Leaf | None:
    """The leaf for an annotation of one foreign type, or None where it is none (or stays pydantic's).

    `over_http`: for JSON and uploads, where bytes and paths have forms of their own as well.
    """
    leaf = _leaf_for(annotation, over_http)
    if leaf is not None:
        leaf.from_json = over_http
    return leaf


def _leaf_for(annotation: Any, over_http: bool) -> Leaf | None:
    cls = get_origin(annotation) or annotation
    if not inspect.isclass(cls):
        return None
    if cls is np.ndarray:
        return Array(cls, annotation)
    if issubclass(cls, np.generic):
        return Scalar(cls)
    for module, name, leaf in _LIBRARIES:
        base = getattr(sys.modules.get(module), name, None)
        if base is not None and issubclass(cls, base):
            return leaf(cls)
    if not over_http:
        return None
    if cls in (bytes, bytearray):
        return Base64(cls)
    return Upload(cls) if issubclass(cls, pathlib.PurePath) else None
