"""Forms other than JSON: which media types a parameter or a result may take, and values from and to their bytes.

HTTP itself, such as headers and how a multipart body is cut into parts, is `replica/http.py`'s matter.
"""

from __future__ import annotations

import collections.abc
import fnmatch
import json
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from nbcompose.errors import InvalidArgument, InvalidResult, NotAcceptable, UnsupportedMediaType
from nbcompose.schema.leaf import Leaf
from nbcompose.schema.media import OCTETS, Text
from nbcompose.schema.types import strip

JSON = "application/json"
TEXT = "text/plain"
_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Collection)


def form_of(annotation: Any) -> Leaf | None:
    """The leaf of an adapted annotation, `| None` and `Annotated` aside; None where JSON is its only form."""
    bare, leaf = strip(annotation)
    if bare is str:
        return Text(str)
    return leaf if leaf is not None and leaf.takes else None


def is_list(annotation: Any) -> bool:
    """Whether several parts of one name make one argument."""
    return get_origin(strip(annotation)[0]) in _SEQUENCES


def item_form_of(annotation: Any) -> Leaf | None:
    """The leaf of the items of a list of files, e.g. of images."""
    items = get_args(strip(annotation)[0])
    leaf = form_of(items[0]) if is_list(annotation) and items else None
    return None if isinstance(leaf, Text) else leaf


def part_schema(annotation: Any) -> dict[str, Any] | None:
    """How a multipart form shows a parameter that is a file or a list of files; None for others."""
    leaf = form_of(annotation)
    if leaf is not None:
        return None if isinstance(leaf, Text) else _file_schema(leaf)
    items = item_form_of(annotation)
    return {"type": "array", "items": _file_schema(items)} if items else None


def _file_schema(leaf: Leaf) -> dict[str, Any]:
    return {"type": "string", "contentMediaType": leaf.takes[0], "description": f"a file: {', '.join(leaf.takes)}"}


def essence(media_type: str | None) -> str | None:
    """The type without parameters such as a charset, in lower case."""
    return media_type.partition(";")[0].strip().lower() or None if media_type else None


def accepts(types: tuple[str, ...], media_type: str | None) -> bool:
    """Whether one of `types`, which may end in `/*`, covers `media_type`."""
    return media_type is not None and any(fnmatch.fnmatchcase(media_type, pattern) for pattern in types)


def encode(label: str, leaf: Leaf | None, value: Any, media_type: str) -> bytes:
    """The result as `media_type`. Raises NotAcceptable where it has no such form."""
    if leaf is None or media_type not in leaf.gives:
        known = ", ".join((JSON, *(leaf.gives if leaf else ())))
        raise NotAcceptable(f"{label} has no {media_type} form; it has {known}")
    if value is None:
        raise NotAcceptable(f"{label} returned None, which only {JSON} can say")
    try:
        return leaf.encode(value, media_type)
    except OSError as error:
        raise InvalidResult(f"{label}: the result cannot be read: {error}") from error
    except ValueError as error:
        raise NotAcceptable(f"{label}: the result has no {media_type} form: {error}; ask for {JSON}") from error


def decode(label: str, param: str, annotation: Any, data: bytes, media_type: str | None, filename: str | None) -> Any:
    """The value of one multipart part, or of a whole body; it still has to be validated.

    Raises InvalidArgument for data that are not what they should be, UnsupportedMediaType for a type that the
    parameter does not take.
    """
    leaf, media_type = form_of(annotation) or item_form_of(annotation), essence(media_type)
    try:
        if media_type == JSON:
            return json.loads(data)
        # Without a type and a name it is a form's field: a number, a list, base64.
        if leaf is None or (media_type in (None, TEXT) and not filename and not isinstance(leaf, Text)):
            return _json_or_text(data)
        if media_type not in (None, TEXT, OCTETS) and not accepts(leaf.takes, media_type):
            raise UnsupportedMediaType(f"{label}: {param} does not take {media_type}; it takes {', '.join(leaf.takes)}")
        return leaf.decode(data, filename)
    except (ValueError, RecursionError) as error:
        problem: dict[str, object] = {"loc": [param], "msg": str(error), "type": "value_error"}
        raise InvalidArgument(f"{label}: {param}: {error}", [problem]) from error


def joined(values: Mapping[str, list[Any]], annotations: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a form, by name, as one document: repeated ones, and the only one of a list, become lists."""
    document: dict[str, Any] = {}
    for name, found in values.items():
        is_whole = len(found) == 1 and (not is_list(annotations[name]) or isinstance(found[0], (list, dict)))
        document[name] = found[0] if is_whole else found
    return document


def _json_or_text(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8")
