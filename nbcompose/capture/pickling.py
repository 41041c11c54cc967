"""What a class takes along, as bytes: all of it of one moment and one version. `replica/main_module.py` reads them."""

from __future__ import annotations

import copyreg
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from nbcompose.capture.ipythons import places
from nbcompose.capture.versions import Outdated, Versions, said
from nbcompose.errors import InvalidArgument
from nbcompose.replica.main_module import MainGlobals
from nbcompose.replica.sources import from_module
from nbcompose.wire import cloudpickle_adapter, named
from nbcompose.wire.classes import fitted, is_record, why
from nbcompose.wire.named import names_now

Places = Mapping[int, tuple[str, str]]  # by `id`: module and name of what is not sent, since a replica has it already


@dataclass(frozen=True, slots=True)
class Packed:
    """A class, and then by name what of the notebook's goes with it. `files`: those that its code is of, in the order
    in which they were met.
    """

    data: bytes
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """How many bytes a value takes, and the ids of the classes of its values that say something else now."""

    size: int
    kept: frozenset[int]


def pack(cls: type[Any], shared: Places | None = None) -> Packed:
    """Raises `Outdated`, and whatever values raise that cannot be pickled."""
    file = io.BytesIO()
    pickler = _Pickler(file, shared or {}, Versions(cls))
    pickler.dump(cls)
    pickler.check()
    pickler.dump(pickler.names)
    return Packed(file.getvalue(), tuple(pickler.files))


def measure(value: Any, shared: Places | None = None) -> Measured:
    """A value that a class takes along. Raises as `pack`."""
    file = io.BytesIO()
    pickler = _Pickler(file, shared or {}, Versions())
    pickler.dump(value)
    return Measured(file.tell(), frozenset(pickler.kept))


class _Pickler(cloudpickle_adapter.Pickler):
    """Takes the newest class for one that is outdated, and fits records (dataclasses and the like) to it. Any other
    value keeps its class (`kept`) where that says something else now: then the newest must not go with it.
    """

    def __init__(self, file: io.BytesIO, shared: Places, versions: Versions) -> None:
        super().__init__(file, protocol=5)
        self._shared = {**places(), **shared}
        self._versions = versions
        self._by_id = names_now()
        self.share_globals(vars(sys.modules["__main__"]), MainGlobals())
        self.files: dict[str, None] = {}
        self.names: dict[str, Any] = {}  # the classes and functions in it that are the notebook's, by name
        self.kept: dict[int, Any] = {}  # the first value of each, by the id of its class
        self._met: set[int] = set()  # ids: a class may have no hash

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, CodeType):
            self.files[value.co_filename] = None
        where = self._shared.get(id(value))
        if where is not None:
            return (from_module, where)
        now = self._versions.newest(value)
        if now is not value and id(value) not in self.kept:
            return (_itself, (now,))
        if isinstance(value, type):
            self._met.add(id(value))
            self._versions.check(value)
        elif self._versions.differs(type(value)):
            return self._outdated(value)
        if isinstance(value, type | FunctionType):
            self.names.update(dict.fromkeys(self._by_id.get(id(value), ()), value))
        return named.reduced(value) if named.is_named(value) else super().reducer_override(value)

    def check(self) -> None:
        """Raises `Outdated` where two versions of a class are in the pickle."""
        for value in self.kept.values():
            cls = type(value)
            if id(self._versions.newest(cls)) in self._met:
                raise Outdated(value, f"made from {said(cls)}, and {cls.__name__} as it is now")

    def _outdated(self, value: Any) -> Any:
        cls = type(value)
        if not is_record(cls):
            self.kept.setdefault(id(cls), value)
            return super().reducer_override(value)
        try:
            make, arguments, *rest = fitted(value, self._versions.newest(cls)).__reduce_ex__(5)
        except InvalidArgument as error:
            raise Outdated(value, f"made from {said(cls)}, which does not fit ({why(error)})") from error
        # pickle itself would see to it that an object of this class comes out.
        return (_new if make is copyreg.__newobj__ else make, arguments, *rest)  # type: ignore[attr-defined]


def _itself(thing: Any) -> Any:
    return thing


def _new(cls: Any, *arguments: Any) -> Any:
    return cls.__new__(cls, *arguments)
