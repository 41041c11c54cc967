"""Environment variables of a process that will be forked: which were read, and how a child gets its own.

The zygote calls `watch` as its first instruction, and `read` returns which module read which variable. A replica that
it forks calls `take` to get the environment that it would have been started with. `let_go_of_code` releases memory in
the zygote.

Native libraries read variables unnoticed, but they must contain the name among their constants, as a C string, which
`knows` looks for. (ELF format: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.sheader.html.)
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

# Modules that iterate over all variables, and the names that they look for.
_LOOK_FOR = {"tqdm.utils": "TQDM_*", "wsgiref.handlers": ""}
# Modules that may be on the stack between the reader and this module.
_BETWEEN = ("os", "collections.abc", "_collections_abc", __name__)

_began: dict[str, str] | None = None  # the environment this process was started with, if it is watched


class _Watched(dict[bytes, bytes]):
    """The dict in which `os.environ` and `os.environb` keep their variables, recording reads."""

    def __init__(self, variables: Mapping[bytes, bytes]) -> None:
        super().__init__(variables)
        self.began = dict(variables)
        self.readers: dict[str, str] = {}
        self._walks: set[tuple[CodeType, int]] = set()  # places that iterate over all variables, and also read each

    def __getitem__(self, key: bytes) -> bytes:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def get(self, key: bytes, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[bytes]:
        module, place = _reader()
        self._walks.add(place)
        pattern = _LOOK_FOR.get(module, "*")
        if pattern:
            self.readers.setdefault(pattern, module)
        return super().__iter__()

    def _note(self, key: object) -> None:
        # A variable that was set since does not have the value that this process was started with.
        if isinstance(key, bytes) and dict.get(self, key) == self.began.get(key):
            module, place = _reader()
            if place not in self._walks:
                self.readers.setdefault(os.fsdecode(key), module)


def _reader() -> tuple[str, tuple[CodeType, int]]:
    """Return the module whose code reads, and the place in it."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "?")), (frame.f_code, frame.f_lasti)


def watch() -> None:
    """Record from now on which module reads which variable."""
    global _began
    _began = dict(os.environ)
    _put(_Watched(_variables()))


def read() -> dict[str, str]:
    """Stop watching. Return the names that were read (or patterns, such as "TQDM_*"), each with the first module to do
    so.
    """
    watched = _variables()
    assert isinstance(watched, _Watched)
    readers = dict(watched.readers)  # before the next line, in which copying the variables reads them
    _put(dict(watched))
    return readers


def changed() -> dict[str, str]:
    """Return the variables that this process has set since `watch`: some libraries do so at import."""
    assert _began is not None
    return {name: value for name, value in os.environ.items() if _began.get(name) != value}


def take(wanted: Mapping[str, str]) -> None:
    """In a forked process: set the environment variables that it would have been started with.

    What a library has set at import is kept, since it would have set it here, too. Does nothing in a process that was
    not forked.
    """
    if _began is None:
        return
    for name in _began.keys() | wanted.keys():
        value, before = wanted.get(name), _began.get(name)
        if value == before or os.environ.get(name) != before:
            continue
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def _variables() -> dict[bytes, bytes]:
    variables: dict[bytes, bytes] = vars(os.environ)["_data"]
    return variables


def _put(variables: dict[bytes, bytes]) -> None:
    for view in (os.environ, os.environb):
        vars(view)["_data"] = variables


PROGBITS, ALLOCATED, EXECUTABLE = 1, 2, 4  # of a section: has bytes in the file; is loaded into memory; is code


def knows(pid: int, name: str) -> str:
    """Return the file name of a library of process `pid` that contains `name`; "" if there is none.

    On systems where that cannot be determined, returns "a native library".
    """
    if sys.platform != "linux":
        return "a native library"
    word = b"\0" + os.fsencode(name) + b"\0"
    return next((os.path.basename(path) for path in _libraries(pid) if _has(path, word)), "")


def _libraries(pid: int) -> list[str]:
    """Return the files whose code the process has mapped; empty if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        lines = [line.rstrip("\n").split(maxsplit=5) for line in maps]
        return sorted({line[5] for line in lines if len(line) == 6 and "x" in line[1] and line[5].startswith("/")})
    return []


def _has(path: str, word: bytes) -> bool:
    with (
        contextlib.suppress(OSError, ValueError, struct.error),
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return any(content.find(word, start, end) >= 0 for start, end in _constants(content))
    return False


def _constants(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a library's data, without its code and tables: a tenth of torch's."""
    if content[:5] != b"\x7fELF\x02":
        yield 0, len(content)
        return
    (table,) = struct.unpack_from("=Q", content, 0x28)
    size, count = struct.unpack_from("=HH", content, 0x3A)
    for at in range(table, table + size * count, size):
        kind, flags, _, offset, length = struct.unpack_from("=IQQQQ", content, at + 4)
        if kind == PROGBITS and flags & (ALLOCATED | EXECUTABLE) == ALLOCATED:
            yield offset, offset + length


MADV_PAGEOUT = 21  # since Linux 5.4; clean file pages are only unmapped, and come back from the page cache

_CODE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ \S+ +/")


def let_go_of_code() -> None:
    """Unmap the pages of libraries' code that have been loaded so far.

    Importing torch executes 46 MB of code once. A process that afterwards only forks does not need it in memory;
    replicas map the code that they run themselves, and share it.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if found := _CODE.match(line):
                start, end = int(found[1], 16), int(found[2], 16)
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_PAGEOUT)
