"""Digests of code, and of what cloudpickle can send: equal for what means the same. Layout and places do not count.

Values are taken apart by pickle, so whatever can be sent to a replica can be compared.
"""

from __future__ import annotations

import bisect
import dis
import hashlib
import sys
import weakref
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, TypeVar
from uuid import uuid4

from cloudpickle import cloudpickle

from nbcompose.capture.reach import per_code
from nbcompose.declaration import Service
from nbcompose.wire import named

# What Python, or a library, makes of what a class says.
DERIVED = frozenset({
    "__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__abstractmethods__", "_abc_impl",
    "__parameters__", "__orig_bases__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__annotate_dunder__", "__classdictcell__", "__slotnames__",  # the last one by pickling an instance
})  # fmt: skip
_PYDANTIC = frozenset({"__pydantic_fields__", "__pydantic_decorators__"})  # all else that it adds follows from these
_LAYOUT = frozenset({"CACHE", "EXTENDED_ARG", "NOP"})
_BEHAVIOUR = 0x3FF  # flags of code; those above are of `from __future__`
_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})
_CONSTANTS = frozenset(dis.hasconst)

Ours = Callable[[Any], bool]


class Large:
    """Values of more than `limit` bytes: one that is the object it was has the digest that it had (`known`).

    Keyed by identity, and held weakly.
    """

    def __init__(self, limit: int, known: Mapping[int, Any]) -> None:
        self.found: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._limit = limit
        self._known = known

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
            seen = (reference, Digester(whole=value).digest(value))
        self.found[id(value)] = seen
        return str(seen[1])


class Digester:
    """Makes digests. `ours`: classes and functions that count by their content, wherever they are.

    `itself`: the classes of the service, whose members are looked at one by one. `classes`: the identities of the
    notebook's classes that the values are made of; a class is made anew when its cell is run again.
    """

    def __init__(
        self,
        ours: Ours = lambda _: False,
        itself: tuple[type[Any], ...] = (),
        large: Large | None = None,
        whole: Any = None,
    ) -> None:
        self.ours = ours
        self.itself = itself
        self.large = large
        self.whole = whole
        self.classes: set[str] = set()

    def digest(self, value: Any, flat: bool = False) -> str:
        """The digest of a value, a function or a class. One that cannot be told is like no other.

        `flat`: without the globals that its functions use.
        """
        sink = _Sink()
        try:
            _Pickler(sink, self, flat).dump(value)
        except Exception:
            return uuid4().hex
        return sink.hexdigest()


def digest_of(value: Any) -> str:
    """The digest of a value by its content. One that cannot be told is like no other."""
    return Digester().digest(value)


def identity_of(cls: type[Any]) -> str:
    """Tells a class that was made in this process from one that was made by running its cell again."""
    return str(cloudpickle._get_or_create_tracker_id(cls))


