"""Handlers that make pydantic support custom types inside classes with fields, and instances of older class versions.

An instance of a class whose cell was run again is converted to the newest version of the class. The user's classes are
not changed: a validated value is an instance of the class that the annotation names. `_schema/adapters.py` puts each
handler beside its class in `Annotated[Cls, handler]`, and finds the fields to change.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NotRequired, Required, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import CoreSchema, SchemaValidator, core_schema, to_json
from typing_extensions import ReadOnly, TypedDict

from nbcompose._schema import hints, pydantic_adapter

_LOOSE = ConfigDict(arbitrary_types_allowed=True, extra="allow")

# Whether the value being validated is large: then only few of its errors are reported.
of_large: ContextVar[bool] = ContextVar("nbcompose_of_large", default=False)


def is_model(cls: type) -> bool:
    """Whether the class is a pydantic model or dataclass."""
    return issubclass(cls, BaseModel) or is_pydantic_dataclass(cls)


def has_fields(cls: type) -> bool:
    """Whether the class is a plain dataclass or a named tuple."""
    return dataclasses.is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))


def is_stale(value: object, cls: type) -> bool:
    """Whether `value` is an instance of an older version of `cls`, from before its cell was run again."""
    other = type(value)
    return (
        other is not cls
        and other.__qualname__ == cls.__qualname__
        and other.__module__ == cls.__module__
        and not isinstance(value, cls)
    )


class StructHandler:
    """Base class: uses the schema that pydantic makes for `cls`, and runs `before` ahead of its validation."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def before(self, value: Any) -> Any:
        """Return `value`, or a replacement for pydantic to validate."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.before, handler(source))


class Again(StructHandler):
    """Stands for a class inside its own fields: only runs the handler's `before`."""

    def __init__(self, handler: StructHandler) -> None:
        super().__init__(handler.cls)
        self.before = handler.before  # type: ignore[method-assign]


class Struct(StructHandler):
    """A class with fields. `changed` are the adapted annotations of those fields that need it, set once known."""

    is_model = False

    def __init__(self, cls: type, *, over_http: bool) -> None:
        super().__init__(cls)
        self.over_http = over_http
        self.changed: Mapping[str, Any] = {}

    def annotations(self, args: tuple[Any, ...]) -> Mapping[str, Any]:
        """Return the annotations of the fields; `args` are the arguments of a generic class."""
        return hints.substitute(hints.of_class(self.cls), self.cls, args)

    @property
    def is_needed(self) -> bool:
        """Whether pydantic alone does not suffice. Between services an instance of an older class may arrive."""
        return not self.over_http or bool(self.changed)

    @property
    def is_needed_inside_model(self) -> bool:
        return self.is_needed


class Fields(Struct):
    """A dataclass or named tuple: the schemas of `changed` fields are replaced in the schema that pydantic makes.

    pydantic's schema lacks fields with `init=False` and without a default: they are added, for serialization.
    """

    def __init__(self, cls: type, *, over_http: bool) -> None:
        super().__init__(cls, over_http=over_http)
        fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
        self._order = list(getattr(cls, "__dataclass_fields__", ()))  # including InitVars
        self._own = {f.name for f in fields if not f.init}
        self._unset = {f.name for f in fields if not f.init and f.default is f.default_factory is dataclasses.MISSING}
        self._annotations: Mapping[str, Any] = {}

    def annotations(self, args: tuple[Any, ...]) -> Mapping[str, Any]:
        self._annotations = super().annotations(args)
        return self._annotations

    @property
    def is_needed(self) -> bool:
        return super().is_needed or bool(self._own)

    def before(self, value: Any) -> Any:
        if not is_stale(value, self.cls):
            return value
        if isinstance(value, tuple):
            return dict(zip(value._fields, value, strict=True))  # type: ignore[attr-defined]
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        # Unlike a model's, this schema is created for each adapter, so it may be modified.
        fields = pydantic_adapter.field_schemas(handler.resolve_ref_schema(schema))
        for name in self._unset:
            own = handler.generate_schema(self.changed.get(name, self._annotations[name]))
            fields.append({**core_schema.dataclass_field(name, own, init=False)})
        if self._unset:
            fields.sort(key=lambda field: self._order.index(field["name"]))
        for field in fields:
            if field["name"] in self.changed and field["name"] not in self._unset:
                pydantic_adapter.replace_schema(field, handler.generate_schema(self.changed[field["name"]]))
        before = self._asked if self.over_http else self.before
        is_bare = self.over_http and not self._own
        return schema if is_bare else core_schema.no_info_before_validator_function(before, schema)

    def _asked(self, value: Any) -> Any:
        """Drop fields with `init=False` from a document, so that a result can be passed as an argument again."""
        if isinstance(value, dict) and not self._own.isdisjoint(value):
            return {name: part for name, part in value.items() if name not in self._own}
        return value


