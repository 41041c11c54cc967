"""Base class of custom types (`CustomType`), and the custom types for files and texts: images, bytes, paths, strings.

The conversions themselves are in `_schema/codecs.py`.
"""

from __future__ import annotations

import mimetypes
import pathlib
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticSerializationUnexpectedValue, core_schema

from nbcompose._schema import codecs
from nbcompose._schema.tempfiles import TempFiles


class CustomType:
    """How values of one type that pydantic does not know are validated, written as JSON, and sent as other media types.

    `accept` takes what a Python caller or a JSON document may give and returns an instance, or raises ValueError.
    `json_value` is its inverse; what it returns may contain anything that has a JSON form. `takes` and `gives` are the
    media types that `decode` and `encode` support.

    `is_file`: the value is a file by nature, so the file is its default form and JSON the second; an uploaded file is
    read whatever its declared media type. `from_json`: values come from a JSON document, in which infinities are
    refused.
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
        """Decode a file of one of the types in `takes`. Raises ValueError."""
        raise NotImplementedError

    def encode(self, value: Any, media_type: str) -> bytes:
        """Encode a file of one of the types in `gives`. Raises ValueError for a value that has no such form."""
        raise NotImplementedError

    def forms(self, value: Any) -> tuple[str, ...]:
        """Return those of `gives` that this particular value can be encoded as, the default first."""
        return self.gives

    def describe(self) -> dict[str, Any]:
        """Return the JSON schema; its "description" also completes the message "Input should be ..."."""
        raise NotImplementedError

    def mismatch(self, value: Any) -> ValueError:
        return ValueError(f"Input should be {self.describe()['description']} (got {type(value).__name__})")

    def _dump(self, value: Any) -> Any:
        # In a union pydantic tries each member in turn: this error tells it that the value is not ours.
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


OCTETS = "application/octet-stream"
ANY_FILE = (OCTETS, "*/*")


class Image(CustomType):
    """`PIL.Image.Image`. JSON is a base64 string or `data:` URL of an image file; results are PNG by default."""

    is_file = True
    takes = tuple(codecs.IMAGE_FORMATS)
    gives = ("image/png", "image/jpeg", "image/webp")

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        if isinstance(value, (str, bytes)):
            return codecs.image_from_bytes(codecs.from_base64(value) if isinstance(value, str) else value)
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return codecs.image_to_url(value)

    def decode(self, data: bytes, filename: str | None) -> Any:
        return codecs.image_from_bytes(data)

    def encode(self, value: Any, media_type: str) -> bytes:
        return codecs.image_to_bytes(value, media_type)

    def describe(self) -> dict[str, Any]:
        told = "an image: base64 or a data URL of a PNG, JPEG, WEBP, … file"
        return {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png", "description": told}


class Base64(CustomType):
    """`bytes` over HTTP: always base64 in JSON, for arguments and results."""

    is_file = True
    takes = ANY_FILE
    gives = (OCTETS,)

    def accept(self, value: Any) -> Any:
        if isinstance(value, (bytes, bytearray)):
            return value if isinstance(value, self.cls) else self.cls(value)
        if isinstance(value, str):
            return self.cls(codecs.from_base64(value))
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return codecs.to_base64(value)

    def decode(self, data: bytes, filename: str | None) -> Any:
        return self.cls(data)

    def encode(self, value: Any, media_type: str) -> bytes:
        return bytes(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64", "description": "bytes: base64"}


class Upload(CustomType):
    """`pathlib.Path` over HTTP: the file's contents, never its path, so that callers cannot reach files of this
    machine.
    """

    is_file = True
    takes = ANY_FILE
    gives = ("*/*", OCTETS)

    def accept(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        if isinstance(value, str):
            return self.decode(codecs.from_base64(value), None)
        raise self.mismatch(value)

    def json_value(self, value: Any) -> Any:
        return codecs.to_base64(pathlib.Path(value).read_bytes())

    def decode(self, data: bytes, filename: str | None) -> Any:
        return TempFiles.current().write(data, filename)

    def forms(self, value: Any) -> tuple[str, ...]:
        guessed, coding = mimetypes.guess_type(str(value))
        # With the media type application/json the response is JSON, in which a file is base64.
        is_told = guessed not in (None, OCTETS, "application/json") and coding is None
        return (str(guessed), OCTETS) if is_told else (OCTETS,)

    def encode(self, value: Any, media_type: str) -> bytes:
        return pathlib.Path(value).read_bytes()

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64", "description": "a file: base64 of its contents"}


class Text(CustomType):
    """`str`: its plain-text form only. pydantic validates it, and `_schema/forms.py` decodes it (charsets)."""

    takes = gives = ("text/plain",)

    def encode(self, value: Any, media_type: str) -> bytes:
        return str(value).encode("utf-8")
