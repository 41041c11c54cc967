"""Load table: the current load of each replica, in memory shared by all processes of a graph.

A replica writes the number of its calls under way plus that of abandoned calls that still hold a worker thread; if
those hold all of its threads, `HELD` more, so that any other replica is preferred.

A caller that chooses between replicas reads the load caused by *all* callers here, at the cost of a memory read. Each
slot has one writer, the replica to which it was assigned. Behind the loads each slot has the ledger of its replica's
calls (`_rpc/call_ledger.py`).
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile

from nbcompose._rpc.call_ledger import LEDGER_SIZE

SLOTS = 4096
WIDTH = 4  # bytes of a slot: an unsigned count in native byte order
HELD = 1 << 20  # more than any number of calls
LOADS_SIZE = SLOTS * WIDTH
SIZE = LOADS_SIZE + SLOTS * LEDGER_SIZE  # bytes of address space: of memory only what was written to is taken


class LoadTable:
    """The loads in shared memory. Created by the supervisor; replicas inherit its file descriptor.

    `loads`: by slot, as a view of the memory, so that neither reading nor writing one takes a call. `ledgers`: the
    memory of the ledgers, one slot's after the other.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, SIZE)
        with memoryview(self._memory) as view:
            self.loads, self.ledgers = view[:LOADS_SIZE].cast("I"), view[LOADS_SIZE:]

    @classmethod
    def create(cls) -> LoadTable:
        if sys.platform == "linux":
            fd = os.memfd_create("nbcompose-load", os.MFD_CLOEXEC)
        else:
            fd, path = tempfile.mkstemp(prefix="nbcompose-load")
            os.unlink(path)
        os.ftruncate(fd, SIZE)
        return cls(fd)

    def clear(self, slot: int) -> None:
        """Prepare a slot for another replica."""
        self.loads[slot] = 0
        begin = slot * LEDGER_SIZE
        self.ledgers[begin : begin + LEDGER_SIZE] = bytes(LEDGER_SIZE)

    def close(self) -> None:
        self.loads.release()
        self.ledgers.release()
        self._memory.close()
        os.close(self.fd)