class _Sink:
    """A file that only remembers a digest."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return memoryview(data).nbytes

    def take_buffer(self, buffer: Any) -> None:
        self.write(buffer.raw())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles what matters, where cloudpickle pickles all that is needed to make it again."""

    def __init__(self, sink: _Sink, digester: Digester, flat: bool) -> None:
        super().__init__(sink, protocol=5, buffer_callback=sink.take_buffer)
        self._digester = digester
        self._flat = flat

    def reducer_override(self, thing: Any) -> Any:
        digester = self._digester
        if isinstance(thing, CodeType):
            return str, (digest_of_code(thing),)
        if isinstance(thing, Service):
            return str, (f"service {thing.name}",)
        if named.is_named(thing):
            name, *rest = named.meant(thing)
            return str, (f"{type(thing).__name__} {name}",), rest, None, None, len
        if isinstance(thing, type):
            return (str, (f"itself {thing.__qualname__}",)) if thing in digester.itself else self._class(thing)
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, TypeVar):  # its like is made anew by each run of its cell
            return tuple, ([thing.__name__, thing.__bound__, thing.__constraints__, thing.__covariant__],)
        if hasattr(thing, "cache_parameters"):  # functools.lru_cache, which pickle knows by its name only
            return tuple, ([thing.__wrapped__, thing.cache_parameters()],)
        if type(thing).__module__ == "pydantic._internal._decorators" and hasattr(thing, "cls_ref"):
            return tuple, ([thing.cls_var_name, thing.func, thing.info],)  # `cls_ref` has an address in it
        if digester.large is not None and thing is not digester.whole:
            digest = digester.large.digest(thing)
            if digest is not None:
                return str, (digest,)
        return _tensor(thing) or super().reducer_override(thing)

    def _class(self, cls: type[Any]) -> Any:
        if cls.__module__ in ("builtins", "typing"):
            return super().reducer_override(cls)
        reduced = cloudpickle._dynamic_class_reduce(cls) if self._digester.ours(cls) else super().reducer_override(cls)
        if not isinstance(reduced, tuple) or reduced[0] not in _SKELETONS:
            return reduced
        make, arguments, (members, slots), *rest = reduced
        self._digester.classes.add(arguments[-2])
        kept = {name: member for name, member in members.items() if _counts(name)}
        return (make, (*arguments[:-2], None, None), (kept, slots), *rest)

    def _function(self, function: FunctionType) -> Any:
        reduced = (
            self._dynamic_function_reduce(function)
            if self._digester.ours(function)
            else super().reducer_override(function)
        )
        if not isinstance(reduced, tuple) or len(reduced) < 3:
            return reduced
        make, arguments, (attributes, slots), *rest = reduced
        left_out = {"_cloudpickle_submodules", *(("__globals__",) if self._flat else ())}
        slots = {name: value for name, value in slots.items() if name not in left_out}
        return (make, (arguments[0], {}, *arguments[2:]), (attributes, slots), *rest)


_SKELETONS = (cloudpickle._make_skeleton_class, cloudpickle._make_skeleton_enum)


def _counts(name: str) -> bool:
    if name.startswith("__pydantic_"):
        return name in _PYDANTIC
    return name not in DERIVED or name == "__dataclass_params__"


def _tensor(thing: Any) -> Any:
    """A tensor by its numbers; torch itself would write an address, too."""
    torch = sys.modules.get("torch")
    if torch is None or type(thing) is not torch.Tensor or thing.layout != torch.strided or thing.is_quantized:
        return None
    data = thing.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return tuple, ([str(thing.dtype), tuple(thing.shape), str(thing.device), thing.requires_grad, data],)


# -- code


@per_code
def digest_of_code(code: CodeType) -> str:
    """Of what code does: its instructions, without the lines that they are on and the gaps between those."""
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _LAYOUT]
    places = [i.offset for i in instructions]

    def place(offset: int) -> int:
        return bisect.bisect_left(places, offset)

    handlers = [
        (place(e.start), place(e.end), place(e.target), e.depth, e.lasti)
        for e in getattr(dis.Bytecode(code), "exception_entries", ())
    ]
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x4) + bool(code.co_flags & 0x8)
    parts = (
        code.co_name, code.co_flags & _BEHAVIOUR, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
        code.co_varnames[:arguments], code.co_freevars, [_instruction(i, place, code) for i in instructions], handlers,
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()


def _instruction(instruction: dis.Instruction, place: Callable[[int], int], code: CodeType) -> tuple[str, Any]:
    if instruction.opname == "KW_NAMES":  # `dis` has the number of the constant only
        return instruction.opname, code.co_consts[instruction.arg or 0]
    if instruction.opcode in _JUMPS:
        return instruction.opname, place(instruction.argval)
    if instruction.opcode in _CONSTANTS:
        return instruction.opname, _constant(instruction.argval)
    return instruction.opname, instruction.argrepr or instruction.arg


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return digest_of_code(value)
    if isinstance(value, frozenset):
        return f"frozenset {sorted(map(_constant, value))}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    return repr(value)
