"""Convert annotations to types that pydantic validates. The only module that lists the custom types.

An annotation that needs no change is returned as the same object. Types of numpy, torch, pandas and PIL get their
`CustomType` (see `_schema/arrays.py` and `_schema/custom_types.py`), classes with fields get the handlers of
`_schema/structs.py`, and pydantic handles everything else.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import pathlib
import sys
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import numpy as np
from pydantic import ConfigDict, InstanceOf, PydanticSchemaGenerationError, TypeAdapter
from pydantic.fields import FieldInfo
from typing_extensions import ReadOnly, TypeAliasType, is_typeddict
from typing_inspection.typing_objects import is_newtype, is_typealiastype

from nbcompose._schema import hints, structs
from nbcompose._schema.arrays import Array, Frame, Interval, Moment, PandasValues, Scalar, Series, Tensor
from nbcompose._schema.custom_types import Base64, CustomType, Image, Upload

# Libraries that are never imported here: their types are looked up in `sys.modules`, so they exist only once the
# library is loaded.
_LIBRARIES: tuple[tuple[str, str, Callable[[type], CustomType]], ...] = (
    ("torch", "Tensor", Tensor),
    ("pandas", "DataFrame", Frame),
    ("pandas", "Series", Series),
    ("pandas", "Index", PandasValues),
    ("pandas.api.extensions", "ExtensionArray", PandasValues),
    ("pandas", "Timestamp", Moment),
    ("pandas", "Timedelta", Moment),
    ("pandas", "Period", Moment),
    ("pandas", "Interval", Interval),
    ("PIL.Image", "Image", Image),
)


def leaf_for(annotation: Any, *, over_http: bool) -> CustomType | None:
    """Return the `CustomType` of an annotation, or None if it has none or pydantic handles it.

    `over_http`: for JSON and uploads, where bytes and paths have custom types as well.
    """
    leaf = _leaf_for(annotation, over_http)
    if leaf is not None:
        leaf.from_json = over_http
    return leaf


def _leaf_for(annotation: Any, over_http: bool) -> CustomType | None:
    cls = get_origin(annotation) or annotation
    if not inspect.isclass(cls):
        return None
    if cls is np.ndarray:
        return Array(cls, annotation)
    if issubclass(cls, np.generic):
        return Scalar(cls)
    for module, name, leaf in _LIBRARIES:
        base = getattr(sys.modules.get(module), name, None)
        if base is not None and issubclass(cls, base):
            return leaf(cls)
    if not over_http:
        return None
    if cls in (bytes, bytearray):
        return Base64(cls)
    return Upload(cls) if issubclass(cls, pathlib.PurePath) else None


CONFIG = ConfigDict(arbitrary_types_allowed=True, ser_json_inf_nan="null")

STREAMS = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
    collections.abc.Iterable,
    collections.abc.AsyncIterable,
)

# Likely mistakes, e.g. `any` for `Any` or `[int]` for `list[int]`, for which pydantic would accept any value.
_NO_TYPES = (int, float, list, tuple, dict, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)

# Classes of these modules have no fields for us to adapt: pydantic handles them.
_PYDANTICS_OWN = frozenset(
    ("builtins", "collections", "collections.abc", "datetime", "decimal", "pathlib", "re", "types", "typing", "uuid")
)


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter for an adapted annotation. Raises pydantic's errors."""
    # pydantic accepts no config for a class that could have its own. A type alias is not a class.
    alias: Any = TypeAliasType("Value", annotation)
    adapter: TypeAdapter[Any] = TypeAdapter(alias, config=CONFIG)
    if not adapter.pydantic_complete:
        adapter.rebuild(raise_errors=True)
    return adapter


def stream_item(annotation: Any) -> Any:
    """Return `T` of `Iterator[T]` and similar types, or Any if they have no argument. Raises LookupError for other
    types.
    """
    origin = get_origin(annotation) or annotation
    if annotation in (Any, object):
        return Any
    if is_typealiastype(origin):
        return stream_item(meaning(annotation))
    if origin not in STREAMS:
        raise LookupError(annotation)
    return next(iter(get_args(annotation)), Any)


