"""The other end of a connection, for test_codec_processes.py: a process that answers bodies on stdin on stdout.

A message is a kind, a length and that many bytes. Kinds: "echo" a body, "call" what is in it, "keep" what is in it
(answers its type), "drop" what was kept, "discard" a body, "release" a segment, "forget" a segment. Knows no class of
the tests.
"""

import struct
import sys
from typing import Any

from nbcompose._rpc.codec import Decoder, Encoder
from nbcompose._rpc.shared_memory import SegmentPool

HEAD = struct.Struct("<8sI")


def send(kind: bytes, body: bytes) -> None:
    sys.stdout.buffer.write(HEAD.pack(kind, len(body)) + body)
    sys.stdout.buffer.flush()


def main() -> None:
    encoder = Encoder(SegmentPool())
    decoder = Decoder(lambda segment_id: send(b"release", struct.pack("<Q", segment_id)))
    kept: list[Any] = []
    while head := sys.stdin.buffer.read(HEAD.size):
        kind, length = HEAD.unpack(head)
        kind = kind.rstrip(b"\0")
        body = bytearray(sys.stdin.buffer.read(length))
        if kind == b"echo":
            send(b"body", b"".join(encoder.encode(decoder.decode(body))))
        elif kind == b"call":
            send(b"body", b"".join(encoder.encode(decoder.decode(body)())))
        elif kind == b"keep":
            kept.append(decoder.decode(body))
            send(b"body", b"".join(encoder.encode(type(kept[-1]).__name__)))
        elif kind == b"drop":
            kept.clear()
        elif kind == b"discard":
            decoder.discard(body)
        elif kind == b"release":
            encoder.released(*struct.unpack("<Q", body))
        elif kind == b"forget":
            decoder.forget(*struct.unpack("<Q", body))


main()
