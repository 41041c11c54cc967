"""What nbcompose/_schema/pydantic_adapter.py relies on. One that fails means: look there before anything else."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import pydantic
import pydantic.dataclasses
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticSerializationError, core_schema, from_json


class Model(BaseModel, extra="allow"):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def check(cls, value: int) -> int:
        assert value != 1, "one"
        if value == 2:
            raise ValueError("two")
        return value


@pydantic.dataclasses.dataclass
class Data:
    a: int = 1


@dataclasses.dataclass
class Plain:
    a: int
    b: str = "b"


class Named(NamedTuple):
    a: int
    b: str = "b"


@pytest.mark.parametrize("cls", [Model, Data])
def test_a_class_knows_its_fields_and_its_validator(cls: Any) -> None:
    assert cls.__pydantic_complete__ is True
    assert cls.__pydantic_fields__["a"].annotation is int
    assert isinstance(cls.__pydantic_validator__.validate_python({"a": "3"}), cls)
    assert isinstance(cls.__pydantic_validator__.validate_json('{"a": 3}'), cls)


def test_a_model_s_fields_are_those_of_the_public_name_and_an_instance_has_its_extra() -> None:
    assert Model.__pydantic_fields__ == Model.model_fields
    assert Model.model_validate({"a": 3, "more": 4}).__pydantic_extra__ == {"more": 4}


def test_a_class_that_waits_for_a_name_says_so_and_can_be_completed() -> None:
    space: dict[str, Any] = {"BaseModel": BaseModel, "dataclass": pydantic.dataclasses.dataclass, "__name__": __name__}
    exec("class Waits(BaseModel):\n    a: 'Later'\n@dataclass\nclass Too:\n    a: 'Later'", space)
    assert space["Waits"].__pydantic_complete__ is False
    assert space["Too"].__pydantic_complete__ is False


class _Handler:
    """Sees the schema of what it annotates, as structs.py does."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        self.seen.append(handler.resolve_ref_schema(schema))
        return schema


@pytest.mark.parametrize("cls", [Plain, Named])
def test_the_fields_of_a_dataclass_and_of_a_named_tuple_can_be_found_and_replaced(cls: Any) -> None:
    from nbcompose._schema.pydantic_adapter import field_schemas, replace_schema

    class Replacing(_Handler):
        def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
            schema = super().__get_pydantic_core_schema__(source, handler)
            for field in field_schemas(self.seen[-1]):
                replace_schema(field, core_schema.literal_schema([field["name"]]))
            return schema

    handler = Replacing()
    adapter = TypeAdapter(Annotated[cls, handler])
    assert [field["name"] for field in field_schemas(handler.seen[0])] == ["a", "b"], "fields are kept in another way"
    assert adapter.validate_python({"a": "a"}) == cls("a", "b")
    with pytest.raises(ValidationError):
        adapter.validate_python({"a": 1})
    assert TypeAdapter(cls).validate_python({"a": 1}) == cls(1, "b"), "a schema is not made anew for each adapter"


def test_what_a_class_was_written_with_is_in_two_of_the_members_that_it_gets() -> None:
    names = {name for name in vars(Model) if name.startswith("__pydantic_")}
    assert {"__pydantic_fields__", "__pydantic_decorators__"} <= names
    known = {
        "__pydantic_class_vars__", "__pydantic_complete__", "__pydantic_computed_fields__", "__pydantic_core_schema__",
        "__pydantic_custom_init__", "__pydantic_decorators__", "__pydantic_extra_info__", "__pydantic_fields__",
        "__pydantic_generic_metadata__", "__pydantic_parent_namespace__", "__pydantic_post_init__",
        "__pydantic_serializer__", "__pydantic_setattr_handlers__", "__pydantic_validator__",
        "__pydantic_fields_complete__", "__pydantic_signature__",
    }  # fmt: skip
    assert names <= known, "is what is new derived from the fields and decorators?"


def test_a_decorator_has_an_address_that_does_not_count() -> None:
    from nbcompose._schema.pydantic_adapter import decorator_parts

    (decorator,) = Model.__pydantic_decorators__.field_validators.values()
    assert type(decorator).__module__ == "pydantic._internal._decorators"
    assert str(id(Model)) in decorator.cls_ref, "a decorator does not name its class by its address any more"
    parts = decorator_parts(decorator)
    assert parts is not None
    assert parts[0] == "check"
    assert str(id(Model)) not in repr(parts)


def test_how_errors_are_told() -> None:
    def refuse(value: Any) -> Any:
        raise ValueError("no")

    validator = pydantic.PlainValidator(refuse)
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Annotated[str, validator] | int).validate_python([])
    places = {part for error in raised.value.errors() for part in error["loc"]}
    assert any(str(part).startswith("function-") for part in places), "a member of a union has another name"
    for value, text in ((1, "Assertion failed, one"), (2, "Value error, two")):
        with pytest.raises(ValidationError) as raised:
            Model(a=value)
        assert raised.value.errors()[0]["msg"].startswith(text)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(PydanticSerializationError, match="utf-8"):
        TypeAdapter(bytes).dump_json(b"\xff")


class Inner(BaseModel):
    x: float


class Outer(BaseModel):
    inner: Inner
    others: dict[str, Inner] = {}


@pydantic.dataclasses.dataclass
class Holder:
    inner: Inner


@pytest.mark.parametrize("cls", [Outer, Holder])
def test_numbers_of_a_class_and_of_those_inside_it_can_be_made_finite(cls: Any) -> None:
    from nbcompose._schema.pydantic_adapter import finite_validator

    made = finite_validator(cls).validate_python({"inner": {"x": "1"}})
    assert isinstance(made, cls)
    assert isinstance(made.inner, Inner)
    for value in ("nan", float("inf")):
        with pytest.raises(ValidationError, match="finite number"):
            finite_validator(cls).validate_python({"inner": {"x": value}})
    assert cls(inner={"x": "nan"}), "the class itself has been changed"


def test_how_deep_json_is_read() -> None:
    from nbcompose._schema.json_values import DEPTH

    assert from_json(b"[" * DEPTH + b"0" + b"]" * DEPTH)
    with pytest.raises(ValueError, match="recursion limit"):
        from_json(b"[" * (DEPTH + 1) + b"0" + b"]" * (DEPTH + 1))
