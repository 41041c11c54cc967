"""Arguments and result of one api (`ApiSchema`): binding, validation, JSON and other media types, JSON schemas.

Used on both ends of a call between services (Python values) and for HTTP (JSON and other media types). The other
modules of this package do the parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticSerializationError, ValidationError, from_json, to_jsonable_python

from nbcompose._schema import errors, forms, hints, json_values
from nbcompose._schema.adapters import CONFIG, Adapter, adapter_of, strip
from nbcompose._schema.custom_types import OCTETS, CustomType, Image, Text
from nbcompose._schema.declared import UNUSABLE, Declared
from nbcompose._schema.forms import Form, Part
from nbcompose._schema.json_values import MOST_VALUES, Reader
from nbcompose._schema.pydantic_adapter import finite_validator_of
from nbcompose._schema.stream_params import StreamParam
from nbcompose._schema.structs import make_typed_dict, of_large
from nbcompose._schema.unawaited import Unawaited, check_awaited
from nbcompose._spec import ApiSpec
from nbcompose.errors import InvalidArgument, InvalidResult, UnsupportedMediaType


class Binding:
    """Maps positional and keyword arguments of one api to a dict by parameter name, and back. `*args` and `**kwargs`
    stay one entry each.
    """

    __slots__ = (
        "_by_keyword",
        "_count",
        "_defaults",
        "_is_plain",
        "_label",
        "_passed_by_position",
        "_positional",
        "_required",
        "_spec",
        "_var_keyword",
        "_var_positional",
    )

    def __init__(self, label: str, spec: ApiSpec, defaults: Mapping[str, Any]) -> None:
        kinds = {p.name: p.kind for p in spec.params}
        self._label = label
        self._spec = spec
        self._defaults = defaults
        self._positional = tuple(n for n, k in kinds.items() if k in ("positional_only", "positional_or_keyword"))
        self._by_keyword = frozenset(n for n, k in kinds.items() if k in ("keyword_only", "positional_or_keyword"))
        self._required = frozenset(p.name for p in spec.params if p.required)
        self._var_positional = next((n for n, k in kinds.items() if k == "var_positional"), None)
        self._var_keyword = next((n for n, k in kinds.items() if k == "var_keyword"), None)
        self._count = len(kinds)
        # Whether every argument can be passed to the method by name.
        self._is_plain = len(self._by_keyword) == self._count
        self._passed_by_position = tuple(
            n for n in self._positional if self._var_positional or kinds[n] == "positional_only"
        )

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by parameter name. Raises InvalidArgument for what does not fit the signature.

        Extra positional arguments are under the name of `*args`, extra keywords under that of `**kwargs`.
        """
        if len(args) <= len(self._positional) and kwargs.keys() <= self._by_keyword:
            bound = dict(zip(self._positional, args, strict=False))
            if kwargs:
                if not bound.keys().isdisjoint(kwargs):
                    raise errors.doubled(self._label, sorted(bound.keys() & kwargs.keys()), self._spec.signature)
                bound.update(kwargs)
            if len(bound) == self._count or self._required <= bound.keys():
                return bound
        return self._bind_rest(args, kwargs)

    def _bind_rest(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Handle the uncommon cases: `*args`, `**kwargs`, and mistakes."""
        signature, most = self._spec.signature, len(self._positional)
        if len(args) > most and self._var_positional is None:
            raise errors.too_many(self._label, len(args), most, signature)
        bound = dict(zip(self._positional, args, strict=False))
        rest = {name: value for name, value in kwargs.items() if name not in self._by_keyword}
        if rest and self._var_keyword is None:
            raise errors.unknown(self._label, sorted(rest), signature)
        named = {name: value for name, value in kwargs.items() if name in self._by_keyword}
        if bound.keys() & named.keys():
            raise errors.doubled(self._label, sorted(bound.keys() & named.keys()), signature)
        bound.update(named)
        if self._required - bound.keys():
            raise errors.missing(self._label, [n for n in self._order() if n not in bound], signature)
        if self._var_positional is not None and len(args) > most:
            bound[self._var_positional] = tuple(args[most:])
        if self._var_keyword is not None and rest:
            bound[self._var_keyword] = rest
        return bound

    def _order(self) -> list[str]:
        return [p.name for p in self._spec.params if p.name in self._required]

    def call_arguments(self, arguments: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`(args, kwargs)` to call the method with, whatever the kinds of its parameters."""
        if self._is_plain:
            return (), arguments
        rest = dict(arguments)
        extra = rest.pop(self._var_positional, ()) if self._var_positional is not None else ()
        more = rest.pop(self._var_keyword, {}) if self._var_keyword is not None else {}
        given = [i for i, name in enumerate(self._passed_by_position) if name in rest]
        # Positional arguments cannot have gaps: fill a gap with the parameter's own default.
        upto = len(self._passed_by_position) if extra else (given[-1] + 1 if given else 0)
        args = [rest.pop(name) if name in rest else self._defaults[name] for name in self._passed_by_position[:upto]]
        return (*args, *extra), {**rest, **more}


class ApiSchema:
    """Arguments and result of one api. Made with `of` in a process that has the class; immutable, usable from any
    thread.

    Validation is lax, as pydantic's default is ("3" is accepted for an int). A parameter that a call leaves out stays
    left out: Python applies its default, which is not validated. Validation inserts only the default of a `Field(...)`,
    and that of the batched parameter, whose items must be present to be joined.
    """

    def __init__(self, spec: ApiSpec, declared: Declared, max_values: int) -> None:
        self.spec = spec
        self._root = spec.root
        self._max_values = max_values
        # Parses a JSON body into a document for `validate_json`. Raises ValueError, and PayloadTooLarge.
        self.read = partial(json_values.read, most=max_values)
        self._declared = declared
        self._label = declared.label
        binding = Binding(declared.label, spec, declared.defaults)
        self.bind = binding.bind
        self.call_arguments = binding.call_arguments
        self.streams = self._stream_params(over_http=False)  # how each parameter that takes a stream takes its items
        self._validate = self._arguments(self._adapted(over_http=False)).validator.validate_python
        self._check: Callable[[Any], Any] | None = None
        if declared.result is not Any:
            result = Adapter(over_http=False).adapt(declared.result)
            self._check = adapter_of(result).validator.validate_python

    @classmethod
    def of(cls, owner: type, spec: ApiSpec, max_values: int = MOST_VALUES) -> ApiSchema:
        """Return the schema of an api of `owner`. JSON of a request may have up to `max_values` values.

        Raises DeclarationError with every mistake, each with file and line.

        String annotations, also those of the classes that they name, are resolved in place, so that the class can be
        sent to another process by value afterwards.
        """
        declared = Declared.read(owner, spec)
        try:
            return cls(spec, declared, max_values)
        except UNUSABLE as error:
            raise declared.explain(error) from error

    def validate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Validate arguments given as Python values and convert them to their annotations. Raises InvalidArgument."""
        try:
            return self._validate(arguments)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise errors.invalid_argument(self._label, self.spec.signature, error) from None

    def validate_json(self, document: Any, *, large: bool = False) -> dict[str, Any]:
        """Validate the arguments of a request, given as a parsed JSON document: an object of the parameters, or the one
        required argument itself. The body of an api with a root (`ApiSpec.root`) is always the argument itself.

        An array, image, … made by `decode_part` may take the place of its JSON. A file in it needs an open `TempFiles`.
        Raises InvalidArgument; if `large`, with only the first error of each list, and few of each object.
        """
        root = self._root
        if root is None:
            return self.validate_named(document if isinstance(document, dict) else self._as_object(document), large)
        try:
            return self.validate_named({root.name: document}, large)
        except InvalidArgument as error:
            if not root.required and (document is None or document == {}):  # no body
                return self.validate_named({})
            if isinstance(document, dict) and document.keys() == {root.name}:
                hint = f"the body is {root.name} itself, without its name, which is positional-only"
                raise InvalidArgument(f"{error}\n{hint}", error.problems) from None
            raise

    def validate_named(self, document: dict[str, Any], large: bool = False) -> dict[str, Any]:
        """As `validate_json`, but always from an object of the parameters."""
        try:
            validate = self._validate_large if large else self._validate_http
            return validate(document)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise errors.invalid_argument(self._label, self.spec.signature, error) from None

    def check_result(self, value: Any, verb: Literal["returned", "yielded"] = "returned") -> Any:
        """The result, or an item of a stream ("yielded"), as annotated. Raises InvalidResult, NotAwaited."""
        if isinstance(value, Unawaited):
            raise value.misused()
        if self._check is None:
            return value
        try:
            return self._check(value)
        except ValidationError as error:
            raise self._invalid(verb, value, error) from None

    def dump(self, value: Any) -> Any:
        """Convert a checked result or item to a value that `json.dumps` accepts. Raises InvalidResult if it has no JSON
        form.
        """
        return from_json(self.dump_json(value))

    def dump_json(self, value: Any) -> bytes:
        """Serialize a checked result or item as JSON. NaN and infinities become null. Raises InvalidResult."""
        try:
            return json_values.dump_json(self._http_result, value)
        except ValueError as error:
            raise InvalidResult(f"{self._label}: the result cannot be sent as JSON: {error}") from error

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of the object of parameters, with `$defs` inside, and with those defaults that JSON can
        represent.
        """
        schema = json_values.json_schema(self._http_arguments, "validation")
        for name, default in self._declared.defaults.items():
            if strip(self._http_params[name])[1] is not None:
                schema["properties"][name].pop("default", None)
                continue  # a custom type: the default's Python form differs from its JSON form
            with contextlib.suppress(PydanticSerializationError):  # the schema still shows that it is optional
                schema["properties"][name]["default"] = to_jsonable_python(default, inf_nan_mode="strings")
        return schema

    @cached_property
    def body_schema(self) -> dict[str, Any]:
        """JSON schema of the body of a request: `input_schema`, or that of the root alone."""
        root, schema = self.spec.root, self.input_schema
        if root is None:
            return schema
        definitions = {key: schema[key] for key in ("$defs",) if key in schema}
        return {**schema["properties"][root.name], **definitions}

    @cached_property
    def line_schema(self) -> dict[str, Any]:
        """JSON schema of a line of a body that streams: an object of parameters, none of them required, in which a
        stream is one of its items.
        """
        schema = {key: part for key, part in self.input_schema.items() if key != "required"}
        return {**schema, "properties": {n: self._line_part(n, p) for n, p in schema["properties"].items()}}

    def _line_part(self, name: str, part: dict[str, Any]) -> Any:
        if name not in self.spec.stream_params:
            return part
        choices = [part, *part.get("anyOf", ())]  # of an optional one
        return next(choice["items"] for choice in choices if "items" in choice)

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """JSON schema of the result, or of one item of a stream, `$defs` inside."""
        return json_values.json_schema(self._http_result, "serialization")

    @cached_property
    def file_parts(self) -> dict[str, Any]:
        """JSON schemas of the parameters that may be files, as parts of a multipart form."""
        return {name: part for name, a in self._http_params.items() if (part := forms.part_schema(a)) is not None}

    @cached_property
    def file_classes(self) -> dict[str, type]:
        """The types, e.g. `numpy.ndarray`, of the parameters that may be files and are values of a library."""
        leaves = {name: forms.form_of(a) for name, a in self._http_params.items() if name in self.file_parts}
        return {name: leaf.cls for name, leaf in leaves.items() if leaf is not None and OCTETS not in leaf.takes}

    @cached_property
    def multipart_schema(self) -> dict[str, Any] | None:
        """`input_schema` with file fields for the parameters that may be files; None if there are none."""
        parts, schema = self.file_parts, self.input_schema
        return {**schema, "properties": {**schema["properties"], **parts}} if parts else None

    def media_types(self) -> tuple[str, ...]:
        """Return the media types of results, or of the items of a stream, the default first.

        A file may be of any type: `*/*`.
        """
        leaf = self._result_form
        if leaf is None:
            return (forms.JSON,)
        return (*leaf.gives, forms.JSON) if self.gives_file else (forms.JSON, *leaf.gives)

    @property
    def gives_file(self) -> bool:
        """Whether results are files by nature, such as images, so that JSON is sent only on request."""
        return self._result_form is not None and self._result_form.is_file

    @cached_property
    def takes_images(self) -> bool:
        """Whether a parameter is or may be an image: decoding one may take long."""
        return any(isinstance(forms.file_form_of(a), Image) for a in self._http_params.values())

    def forms(self, value: Any) -> tuple[str, ...]:
        """Return the media types that this particular result may be sent as, the default first."""
        return forms.forms(self._result_form, value)

    def encode(self, value: Any, media_type: str) -> bytes:
        """Encode a checked result or item as one of its `forms`. Raises NotAcceptable for other media types, and
        InvalidResult.
        """
        if media_type == forms.JSON:
            return self.dump_json(value)
        return forms.encode(self._label, self._result_form, value, media_type)

    def dump_text(self, item: Any) -> bytes:
        """Encode a checked item of a stream of texts as its text alone; None is empty. Raises InvalidResult."""
        return b"" if item is None else self.encode(item, forms.TEXT)

    def body_types(self) -> tuple[str, ...]:
        """Return the media types, some as `image/*`, of a raw body, which is the one required argument."""
        leaf = self._body_form
        return leaf.takes if leaf else ()

    def decode_body(self, data: bytes, media_type: str, filename: str | None = None) -> Any:
        """Decode a raw body into a document for `validate_json`. Raises UnsupportedMediaType, InvalidArgument."""
        leaf = self._body_form
        if self._body_param is None or leaf is None or not forms.accepts(leaf, forms.essence(media_type)):
            known = ", ".join((forms.JSON, *forms.FORMS, *self.body_types()))
            raise UnsupportedMediaType(f"{self._label} does not take {media_type}; it takes {known}")
        value = forms.decode(self._label, self._body_param, leaf, data, media_type, filename or "upload")
        return value if self.spec.root else {self._body_param: value}

    def decode_form(self, parts: Iterable[Part]) -> Any:
        """Decode the parts of a form into a document for `validate_json`; a repeated name makes a list.

        Raises UnsupportedMediaType, InvalidArgument, PayloadTooLarge.
        """
        document = self._form.document(parts, self._max_values)
        # Every part has a name, also that of a root parameter.
        return document.get(self.spec.root.name, {}) if self.spec.root else document

    def decode_part(self, param: str, data: bytes, media_type: str | None, filename: str | None) -> Any:
        """Decode one part; its value is not validated yet. Raises UnsupportedMediaType, InvalidArgument."""
        return self._form.field(param).value(data, media_type, filename, Reader(self._max_values))

    def _invalid(self, verb: str, value: Any, error: ValidationError) -> InvalidResult:
        for detail in error.errors(include_url=False, include_context=False):
            check_awaited(detail["input"])
        annotation = self.spec.returns or repr(self._declared.result)
        return errors.invalid_result(self._label, verb, annotation, value, error)

    def _as_object(self, value: Any) -> dict[str, Any]:
        """The object of parameters that a body of another type stands for. Raises InvalidArgument."""
        required = [p.name for p in self.spec.params if p.required]
        if len(required) == 1:
            return {required[0]: value}
        if value is None and not required:
            return {}
        kind = "null" if value is None else type(value).__name__
        message = f"{self._label}: the body has to be an object of the parameters of {self.spec.signature}, not {kind}"
        raise InvalidArgument(message, [{"loc": [], "msg": "Input should be an object", "type": "dict_type"}])

    def _arguments(self, adapted: Mapping[str, Any]) -> TypeAdapter[Any]:
        """Build one validator for all arguments: of a TypedDict, since its keys may have any name."""
        fields: dict[str, Any] = {}
        for p in self.spec.params:
            annotation = adapted[p.name]
            if self._is_filled(p.name):
                annotation = Annotated[annotation, Field(default=self._declared.defaults[p.name])]
            fields[p.name] = Required[annotation] if p.required else NotRequired[annotation]
        return adapter_of(make_typed_dict(self.spec.name, fields, ConfigDict(**CONFIG, extra="forbid")))

    def _is_filled(self, name: str) -> bool:
        """Whether validation inserts the signature's default: instead of that of a `Field(...)`, or for the batched
        parameter.
        """
        is_items = self.spec.batch is not None and name == self.spec.params[0].name
        field = hints.field_of(self._declared.params[name])
        return name in self._declared.defaults and (is_items or (field is not None and not field.is_required()))

    def _adapted(self, *, over_http: bool) -> dict[str, Any]:
        adapt = Adapter(over_http=over_http).adapt
        streams = self.http_streams if over_http else self.streams
        return {
            name: streams[name].annotation(annotation) if name in streams else adapt(annotation)
            for name, annotation in self._declared.params.items()
        }

    def _stream_params(self, *, over_http: bool) -> Mapping[str, StreamParam]:
        return {
            name: StreamParam(self._label, name, self._declared.params[name], over_http=over_http)
            for name in self.spec.stream_params
        }

    # Parts that only HTTP needs are built on first use.

    @cached_property
    def http_streams(self) -> Mapping[str, StreamParam]:
        """As `streams`, for items from JSON."""
        return self._stream_params(over_http=True)

    @cached_property
    def _http_params(self) -> dict[str, Any]:
        return self._adapted(over_http=True)

    @cached_property
    def _http_arguments(self) -> TypeAdapter[Any]:
        return self._arguments(self._http_params)

    @cached_property
    def _validate_http(self) -> Callable[[Any], Any]:
        """Accepts only finite numbers, as JSON has no others: neither "NaN" nor 1e999."""
        return finite_validator_of(self._http_arguments).validate_python

    @cached_property
    def _validate_large(self) -> Callable[[Any], Any]:
        """Reports few errors: collecting a million errors would take a second."""
        validator = finite_validator_of(self._http_arguments, fail_fast=True)

        def validate(document: Any) -> Any:
            token = of_large.set(True)
            try:
                return validator.validate_python(document)
            finally:
                of_large.reset(token)

        return validate

    @cached_property
    def _http_result_type(self) -> Any:
        return Adapter(over_http=True).adapt(self._declared.result)

    @cached_property
    def _http_result(self) -> TypeAdapter[Any]:
        return adapter_of(self._http_result_type)

    @cached_property
    def _result_form(self) -> CustomType | None:
        leaf = forms.form_of(self._http_result_type)
        # In a stream of binary items nothing would mark where one ends.
        return leaf if not self.spec.stream or isinstance(leaf, Text) else None

    @cached_property
    def _form(self) -> Form:
        return Form(self._label, self.spec.signature, self._http_params)

    @property
    def _body_form(self) -> CustomType | None:
        return forms.form_of(self._http_params[self._body_param]) if self._body_param else None

    @cached_property
    def _body_param(self) -> str | None:
        """The parameter that a raw body fills: the only required one, or else the only one."""
        names = [p.name for p in self.spec.params if p.required] or [p.name for p in self.spec.params]
        return names[0] if len(names) == 1 else None
