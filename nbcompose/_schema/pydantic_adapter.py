"""pydantic, where more of it is used than its documentation promises: the one module that knows.

Seen to hold from 2.14.0 to 2.14.4; tests/canaries/test_pydantic.py fails first where a release changes one of these.

- A model and a pydantic dataclass have `__pydantic_fields__`, `__pydantic_complete__` and `__pydantic_validator__`; an
  instance has `__pydantic_extra__`. (Documented for models only, whose `model_fields` is the public name of the first.)
- In the schema of a dataclass or named tuple the fields are a list of dicts with `name` and `schema`, under `fields` or
  `arguments_schema`, below whatever wraps that as `schema` or `arguments_schema`; a default wraps a field's schema in
  one of the type `default`. It is made anew for each adapter, so that it may be changed.
- Among the names that a class gets, `__pydantic_fields__` and `__pydantic_decorators__` hold what it was written with;
  all other `__pydantic_…` follow from these. A decorator is a `Decorator` of `pydantic._internal._decorators`, with the
  attributes `cls_var_name`, `func` and `info`, and with an address of its class in `cls_ref`.
- A class has `__pydantic_core_schema__`, which is nested dicts and lists; a `SchemaValidator` that is made with
  `_use_prebuilt=False` goes by what stands there for the classes inside it too. A node of the type `float` may have
  `allow_inf_nan`, and so may the `config` of a node; lists, tuples, sets and dicts may have `fail_fast`. What becomes
  of unknown keys stands in `extra_behavior`, or in the `config` of the node or of the class around it.
- In an error's `loc` a member of a union that is validated by a function is called `function-…`.
- The message of a ValueError that a validator raises begins with "Value error, ", of an AssertionError with "Assertion
  failed, "; "utf-8" stands in that of a serialization error of bytes that are none.
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
    """Resolve names that did not exist when the class was made. Raises pydantic's errors."""
    if cls.__pydantic_complete__:
        return
    if is_pydantic_dataclass(cls):
        rebuild_dataclass(cls, raise_errors=True)
    else:
        cls.model_rebuild(raise_errors=True)


def fields_of(cls: Any) -> Mapping[str, FieldInfo]:
    """The fields of a complete class, by name."""
    fields: Mapping[str, FieldInfo] = cls.__pydantic_fields__
    return fields


def validator_of(cls: Any) -> SchemaValidator:
    """What makes an instance of the class of a dict, or of JSON."""
    validator: SchemaValidator = cls.__pydantic_validator__
    return validator


def extra_of(value: Any) -> Mapping[str, Any]:
    """What an instance holds besides its fields."""
    return getattr(value, "__pydantic_extra__", None) or {}


# -- schemas


def field_schemas(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The field entries inside the schema of a dataclass or named tuple, below whatever validators wrap them."""
    while True:
        entries = schema.get("fields", schema.get("arguments_schema"))
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            return entries
        schema = schema["schema"] if "schema" in schema else schema["arguments_schema"]


def replace_schema(field: dict[str, Any], schema: Any) -> None:
    """Put another schema into an entry of `field_schemas`, which keeps its default."""
    holder = field
    while holder["schema"]["type"] == "default":
        holder = holder["schema"]
    holder["schema"] = schema


# What is not made of schemas, or not validated.
_OTHERS = frozenset(("cls", "config", "default", "metadata", "ref", "serialization"))


def finite_validator(cls: Any, *, fail_fast: bool = False) -> SchemaValidator:
    """As `validator_of`, but numbers are finite, unless a field or the class says otherwise (`allow_inf_nan`); with
    `fail_fast`, of each list and dict only the first error.
    """
    schema = _with_finite_numbers(cls.__pydantic_core_schema__, fail_fast)
    return _validator(schema, cls.__pydantic_core_schema__, cls.__pydantic_validator__)


def finite_validator_of(adapter: TypeAdapter[Any], *, fail_fast: bool = False) -> SchemaValidator:
    """The validator of an adapter, of Python values, with finite numbers; with `fail_fast`, of each list and dict only
    the first error, and of unknown keys those of `MOST_UNKNOWN` at most.
    """
    schema = _with_finite_numbers(adapter.core_schema, fail_fast)
    if fail_fast:
        schema = _with_few_unknown(schema, None)
    return _validator(schema, adapter.core_schema, adapter.validator)


def _validator(schema: Any, before: Any, made: Any) -> SchemaValidator:
    validator: SchemaValidator = made if schema is before else SchemaValidator(schema, _use_prebuilt=False)
    return validator


def _with_finite_numbers(node: Any, fail_fast: bool) -> Any:
    """A schema like this one; itself where there is nothing to change."""
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
    passed_by = _OTHERS if isinstance(kind, str) else ()  # else its keys are names of fields
    changed = {key: _with_finite_numbers(part, fail_fast) for key, part in node.items() if key not in passed_by}
    if fail_fast and kind in ("list", "tuple", "set", "frozenset", "dict"):
        changed["fail_fast"] = True
    return {**node, **changed} if any(node.get(key) is not new for key, new in changed.items()) else node


# -- unknown keys: each is an error, and to make 250,000 takes half a second, in which nothing else runs

MOST_UNKNOWN = 1000
_OF_FIELDS = ("typed-dict", "model-fields", "dataclass-args")


def unknown_cut_of(cls: Any) -> Callable[[Any], Any] | None:
    """What leaves out most of the unknown keys, where a model, or a pydantic dataclass, refuses them and looks at them
    in no other way.
    """
    node = cls.__pydantic_core_schema__
    if node["type"] == "definitions":
        node = node["schema"]
    fields = node.get("schema", node)
    refuses = (node.get("config") or {}).get("extra_fields_behavior") == "forbid"
    return _unknown_cut(fields["fields"]) if refuses and fields.get("type") in _OF_FIELDS else None


def _with_few_unknown(node: Any, extra: str | None) -> Any:
    """A schema like this one, for Python values. `extra`: what becomes of unknown keys. Models have their own."""
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
    reference = {"ref": new.pop("ref")} if "ref" in new else {}  # by it is found what is around it
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
    """By which fields may be called, and perhaps some more: their names, and all texts of their aliases."""
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


# -- what was written


def is_derived(name: str) -> bool:
    """Whether pydantic has put a member of this name into a class, and it follows from others."""
    return name.startswith("__pydantic_") and name not in ("__pydantic_fields__", "__pydantic_decorators__")


def decorator_parts(value: Any) -> list[Any] | None:
    """What a validator or serializer of a class says, without the address of its class; None for any other value."""
    if type(value).__module__ != "pydantic._internal._decorators" or not hasattr(value, "cls_ref"):
        return None
    return [value.cls_var_name, value.func, value.info]


# -- errors


def place(loc: Sequence[int | str]) -> list[int | str]:
    """Where an error is, without the names by which pydantic tells the members of a union apart."""
    return [part for part in loc if not (isinstance(part, str) and part.startswith("function-"))]


def message(text: str) -> str:
    """What a validator has raised, without pydantic's words for that it did."""
    return text.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def is_about_utf8(error: Exception) -> bool:
    """Whether a value cannot be written as JSON because it has bytes that are no text."""
    return "utf-8" in str(error)
