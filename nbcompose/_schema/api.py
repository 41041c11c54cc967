"""`ApiSchema`: what one api takes and gives. It binds, validates, calls by, checks and writes; the rest of the package
does the parts. Used on both ends of the wire (Python values) and by HTTP (JSON and other forms).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticSerializationError, ValidationError, from_json, to_jsonable_python

from nbcompose._schema import errors, forms, hints, json_values
from nbcompose._schema.adapters import CONFIG, Adapter, adapter_of, strip
from nbcompose._schema.arguments import UNUSABLE, Binding, Declared
from nbcompose._schema.custom_types import CustomType, Image, Text
from nbcompose._schema.forms import Form, Part
from nbcompose._schema.json_values import MOST_VALUES, Reader
from nbcompose._schema.pydantic_adapter import finite_validator_of
from nbcompose._schema.structs import make_typed_dict, of_large
from nbcompose._schema.unawaited import check_awaited
from nbcompose._spec import ApiSpec
from nbcompose.errors import InvalidArgument, InvalidResult, UnsupportedMediaType


class ApiSchema:
    """What one api takes and gives. Made with `of` in a process where the class lives; immutable, for any thread.

    Validation is lax, as pydantic's is ("3" is an int where one is asked for). A parameter that a call leaves out is
    left out everywhere: its default stays Python's own and is not validated. Validation puts in a default that a
    `Field(...)` has, and that of the items of a batch, which have to be there to be joined.
    """

    def __init__(self, spec: ApiSpec, declared: Declared, max_values: int) -> None:
        self.spec = spec
        self._max_values = max_values
        self._declared = declared
        self._label = declared.label
        binding = Binding(declared.label, spec, declared.defaults)
        self.bind = binding.bind
        self.call_arguments = binding.call_arguments
        self._validate = self._arguments(self._adapted(over_http=False)).validator.validate_python
        self._check: Callable[[Any], Any] | None = None
        if declared.result is not Any:
            result = Adapter(over_http=False).adapt(declared.result)
            self._check = adapter_of(result).validator.validate_python

    @classmethod
    def of(cls, owner: type, spec: ApiSpec, max_values: int = MOST_VALUES) -> ApiSchema:
        """The schema of an api of `owner`. JSON from outside may have `max_values`.

        Raises DeclarationError: every mistake, with file and line.

        String annotations, also those of the classes that they name, are resolved in place, so that the class may
        be sent to another process by value afterwards.
        """
        declared = Declared.read(owner, spec)
        try:
            return cls(spec, declared, max_values)
        except UNUSABLE as error:
            raise declared.explain(error) from error

    def validate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The same arguments as the annotations want them, from Python values. Raises InvalidArgument."""
        try:
            return self._validate(arguments)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise errors.invalid_argument(self._label, self.spec.signature, error) from None

    def read(self, body: bytes) -> Any:
        """A document for `validate_json` from a body of JSON. Raises ValueError where it is none, PayloadTooLarge."""
        return json_values.read(body, self._max_values)

    def validate_json(self, document: Any, *, large: bool = False) -> dict[str, Any]:
        """Arguments from a request's body, as `json.loads` gave it: an object of the parameters, or the one required
        argument itself. The body of an api with a root (`ApiSpec.root`) is always the argument itself.

        An array, image, … that `decode_part` made may stand in the place of its JSON. A file in it needs an open
        `TempFiles`. Raises InvalidArgument; of a `large` one, with the first that is wrong in each list only, and few
        in each object.
        """
        root = self.spec.root
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
        """As `validate_json`, always from an object of the parameters."""
        try:
            validate = self._validate_large if large else self._validate_http
            return validate(document)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise errors.invalid_argument(self._label, self.spec.signature, error) from None

    def check_result(self, value: Any, verb: Literal["returned", "yielded"] = "returned") -> Any:
        """The result, or an item of a stream ("yielded"), as annotated. Raises InvalidResult, NotAwaited."""
        check_awaited(value)
        if self._check is None:
            return value
        try:
            return self._check(value)
        except ValidationError as error:
            raise self._invalid(verb, value, error) from None

    def dump(self, value: Any) -> Any:
        """A checked result or item as what `json.dumps` takes. Raises InvalidResult where it has no JSON form."""
        return from_json(self.dump_json(value))

    def dump_json(self, value: Any) -> bytes:
        """A checked result or item as JSON. NaN and infinities are null. Raises InvalidResult."""
        try:
            return json_values.dump_json(self._http_result, value)
        except ValueError as error:
            raise InvalidResult(f"{self._label}: the result cannot be sent as JSON: {error}") from error

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of the object of parameters, with defaults where JSON can say them, `$defs` inside."""
        schema = json_values.json_schema(self._http_arguments, "validation")
        for name, default in self._declared.defaults.items():
            if strip(self._http_params[name])[1] is not None:
                schema["properties"][name].pop("default", None)
                continue  # a foreign type: Python's form of it is not that of the document
            with contextlib.suppress(PydanticSerializationError):  # that it is optional shows all the same
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
    def output_schema(self) -> dict[str, Any]:
        """JSON schema of the result, or of one item of a stream, `$defs` inside."""
        return json_values.json_schema(self._http_result, "serialization")

    @cached_property
    def multipart_schema(self) -> dict[str, Any] | None:
        """`input_schema` with files where a parameter may be one; None where none may."""
        parts = {name: part for name, a in self._http_params.items() if (part := forms.part_schema(a)) is not None}
        return {**self.input_schema, "properties": {**self.input_schema["properties"], **parts}} if parts else None

    def media_types(self) -> tuple[str, ...]:
        """What results, or the items of a stream, may be sent as, the default first.

        A file may be of any type: `*/*`.
        """
        leaf = self._result_form
        if leaf is None:
            return (forms.JSON,)
        return (*leaf.gives, forms.JSON) if self.gives_file else (forms.JSON, *leaf.gives)

    @property
    def gives_file(self) -> bool:
        """Whether results are files at heart, such as images: JSON is what they are to those who ask for it."""
        return self._result_form is not None and self._result_form.is_file

    @cached_property
    def takes_images(self) -> bool:
        """Whether a parameter is an image, or may be one: to decode one may take long."""
        return any(isinstance(forms.file_form_of(a), Image) for a in self._http_params.values())

    def forms(self, value: Any) -> tuple[str, ...]:
        """What this very result may be sent as, the default first."""
        return forms.forms(self._result_form, value)

    def encode(self, value: Any, media_type: str) -> bytes:
        """A checked result, or item, as one of its `forms`. Raises NotAcceptable for others, InvalidResult."""
        if media_type == forms.JSON:
            return self.dump_json(value)
        return forms.encode(self._label, self._result_form, value, media_type)

    def dump_text(self, item: Any) -> bytes:
        """A checked item of a stream of texts as nothing but its text, which None has none of. Raises InvalidResult."""
        return b"" if item is None else self.encode(item, forms.TEXT)

    def body_types(self) -> tuple[str, ...]:
        """The media types, some as `image/*`, of a raw body: it is the one required argument."""
        leaf = self._body_form
        return leaf.takes if leaf else ()

    def decode_body(self, data: bytes, media_type: str, filename: str | None = None) -> Any:
        """A document for `validate_json` from a raw body. Raises UnsupportedMediaType, InvalidArgument."""
        leaf = self._body_form
        if self._body_param is None or leaf is None or not forms.accepts(leaf, forms.essence(media_type)):
            known = ", ".join((forms.JSON, *forms.FORMS, *self.body_types()))
            raise UnsupportedMediaType(f"{self._label} does not take {media_type}; it takes {known}")
        value = forms.decode(self._label, self._body_param, leaf, data, media_type, filename or "upload")
        return value if self.spec.root else {self._body_param: value}

    def decode_form(self, parts: Iterable[Part]) -> Any:
        """A document for `validate_json` from the parts of a form; a name that repeats makes a list.

        Raises UnsupportedMediaType, InvalidArgument, PayloadTooLarge.
        """
        document = self._form.document(parts, self._max_values)
        # A part has a name, also that of a root.
        return document.get(self.spec.root.name, {}) if self.spec.root else document

    def decode_part(self, param: str, data: bytes, media_type: str | None, filename: str | None) -> Any:
        """The value of one part, still to be validated. Raises UnsupportedMediaType, InvalidArgument."""
        return self._form.field(param).value(data, media_type, filename, Reader(self._max_values))

    def _invalid(self, verb: str, value: Any, error: ValidationError) -> InvalidResult:
        for detail in error.errors(include_url=False, include_context=False):
            check_awaited(detail["input"])
        annotation = self.spec.returns or repr(self._declared.result)
        return errors.invalid_result(self._label, verb, annotation, value, error)

    def _as_object(self, value: Any) -> dict[str, Any]:
        """A body that is not an object, as the one it stands for."""
        required = [p.name for p in self.spec.params if p.required]
        if len(required) == 1:
            return {required[0]: value}
        if value is None and not required:
            return {}
        kind = "null" if value is None else type(value).__name__
        message = f"{self._label}: the body has to be an object of the parameters of {self.spec.signature}, not {kind}"
        raise InvalidArgument(message, [{"loc": [], "msg": "Input should be an object", "type": "dict_type"}])

    def _arguments(self, adapted: Mapping[str, Any]) -> TypeAdapter[Any]:
        """One validator for all arguments: a TypedDict, since its keys may have any name."""
        fields: dict[str, Any] = {}
        for p in self.spec.params:
            annotation = adapted[p.name]
            if self._is_filled(p.name):
                annotation = Annotated[annotation, Field(default=self._declared.defaults[p.name])]
            fields[p.name] = Required[annotation] if p.required else NotRequired[annotation]
        return adapter_of(make_typed_dict(self.spec.name, fields, ConfigDict(**CONFIG, extra="forbid")))

    def _is_filled(self, name: str) -> bool:
        """Whether validation is to put in the signature's default: over another one of a `Field(...)`, or as items."""
        is_items = self.spec.batch is not None and name == self.spec.params[0].name
        field = hints.field_of(self._declared.params[name])
        return name in self._declared.defaults and (is_items or (field is not None and not field.is_required()))

    def _adapted(self, *, over_http: bool) -> dict[str, Any]:
        adapt = Adapter(over_http=over_http).adapt
        return {name: adapt(annotation) for name, annotation in self._declared.params.items()}

    # What only HTTP needs is made when it is asked for first.

    @cached_property
    def _http_params(self) -> dict[str, Any]:
        return self._adapted(over_http=True)

    @cached_property
    def _http_arguments(self) -> TypeAdapter[Any]:
        return self._arguments(self._http_params)

    @cached_property
    def _validate_http(self) -> Callable[[Any], Any]:
        """Numbers are finite, as those of JSON are: "NaN" and 1e999 are none."""
        return finite_validator_of(self._http_arguments).validate_python

    @cached_property
    def _validate_large(self) -> Callable[[Any], Any]:
        """A million errors would take a second to tell."""
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
        # Between the bytes of two items nothing would say where the one ends.
        return leaf if not self.spec.stream or isinstance(leaf, Text) else None

    @cached_property
    def _form(self) -> Form:
        return Form(self._label, self.spec.signature, self._http_params)

    @property
    def _body_form(self) -> CustomType | None:
        return forms.form_of(self._http_params[self._body_param]) if self._body_param else None

    @cached_property
    def _body_param(self) -> str | None:
        """The parameter that a raw body fills: the only required one, or the only one."""
        names = [p.name for p in self.spec.params if p.required] or [p.name for p in self.spec.params]
        return names[0] if len(names) == 1 else None
