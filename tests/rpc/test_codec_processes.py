"""The codec between two real processes: shared memory that is released across them, classes that only one has."""

from __future__ import annotations

import dataclasses
import enum
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from nbcompose._rpc import shared_memory
from nbcompose._rpc.codec import THRESHOLD, Decoder, Encoder
from nbcompose._rpc.shared_memory import SegmentPool
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

HEAD = struct.Struct("<8sI")
LARGE = 2 * THRESHOLD


class Peer:
    def __init__(self) -> None:
        script = Path(__file__).with_name("echo_peer.py")
        self.process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pool = SegmentPool()
        self.encoder = Encoder(self.pool)
        self.decoder = Decoder(lambda segment_id: self.send(b"release", struct.pack("<Q", segment_id)))

    def send(self, kind: bytes, body: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(HEAD.pack(kind, len(body)) + body)
        self.process.stdin.flush()

    def receive(self) -> tuple[bytes, bytes]:
        assert self.process.stdout is not None
        kind, length = HEAD.unpack(self.process.stdout.read(HEAD.size))
        return kind.rstrip(b"\0"), self.process.stdout.read(length)

    def ask(self, kind: bytes, value: Any) -> Any:
        self.send(kind, b"".join(self.encoder.encode(value)))
        while True:
            answer, body = self.receive()
            if answer == b"body":
                return self.decoder.decode(body)
            assert answer == b"release"
            self.encoder.released(*struct.unpack("<Q", body))

    def released(self) -> int:
        """Wait for the peer to let a segment go."""
        kind, body = self.receive()
        assert kind == b"release"
        segment_id: int = struct.unpack("<Q", body)[0]
        self.encoder.released(segment_id)
        return segment_id


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.process.communicate(timeout=PATIENCE)
    peer.decoder.close()
    peer.pool.close()
    assert peer.process.returncode == 0


def test_an_array_there_and_back(peer: Peer) -> None:
    array = np.random.default_rng(0).random(LARGE)
    for _ in range(3):
        back = peer.ask(b"echo", array)
        np.testing.assert_array_equal(back, array)
        back[:] = 0
    if shared_memory.AVAILABLE:
        assert peer.pool.has(1)
        assert not peer.pool.has(3)  # two at most: a round trip may end before its release is read


@pytest.mark.skipif(not shared_memory.AVAILABLE, reason="shared memory is lent on Linux only")
def test_a_segment_that_the_peer_keeps_is_not_lent_again(peer: Peer) -> None:
    assert peer.ask(b"keep", np.zeros(LARGE)) == "ndarray"
    peer.encoder.encode(np.zeros(LARGE))
    assert peer.pool.has(2)
    peer.send(b"drop", b"")
    assert peer.released() == 1


@pytest.mark.skipif(not shared_memory.AVAILABLE, reason="shared memory is lent on Linux only")
def test_an_unwanted_body_is_released(peer: Peer) -> None:
    peer.send(b"discard", b"".join(peer.encoder.encode(np.zeros(LARGE))))
    assert peer.released() == 1


def local_classes() -> tuple[Any, Any, Any]:
    class Doc(BaseModel):
        text: str

    @dataclasses.dataclass
    class Page:
        docs: list[Doc]

    class Color(enum.Enum):
        RED = 1

        def shout(self) -> str:
            return self.name

    return Doc, Page, Color


def test_classes_that_only_one_end_has_come_home(peer: Peer) -> None:
    doc_class, page_class, color_class = local_classes()
    for _ in range(2):
        page, color = peer.ask(b"echo", (page_class([doc_class(text="a")]), color_class.RED))
        assert type(page) is page_class
        assert type(page.docs[0]) is doc_class
        assert color is color_class.RED
        assert color.shout() == "RED"


def test_a_definition_in_a_discarded_body_still_counts(peer: Peer) -> None:
    doc_class, page_class, _ = local_classes()
    peer.send(b"discard", b"".join(peer.encoder.encode(page_class([doc_class(text="a")]))))
    body = b"".join(peer.encoder.encode(page_class([])))
    assert len(body) < 400
    peer.send(b"echo", body)
    kind, answer = peer.receive()
    assert kind == b"body"
    back = peer.decoder.decode(answer)
    assert type(back) is page_class


def test_classes_that_refer_to_each_other(peer: Peer) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "class Base:\n    def leaf(self): return Leaf()\nclass Leaf(Base):\n    def base(self): return Base()\n",
        names,
    )
    leaf = peer.ask(b"echo", names["Leaf"]())
    assert type(leaf) is names["Leaf"]
    made_there = peer.ask(b"call", leaf.base)
    assert type(made_there) is names["Base"]
    assert type(peer.ask(b"call", made_there.leaf)) is names["Leaf"]


def test_torch_tensors(peer: Peer) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(LARGE).to(torch.bfloat16)
    back = peer.ask(b"echo", tensor)
    assert torch.equal(back, tensor)
