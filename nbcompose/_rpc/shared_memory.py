"""Pooled shared memory between processes of one user: lending, reading and reusing segments.

Linux only (memfd, opened through /proc); on other systems nothing is lent and values are sent through the socket. The
memory is anonymous, so a process that is killed leaves nothing behind. `_rpc/protocol.py` sends the messages that a
reader has released a segment, or that a segment has been closed.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

NAME = "nbcompose-"
AVAILABLE = hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")

SMALLEST = 256 * 1024  # bytes: below this a segment costs more than it saves
MAX_SEGMENTS = 64  # each holds a file descriptor here and one in every process that reads it

# Linux 5.14: populate a range with one call, 4 to 10 times faster than page by page. Not named in Python 3.11.
MADV_POPULATE_READ = 22
MADV_POPULATE_WRITE = 23


class Segment(NamedTuple):
    """Location of a buffer for its reader: the lender's process and descriptor; `used` of `size` bytes hold data."""

    pid: int
    fd: int
    segment_id: int
    size: int
    used: int


class SegmentError(ValueError):
    """A segment cannot be read: its lender is gone, or its description is wrong."""


class _Block:
    """One segment in the process that lends it."""

    __slots__ = ("fd", "mapping", "reserved", "segment_id", "size")

    def __init__(self, segment_id: int, size: int) -> None:
        self.segment_id = segment_id
        self.size = size
        self.reserved = 0  # bytes for which memory has been allocated
        self.fd = os.memfd_create(f"{NAME}{segment_id}")
        try:
            os.ftruncate(self.fd, size)
            self.mapping = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def fill(self, data: memoryview) -> None:
        """Copy `data` in. Raises `OSError` when memory cannot be allocated (writing would then cause a SIGBUS)."""
        length = data.nbytes
        if length > self.reserved:
            end = min(self.size, -(-length // mmap.PAGESIZE) * mmap.PAGESIZE)
            os.posix_fallocate(self.fd, self.reserved, end - self.reserved)
            _populate(self.mapping, MADV_POPULATE_WRITE, self.reserved, end)
            self.reserved = end
        # numpy releases the GIL while it copies; a memoryview does not.
        np.copyto(np.frombuffer(self.mapping, np.uint8, length), np.frombuffer(data, np.uint8))

    def close(self) -> None:
        os.close(self.fd)


class SegmentPool:
    """The segments that this process lends; one pool per process. Thread-safe.

    Segments without a reader are kept for the next buffer of the same size class, because fresh memory costs ten times
    the copy. `idle_limit` bounds them, in bytes; those unused for longest are closed first.
    """

    def __init__(self, idle_limit: int = 512 * 1024 * 1024) -> None:
        self.closures = 0  # how many segments have been closed, ever
        self._idle_limit = idle_limit
        self._pid = os.getpid()
        # Reentrant: a garbage collection inside these methods may run the finalizer of a buffer lent to this process.
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._lent: dict[int, _Block] = {}
        self._idle: OrderedDict[int, _Block] = OrderedDict()
        self._idle_bytes = 0
        self._closed = False

    def lend(self, data: memoryview) -> Segment | None:
        """Copy `data`, contiguous bytes, into a segment that is reserved for it until `give_back` or `discard`.

        Returns None if that is not possible (no memfd, no memory, no descriptors, too many lent already): the caller
        then sends the bytes themselves. Also None in a forked child, whose writes would reach its parent's readers.
        """
        if not AVAILABLE or os.getpid() != self._pid or not data.nbytes:
            return None
        block = None
        try:
            block = self._take(size_class(data.nbytes))
            if block is None:
                return None
            block.fill(data)
        except (OSError, MemoryError, OverflowError):
            if block is not None:
                self.discard(block.segment_id)
            return None
        return Segment(self._pid, block.fd, block.segment_id, block.size, data.nbytes)

    def give_back(self, segment_id: int) -> None:
        """Make a segment that is no longer read available for reuse. Unknown ids are ignored."""
        with self._lock:
            block = self._lent.pop(segment_id, None)
            if block is None:
                return
            self._idle[segment_id] = block
            self._idle_bytes += block.reserved
            while self._idle_bytes > self._idle_limit:
                self._close_oldest()

    def discard(self, segment_id: int) -> None:
        """Close a lent segment instead of reusing it: its reader may still be using it."""
        with self._lock:
            block = self._lent.pop(segment_id, None)
            if block is not None:
                self._close(block)

    def has(self, segment_id: int) -> bool:
        """Whether the segment exists: lent or idle."""
        return segment_id in self._lent or segment_id in self._idle

    def close(self) -> None:
        """Close every segment and lend no more. Readers keep what they have mapped."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._close_oldest()
            while self._lent:
                self._close(self._lent.popitem()[1])

    def _take(self, size: int) -> _Block | None:
        with self._lock:
            if self._closed:
                return None
            block = next((b for b in reversed(list(self._idle.values())) if b.size == size), None)
            if block is not None:
                del self._idle[block.segment_id]
                self._idle_bytes -= block.reserved
            else:
                if len(self._lent) + len(self._idle) >= MAX_SEGMENTS:
                    if not self._idle:
                        return None
                    self._close_oldest()
                block = _Block(next(self._ids), size)
            self._lent[block.segment_id] = block
            return block

    def _close_oldest(self) -> None:
        block = self._idle.popitem(last=False)[1]
        self._idle_bytes -= block.reserved
        self._close(block)

    def _close(self, block: _Block) -> None:
        self.closures += 1
        block.close()


# One entry for each view of a segment that something in this process refers to; setting and removing are atomic.
_views: dict[object, None] = {}


def reads_segments() -> bool:
    """Whether something in this process refers to a segment that it reads."""
    return bool(_views)


class Mappings:
    """The segments of one peer that this process reads. `view` must be called by one thread at a time.

    `on_release(segment_id)` is called when the last reference to the result of `view` is dropped, in the thread that
    drops it; never after `close`, nor while the interpreter exits.
    """

    def __init__(self, on_release: Callable[[int], None]) -> None:
        self._on_release = on_release
        self._open: dict[int, mmap.mmap] = {}
        self._closed = False

    def view(self, segment: Segment) -> memoryview:
        """Return the segment's bytes, writable. Raises `SegmentError`."""
        mapping = self._open.get(segment.segment_id)
        if mapping is None:
            mapping = self._open[segment.segment_id] = _open(segment)
        if not 0 < segment.used <= len(mapping):
            raise SegmentError(f"{segment.used} bytes in a segment of {len(mapping)}")
        # Every memoryview and array made from the result keeps this object alive. Its own base must not be an array:
        # numpy would let views refer to that base instead.
        exporter = np.frombuffer(mapping, np.uint8, segment.used)
        view = object()
        _views[view] = None
        weakref.finalize(exporter, self._released, segment.segment_id, view).atexit = False
        return exporter.data

    def forget(self, segment_id: int) -> None:
        """Unmap a segment that its lender has closed, once nothing here refers to it."""
        self._open.pop(segment_id, None)

    def close(self) -> None:
        """Drop all mappings after the connection is lost. Existing views stay valid as long as they are referenced."""
        self._closed = True
        self._open.clear()

    def _released(self, segment_id: int, view: object) -> None:
        del _views[view]
        if not self._closed:
            self._on_release(segment_id)


def size_class(length: int) -> int:
    """Return the segment size for `length` bytes: a power of two. Only the used part takes memory."""
    return max(SMALLEST, 1 << (length - 1).bit_length())


def _open(segment: Segment) -> mmap.mmap:
    path = f"/proc/{segment.pid}/fd/{segment.fd}"
    try:
        # The name proves that the descriptor still is that segment (and that opening it cannot block).
        target = os.readlink(path)
        if target.split(" ")[0] != f"/memfd:{NAME}{segment.segment_id}":
            raise SegmentError(f"{path} is {target}, not shared memory segment {segment.segment_id}")
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            if size < segment.used:
                raise SegmentError(f"{segment.used} bytes in a segment of {size}")
            mapping = mmap.mmap(fd, size)
        finally:
            os.close(fd)
    except OSError as error:
        raise SegmentError(f"shared memory of process {segment.pid} cannot be read: {error}") from error
    _populate(mapping, MADV_POPULATE_READ, 0, segment.used)
    return mapping


def _populate(mapping: mmap.mmap, advice: int, start: int, end: int) -> None:
    # Only a hint: an older kernel rejects it, and pages are then faulted in one by one.
    with contextlib.suppress(OSError, ValueError):
        mapping.madvise(advice, start, end - start)
