"""Digests of code and of values that cloudpickle can send. Equal for the same meaning; layout and line numbers do not
count.

Values are decomposed by pickle, so whatever can be sent to a replica can be compared.
"""

from __future__ import annotations

import hashlib
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import thread_time as clock  # what others do meanwhile does not count
from types import CodeType, FunctionType
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from nbcompose._code.bytecode import Step, per_code, steps_of
from nbcompose._rpc import (
    class_key,
    class_parts,
    function_parts,
    is_record,
    notebook_classes,
    notebook_objects,
    reduce_class,
)
from nbcompose._schema import annotations_of, pydantic_adapter
from nbcompose._service import Service

# What Python, or a library, makes of what a class says.
DERIVED = frozenset({
    "__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__abstractmethods__", "_abc_impl",
    "__parameters__", "__orig_bases__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__annotate_dunder__", "__classdictcell__", "__slotnames__",  # the last one by pickling an instance
})  # fmt: skip
_SPEED = 1e9  # bytes a second, about
_BEHAVIOUR = 0x3FF  # flags of code; those above are of `from __future__`

Ours = Callable[[Any], bool]


class KnowsVersions(Protocol):
    """See captured.py."""

    def newest(self, thing: Any, /) -> Any: ...

    def differs(self, thing: Any, /) -> bool: ...


class Large:
    """Values of more than `limit` bytes: one that is the object it was has the digest that it had (`known`).

    Keyed by identity, and held weakly.
    """

    def __init__(self, limit: int, known: Mapping[int, Any], digester: Callable[[Any], Digester] | None = None) -> None:
        self.found: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._limit = limit
        self._known = known
        self._digester = digester or (lambda value: Digester(whole=value))

    def digest(self, value: Any) -> str | None:
        """The digest of a large value; None for any other."""
        try:
            if not value.nbytes > self._limit:
                return None
            reference = weakref.ref(value)
        except Exception:  # it has no size, or cannot be referred to
            return None
        seen = self.found.get(id(value)) or self._known.get(id(value))
        if seen is None or seen[0]() is not value:
            seen = (reference, self._digester(value).digest(value))
        self.found[id(value)] = seen
        return str(seen[1])


class CannotTell(Exception):
    """What a service would be cannot be told; the message says why."""


class Budget:
    """How long some digests may take, together."""

    def __init__(self, seconds: float) -> None:
        self._end = clock() + seconds

    def spend(self, size: int = 0) -> None:
        """Raises `TimeoutError` where the time is up, or would be after so many bytes."""
        if clock() + size / _SPEED > self._end:
            raise TimeoutError


@dataclass(eq=False)
class Digester:
    """Makes digests. `ours`: classes and functions that count by their content, wherever they are.

    `itself`: the classes of the service, whose members are looked at one by one. `classes`: the identities of the
    notebook's classes that the values are made of; a class is made anew when its cell is run again. `budget`: values
    for which it does not suffice cannot be told. `exact`: what no replica gets counts, too: which class of a name it
    is, and the gradients of tensors. `versions`: which class counts in the place of one that is outdated. `watch` is
    called with each part of a value that is not a plain one, and raises `CannotTell` where no digest is to be taken.
    """

    ours: Ours = lambda _: False
    itself: tuple[type[Any], ...] = ()
    large: Large | None = None
    whole: Any = None
    budget: Budget | None = None
    exact: bool = False
    versions: KnowsVersions | None = None
    watch: Callable[[Any], None] | None = None
    classes: set[str] = field(default_factory=set, init=False)

    def digest(self, value: Any, flat: bool = False) -> str:
        """The digest of a value, a function or a class. One that cannot be told is like no other.

        `flat`: without the globals that its functions use.
        """
        return self.told(value, flat) or uuid4().hex

    def told(self, value: Any, flat: bool = False) -> str | None:
        """The same; None for a value that cannot be told. Raises `CannotTell` where `watch` does."""
        sink = _Sink(self.budget)
        try:
            _Pickler(sink, self, flat).dump(value)
        except CannotTell:
            raise
        except Exception:
            return None
        return sink.digest.hexdigest()


def digest_of(value: Any) -> str:
    """The digest of a value by its content. One that cannot be told is like no other."""
    return Digester().digest(value)


class _Sink:
    """A file that only remembers a digest."""

    def __init__(self, budget: Budget | None) -> None:
        self.digest = hashlib.sha256()
        self._budget = budget

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._budget is not None:
            self._budget.spend(size)
        self.digest.update(data)
        return size

    def take_buffer(self, buffer: Any) -> None:
        self.write(buffer.raw())