class Adapter:
    """Adapts annotations to one of two uses: calls between services (Python values), or HTTP (`over_http`: JSON,
    uploads).
    """

    def __init__(self, *, over_http: bool) -> None:
        self.over_http = over_http
        # `_open`: the annotations being walked, each with what to insert where it refers to itself. `_met`: those that
        # did refer to themselves.
        self._open: list[tuple[Any, Any]] = []
        self._met: list[Any] = []
        self._in_model = 0

    def adapt(self, annotation: Any) -> Any:
        """Return `annotation` with our handlers inserted, or itself if it needs none. Raises TypeError for something
        that is not a type.
        """
        if isinstance(annotation, _NO_TYPES):
            raise TypeError(f"{getattr(annotation, '__name__', annotation)!r} is not a type")
        origin = get_origin(annotation)
        if origin in (Annotated, Required, NotRequired, ReadOnly):
            return self._adapt_annotated(annotation)
        leaf = leaf_for(annotation, over_http=self.over_http)
        if leaf is not None:
            # A pydantic model configures itself how it reads and writes bytes.
            return annotation if isinstance(leaf, Base64) and self._in_model else Annotated[annotation, leaf]
        if _is_array_like(annotation):
            return Any
        if (origin or annotation) is collections.abc.Iterable:
            return self._adapt_iterable(annotation)
        if (origin or annotation) in STREAMS:
            return _generic(InstanceOf, origin or annotation)
        if origin in (Literal, collections.abc.Callable, type):  # their arguments are not types of values
            return annotation
        if is_typealiastype(origin or annotation) or is_newtype(annotation):
            return self._adapt_alias(annotation)
        if inspect.isclass(origin or annotation) and (origin or annotation).__module__ not in _PYDANTICS_OWN:
            return self._adapt_class(annotation)
        args = get_args(annotation)
        return self._rebuilt(annotation, origin, args) if args else annotation

    def _changed(self, annotations: Mapping[str, Any]) -> dict[str, Any]:
        """Return the annotations that need a change, adapted."""
        adapted = {name: self.adapt(annotation) for name, annotation in annotations.items()}
        return {name: new for name, new in adapted.items() if new is not annotations[name]}

    def _adapt_annotated(self, annotation: Any) -> Any:
        inner, metadata = get_args(annotation)[0], getattr(annotation, "__metadata__", ())
        new = self.adapt(inner)
        if new is inner:
            return annotation
        return Annotated[(new, *metadata)] if metadata else _generic(get_origin(annotation), new)

    def _adapt_iterable(self, annotation: Any) -> Any:
        """Keep a live iterator; anything else becomes a list, where pydantic would make an iterator that can be read
        once.
        """
        items = _generic(list, self.adapt(next(iter(get_args(annotation)), Any)))
        return items if self.over_http else _generic(Union, (InstanceOf[collections.abc.Iterator[Any]], items))

    def _adapt_alias(self, annotation: Any) -> Any:
        """Adapt a NewType or a type alias (with arguments, if any). An alias may refer to itself."""
        for open_, late in self._open:
            if open_ == annotation:
                self._met.append(annotation)
                return annotation if late is None else Annotated[Any, late]
        inner = meaning(annotation)
        new = self._adapt_inside(annotation, inner, None)
        if new is inner:
            return annotation
        if annotation not in self._met:
            return new
        late = structs.Late()  # the alias refers to itself: those references need the adapted type, too
        late.rebuilt = TypeAliasType(annotation.__name__, self._adapt_inside(annotation, inner, late))
        return late.rebuilt

    def _adapt_inside(self, annotation: Any, inner: Any, for_itself: Any) -> Any:
        self._open.append((annotation, for_itself))
        try:
            return self.adapt(inner)
        finally:
            self._open.pop()

    def _rebuilt(self, annotation: Any, origin: Any, args: tuple[Any, ...]) -> Any:
        new = tuple(self.adapt(arg) for arg in args)
        if all(a is b for a, b in zip(args, new, strict=True)):
            return annotation
        return _generic(Union if origin is types.UnionType else origin, new)

    def _adapt_class(self, annotation: Any) -> Any:
        """Adapt a user's class by its fields, unless its fields are being walked already (recursive class)."""
        cls = get_origin(annotation) or annotation
        if is_typeddict(cls):
            return self._adapt_typed_dict(annotation, cls)
        for open_, handler in self._open:
            if open_ == annotation:
                self._met.append(annotation)
                return annotation if handler is None else Annotated[annotation, structs.Again(handler)]
        if structs.is_model(cls):
            return self._adapt_fields(annotation, structs.Model(cls, over_http=self.over_http))
        if structs.has_fields(cls):
            return self._adapt_fields(annotation, structs.Fields(cls, over_http=self.over_http))
        if issubclass(cls, enum.Enum):
            return annotation if self.over_http else Annotated[annotation, structs.EnumHandler(cls)]
        return annotation if _is_known(annotation) else Annotated[Any, structs.Opaque(cls)]

    def _adapt_fields(self, annotation: Any, handler: structs.Struct) -> Any:
        # Between services a value may be of an older version of the class at any depth. Over HTTP a class that refers
        # to itself needs the handler there only if one of its other fields does.
        handler.changed = self._changed_fields(annotation, handler, None if self.over_http else handler)
        if self.over_http and handler.changed and annotation in self._met:
            handler.changed = self._changed_fields(annotation, handler, handler)
        is_needed = handler.is_needed_inside_model if self._in_model else handler.is_needed
        return Annotated[annotation, handler] if is_needed else annotation

    def _changed_fields(self, annotation: Any, handler: structs.Struct, for_itself: structs.Struct | None) -> Any:
        """Return the fields that need a handler of ours, adapted; `for_itself` is inserted where the class refers to
        itself.
        """
        self._open.append((annotation, for_itself))
        self._in_model += handler.is_model
        try:
            return self._changed(handler.annotations(get_args(annotation)))
        finally:
            self._open.pop()
            self._in_model -= handler.is_model

    def _adapt_typed_dict(self, annotation: Any, cls: Any) -> Any:
        for open_, late in self._open:
            if open_ == annotation:
                return Annotated[Any, late]
        late = structs.Late()
        self._open.append((annotation, late))
        try:
            annotations = hints.substitute(hints.of_class(cls), cls, get_args(annotation))
            changed = self._changed(annotations)
        finally:
            self._open.pop()
        # Before Python 3.12 pydantic refuses `typing.TypedDict`, which does not keep the information that pydantic
        # needs.
        if not changed and (type(cls).__module__ != "typing" or sys.version_info >= (3, 12)):
            return annotation
        late.rebuilt = structs.typed_dict(cls, {**annotations, **changed})
        return late.rebuilt


