"""Values to JSON bytes, and types to JSON schemas.

What an annotation names is written by its own serializer. Values that are found without one, inside `dict` or `Any`,
are written as their type is: arrays as nested lists, images as data URLs, NaN and infinities as null, bytes as text
where they are UTF-8 and as base64 where they are not.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticSerializationError, core_schema, to_json

from nbcompose.schema import codecs, structs
from nbcompose.schema.foreign import leaf_for
from nbcompose.schema.media import Upload
from nbcompose.schema.pydantic_adapter import is_about_utf8
from nbcompose.unawaited import check_awaited


def dump_json(adapter: TypeAdapter[Any], value: Any) -> bytes:
    """JSON of a checked value. Raises ValueError for a value without a JSON form."""
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
    """For pydantic: another form of a value of an unknown type."""
    check_awaited(value)
    if codecs.is_missing(value):
        return None
    leaf = leaf_for(type(value), over_http=False)
    if leaf is None:
        raise TypeError(f"a value of type {type(value).__qualname__} has no JSON form")
    return leaf.json_value(value)


def without_missing(value: Any) -> Any:
    """A copy in which pandas' NaT, which is a datetime and no date, is None; `value` itself where there is none."""
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
    """The slow way: everything as dicts, lists and scalars. For what pydantic gave up on, e.g. bytes in a model."""
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
    """pydantic's, except that it says no more than what `dump_json` keeps, and that a type without a JSON form is
    described instead of refused.
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
        """Arguments may have no other fields, and answers have none: one class is one schema, both ways."""
        return {"additionalProperties": False, **told} if self.mode == "serialization" else told

    def _moment(self, told: JsonSchemaValue, schema: Any) -> JsonSchemaValue:
        """The formats of JSON Schema want an offset from UTC, which only some values have."""
        if self.mode == "validation" or schema.get("tz_constraint") == "aware":
            return told
        return {"type": "string", "description": f"an ISO 8601 {schema['type']}, without an offset where it has none"}

    def field_is_present(self, field: Any) -> bool:
        # What a dataclass sets itself is in answers only.
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
    """The JSON schema (2020-12) with its `$defs` in it; a type without a JSON form is described as such."""
    return adapter.json_schema(mode=mode, schema_generator=_Generator)
