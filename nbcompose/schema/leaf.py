"""`Leaf`: how one foreign type is validated, written as JSON and sent in other forms. `arrays.py` and `media.py` hold
them, `types.py` puts them beside their types in `Annotated[T, leaf]`, from where pydantic asks for them.
"""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticSerializationUnexpectedValue, core_schema


class Leaf:
    """How values of one foreign type are validated, written as JSON, and sent in other forms.

    `accept` takes what a Python caller or a JSON document may give and returns an instance, or raises ValueError.
    `json_value` is its inverse; what it returns may hold whatever else has a JSON form. `takes` and `gives` are the
    media types that `decode` and `encode` understand. `is_file`: it is a file at heart, so that the file is its first
    form, and the JSON the second; what is sent as one is read whatever type it says it has. `from_json`: numbers and
    lists come from a document, in which there are no infinities.
    """

    is_file = False
    from_json = False
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def accept(self, value: Any) -> Any:
        raise NotImplementedError

    def json_value(self, value: Any) -> Any:
        raise NotImplementedError

    def decode(self, data: bytes, filename: str | None) -> Any:
        """The value of a file of one of the types in `takes`. Raises ValueError."""
        raise NotImplementedError

    def encode(self, value: Any, media_type: str) -> bytes:
        """The file of one of the types in `gives`. Raises ValueError for a value that has no such form."""
        raise NotImplementedError

    def forms(self, value: Any) -> tuple[str, ...]:
        """Those of `gives` that this very value has, the default first."""
        return self.gives

    def describe(self) -> dict[str, Any]:
        """The JSON schema; it has a "description", which also completes "Input should be ..."."""
        raise NotImplementedError

    def mismatch(self, value: Any) -> ValueError:
        return ValueError(f"Input should be {self.describe()['description']} (got {type(value).__name__})")

    def _dump(self, value: Any) -> Any:
        # In a union pydantic asks each member in turn: say "not mine" in its own way.
        if not isinstance(value, self.cls):
            raise PydanticSerializationUnexpectedValue(f"expected {self.cls.__name__}")
        return self.json_value(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.accept,
            serialization=core_schema.plain_serializer_function_ser_schema(self._dump, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.describe()