def meaning(alias: Any) -> Any:
    """Resolve a type alias or NewType: `list[int]` for `Many[int]` where `type Many[T] = list[T]`."""
    if is_newtype(alias):
        return alias.__supertype__
    origin = get_origin(alias) or alias
    return hints.substitute({"": hints.of_alias(origin)}, origin, get_args(alias))[""]


def _generic(origin: Any, args: Any) -> Any:
    """`origin[args]` with arguments that are known only at run time."""
    return origin[args]


def _is_known(annotation: Any) -> bool:
    """Whether pydantic, or the class itself, defines how the type is validated."""
    try:
        TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        return False
    return True


def _is_array_like(annotation: Any) -> bool:
    """Whether the annotation is `numpy.typing.ArrayLike`, a union of protocols that no value can be checked against."""
    numpy_typing = sys.modules.get("numpy.typing")
    return numpy_typing is not None and annotation == numpy_typing.ArrayLike


def strip(annotation: Any) -> tuple[Any, CustomType | None]:
    """Return the type of an adapted annotation without `Annotated` and `| None`, and its custom type."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            leaf = next((m for m in annotation.__metadata__ if isinstance(m, CustomType)), None)
            if leaf is not None:
                return annotation.__origin__, leaf
            annotation = annotation.__origin__
        elif origin in (Union, types.UnionType):
            members = [a for a in get_args(annotation) if a is not type(None)]
            if len(members) != 1:
                return annotation, None
            annotation = members[0]
        else:
            return annotation, None


# Attributes of objects that describe a parameter or a field, in several frameworks.
_TELLTALES = ("default", "default_factory", "dependency")


def misused(default: Any, annotation: Any) -> str:
    """Return the reason why a parameter cannot be declared like this, or "" if it can."""
    for field in (default, *_metadata(annotation)):
        if isinstance(field, FieldInfo):
            if type(field) is not FieldInfo:
                return _not_ours(field)
            if field.alias is not None or field.validation_alias is not None:
                return "it has an alias, but a parameter has one name, in Python and over HTTP: rename it"
    return _not_ours(default) if _describes(default, annotation) else ""


def _metadata(annotation: Any) -> tuple[Any, ...]:
    """Return the metadata of `Annotated`, also of the members of a union, as in `Annotated[int, Field()] | None`."""
    found = getattr(annotation, "__metadata__", ())
    parts = get_args(annotation)[:1] if found else (get_args(annotation) if _is_union(annotation) else ())
    return (*found, *(m for part in parts for m in _metadata(part)))


def _is_union(annotation: Any) -> bool:
    return getattr(get_origin(annotation), "__qualname__", "") in ("Union", "UnionType")


def _describes(default: Any, annotation: Any) -> bool:
    """Whether a default describes the parameter (like another framework's field object) rather than being a value of
    it.
    """
    if isinstance(default, dataclasses.Field):
        return True
    if isinstance(default, type | FieldInfo) or not any(_has(default, name) for name in _TELLTALES):
        return False
    try:
        adapter_of(Adapter(over_http=False).adapt(annotation)).validate_python(default)
    except Exception:  # a value of another type, or an error from one of its attributes
        return True
    return False


def _has(value: Any, name: str) -> bool:
    """Whether the instance or its class defines the attribute. Not `hasattr`: some objects have every attribute."""
    return name in getattr(value, "__dict__", {}) or any(name in vars(base) for base in type(value).__mro__)


def _not_ours(default: Any) -> str:
    cls = type(default)
    return (
        f"its default is a {cls.__name__} of {cls.__module__}, which nbcompose does not know and would hand to the "
        "method: write a value, or pydantic's Field(...)"
    )
