"""Frames come out of the reader as they went in, however the bytes are cut; garbage never hangs it or costs memory."""

from __future__ import annotations

from itertools import pairwise

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose._rpc.codec import MAX_BODY
from nbcompose._rpc.protocol import HEADER, JOINED, FrameReader, Kind, ProtocolError

Frame = tuple[int, int, int, bytes]

frames = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=300)),
    max_size=8,
)


def written(sent: list[Frame]) -> bytes:
    return b"".join(HEADER.pack(len(body), call_id, kind, channel) + body for kind, call_id, channel, body in sent)


def read(reader: FrameReader, *pieces: bytes) -> list[Frame]:
    return [
        (kind, call_id, channel, bytes(body)) for piece in pieces for kind, call_id, channel, body in reader.feed(piece)
    ]


@given(frames, st.lists(st.integers(0, 3000), max_size=12))
def test_frames_survive_any_cut(sent: list[Frame], cuts: list[int]) -> None:
    data = written(sent)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(bounds)]
    assert read(FrameReader(), *pieces) == sent


@pytest.mark.parametrize("length", [JOINED - 1, JOINED, JOINED + 1, 5 * JOINED])
@pytest.mark.parametrize("cut", [HEADER.size, 4096, JOINED])
def test_large_bodies_in_pieces_between_small_frames(length: int, cut: int) -> None:
    large = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    sent: list[Frame] = [
        (Kind.NOTE, 1, 0, b"before"),
        (Kind.CALL, 2, 0, large),
        (Kind.END, 3, 0, b""),
        (Kind.NOTE, 4, 0, b"after"),
    ]
    data = written(sent)
    assert read(FrameReader(), *(data[i : i + cut] for i in range(0, len(data), cut))) == sent


def test_byte_by_byte() -> None:
    sent: list[Frame] = [(Kind.CALL, 7, 0, b"abc"), (Kind.END, 7, 0, b"")]
    assert read(FrameReader(), *(bytes([b]) for b in written(sent))) == sent


def test_a_large_body_is_writable_so_that_arrays_may_stay_in_it() -> None:
    data = written([(Kind.RESULT, 1, 0, bytes(JOINED + 1))])
    reader = FrameReader()
    ((_, _, _, body),) = [frame for piece in (data[:100], data[100:]) for frame in reader.feed(piece)]
    assert not memoryview(body).readonly


@given(st.lists(st.binary(max_size=400), max_size=10))
def test_garbage_is_refused_or_waited_for(pieces: list[bytes]) -> None:
    reader = FrameReader(limit=1000)
    try:
        for frame in read(reader, *pieces):
            assert len(frame[3]) <= 1000
    except ProtocolError:
        pass


def test_a_frame_over_the_limit_is_refused_at_its_header() -> None:
    with pytest.raises(ProtocolError, match="does not speak nbcompose/2"):
        read(FrameReader(limit=64), HEADER.pack(65, 0, 0, 0))


def test_memory_is_taken_as_a_body_arrives() -> None:
    before = psutil.Process().memory_info().rss
    reader = FrameReader()
    assert read(reader, HEADER.pack(MAX_BODY - 1, 0, 0, 0)) == []
    assert psutil.Process().memory_info().rss - before < MAX_BODY // 2


def test_the_limit_may_change_between_two_frames_of_one_piece() -> None:
    reader = FrameReader(limit=3)
    lengths = []
    for _, _, _, body in reader.feed(written([(0, 0, 0, b"abc"), (1, 1, 0, b"abcdef")])):
        lengths.append(len(body))
        reader.limit = 6
    assert lengths == [3, 6]
