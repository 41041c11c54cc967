from __future__ import annotations

import contextlib
import gc
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from nbcompose._rpc import shared_memory
from nbcompose._rpc.shared_memory import SMALLEST, Mappings, Segment, SegmentError, SegmentPool, size_class
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(not shared_memory.AVAILABLE, reason="shared memory is lent on Linux only")

MIB = 1024 * 1024


@pytest.fixture
def pool() -> Iterator[SegmentPool]:
    pool = SegmentPool()
    yield pool
    pool.close()


def data(length: int = SMALLEST, seed: int = 0) -> memoryview:
    return np.random.default_rng(seed).integers(0, 256, length, np.uint8).data


def lend(pool: SegmentPool, content: memoryview | None = None) -> Segment:
    segment = pool.lend(data() if content is None else content)
    assert segment is not None
    return segment


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def limit(which: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


@pytest.mark.parametrize(
    ("length", "size"),
    [(1, SMALLEST), (SMALLEST, SMALLEST), (SMALLEST + 1, 2 * SMALLEST), (MIB, MIB), (MIB + 1, 2 * MIB)],
)
def test_a_size_class_is_the_next_power_of_two(length: int, size: int) -> None:
    assert size_class(length) == size


@pytest.mark.parametrize("length", [1, 4097, SMALLEST, SMALLEST + 1, 3 * MIB])
def test_a_reader_sees_what_was_lent_and_may_write(pool: SegmentPool, length: int) -> None:
    content = data(length)
    view = Mappings(lambda _: None).view(lend(pool, content))
    assert view == content
    view[0] = view[0] ^ 0xFF
    assert view[1:] == content[1:]
    assert view[0] != content[0]


def test_a_segment_given_back_is_lent_again(pool: SegmentPool) -> None:
    first = lend(pool, data(MIB, seed=1))
    pool.give_back(first.segment_id)
    second = lend(pool, data(MIB - 5, seed=2))
    assert second == first._replace(used=MIB - 5)
    assert Mappings(lambda _: None).view(second) == data(MIB - 5, seed=2)


def test_a_segment_grows_into_its_size(pool: SegmentPool) -> None:
    mappings = Mappings(lambda _: None)
    first = lend(pool, data(MIB + 1))
    assert mappings.view(first) == data(MIB + 1)
    pool.give_back(first.segment_id)
    second = lend(pool, data(2 * MIB, seed=3))
    assert second.segment_id == first.segment_id
    assert mappings.view(second) == data(2 * MIB, seed=3)


def test_segments_in_use_or_of_another_size_are_not_lent(pool: SegmentPool) -> None:
    in_use, other_size = lend(pool), lend(pool, data(MIB))
    pool.give_back(other_size.segment_id)
    assert lend(pool).segment_id not in (in_use.segment_id, other_size.segment_id)


def test_idle_segments_are_closed_beyond_the_limit_the_oldest_first() -> None:
    pool = SegmentPool(idle_limit=2 * MIB)
    segments = [lend(pool, data(MIB)) for _ in range(3)]
    for segment in segments:
        pool.give_back(segment.segment_id)
    assert [pool.has(s.segment_id) for s in segments] == [False, True, True]
    assert pool.closures == 1
    pool.close()


def test_only_so_many_segments_are_lent(pool: SegmentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "MAX_SEGMENTS", 2)
    first, second = lend(pool), lend(pool)
    assert pool.lend(data()) is None
    pool.give_back(first.segment_id)
    assert lend(pool, data(MIB)).size == MIB  # an idle one of another size makes room
    assert not pool.has(first.segment_id)
    assert pool.has(second.segment_id)


def test_no_memory_no_segment(pool: SegmentPool) -> None:
    before = open_descriptors()
    with limit(resource.RLIMIT_FSIZE, MIB):
        assert pool.lend(data(2 * MIB)) is None
        assert lend(pool, data(MIB)).used == MIB
    assert open_descriptors() == before + 2  # the segment's, and its mapping's


def test_no_descriptors_no_segment(pool: SegmentPool) -> None:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    with limit(resource.RLIMIT_NOFILE, lowest_free):
        assert pool.lend(data()) is None
    assert lend(pool)


def test_a_closed_pool_lends_nothing_and_holds_nothing() -> None:
    before = open_descriptors()
    pool = SegmentPool()
    given_back = lend(pool)
    lend(pool)
    pool.give_back(given_back.segment_id)
    pool.close()
    assert pool.lend(data()) is None
    assert open_descriptors() == before


def test_a_discarded_segment_is_not_lent_again(pool: SegmentPool) -> None:
    segment = lend(pool)
    view = Mappings(lambda _: None).view(segment)
    pool.discard(segment.segment_id)
    pool.give_back(segment.segment_id)
    assert not pool.has(segment.segment_id)
    assert lend(pool, data(seed=9)).segment_id != segment.segment_id
    assert view == data()  # the reader's memory is its own


def test_a_forked_child_lends_nothing(pool: SegmentPool) -> None:
    lend(pool)
    child = os.fork()
    if child == 0:
        os._exit(0 if pool.lend(data()) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_release_waits_for_the_last_reference(pool: SegmentPool) -> None:
    released: list[int] = []
    segment = lend(pool)
    view = Mappings(released.append).view(segment)
    array = np.frombuffer(view, np.uint16)
    part = array[10:20].reshape(2, 5).T
    del view, array
    gc.collect()
    assert released == []
    del part
    assert released == [segment.segment_id]


def test_each_loan_is_released_by_itself(pool: SegmentPool) -> None:
    released: list[int] = []
    mappings = Mappings(released.append)
    for count in range(1, 4):
        segment = lend(pool, data(seed=count))
        view = mappings.view(segment)
        assert view == data(seed=count)
        del view
        assert len(released) == count
        pool.give_back(segment.segment_id)
    assert len(set(released)) == 1


def test_release_is_called_in_the_thread_that_lets_go(pool: SegmentPool) -> None:
    threads: list[str] = []
    held = [Mappings(lambda _: threads.append(threading.current_thread().name)).view(lend(pool))]
    thread = threading.Thread(target=held.clear, name="the one that lets go")
    thread.start()
    thread.join()
    assert threads == ["the one that lets go"]


def test_nothing_is_released_after_close_and_views_stay_valid(pool: SegmentPool) -> None:
    released: list[int] = []
    mappings = Mappings(released.append)
    view = mappings.view(lend(pool))
    mappings.close()
    pool.close()
    assert view == data()
    del view
    assert released == []


def test_a_forgotten_segment_is_unmapped_once_unreferenced() -> None:
    before = open_descriptors()
    pool = SegmentPool()
    mappings = Mappings(lambda _: None)
    segment = lend(pool)
    view = mappings.view(segment)
    pool.close()
    mappings.forget(segment.segment_id)
    assert view == data()
    assert open_descriptors() == before + 1
    del view
    assert open_descriptors() == before


def test_wrong_descriptions_are_refused(pool: SegmentPool) -> None:
    good = lend(pool)
    read_end, write_end = os.pipe()  # opening it would block
    for wrong in (
        good._replace(segment_id=good.segment_id + 1),
        good._replace(fd=read_end),
        good._replace(fd=10**6),
        good._replace(pid=2**31 - 1),
        good._replace(used=good.size + 1),
        good._replace(used=2**63),
        good._replace(used=0),
    ):
        with pytest.raises(SegmentError):
            Mappings(lambda _: None).view(wrong)
    os.close(read_end)
    os.close(write_end)


@pytest.mark.system
def test_nothing_is_released_while_the_interpreter_exits() -> None:
    script = """if True:
        import numpy as np
        from nbcompose._rpc.shared_memory import Mappings, SegmentPool
        segment = SegmentPool().lend(np.zeros(300_000, np.uint8).data)
        held = Mappings(lambda i: print("released", i)).view(segment)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("", "")
