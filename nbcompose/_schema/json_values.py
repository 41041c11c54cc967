"""Serialize values as JSON, describe types as JSON schemas, and parse JSON of requests within bounds.

A value is written by the serializer of its annotation. Values inside `dict` or `Any` are written by their own type:
arrays as nested lists, images as data URLs, NaN and infinities as null, bytes as text if they are UTF-8 and as base64
otherwise.

A text with two bytes per value takes forty times as much memory once parsed, and parsing holds the GIL. So the values
of a large text are counted first, in slices between which other threads can run. The bounds are chosen such that
decoding an accepted text takes less than a tenth of a second.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import gc
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticSerializationError, core_schema, from_json, to_json

from nbcompose._schema import codecs, structs
from nbcompose._schema.adapters import leaf_for
from nbcompose._schema.custom_types import Upload
from nbcompose._schema.pydantic_adapter import is_about_utf8
from nbcompose._schema.unawaited import check_awaited
from nbcompose._spec import Http
from nbcompose.errors import PayloadTooLarge


def dump_json(adapter: TypeAdapter[Any], value: Any) -> bytes:
    """Serialize a checked value as JSON. Raises ValueError for a value without a JSON form."""
    try:
        return adapter.serializer.to_json(value, fallback=fallback, warnings=False)
    except PydanticSerializationError as error:
        if not is_about_utf8(error):
            filled = without_missing(value)
            if filled is not value:
                return dump_json(adapter, filled)
            raise ValueError(str(error).removeprefix("Error serializing to JSON: ")) from error
    return to_json(plain(value), fallback=fallback, inf_nan_mode="null")


def fallback(value: Any) -> Any:
    """Convert a value of a type that pydantic does not know; a callback of pydantic's serializer."""
    check_awaited(value)
    if codecs.is_missing(value):
        return None
    leaf = leaf_for(type(value), over_http=False)
    if leaf is None:
        raise TypeError(f"a value of type {type(value).__qualname__} has no JSON form")
    return leaf.json_value(value)


def without_missing(value: Any) -> Any:
    """Return a copy in which pandas' NaT, which pydantic takes for a datetime, is None; `value` itself if there is
    none.
    """
    if codecs.is_missing(value):
        return None
    if isinstance(value, dict):
        filled = {key: without_missing(item) for key, item in value.items()}
        return filled if any(filled[key] is not item for key, item in value.items()) else value
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [without_missing(item) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        fields = vars(value) if hasattr(value, "__dict__") else {}
        changed = {name: new for name, item in fields.items() if (new := without_missing(item)) is not item}
        if not changed:
            return value
        made = copy.copy(value)
        vars(made).update(changed)
        return made
    return value


def plain(value: Any) -> Any:
    """Convert a value to dicts, lists and scalars. Slow: only for what pydantic cannot serialize, e.g. bytes in a
    model.
    """
    if codecs.is_missing(value):
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes(bytes(value))
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, BaseModel):
        return plain(value.model_dump(by_alias=True, warnings=False))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    leaf = leaf_for(type(value), over_http=True)
    return value if leaf is None or isinstance(leaf, Upload) else plain(leaf.json_value(value))


