"""Media types other than JSON: multipart and urlencoded forms, raw bodies, results as files.

A part with a file name, or with a type other than text, is a file. Any other part is a text: a parameter whose type
accepts the text gets it as it is ("2024" may be a tag), and for every other type the text is parsed as JSON.

HTTP itself, such as headers and splitting a body into parts, is in `_replica/http/`.
"""

from __future__ import annotations

import codecs
import collections.abc
import fnmatch
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.message import Message
from functools import cached_property
from typing import Any, Union, get_args, get_origin

from pydantic_core import ValidationError
from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose._schema import errors
from nbcompose._schema.adapters import adapter_of, meaning, strip
from nbcompose._schema.custom_types import OCTETS, CustomType, Text
from nbcompose._schema.json_values import MOST_VALUES, Reader, read
from nbcompose.errors import InvalidArgument, InvalidResult, NotAcceptable, UnsupportedMediaType

JSON = "application/json"
TEXT = "text/plain"
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_UNIONS = (Union, types.UnionType)
_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Collection)


def bare(annotation: Any) -> tuple[Any, CustomType | None]:
    """As `strip`, but type aliases and NewTypes are resolved, too."""
    while True:
        inner, leaf = strip(annotation)
        if leaf is None and (is_newtype(inner) or is_typealiastype(get_origin(inner) or inner)):
            annotation = meaning(inner)
        else:
            return inner, leaf


def form_of(annotation: Any) -> CustomType | None:
    """Return the custom type of an adapted annotation, ignoring `| None` and `Annotated`; None if it has only a JSON
    form.
    """
    inner, leaf = bare(annotation)
    if inner is str:
        return Text(str)
    return leaf if leaf is not None and leaf.takes else None


def is_list(annotation: Any) -> bool:
    """Whether several parts with the same name make one argument."""
    inner = bare(annotation)[0]
    return (get_origin(inner) or inner) in _SEQUENCES


def members(annotation: Any) -> Iterator[Any]:
    """Yield the types that a value may have: those of a union, or the annotation itself."""
    inner = bare(annotation)[0]
    if get_origin(inner) not in _UNIONS:
        yield annotation
        return
    for member in get_args(inner):
        yield from members(member)


def item(annotation: Any, position: int = 0) -> Any:
    """Return the annotation of the items of a list, or of the item at `position` of a tuple; Any if there is none."""
    inner = bare(annotation)[0]
    args = [a for a in get_args(inner) if a is not ...]
    if get_origin(inner) is tuple and position < len(args):
        return args[position]
    return args[0] if args else Any


def file_form_of(annotation: Any) -> CustomType | None:
    """Return the custom type that reads a file for a parameter: its own, that of its items, or of a union member."""
    for member in members(annotation):
        leaf = form_of(item(member) if is_list(member) else member)
        if leaf is not None and not isinstance(leaf, Text):
            return leaf
    return None


def part_schema(annotation: Any) -> dict[str, Any] | None:
    """Return the schema in a multipart form of a parameter that is a file or a list of files; None for others."""
    leaf = form_of(annotation)
    if leaf is not None:
        return None if isinstance(leaf, Text) else _file_schema(leaf)
    leaf = file_form_of(annotation) if is_list(annotation) else None
    return {"type": "array", "items": _file_schema(leaf)} if leaf else None


def _file_schema(leaf: CustomType) -> dict[str, Any]:
    return {"type": "string", "contentMediaType": leaf.takes[0], "description": f"a file: {', '.join(leaf.takes)}"}


def essence(media_type: str | None) -> str | None:
    """Return the media type without parameters such as a charset, in lower case."""
    return media_type.partition(";")[0].strip().lower() or None if media_type else None


def accepts(leaf: CustomType, media_type: str | None) -> bool:
    """Whether the custom type reads files of that media type."""
    if leaf.is_file:
        return True
    if isinstance(leaf, Text):
        return media_type is not None and media_type.startswith("text/")
    return media_type is not None and any(fnmatch.fnmatchcase(media_type, pattern) for pattern in leaf.takes)


def forms(leaf: CustomType | None, value: Any) -> tuple[str, ...]:
    """Return the media types that this particular result may be sent as, the default first. None has only JSON."""
    if leaf is None or value is None:
        return (JSON,)
    found = leaf.forms(value)
    return (*found, JSON) if leaf.is_file else (JSON, *found)


def encode(label: str, leaf: CustomType | None, value: Any, media_type: str) -> bytes:
    """Encode the result as `media_type`. Raises NotAcceptable if it has no such form, and InvalidResult."""
    known = forms(leaf, value)
    if leaf is None or media_type not in known:
        raise NotAcceptable(f"{label}: this result has no {media_type} form; there is {', '.join(known)}")
    try:
        return leaf.encode(value, media_type)
    except (OSError, ValueError) as error:
        raise InvalidResult(f"{label}: the result cannot be sent as {media_type}: {error}") from error


def decode(
    label: str,
    param: str,
    leaf: CustomType,
    data: bytes,
    media_type: str | None,
    filename: str | None,
    read: Callable[[bytes], Any] = read,
) -> Any:
    """Decode a file, which is a part of a form or a whole body; its value is not validated yet.

    If the type is a file by nature, its bytes are read whatever the declared media type. An array may also be a JSON
    file, which is parsed by `read`. Raises InvalidArgument for malformed bytes, and UnsupportedMediaType for a media
    type that `leaf` does not read.
    """
    kind = essence(media_type)
    try:
        if kind == JSON and not leaf.is_file:
            return read(data)
        if kind not in (None, OCTETS, TEXT) and not accepts(leaf, kind):
            raise UnsupportedMediaType(f"{label}: {param} does not take {kind}; it takes {', '.join(leaf.takes)}")
        return text_of(data, media_type) if isinstance(leaf, Text) else leaf.decode(data, filename)
    except ValueError as error:
        raise unreadable(label, param, str(error)) from error


