"""Which of the native libraries that a process has loaded know an environment variable by its name. Linux only.

When they read it cannot be seen from outside, but they must have its name: it stands among their constants, as C keeps
strings. (The ELF format: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.sheader.html.)
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import sys
from collections.abc import Iterator

PROGBITS, ALLOCATED, EXECUTABLE = 1, 2, 4  # of a section: its bytes are in the file; in memory too; are code


def knows(pid: int, name: str) -> str:
    """The file name of a library of process `pid` that has `name`; "" when there is none.

    Where that cannot be looked up, the answer is "a native library": it may.
    """
    if sys.platform != "linux":
        return "a native library"
    word = b"\0" + os.fsencode(name) + b"\0"
    return next((os.path.basename(path) for path in _libraries(pid) if _has(path, word)), "")


def _libraries(pid: int) -> list[str]:
    """The files that the process runs code of; empty when it has ended."""
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
    """Where the data of a library is, without its code and its tables: a tenth of torch's."""
    if content[:5] != b"\x7fELF\x02":
        yield 0, len(content)
        return
    (table,) = struct.unpack_from("=Q", content, 0x28)
    size, count = struct.unpack_from("=HH", content, 0x3A)
    for at in range(table, table + size * count, size):
        kind, flags, _, offset, length = struct.unpack_from("=IQQQQ", content, at + 4)
        if kind == PROGBITS and flags & (ALLOCATED | EXECUTABLE) == ALLOCATED:
            yield offset, offset + length
