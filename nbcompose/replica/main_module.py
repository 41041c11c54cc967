"""`__main__` of a replica: a module that holds what its service took along from the notebook.

In the notebook these classes and functions are `__main__`'s; here they are found under the same name, where pickle
looks for them, and processes that the service starts (pools, workers that load data): those that are forked have the
module, and those that are started anew run its `__file__`.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nbcompose.replica.sources import know_lines
from nbcompose.wire.cloudpickle_adapter import Unpickler

_PROGRAM = """\
from nbcompose.replica.main_module import fill
fill(globals(), {payload!r})
"""


class MainModule(ModuleType):
    """What functions of the notebook have as their globals. `origin`: the name of the module that a service is imported
    from, where it is not of a notebook; what this one does not have is looked up there.
    """

    __slots__ = ("_files", "_origin", "_taken")

    def __init__(self, taken: tuple[bytes, Mapping[str, str]] | None = None, origin: str = "") -> None:
        super().__init__("__main__")
        self._taken = taken
        self._origin = origin
        self._files: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if name == "__file__" and self._taken is not None:
            self.__file__ = self._written(*self._taken)
            return self.__file__
        if self._origin and not name.startswith("__"):
            return getattr(sys.modules[self._origin], name)
        raise AttributeError(f"{self!r} has no {name!r}")

    def __repr__(self) -> str:
        # pickle shows it where it does not find a name.
        if self._origin:
            return f"<module '__main__' of a replica, which has what {self._origin} has>"
        return "<module '__main__' of a replica, which has only what the service's code names: name it there>"

    def _written(self, payload: bytes, sources: Mapping[str, str]) -> str:
        """A program that makes this module again: files without a name, which end with this process."""
        taken = self._file(pickle.dumps((payload, dict(sources))))
        return self._file(_PROGRAM.format(payload=taken).encode())

    def _file(self, data: bytes) -> str:
        if not hasattr(os, "memfd_create"):
            raise AttributeError("__file__")  # as in a notebook, whose __main__ has none
        number = os.memfd_create("nbcompose-main")
        self._files.append(number)
        with open(number, "wb", closefd=False) as file:
            file.write(data)
        return f"/proc/{os.getpid()}/fd/{number}"


class MainGlobals:
    """Stands in a pickle for the globals of the notebook: a function that names them has those of the `MainModule`."""

    def __reduce__(self) -> Any:
        return main_globals, ()


def main_globals() -> dict[str, Any]:
    """What `MainGlobals` is pickled as; read by `MainUnpickler` only."""
    raise pickle.UnpicklingError("the globals of a notebook are read by a MainUnpickler")


class MainUnpickler(Unpickler):
    """Reads what a service took along into a module."""

    def __init__(self, payload: bytes, main: MainModule) -> None:
        super().__init__(io.BytesIO(payload))
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, main_globals.__name__):
            return lambda: vars(self._main)
        return super().find_class(module, name)

    def load_all(self) -> type[Any]:
        """The service's class; what goes by a name of the notebook is then in the module. (Its code has the say about
        what a name stands for: a class that is a service by now is one there, too.)
        """
        cls: type[Any] = self.load()
        for name, value in self.load().items():
            vars(self._main).setdefault(name, value)
        return cls


def stand_in(module: str) -> None:
    """Have what was pickled by a script that was run, or by a notebook, be found in the module of that name."""
    sys.modules["__main__"] = MainModule(origin=module)


def take(payload: bytes, sources: Mapping[str, str]) -> type[Any]:
    """Make this process's `__main__` of what a service took along; returns the service's class. Runs imports."""
    know_lines(sources)
    sys.modules["__main__"] = main = MainModule((payload, sources))
    return MainUnpickler(payload, main).load_all()


def fill(space: dict[str, Any], file: str) -> None:
    """Fill the `__main__` of a process that the service has started, from a file of the replica's."""
    with open(file, "rb") as opened:
        payload, sources = pickle.load(opened)
    take(payload, sources)
    made = vars(sys.modules["__main__"])
    space.update({name: value for name, value in made.items() if not name.startswith("__")})
