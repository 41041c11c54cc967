"""Custom types for arrays and tables: numpy arrays and scalars, torch tensors, pandas objects.

The conversions themselves are in `_schema/codecs.py` and `_schema/times.py`.
"""

from __future__ import annotations

import datetime
import inspect
import math
import types
from typing import Any, Union, get_args, get_origin

import numpy as np
from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from nbcompose._schema import codecs, times
from nbcompose._schema.custom_types import CustomType
from nbcompose._units import with_article

NPY = "application/x-npy"
CSV = "text/csv"

# JSON types of a nested list of numbers, as separate schemas: not every schema reader supports a list of types.
_NUMERIC = ("array", "number", "boolean", "null")

_TIMES = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)
_ISO = {"M": "ISO 8601 dates or times", "m": "ISO 8601 durations"}

_DEFAULT_OF_ABSTRACT: dict[type, type] = {
    np.floating: np.float64,
    np.inexact: np.float64,
    np.integer: np.int64,
    np.signedinteger: np.int64,
    np.unsignedinteger: np.uint64,
    np.complexfloating: np.complex128,
}


class Array(CustomType):
    """`np.ndarray` or `npt.NDArray[np.float32]`, of any shape. Values are cast to a concrete dtype if none is lost."""

    takes = gives = (NPY,)

    def __init__(self, cls: type, annotation: Any = None) -> None:
        super().__init__(cls)
        self.scalars = _scalar_types(annotation)
        self.times = times.kind_of(self.scalars)

    def accept(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._cast(value) if self.scalars else value
        if self.times is not None and isinstance(value, (list, tuple, int, float, str, *_TIMES)):
            return times.from_texts(value, self.times)
        if isinstance(value, (list, tuple, int, float, np.generic)):
            array = codecs.array_from_json(value, finite=self.from_json)
            if array.dtype.kind in "biufcMm" or (self.scalars and array.dtype.kind in "US"):
                return self._cast(array) if self.scalars else array
        raise self.mismatch(value)

    def _cast(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if any(issubclass(array.dtype.type, s) for s in self.scalars):
            return array
        first = self.scalars[0]
        return codecs.cast(array, np.dtype(_DEFAULT_OF_ABSTRACT.get(first, first)))

    def json_value(self, value: Any) -> Any:
        return codecs.array_to_json(value)

    def decode(self, data: bytes, filename: str | None) -> Any:
        return codecs.array_from_npy(data)

    def forms(self, value: Any) -> tuple[str, ...]:
        return () if value.dtype.hasobject else self.gives  # such a .npy file would contain a pickle

    def encode(self, value: Any, media_type: str) -> bytes:
        return codecs.array_to_npy(value)

    def describe(self) -> dict[str, Any]:
        names = " or ".join(s.__name__ for s in self.scalars)
        if self.times is not None:
            told = f"an array of {names}: nested lists of {_ISO[self.times]}, null is NaT"
            kinds = [{"type": "array", "items": {}}, {"type": "string"}, {"type": "null"}]
            return {"description": told, "anyOf": kinds}
        return {
            "description": f"an array of {names or 'numbers'}: nested lists, null is NaN",
            "anyOf": [{"type": kind, **({"items": {}} if kind == "array" else {})} for kind in _NUMERIC],
        }


class Scalar(CustomType):
    """A numpy scalar type, e.g. `np.float32`: converted from a number that it can represent."""

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self.times = times.kind_of((cls,))

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        if self.times is not None and isinstance(value, (int, float, str, *_TIMES)):
            return times.from_texts(value, self.times)[()]
        if self.from_json and isinstance(value, float) and math.isinf(value):
            raise ValueError(codecs.TOO_LARGE)
        if isinstance(value, (bool, int, float, complex, str, np.generic)):
            target = np.dtype(_DEFAULT_OF_ABSTRACT.get(self.cls, self.cls))
            try:
                array = np.asarray(value)
                return (array.astype(target) if _widens(array, target) else codecs.cast(array, target))[()]
            except OverflowError as error:
                raise ValueError(str(error)) from None
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        is_more = value.dtype.kind in "MmV" or value.dtype.char in "gG"
        return codecs.array_to_json(np.asarray(value)) if is_more else value.item()

    def describe(self) -> dict[str, Any]:
        if self.times is not None:
            return {"type": "string", "description": f"{with_article(self.cls.__name__)}, as one of {_ISO[self.times]}"}
        kinds = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}
        kind = kinds.get(np.dtype(_DEFAULT_OF_ABSTRACT.get(self.cls, self.cls)).kind, "string")
        return {"type": kind, "description": with_article(self.cls.__name__)}

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        told = self.describe()
        may_be_null = told["type"] == "number" or self.times is not None  # NaN, infinities, NaT
        if may_be_null and handler.mode == "serialization":
            return {"anyOf": [{"type": told["type"]}, {"type": "null"}], "description": told["description"]}
        return told


class Tensor(CustomType):
    """`torch.Tensor` of any dtype. JSON is nested lists; decimal numbers become torch's default dtype."""

    takes = gives = (NPY,)

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        if isinstance(value, np.ndarray):
            return self._checked(codecs.tensor_from_array(value))
        if isinstance(value, (list, tuple, int, float)):
            array = codecs.array_from_json(value, finite=self.from_json)
            return self._checked(codecs.tensor_from_array(array, default_float=True))
        raise self.mismatch(value)

    def _checked(self, tensor: Any) -> Any:
        if not isinstance(tensor, self.cls):  # a subclass, e.g. torch.nn.Parameter
            raise self.mismatch(tensor)
        return tensor

    def json_value(self, value: Any) -> Any:
        return codecs.tensor_to_array(value).tolist()

    def decode(self, data: bytes, filename: str | None) -> Any:
        return codecs.tensor_from_array(codecs.array_from_npy(data))

    def encode(self, value: Any, media_type: str) -> bytes:
        return codecs.array_to_npy(codecs.tensor_to_array(value))

    def describe(self) -> dict[str, Any]:
        return {
            "description": "a tensor: nested lists of numbers, null is NaN",
            "anyOf": [{"type": kind, **({"items": {}} if kind == "array" else {})} for kind in _NUMERIC],
        }


class Frame(CustomType):
    """`pandas.DataFrame`. JSON is a list of rows; an object of columns is accepted, too. A file is CSV.

    Index labels are sent as fields of the rows, under the index's name or "index"; see `codecs.frame_to_records`.
    """

    takes = (CSV, "text/tab-separated-values", "application/vnd.ms-excel")  # the last: what Windows calls a CSV file
    gives = (CSV,)

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        if isinstance(value, (list, dict)):
            return codecs.frame_from_json(value)
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return codecs.frame_to_records(value)

    def decode(self, data: bytes, filename: str | None) -> Any:
        return self.accept(codecs.frame_from_csv(data))

    def encode(self, value: Any, media_type: str) -> bytes:
        return codecs.frame_to_csv(value)

    def describe(self) -> dict[str, Any]:
        return {
            "description": "a table: a list of rows, or an object of columns",
            "anyOf": [
                {"type": "array", "items": {"type": "object"}},
                {"type": "object", "additionalProperties": {"type": "array", "items": {}}},
            ],
        }


class Series(CustomType):
    """`pandas.Series`. JSON is a list of its values, or of rows if its index has labels, as for a DataFrame."""

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        if isinstance(value, list):
            return self.cls(value)
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return codecs.series_to_list(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "array", "items": {}, "description": "a list of values"}


class PandasValues(CustomType):
    """`pandas.Index` and pandas arrays such as `Categorical`. Results only, as lists of their values."""

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return codecs.values_of(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "array", "items": {}, "description": with_article(self.cls.__name__)}


class Moment(CustomType):
    """`pandas.Timestamp`, `Timedelta` and `Period`. JSON is a text that pandas can parse; NaT is null."""

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls) or codecs.is_missing(value):
            return value
        if isinstance(value, (str, datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)):
            try:
                return self.cls(value)
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"not {with_article(self.cls.__name__)}: {error}") from None
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else str(value)

    def _dump(self, value: Any) -> Any:
        return None if codecs.is_missing(value) else super()._dump(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "description": with_article(self.cls.__name__)}