def unreadable(label: str, param: str, reason: str) -> InvalidArgument:
    """Return the error for malformed bytes."""
    return InvalidArgument(f"{label}: {param}: {reason}", [{"loc": [param], "msg": reason, "type": "value_error"}])


# Charsets that are supported, by the beginnings of Python's codec names. Python has codecs that are not charsets.
_CHARSETS = ("ascii", "utf-8", "utf-16", "utf-32", "iso8859", "cp125")


def text_of(data: bytes, media_type: str | None) -> str:
    """Decode a text in the charset of its media type, by default UTF-8.

    Raises ValueError for malformed bytes, and UnsupportedMediaType for other charsets.
    """
    charset = _charset(media_type) if media_type is not None and ";" in media_type else "utf-8"
    try:
        return data.decode(charset)
    except UnicodeDecodeError as error:
        raise ValueError(f"not {charset.upper()}: {error}") from None


def _charset(media_type: str) -> str:
    header = Message()
    header["Content-Type"] = media_type
    named = header.get_param("charset", "utf-8")
    try:
        name = codecs.lookup(str(named)).name
    except (LookupError, ValueError):
        name = ""
    if not name.startswith(_CHARSETS):
        raise UnsupportedMediaType(f"the charset of {media_type} is not read: write the text in UTF-8")
    return name


# One part of a form: name, data, media type, file name.
Part = tuple[str, bytes, str | None, str | None]

# An empty field whose type has no empty text: browsers send it for a field that was not filled in.
LEFT_OUT = object()


class Form:
    """Decodes the form of one api. `annotations` are adapted for HTTP; `label` and `signature` are for messages."""

    def __init__(self, label: str, signature: str, annotations: Mapping[str, Any]) -> None:
        self._label = label
        self._signature = signature
        self._fields = {name: Field(label, name, annotation) for name, annotation in annotations.items()}

    def field(self, name: str) -> Field:
        """Return the parameter of that name. Raises InvalidArgument if there is none."""
        if name not in self._fields:
            raise errors.unknown(self._label, [name], self._signature)
        return self._fields[name]

    def document(self, parts: Iterable[Part], most: int = MOST_VALUES) -> dict[str, Any]:
        """Return the arguments, not validated yet; their JSON may have up to `most` values.

        Raises UnsupportedMediaType, InvalidArgument, PayloadTooLarge.
        """
        reader = Reader(most)
        by_name: dict[str, list[Part]] = {}
        for part in parts:
            by_name.setdefault(part[0], []).append(part)
        unknown = [name for name in by_name if name not in self._fields]
        if unknown:
            raise errors.unknown(self._label, unknown, self._signature)
        found = {name: self._fields[name].joined(same, reader) for name, same in by_name.items()}
        return {name: value for name, value in found.items() if value is not LEFT_OUT}


class Field:
    """Decodes one parameter of a form, or one position of a parameter that is a list."""

    def __init__(self, label: str, name: str, annotation: Any) -> None:
        self._label = label
        self._name = name
        self._annotation = annotation
        self._list = next((m for m in members(annotation) if is_list(m)), None)
        self._leaf = file_form_of(annotation)
        self._places: list[Field] = []

    def joined(self, parts: list[Part], reader: Reader) -> Any:
        """Return the value of all parts with this name, not validated yet. Several make a list; one may be a whole
        list.

        `LEFT_OUT` if they are empty. Raises UnsupportedMediaType, InvalidArgument.
        """
        if len(parts) == 1:
            value = self.value(*parts[0][1:], reader)
            if self._list is None or self._fits(value):
                return value
        if self._list is None:
            return [self.value(*part[1:], reader) for part in parts]  # validation refuses it, with the parameter's name
        values = [self._place(i).value(*part[1:], reader) for i, part in enumerate(parts)]
        return [v for v in values if v is not LEFT_OUT] or LEFT_OUT

    def value(self, data: bytes, media_type: str | None, filename: str | None, reader: Reader) -> Any:
        """Return the value of one part. Raises UnsupportedMediaType, InvalidArgument."""
        kind = essence(media_type)
        if self._leaf is not None and (filename or kind not in (None, TEXT)):
            return decode(self._label, self._name, self._leaf, data, media_type, filename, reader.read)
        try:
            text = text_of(data, media_type)
            return self._meant(text, reader, is_json=kind == JSON)
        except ValueError as error:
            raise unreadable(self._label, self._name, str(error)) from error

    def _meant(self, text: str, reader: Reader, *, is_json: bool) -> Any:
        """Return the value of a text field. Raises ValueError if it must be JSON and is not."""
        own = form_of(self._annotation)
        if own is not None and own.is_file:
            return text or LEFT_OUT  # base64
        takes_all = bare(self._annotation)[0] in (Any, object)
        if not takes_all and self._fits(text):
            return text
        try:
            document = reader.read(text)
        except ValueError:
            if not takes_all and not text.strip():
                return LEFT_OUT
            if is_json:
                raise
            return text
        is_part = isinstance(document, (dict, list))  # validation reports errors inside a document
        return document if takes_all or is_part or self._fits(document) else text

    def _place(self, position: int) -> Field:
        """Return the decoder of the part at that position, if several parts make a list."""
        annotation = item(self._list, position)
        for place in self._places:
            if place._annotation is annotation:
                return place
        self._places.append(Field(self._label, self._name, annotation))
        return self._places[-1]

    def _fits(self, value: Any) -> bool:
        try:
            self._validate(value)
        except ValidationError:
            return False
        return True

    @cached_property
    def _validate(self) -> Any:
        return adapter_of(self._annotation).validator.validate_python
