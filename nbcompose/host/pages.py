"""Memory that a process maps and will not touch again, given back. Linux only; elsewhere nothing happens."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys

MADV_PAGEOUT = 21  # since Linux 5.4; clean pages of files are only unmapped, and come back from the page cache

_CODE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ \S+ +/")


def let_go_of_code() -> None:
    """Unmap the code of libraries that has been read in so far.

    Importing torch runs through 46 MB of its code once. In a process that from then on only forks, that is dead weight;
    replicas map what they run themselves, and share it.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if found := _CODE.match(line):
                start, end = int(found[1], 16), int(found[2], 16)
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_PAGEOUT)
