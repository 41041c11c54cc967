"""The only module that uses pydantic beyond its documented API.

Verified with 2.14.0 to 2.14.4; tests/canaries/test_pydantic.py fails first if a release changes one of these:

- A model and a pydantic dataclass have `__pydantic_fields__`, `__pydantic_complete__` and `__pydantic_validator__`; an
  instance has `__pydantic_extra__`. (Documented for models only, whose `model_fields` is the public name of the first.)
- In the schema of a dataclass or named tuple the fields are a list of dicts with `name` and `schema`, under `fields` or
  `arguments_schema`, possibly wrapped by other schemas as `schema` or `arguments_schema`; a default wraps a field's
  schema in one of the type `default`. The schema is created for each adapter, so it may be modified.
- Of the attributes that a class gets, `__pydantic_fields__` and `__pydantic_decorators__` hold what its author wrote;
  all other `__pydantic_…` are derived from these. A decorator is a `Decorator` of `pydantic._internal._decorators`,
  with the attributes `cls_var_name`, `func` and `info`, and with an address of its class in `cls_ref`.
- A class has `__pydantic_core_schema__`, which is nested dicts and lists; a `SchemaValidator` created with
  `_use_prebuilt=False` also uses this schema for the classes inside it. A node of the type `float` may have
  `allow_inf_nan`, and so may the `config` of a node; lists, tuples, sets and dicts may have `fail_fast`. How unknown
  keys are handled is in `extra_behavior`, or in the `config` of the node or of the class around it.
- In an error's `loc` a member of a union that is validated by a function is called `function-…`.
- The message of a ValueError that a validator raises begins with "Value error, ", of an AssertionError with "Assertion
  failed, "; the message of a serialization error contains "utf-8" if bytes are not UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass, rebuild_dataclass
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator
from pydantic_core.core_schema import no_info_before_validator_function

# -- models and pydantic dataclasses


def complete(cls: Any) -> None:
    """Resolve names that did not exist when the class was created. Raises pydantic's errors."""
    if cls.__pydantic_complete__:
        return
    if is_pydantic_dataclass(cls):
        rebuild_dataclass(cls, raise_errors=True)
    else:
        cls.model_rebuild(raise_errors=True)


def fields_of(cls: Any) -> Mapping[str, FieldInfo]:
    """Return the fields of a complete class, by name."""
    fields: Mapping[str, FieldInfo] = cls.__pydantic_fields__
    return fields


def validator_of(cls: Any) -> SchemaValidator:
    """Return the validator that makes an instance of the class from a dict, or from JSON."""
    validator: SchemaValidator = cls.__pydantic_validator__
    return validator


def extra_of(value: Any) -> Mapping[str, Any]:
    """Return the extra attributes of an instance, besides its fields."""
    return getattr(value, "__pydantic_extra__", None) or {}


# -- schemas