class Interval(CustomType):
    """`pandas.Interval`. JSON is an object of its ends and of which of them are closed."""

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        if isinstance(value, dict) and {"left", "right"} <= value.keys() <= {"left", "right", "closed"}:
            try:
                return self.cls(**value)
            except (ValueError, TypeError) as error:
                raise ValueError(f"not an Interval: {error}") from None
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return {"left": value.left, "right": value.right, "closed": value.closed}

    def describe(self) -> dict[str, Any]:
        ends = {"left": {}, "right": {}, "closed": {"enum": ["left", "right", "both", "neither"]}}
        told = "an interval: its ends, and which of them belong to it"
        return {"type": "object", "properties": ends, "required": ["left", "right"], "description": told}


def _scalar_types(annotation: Any) -> tuple[type, ...]:
    """Return the scalar types that `np.ndarray[shape, np.dtype[...]]` allows; () if it allows any."""
    args = get_args(annotation)
    if len(args) < 2:
        return ()
    found: list[type] = []
    for dtype in get_args(args[1]) if get_origin(args[1]) is not np.dtype else (args[1],):
        for scalar in get_args(dtype):
            is_union = get_origin(scalar) in (Union, types.UnionType)
            found.extend(get_origin(m) or m for m in (get_args(scalar) if is_union else (scalar,)))
    scalars = tuple(s for s in found if inspect.isclass(s) and issubclass(s, np.generic))
    return () if len(scalars) < len(found) or np.generic in scalars else scalars


def _widens(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> bool:
    """Whether a text is converted to a text or a time, for which `cast` is not used."""
    return target.kind in "USMm" and array.dtype.kind in "US"
