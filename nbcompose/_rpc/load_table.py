"""Load table: the current load of each replica, in memory shared by all processes of a graph.

A replica writes the number of its calls under way plus that of abandoned calls that still hold a worker thread; if
those hold all of its threads, `HELD` more, so that any other replica is preferred.

A caller that chooses between replicas reads the load caused by *all* callers here, at the cost of a memory read. Each
slot has one writer, the replica to which it was assigned.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile

SLOTS = 4096
WIDTH = 4  # bytes of a slot: an unsigned count in native byte order
HELD = 1 << 20  # more than any number of calls


class LoadTable:
    """The loads in shared memory. Created by the supervisor; replicas inherit its file descriptor.

    `loads`: by slot, as a view of the memory, so that neither reading nor writing one takes a call.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, SLOTS * WIDTH)
        self.loads = memoryview(self._memory).cast("I")

    @classmethod
    def create(cls) -> LoadTable:
        if sys.platform == "linux":
            fd = os.memfd_create("nbcompose-load", os.MFD_CLOEXEC)
        else:
            fd, path = tempfile.mkstemp(prefix="nbcompose-load")
            os.unlink(path)
        os.ftruncate(fd, SLOTS * WIDTH)
        return cls(fd)

    def close(self) -> None:
        self.loads.release()
        self._memory.close()
        os.close(self.fd)