def field_schemas(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the field entries in the schema of a dataclass or named tuple, below any validators that wrap it."""
    while True:
        entries = schema.get("fields", schema.get("arguments_schema"))
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            return entries
        schema = schema["schema"] if "schema" in schema else schema["arguments_schema"]


def replace_schema(field: dict[str, Any], schema: Any) -> None:
    """Replace the schema in an entry of `field_schemas`; its default is kept."""
    holder = field
    while holder["schema"]["type"] == "default":
        holder = holder["schema"]
    holder["schema"] = schema


# Keys that hold no schemas, or schemas that do not validate.
_OTHERS = frozenset(("cls", "config", "default", "metadata", "ref", "serialization"))


def finite_validator(cls: Any, *, fail_fast: bool = False) -> SchemaValidator:
    """As `validator_of`, but numbers must be finite, unless a field or the class says otherwise (`allow_inf_nan`). With
    `fail_fast`, only the first error of each list and dict is reported.
    """
    schema = _with_finite_numbers(cls.__pydantic_core_schema__, fail_fast)
    return _validator(schema, cls.__pydantic_core_schema__, cls.__pydantic_validator__)


def finite_validator_of(adapter: TypeAdapter[Any], *, fail_fast: bool = False) -> SchemaValidator:
    """Return the validator of an adapter, for Python values, with finite numbers. With `fail_fast`, it reports only the
    first error of each list and dict, and at most `MOST_UNKNOWN` unknown keys.
    """
    schema = _with_finite_numbers(adapter.core_schema, fail_fast)
    if fail_fast:
        schema = _with_few_unknown(schema, None)
    return _validator(schema, adapter.core_schema, adapter.validator)


def _validator(schema: Any, before: Any, made: Any) -> SchemaValidator:
    validator: SchemaValidator = made if schema is before else SchemaValidator(schema, _use_prebuilt=False)
    return validator


def _with_finite_numbers(node: Any, fail_fast: bool) -> Any:
    """Return a copy of the schema that accepts only finite numbers; the same object if there is nothing to change."""
    if isinstance(node, list | tuple):
        parts = [_with_finite_numbers(part, fail_fast) for part in node]
        return parts if any(new is not old for new, old in zip(parts, node, strict=True)) else node
    if not isinstance(node, dict):
        return node
    kind, config = node.get("type"), node.get("config")
    if kind == "float" and "allow_inf_nan" not in node:
        return {**node, "allow_inf_nan": False}
    if isinstance(config, dict) and config.get("allow_inf_nan"):
        return node
    passed_by = _OTHERS if isinstance(kind, str) else ()  # without a type, the keys are names of fields
    changed = {key: _with_finite_numbers(part, fail_fast) for key, part in node.items() if key not in passed_by}
    if fail_fast and kind in ("list", "tuple", "set", "frozenset", "dict"):
        changed["fail_fast"] = True
    return {**node, **changed} if any(node.get(key) is not new for key, new in changed.items()) else node


# -- unknown keys: each is an error, and collecting 250,000 errors blocks the process for half a second

MOST_UNKNOWN = 1000
_OF_FIELDS = ("typed-dict", "model-fields", "dataclass-args")


def unknown_cut_of(cls: Any) -> Callable[[Any], Any] | None:
    """Return a function that drops most unknown keys; None unless the class is a model or pydantic dataclass that
    refuses them and does not otherwise use them.
    """
    node = cls.__pydantic_core_schema__
    if node["type"] == "definitions":
        node = node["schema"]
    fields = node.get("schema", node)
    refuses = (node.get("config") or {}).get("extra_fields_behavior") == "forbid"
    return _unknown_cut(fields["fields"]) if refuses and fields.get("type") in _OF_FIELDS else None


def _with_few_unknown(node: Any, extra: str | None) -> Any:
    """Return a copy of a schema for Python values that drops most unknown keys. Models are left as they are.

    `extra`: how the surrounding schema handles unknown keys.
    """
    if isinstance(node, list | tuple):
        return [_with_few_unknown(part, extra) for part in node]
    kind = node.get("type") if isinstance(node, dict) else "model"
    if kind == "model":
        return node
    if not isinstance(kind, str):  # its keys are names of fields
        return {name: _with_few_unknown(part, extra) for name, part in node.items()}
    if isinstance(node.get("config"), dict):
        extra = node["config"].get("extra_fields_behavior")
    extra = node.get("extra_behavior", extra)
    new = {key: part if key in _OTHERS else _with_few_unknown(part, extra) for key, part in node.items()}
    if kind not in _OF_FIELDS or extra != "forbid":
        return new
    reference = {"ref": new.pop("ref")} if "ref" in new else {}  # references resolve to the wrapping schema
    return {**no_info_before_validator_function(_unknown_cut(new["fields"]), new), **reference}


def _unknown_cut(fields: Any) -> Callable[[Any], Any]:
    known = _names(fields)

    def cut(value: Any) -> Any:
        if type(value) is not dict or len(value) <= MOST_UNKNOWN + len(known):
            return value
        unknown = islice((key for key in value if key not in known), MOST_UNKNOWN)
        return {key: value[key] for key in (*known, *unknown) if key in value}

    return cut


def _names(fields: Any) -> frozenset[str]:
    """Return the keys that may name a field (and perhaps some more): its name, and all strings of its aliases."""
    entries = [{"name": n, **f} for n, f in fields.items()] if isinstance(fields, dict) else fields
    rest: list[Any] = [part for entry in entries for part in (entry["name"], entry.get("validation_alias"))]
    names: set[str] = set()
    while rest:
        part = rest.pop()
        if isinstance(part, str):
            names.add(part)
        elif isinstance(part, list | tuple):
            rest += part
    return frozenset(names)


# -- definitions of a class


def is_derived(name: str) -> bool:
    """Whether pydantic has added the attribute to a class, and can derive it from others."""
    return name.startswith("__pydantic_") and name not in ("__pydantic_fields__", "__pydantic_decorators__")


def decorator_parts(value: Any) -> list[Any] | None:
    """Return the definition of a class's validator or serializer, without the class's address; None for others."""
    if type(value).__module__ != "pydantic._internal._decorators" or not hasattr(value, "cls_ref"):
        return None
    return [value.cls_var_name, value.func, value.info]


# -- errors


def place(loc: Sequence[int | str]) -> list[int | str]:
    """Return an error's location without the names that pydantic gives to the members of a union."""
    return [part for part in loc if not (isinstance(part, str) and part.startswith("function-"))]


def message(text: str) -> str:
    """Return the message that a validator raised, without pydantic's prefix."""
    return text.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def is_about_utf8(error: Exception) -> bool:
    """Whether a value cannot be written as JSON because it contains bytes that are not UTF-8."""
    return "utf-8" in str(error)
