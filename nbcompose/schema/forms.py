"""Forms other than JSON: which media types a parameter or a result may take, and values from and to their bytes.

What the parts of a form mean is `fields.py`'s matter; HTTP itself, such as headers and how a body is cut into parts,
that of `replica/`.
"""

from __future__ import annotations

import codecs
import collections.abc
import fnmatch
import types
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any, Union, get_args, get_origin

from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose.errors import InvalidArgument, InvalidResult, NotAcceptable, UnsupportedMediaType
from nbcompose.schema.documents import read
from nbcompose.schema.leaf import Leaf
from nbcompose.schema.media import OCTETS, Text
from nbcompose.schema.types import meaning, strip

JSON = "application/json"
TEXT = "text/plain"
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_UNIONS = (Union, types.UnionType)
_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Collection)


def bare(annotation: Any) -> tuple[Any, Leaf | None]:
    """As `strip`, with names for types taken off too."""
    while True:
        inner, leaf = strip(annotation)
        if leaf is None and (is_newtype(inner) or is_typealiastype(get_origin(inner) or inner)):
            annotation = meaning(inner)
        else:
            return inner, leaf


def form_of(annotation: Any) -> Leaf | None:
    """The leaf of an adapted annotation, `| None` and `Annotated` aside; None where JSON is its only form."""
    inner, leaf = bare(annotation)
    if inner is str:
        return Text(str)
    return leaf if leaf is not None and leaf.takes else None


def is_list(annotation: Any) -> bool:
    """Whether several parts of one name make one argument."""
    inner = bare(annotation)[0]
    return (get_origin(inner) or inner) in _SEQUENCES


def members(annotation: Any) -> Iterator[Any]:
    """The types that a value may have: those of a union, or the annotation itself."""
    inner = bare(annotation)[0]
    if get_origin(inner) not in _UNIONS:
        yield annotation
        return
    for member in get_args(inner):
        yield from members(member)


def item(annotation: Any, position: int = 0) -> Any:
    """The annotation of the items of a list, or of the one in that place of a tuple; Any where it does not say."""
    inner = bare(annotation)[0]
    args = [a for a in get_args(inner) if a is not ...]
    if get_origin(inner) is tuple and position < len(args):
        return args[position]
    return args[0] if args else Any


def file_form_of(annotation: Any) -> Leaf | None:
    """The leaf that reads a file for a parameter: its own, that of its items, or that of a member of a union."""
    for member in members(annotation):
        leaf = form_of(item(member) if is_list(member) else member)
        if leaf is not None and not isinstance(leaf, Text):
            return leaf
    return None


def part_schema(annotation: Any) -> dict[str, Any] | None:
    """How a multipart form shows a parameter that is a file or a list of files; None for others."""
    leaf = form_of(annotation)
    if leaf is not None:
        return None if isinstance(leaf, Text) else _file_schema(leaf)
    leaf = file_form_of(annotation) if is_list(annotation) else None
    return {"type": "array", "items": _file_schema(leaf)} if leaf else None


def _file_schema(leaf: Leaf) -> dict[str, Any]:
    return {"type": "string", "contentMediaType": leaf.takes[0], "description": f"a file: {', '.join(leaf.takes)}"}


def essence(media_type: str | None) -> str | None:
    """The type without parameters such as a charset, in lower case."""
    return media_type.partition(";")[0].strip().lower() or None if media_type else None


def accepts(leaf: Leaf, media_type: str | None) -> bool:
    """Whether the leaf reads files of that type."""
    if leaf.is_file:
        return True
    if isinstance(leaf, Text):
        return media_type is not None and media_type.startswith("text/")
    return media_type is not None and any(fnmatch.fnmatchcase(media_type, pattern) for pattern in leaf.takes)


def forms(leaf: Leaf | None, value: Any) -> tuple[str, ...]:
    """What this very result may be sent as, the default first. None is something that only JSON can say."""
    if leaf is None or value is None:
        return (JSON,)
    found = leaf.forms(value)
    return (*found, JSON) if leaf.is_file else (JSON, *found)


def encode(label: str, leaf: Leaf | None, value: Any, media_type: str) -> bytes:
    """The result as `media_type`. Raises NotAcceptable where it has no such form, InvalidResult."""
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
    leaf: Leaf,
    data: bytes,
    media_type: str | None,
    filename: str | None,
    read: Callable[[bytes], Any] = read,
) -> Any:
    """The value of a file, which a part or a whole body is; it still has to be validated.

    A file is its bytes, whatever type it says it has; an array may be a file of JSON too, which `read` reads. Raises
    InvalidArgument for bytes that are not what they should be, UnsupportedMediaType for a type that `leaf` does not
    read.
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
    """For bytes that are not what they should be."""
    return InvalidArgument(f"{label}: {param}: {reason}", [{"loc": [param], "msg": reason, "type": "value_error"}])


# Ways to write characters, by the beginnings of Python's names; it has codecs for more than that.
_CHARSETS = ("ascii", "utf-8", "utf-16", "utf-32", "iso8859", "cp125")


def text_of(data: bytes, media_type: str | None) -> str:
    """The text that `data` is, in the charset that its type names, else in UTF-8.

    Raises ValueError for other bytes, UnsupportedMediaType for other charsets.
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