class Model(Struct):
    """A pydantic model or dataclass. Its own schema is cached in the class and not changed: `changed` fields of a dict
    are validated first, so that the model receives instances that it accepts.
    """

    is_model = True

    def annotations(self, args: tuple[Any, ...]) -> Mapping[str, Any]:
        pydantic_adapter.complete(self.cls)
        return {name: field.annotation for name, field in pydantic_adapter.fields_of(self.cls).items()}

    @property
    def is_needed(self) -> bool:
        return True

    @property
    def is_needed_inside_model(self) -> bool:
        return super().is_needed  # the outer model reads its content as JSON already

    @cached_property
    def _prepare(self) -> SchemaValidator:
        keys = {
            key: NotRequired[annotation] for name, annotation in self.changed.items() for key in _keys(self.cls, name)
        }
        partial = make_typed_dict(f"{self.cls.__name__}Fields", keys, _LOOSE)
        return TypeAdapter(partial).validator  # type: ignore[return-value]

    @cached_property
    def _finite(self) -> SchemaValidator:
        return pydantic_adapter.finite_validator(self.cls)

    @cached_property
    def _of_large(self) -> tuple[SchemaValidator, Callable[[Any], Any] | None]:
        return pydantic_adapter.finite_validator(self.cls, fail_fast=True), pydantic_adapter.unknown_cut_of(self.cls)

    def before(self, value: Any) -> Any:
        if isinstance(value, dict):
            prepared = self._prepare.validate_python(value) if self.changed else value
            return self._from_json(prepared) if self.over_http else prepared
        if not self.over_http and is_stale(value, self.cls):
            return self._from_stale(value)
        return value

    def _from_json(self, values: dict[str, Any]) -> Any:
        validator = self._finite
        if of_large.get():
            validator, cut = self._of_large
            values = values if cut is None else cut(values)
        # A strict model accepts a string for a date in JSON only, and prepared values cannot be converted to JSON.
        return (
            validator.validate_python(values, strict=False)
            if self.changed
            else validator.validate_json(to_json(values))
        )

    def _from_stale(self, value: Any) -> Any:
        names = pydantic_adapter.fields_of(self.cls)
        values = {name: getattr(value, name) for name in names if hasattr(value, name)}
        values |= pydantic_adapter.extra_of(value)
        if self.changed:
            values = self._prepare.validate_python(values)
        validator = pydantic_adapter.validator_of(self.cls)
        return validator.validate_python(values, by_name=True, by_alias=True)


def _keys(cls: Any, name: str) -> set[str]:
    """Return the keys under which a dict may contain the field: its name and its aliases."""
    field = pydantic_adapter.fields_of(cls)[name]
    aliases = (field.alias, field.validation_alias, *getattr(field.validation_alias, "choices", ()))
    return {name, *(alias for alias in aliases if isinstance(alias, str))}


class EnumHandler(StructHandler):
    """An enum: a member of an older version of the class is replaced with the member of the same name."""

    def before(self, value: Any) -> Any:
        if is_stale(value, self.cls) and isinstance(value, enum.Enum):
            return self.cls.__members__.get(value.name, value)  # type: ignore[attr-defined]
        return value


class Opaque(StructHandler):
    """Any other class: instances pass between services, but have no JSON form."""

    def check(self, value: Any) -> Any:
        if isinstance(value, self.cls) or is_stale(value, self.cls):
            return value
        raise ValueError(f"Input should be an instance of {self.cls.__qualname__} (got {type(value).__name__})")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if getattr(self.cls, "_is_protocol", False) and not getattr(self.cls, "_is_runtime_protocol", False):
            return core_schema.any_schema()
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: Any) -> dict[str, Any]:
        return not_over_http(self.cls.__qualname__)


class Late:
    """Stands for a TypedDict or type alias that refers to itself, while it is being rebuilt."""

    rebuilt: Any = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.rebuilt)


def typed_dict(cls: Any, annotations: Mapping[str, Any]) -> Any:
    """Return a TypedDict like `cls` with these annotations, which pydantic accepts on every Python version."""
    fields: dict[str, Any] = {}
    for name, annotation in annotations.items():
        required = name in cls.__required_keys__
        while get_origin(annotation) in (Required, NotRequired, ReadOnly):
            required = {Required: True, NotRequired: False}.get(get_origin(annotation), required)
            annotation = annotation.__args__[0]
        fields[name] = Required[annotation] if required else NotRequired[annotation]
    rebuilt = make_typed_dict(cls.__name__, fields, getattr(cls, "__pydantic_config__", None))
    rebuilt.__doc__ = cls.__doc__
    rebuilt.__module__ = cls.__module__
    return rebuilt


def make_typed_dict(name: str, fields: Mapping[str, Any], config: ConfigDict | None) -> Any:
    """Create a TypedDict at run time. Its keys may have any name, unlike a model's."""
    functional: Any = TypedDict
    made = functional(name, dict(fields))
    if config is not None:
        made.__pydantic_config__ = config
    return made


def not_over_http(name: str) -> dict[str, Any]:
    """Return the JSON schema of a type that has no JSON form."""
    return {"description": f"{name}: not available over HTTP, only between services", "not": {}}
