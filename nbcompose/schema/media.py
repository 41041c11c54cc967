"""Leaves for what is a file or a text at heart: images, bytes, paths and strings.

The conversions themselves are in `codecs.py`.
"""

from __future__ import annotations

import mimetypes
import pathlib
from typing import Any

from nbcompose.schema import codecs
from nbcompose.schema.files import TempFiles
from nbcompose.schema.leaf import Leaf

OCTETS = "application/octet-stream"
ANY_FILE = (OCTETS, "*/*")


class Image(Leaf):
    """`PIL.Image.Image`. JSON is a base64 string or `data:` URL of an image file; results are PNG."""

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
        return {"type": "string", "description": "an image: base64 or a data URL of a PNG, JPEG, WEBP, … file"}


class Base64(Leaf):
    """`bytes` over HTTP: base64 in JSON, both ways, whatever they hold."""

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


class Upload(Leaf):
    """`pathlib.Path` over HTTP: the file's contents, never its name, since a caller has no business with our disk."""

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
        # As application/json an answer is JSON: there a file is base64, whatever is in it.
        is_told = guessed not in (None, OCTETS, "application/json") and coding is None
        return (str(guessed), OCTETS) if is_told else (OCTETS,)

    def encode(self, value: Any, media_type: str) -> bytes:
        return pathlib.Path(value).read_bytes()

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64", "description": "a file: base64 of its contents"}


class Text(Leaf):
    """`str`: its plain-text form only; pydantic does the rest, and forms.py reads it, which knows of charsets."""

    takes = gives = ("text/plain",)

    def encode(self, value: Any, media_type: str) -> bytes:
        return str(value).encode("utf-8")
