"""Parameters that take a live stream: `text: AsyncIterator[str]` of an async api, `text: Iterator[str]` of a sync one.

An argument is taken as it is where it is live (an iterator, sync or async); its items are validated one by one, when
the api takes them (`StreamParam.item`). A list is validated as a whole, and is what JSON has for a stream. A text is
one item of a stream of texts.
"""

from __future__ import annotations

import collections.abc
import types
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose._schema import errors
from nbcompose._schema.adapters import Adapter, adapter_of, meaning, stream_item
from nbcompose._schema.unawaited import Unawaited

_SYNC = (collections.abc.Iterator, collections.abc.Generator)
_ASYNC = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator)


class StreamKind(Enum):
    """Of a parameter whose annotation has a stream in it: how its items are read, or that it is not the whole of it."""

    SYNC = "sync"
    ASYNC = "async"
    INSIDE = "inside"


def stream_kind(annotation: Any, *around: Any) -> StreamKind | None:
    """Return of which kind a parameter with this annotation is; None: it takes no stream.

    `Iterable[T]` is no stream: a list that may be read more than once. `around`: aliases that this one is a part of,
    which may be itself.
    """
    whole = _whole(annotation)
    origin = get_origin(whole) or whole
    if origin in _SYNC:
        return StreamKind.SYNC
    if origin in _ASYNC:
        return StreamKind.ASYNC
    if origin is collections.abc.Callable:
        return None
    if is_typealiastype(get_origin(annotation) or annotation):
        if annotation in around:
            return None
        around = (*around, annotation)
    parts = (stream_kind(part, *around) for part in get_args(whole) if not isinstance(part, list))
    return StreamKind.INSIDE if any(part is not None for part in parts) else None


def _whole(annotation: Any) -> Any:
    """Return an annotation without `Annotated`, `| None`, and the name of an alias."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = annotation.__origin__
        elif is_typealiastype(origin or annotation) or is_newtype(annotation):
            annotation = meaning(annotation)
        elif origin in (Union, types.UnionType):
            members = [a for a in get_args(annotation) if a is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


class ArrivedStream:
    """Base of what stands for a stream in the arguments of a call that has arrived (`_rpc/stream_arguments.py`)."""

    __slots__ = ()


def is_stream(value: Any) -> bool:
    """Whether a value is taken as a stream by itself: all that gives its items one after the other, but for lists."""
    kind = type(value)
    if isinstance(value, ArrivedStream) or hasattr(kind, "__anext__") or hasattr(kind, "__aiter__"):
        return True
    return hasattr(kind, "__iter__") and not isinstance(value, _VALUES)


_VALUES = (list, tuple, str, bytes, bytearray, memoryview, collections.abc.Mapping, Unawaited)


class StreamParam:
    """How one parameter takes its argument, and the items of that. A marker of its annotation, for pydantic."""

    def __init__(self, label: str, name: str, annotation: Any, *, over_http: bool) -> None:
        self._label = label
        self._name = name
        self._is_text = stream_item(_whole(annotation)) is str
        self._item = Adapter(over_http=over_http).adapt(stream_item(_whole(annotation)))
        self._check = adapter_of(self._item).validator.validate_python

    def annotation(self, written: Any) -> Any:
        """Return what pydantic validates an argument with: a live one as it is, anything else as a list."""
        is_optional = _whole(written) is not written and type(None) in get_args(written)
        taken: Any = Annotated[Any, self]
        return Union[taken, None] if is_optional else taken  # noqa: UP007  `|` is not defined for `Annotated[Any, …]`

    def item(self, index: int, value: Any) -> Any:
        """Return an item as its annotation has it. Raises `InvalidArgument`."""
        try:
            return self._check(value)
        except ValidationError as error:
            raise errors.invalid_item(self._label, self._name, index, error) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        item = self._item
        items = handler.generate_schema(list[item])  # type: ignore[valid-type]  # known only at run time
        return core_schema.no_info_wrap_validator_function(self._take, items)

    def _take(self, value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if is_stream(value):
            return value
        if self._is_text and isinstance(value, str):
            return [value]
        if isinstance(value, list | tuple):
            return validate(list(value))
        what = "a stream of texts, a list of them, or one" if self._is_text else "a stream, or a list of its items"
        raise PydanticCustomError("stream_type", f"Input should be {what}")