def _bytes(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return codecs.to_base64(data)


class _Generator(GenerateJsonSchema):
    """pydantic's schema generator, adapted to what `dump_json` writes. Types without a JSON form are described, not
    refused.
    """

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        told = super().float_schema(schema)
        if self.mode == "validation" or schema.get("allow_inf_nan") is False:
            return told
        return self.get_union_of_schemas([told, {"type": "null"}])  # NaN and infinities

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        return self._moment(super().datetime_schema(schema), schema)

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return self._moment(super().time_schema(schema), schema)

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return self._closed(super().typed_dict_schema(schema))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return self._closed(super().dataclass_schema(schema))

    def _closed(self, told: JsonSchemaValue) -> JsonSchemaValue:
        """Results never have extra fields; arguments may. So one class has one schema for both."""
        return {"additionalProperties": False, **told} if self.mode == "serialization" else told

    def _moment(self, told: JsonSchemaValue, schema: Any) -> JsonSchemaValue:
        """The formats of JSON Schema require an offset from UTC, which not every value has."""
        if self.mode == "validation" or schema.get("tz_constraint") == "aware":
            return told
        return {"type": "string", "description": f"an ISO 8601 {schema['type']}, without an offset where it has none"}

    def field_is_present(self, field: Any) -> bool:
        # Fields with `init=False` occur in results only.
        return bool(super().field_is_present(field)) and (
            self.mode == "serialization" or field.get("init") is not False
        )

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        cls = schema.get("cls")
        leaf = leaf_for(cls, over_http=False) if isinstance(cls, type) else None
        if leaf is not None:
            return leaf.describe()
        return structs.not_over_http(str(getattr(cls, "__qualname__", schema["type"])))


def json_schema(adapter: TypeAdapter[Any], mode: JsonSchemaMode) -> dict[str, Any]:
    """Return the JSON schema (2020-12), with its `$defs` inside; a type without a JSON form is described as such."""
    return adapter.json_schema(mode=mode, schema_generator=_Generator)


SMALL = 64 * 1024  # bytes: a text up to this size is parsed at once, in a millisecond
MOST_VALUES = Http().max_values
MOST_BYTES = 128 * 1024 * 1024
DEPTH = 200  # nested arrays and objects: the limit of the parser
SLICE = 256 * 1024  # bytes

_QUOTE, _COMMA = ord('"'), ord(",")
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def read(text: bytes | str, most: int = MOST_VALUES) -> Any:
    """Parse JSON. Raises ValueError if it is malformed, and PayloadTooLarge."""
    if isinstance(text, bytes) and text.startswith(BOM_UTF8):  # written by some programs; RFC 8259 allows ignoring it
        text = text[len(BOM_UTF8) :]
    if len(text) > SMALL:
        check(text, most)
        return _decoded(text)
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        check(text, max(most, 2 * SMALL))  # beyond its depth limit the parser only says "bad JSON"
        raise


class Reader:
    """Parses the texts of one form, which together may have up to `most` values."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._unseen = SMALL

    def read(self, text: str | bytes) -> Any:
        """Parse one text. See `read`."""
        self._unseen -= len(text)
        if self._unseen < 0:
            self._left -= check(text, self._most, self._left)
        return read(text, self._most) if len(text) <= SMALL else _decoded(text)


def _decoded(text: bytes | str) -> Any:
    return from_json(text, allow_inf_nan=False, cache_strings="none")  # the cache costs more than it saves


def check(text: bytes | str, most: int, left: int | None = None) -> int:
    """Return how many values the text has: commas and opening brackets, plus one. Raises PayloadTooLarge.

    `left`: the limit, if less than `most` because earlier texts have used some of it.
    """
    if len(text) > MOST_BYTES:
        raise PayloadTooLarge(
            f"JSON may have {MOST_BYTES:,} bytes: send what is larger as a file, in a form or as the body"
        )
    limit = most if left is None else left
    values, depth = measured(text.encode(errors="replace") if isinstance(text, str) else text, limit)
    if depth > DEPTH:
        raise PayloadTooLarge(f"the JSON is nested more than {DEPTH} levels deep")
    if values > limit:
        raise PayloadTooLarge(
            f'the JSON has more than the {most:,} values that this service takes (http={{"max_values": ...}}): '
            "send an array as application/x-npy, or in parts"
        )
    return values


def measured(data: bytes, most: int) -> tuple[int, int]:
    """Return how many values there are, see `check`, and how deeply they are nested. Stops once `most` or `DEPTH` is
    exceeded.
    """
    values, depth, deepest, inside, rest = 1, 0, 0, 0, b""
    for start in range(0, len(data), SLICE):
        piece = rest + data[start : start + SLICE]
        whole = len(piece) - (len(piece) - len(piece.rstrip(b"\\"))) % 2  # do not split an escape sequence
        piece, rest = piece[:whole], piece[whole:]
        if inside and b'"' not in piece:  # inside a long string
            continue
        symbols = np.frombuffer(piece.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
        in_text = np.cumsum(symbols == _QUOTE, dtype=np.uint8) + np.uint8(inside) & 1
        inside = in_text[-1] if in_text.size else inside
        symbols = symbols[in_text == 0]
        steps = _STEPS[symbols]
        levels = np.cumsum(steps, dtype=np.int32)
        values += int(np.count_nonzero(steps == 1) + np.count_nonzero(symbols == _COMMA))
        deepest = max(deepest, depth + int(levels.max(initial=0)))
        if deepest > DEPTH or values > most:
            break
        depth += int(levels[-1]) if levels.size else 0
    return values, deepest


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off, which would scan the growing result again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
