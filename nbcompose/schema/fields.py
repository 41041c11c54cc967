"""Forms, multipart and urlencoded: from their parts to the document of the arguments, by the types they are for.

A part with a file name, or with a type that is no text, is a file. Any other is a text: a type that takes text gets it
as it is ("2024" may be a tag), every other type gets the JSON that it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from pydantic_core import ValidationError

from nbcompose.schema import forms, problems
from nbcompose.schema.documents import MOST_VALUES, Reader
from nbcompose.schema.types import adapter_of

# One part of a form: name, data, media type, file name.
Part = tuple[str, bytes, str | None, str | None]

# An empty field of a type that no empty text can be: what a browser sends for one that was not filled in.
LEFT_OUT = object()


class Form:
    """The parameters of one api. `annotations` are adapted for HTTP; `label` and `signature` are for messages."""

    def __init__(self, label: str, signature: str, annotations: Mapping[str, Any]) -> None:
        self._label = label
        self._signature = signature
        self._fields = {name: Field(label, name, annotation) for name, annotation in annotations.items()}

    def field(self, name: str) -> Field:
        """Raises InvalidArgument."""
        if name not in self._fields:
            raise problems.unknown(self._label, [name], self._signature)
        return self._fields[name]

    def document(self, parts: Iterable[Part], most: int = MOST_VALUES) -> dict[str, Any]:
        """The arguments, still to be validated; their JSON may have `most` values. Raises UnsupportedMediaType,
        InvalidArgument, PayloadTooLarge.
        """
        reader = Reader(most)
        by_name: dict[str, list[Part]] = {}
        for part in parts:
            by_name.setdefault(part[0], []).append(part)
        unknown = [name for name in by_name if name not in self._fields]
        if unknown:
            raise problems.unknown(self._label, unknown, self._signature)
        found = {name: self._fields[name].joined(same, reader) for name, same in by_name.items()}
        return {name: value for name, value in found.items() if value is not LEFT_OUT}


class Field:
    """One parameter, or one place in a parameter that is a list."""

    def __init__(self, label: str, name: str, annotation: Any) -> None:
        self._label = label
        self._name = name
        self._annotation = annotation
        self._list = next((m for m in forms.members(annotation) if forms.is_list(m)), None)
        self._leaf = forms.file_form_of(annotation)
        self._places: list[Field] = []

    def joined(self, parts: list[Part], reader: Reader) -> Any:
        """The value of all parts of this name, still to be validated: several make a list, and one may be a whole list.

        `LEFT_OUT` where there is nothing in them. Raises UnsupportedMediaType, InvalidArgument.
        """
        if len(parts) == 1:
            value = self.value(*parts[0][1:], reader)
            if self._list is None or self._fits(value):
                return value
        if self._list is None:
            return [self.value(*part[1:], reader) for part in parts]  # which validation refuses, and names
        values = [self._place(i).value(*part[1:], reader) for i, part in enumerate(parts)]
        return [v for v in values if v is not LEFT_OUT] or LEFT_OUT

    def value(self, data: bytes, media_type: str | None, filename: str | None, reader: Reader) -> Any:
        """The value of one part. Raises UnsupportedMediaType, InvalidArgument."""
        kind = forms.essence(media_type)
        if self._leaf is not None and (filename or kind not in (None, forms.TEXT)):
            return forms.decode(self._label, self._name, self._leaf, data, media_type, filename, reader.read)
        try:
            text = forms.text_of(data, media_type)
            return self._meant(text, reader, is_json=kind == forms.JSON)
        except ValueError as error:
            raise forms.unreadable(self._label, self._name, str(error)) from error

    def _meant(self, text: str, reader: Reader, *, is_json: bool) -> Any:
        """What a text stands for. Raises ValueError where it should be JSON, and is not."""
        own = forms.form_of(self._annotation)
        if own is not None and own.is_file:
            return text or LEFT_OUT  # base64
        takes_all = forms.bare(self._annotation)[0] in (Any, object)
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
        is_part = isinstance(document, (dict, list))  # what is wrong in it is better said of it than of a text
        return document if takes_all or is_part or self._fits(document) else text

    def _place(self, position: int) -> Field:
        """What the part in that place is for, where several make a list."""
        annotation = forms.item(self._list, position)
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