class _Pickler(notebook_classes.Pickler):
    """Pickles what matters, where cloudpickle pickles all that is needed to make it again."""

    def __init__(self, sink: _Sink, digester: Digester, flat: bool) -> None:
        super().__init__(sink, protocol=5, buffer_callback=sink.take_buffer)
        self._digester = digester
        self._flat = flat
        self._kept: set[int] = set()  # ids: a class may have no hash

    def reducer_override(self, thing: Any) -> Any:
        digester = self._digester
        if digester.budget is not None:
            size = getattr(thing, "nbytes", 0)
            digester.budget.spend(size if isinstance(size, int) else 0)
        if digester.watch is not None:
            digester.watch(thing)
        if isinstance(thing, CodeType):
            return str, (digest_of_code(thing),)
        if isinstance(thing, Service):
            return str, (f"service {thing.name}",)
        if digester.versions is not None:
            thing = self._newest(thing, digester.versions)
        if notebook_objects.is_named(thing):
            name, *rest = notebook_objects.meant(thing)
            return str, (f"{type(thing).__name__} {name}",), rest, None, None, len
        if isinstance(thing, type):
            if thing not in digester.itself:
                return self._class(thing)
            return str, (f"itself {thing.__qualname__} {class_key(thing) if digester.exact else ''}",)
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, TypeVar):  # its like is made anew by each run of its cell
            return tuple, ([thing.__name__, thing.__bound__, thing.__constraints__, thing.__covariant__],)
        decorator = pydantic_adapter.decorator_parts(thing)
        if decorator is not None:
            return tuple, (decorator,)
        if digester.large is not None and thing is not digester.whole:
            digest = digester.large.digest(thing)
            if digest is not None:
                return str, (digest,)
        return _tensor(thing, exact=digester.exact) or super().reducer_override(thing)

    def _newest(self, thing: Any, versions: KnowsVersions) -> Any:
        """What counts in the place of a class; but where a value is of one that says something else, that counts."""
        if versions.differs(type(thing)) and not is_record(type(thing)):
            self._kept.add(id(type(thing)))
        return thing if id(thing) in self._kept else versions.newest(thing)

    def _class(self, cls: type[Any]) -> Any:
        if cls.__module__ in ("builtins", "typing"):
            return super().reducer_override(cls)
        reduced = reduce_class(cls) if self._digester.ours(cls) else super().reducer_override(cls)
        parts = class_parts(reduced)
        if parts is None:
            return reduced
        self._digester.classes.add(parts.key)
        kept = {name: member for name, member in parts.members.items() if _counts(name)}
        if annotations := annotations_of(cls):  # from 3.14 on they are no member
            kept["__annotations__"] = annotations
        return (parts.make, parts.described, (kept, parts.slots), *parts.rest)

    def _function(self, function: FunctionType) -> Any:
        ours = self._digester.ours(function)
        reduced = self.reduce_function(function) if ours else super().reducer_override(function)
        parts = function_parts(reduced)
        if parts is None:
            return reduced
        slots = {name: value for name, value in parts.slots.items() if not (self._flat and name == "__globals__")}
        return (parts.make, parts.described, (parts.attributes, slots), *parts.rest)


def _counts(name: str) -> bool:
    return not pydantic_adapter.is_derived(name) and (name not in DERIVED or name == "__dataclass_params__")


def _tensor(thing: Any, *, exact: bool) -> Any:
    """A tensor by its numbers; torch itself would write an address, too."""
    torch = sys.modules.get("torch")
    if torch is None or type(thing) not in (torch.Tensor, torch.nn.Parameter if exact else None):
        return None
    if thing.layout != torch.strided or thing.is_quantized:
        return None
    data = thing.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    parts = [str(thing.dtype), tuple(thing.shape), str(thing.device), thing.requires_grad, data]
    if exact:
        parts += [type(thing).__name__, thing.grad if thing.is_leaf else None]
    return tuple, (parts,)


# -- code


@per_code
def digest_of_code(code: CodeType) -> str:
    """Of what code does, however it is laid out."""
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x4) + bool(code.co_flags & 0x8)
    parts = (
        code.co_name, code.co_flags & _BEHAVIOUR, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
        code.co_varnames[:arguments], code.co_freevars, [_told(step) for step in steps_of(code)],
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()


def _told(step: Step) -> tuple[Any, ...]:
    it = step.instruction
    argument = _constant(it.value) if it.kind == "constant" else it.argument
    return it.name, argument, step.caught, step.following


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return digest_of_code(value)
    if isinstance(value, frozenset):
        return f"frozenset {sorted(map(_constant, value))}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    return repr(value)
