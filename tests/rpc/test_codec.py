from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import functools
import gc
import pathlib
import pickle
import random
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import BaseModel, RootModel

from nbcompose._rpc import shared_memory as shm
from nbcompose._rpc.codec import ENTRY, HEAD, THRESHOLD, CodecError, Decoder, Encoder, dumps, loads
from nbcompose._rpc.shared_memory import SegmentPool
from nbcompose.errors import InvalidArgument, InvalidResult

LARGE = 2 * THRESHOLD
shared_memory = pytest.mark.skipif(not shm.AVAILABLE, reason="shared memory is lent on Linux only")


class Wire:
    """Both ends of one direction, without the socket between them."""

    def __init__(self, pool: SegmentPool | None) -> None:
        self.pool = pool
        self.encoder = Encoder(pool)
        self.released: list[int] = []
        self.decoder = Decoder(self.release)

    def release(self, segment_id: int) -> None:
        self.released.append(segment_id)
        self.encoder.released(segment_id)

    def body(self, value: Any) -> bytes:
        return b"".join(self.encoder.encode(value))

    def send(self, value: Any) -> Any:
        return self.decoder.decode(self.body(value))


@pytest.fixture
def wire() -> Iterator[Wire]:
    pool = SegmentPool()
    yield Wire(pool)
    pool.close()


@pytest.fixture(params=["shared", "inline"])
def either(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """With shared memory, and as where there is none."""
    pool = SegmentPool() if request.param == "shared" else None
    yield Wire(pool)
    if pool is not None:
        pool.close()


# -- plain values


@pytest.mark.parametrize(
    "value",
    [
        None,
        (("text",), {}),
        ((), {"texts": ["a", "ü", "雪"], "top_k": 3, "exact": True, "scale": 0.1}),
        {1, 2},
        b"\x80bytes",
        datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        pathlib.Path("a/b.txt"),
        range(3),
        collections.OrderedDict(a=1),
        list(range(100_000)),
        "x" * 100_000,
    ],
    ids=lambda v: type(v).__name__,
)
def test_plain_values(wire: Wire, value: Any) -> None:
    back = wire.send(value)
    assert back == value
    assert type(back) is type(value)


def test_a_small_value_is_one_chunk(wire: Wire) -> None:
    chunks = wire.encoder.encode((("text",), {"vector": np.zeros(384, np.float32)}))
    assert [type(c) for c in chunks] == [bytes]
    assert len(chunks[0]) < 384 * 4 + 200


def test_functions_and_lambdas(wire: Wire) -> None:
    offset = 10
    assert wire.send(lambda x: x + offset)(1) == 11
    assert wire.send(functools.partial(pow, 2))(5) == 32
    assert wire.send(np.linalg.norm) is np.linalg.norm


def test_references_within_a_value_are_kept(wire: Wire) -> None:
    array = np.zeros(3)
    first, second = wire.send([array, array])
    assert first is second


@pytest.mark.parametrize("length", [LARGE, 5 * LARGE + 3])
@pytest.mark.parametrize("kind", [bytes, bytearray, lambda b: b.decode("latin-1")], ids=["bytes", "bytearray", "str"])
def test_large_bytes_and_text(either: Wire, kind: Any, length: int) -> None:
    value = {"before": 1, "value": kind(random.Random(0).randbytes(length)), "after": [2] * 1000}
    body = either.body(value)
    assert either.decoder.decode(body) == value
    if either.pool is not None and shm.AVAILABLE:
        assert len(body) < 4000
        assert len(either.released) == 1  # copied out, so released at once


# -- arrays

ARRAYS = {
    "float64": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20)[::3],
    "transposed 3d": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "reversed": np.arange(5)[::-1],
    "0-d": np.array(3.5),
    "empty": np.empty((0, 4), np.float32),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "float16": np.array([1.5], np.float16),
    "big-endian": np.array([1, 2], ">i4"),
    "dates": np.array(["2024-02-29", "NaT"], "M8[D]"),
    "durations": np.array([1, 2], "m8[ms]"),
    "text": np.array(["a", "ünï"]),
    "no text": np.array(["", ""], "U0"),
    "fields": np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")]),
    "strided fields": np.array([(1, 2.5), (3, 4.5), (5, 6.5)], [("a", "i4"), ("b", "f8")])[::2],
    "objects": np.array([1, "a", None], object),
    "large": np.random.default_rng(0).random(LARGE),
    "large fortran": np.asfortranarray(np.random.default_rng(0).random((512, LARGE // 512))),
    "large fields": np.zeros(LARGE, [("a", "i4"), ("b", "f8")]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
@pytest.mark.parametrize("writable", [True, False], ids=["writable", "read-only"])
def test_arrays(either: Wire, array: np.ndarray[Any, Any], writable: bool) -> None:
    array = array.view()
    array.flags.writeable = writable
    back = either.send((array,))[0]
    np.testing.assert_array_equal(back, array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.flags.writeable
    assert back.flags.aligned
    if array.flags.forc:
        assert back.flags.f_contiguous == array.flags.f_contiguous


def test_a_memory_mapped_array_arrives_as_an_array(wire: Wire, tmp_path: pathlib.Path) -> None:
    mapped = np.memmap(tmp_path / "vectors", np.float32, "w+", shape=(3, 2))
    mapped[:] = 1.5
    back = wire.send(mapped[1:])
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, np.full((2, 2), 1.5, np.float32))


def test_what_is_encoded_is_a_snapshot(either: Wire) -> None:
    array, raw = np.zeros(LARGE), bytearray(LARGE)
    body = either.body([array, raw])
    array[:] = 1
    raw[:] = b"1" * LARGE
    back = either.decoder.decode(body)
    assert not back[0].any()
    assert not any(back[1])


def test_two_arrays_received_share_no_memory(either: Wire) -> None:
    array = np.zeros(LARGE)
    first, second = either.send(array), either.send(array)
    first[:] = 1
    assert not second.any()


def test_a_large_array_stays_in_a_body_that_may_be_written_to() -> None:
    wire = Wire(None)
    body = bytearray(wire.body(np.arange(float(LARGE))))
    back = wire.decoder.decode(body)
    assert np.shares_memory(back, np.frombuffer(body, np.uint8))
    odd = memoryview(bytearray(1) + body)[1:]
    np.testing.assert_array_equal(wire.decoder.decode(odd), back)


# -- shared memory


@shared_memory
def test_a_large_array_goes_through_shared_memory_and_is_released(wire: Wire) -> None:
    body = wire.body(np.arange(float(LARGE)))
    assert len(body) < 300
    back = wire.decoder.decode(body)
    part = back[5:7]
    del back
    gc.collect()
    assert wire.released == []
    assert part.tolist() == [5.0, 6.0]
    del part
    assert len(wire.released) == 1
    assert wire.send(np.zeros(LARGE)).nbytes == LARGE * 8
    assert len(set(wire.released)) == 1  # the same segment again


@shared_memory
def test_an_unwanted_body_releases_its_segments(wire: Wire) -> None:
    body = wire.body([np.zeros(LARGE), b"x" * LARGE, 1])
    wire.decoder.discard(body)
    assert len(set(wire.released)) == 2
    wire.decoder.discard(b"nbc1 and nothing good")
    wire.decoder.discard(wire.body(1))
    wire.decoder.discard(b"")
    assert len(wire.released) == 2


@shared_memory
def test_a_value_that_cannot_be_sent_gives_its_segments_back(wire: Wire) -> None:
    with pytest.raises(InvalidArgument):
        wire.encoder.encode([np.zeros(LARGE), threading.Lock()])
    first = wire.send(np.zeros(LARGE))
    del first
    assert wire.released == [1]  # the one that the failure had taken


@shared_memory
def test_a_segment_that_is_gone_is_an_error_and_the_others_are_released(wire: Wire) -> None:
    assert wire.pool is not None
    body = wire.body([np.zeros(LARGE), np.zeros(LARGE)])
    wire.pool.discard(1)
    with pytest.raises(CodecError, match=r"shared memory of process \d+|not shared memory segment 1"):
        wire.decoder.decode(body)
    gc.collect()
    assert sorted(wire.released) == [1, 2]


@shared_memory
def test_closing_the_encoder_closes_what_it_lent(wire: Wire) -> None:
    assert wire.pool is not None
    back = wire.send(np.ones(LARGE))
    wire.encoder.close()
    assert not wire.pool.has(1)
    other = Encoder(wire.pool)
    other.encode(np.zeros(LARGE))
    assert back.all()  # nothing was written into what the peer may still use
    assert wire.send(np.ones(LARGE)).all()  # without shared memory


@shared_memory
def test_the_peer_is_told_once_of_the_segments_it_knew() -> None:
    pool = SegmentPool(idle_limit=0)
    shown, other = Wire(pool), Wire(pool)
    assert shown.encoder.forgotten() == []
    shown.send(np.zeros(LARGE))
    other.send(np.zeros(LARGE))
    assert shown.encoder.forgotten() == [1]
    assert shown.encoder.forgotten() == []
    assert other.encoder.forgotten() == [2]
    pool.close()


# -- libraries


@pytest.mark.parametrize(
    "name",
    ["float32", "float16", "bfloat16", "float8_e4m3fn", "bool", "int64", "uint8", "complex64"],
)
def test_tensors(wire: Wire, name: str) -> None:
    torch = pytest.importorskip("torch")
    values = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(getattr(torch, name))
    tensors = {
        "2-d": values,
        "transposed": values.T,
        "part": values[:, 1:],
        "0-d": values[1, 1].clone(),
        "empty": values[:0],
    }
    back = wire.send(tensors)
    for key, tensor in tensors.items():
        assert (back[key].dtype, back[key].shape) == (tensor.dtype, tensor.shape)
        assert back[key].to(torch.complex64).tolist() == tensor.to(torch.complex64).tolist()


def test_a_large_tensor_shares_the_received_memory(either: Wire) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(LARGE, dtype=torch.float32).to(torch.bfloat16).requires_grad_()
    back = either.send(tensor)
    assert not back.requires_grad
    assert torch.equal(back, tensor.detach())
    back += 1  # writable
    if either.pool is not None and shm.AVAILABLE:
        assert either.released == []
        del back
        assert either.released == [1]


def test_unusual_tensors(wire: Wire) -> None:
    torch = pytest.importorskip("torch")
    sparse = torch.eye(3).to_sparse()
    assert torch.equal(wire.send(sparse).to_dense(), torch.eye(3))
    conjugate = torch.tensor([1 + 2j]).conj()
    assert wire.send(conjugate).tolist() == [1 - 2j]
    parameter = torch.nn.Parameter(torch.ones(2))
    assert isinstance(wire.send(parameter), torch.nn.Parameter)
    assert wire.send(torch.float16) is torch.float16
    state = wire.send(torch.nn.Linear(2, 1).state_dict())
    assert list(state) == ["weight", "bias"]


def test_data_frames_travel_out_of_band(wire: Wire) -> None:
    rows = LARGE // 4
    frame = pd.DataFrame({"x": np.arange(float(rows)), "n": np.arange(rows)})
    body = wire.body((frame, frame["x"]))
    back, series = wire.decoder.decode(body)
    pd.testing.assert_frame_equal(back, frame)
    pd.testing.assert_series_equal(series, frame["x"])
    back.loc[0, "x"] = -1.0
    if shm.AVAILABLE:
        assert len(body) < 5000
    texts = pd.DataFrame({"s": [f"text {i}" for i in range(1000)]})  # out of band only where pandas has pyarrow
    pd.testing.assert_frame_equal(wire.send(texts), texts)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "P", "I;16"])
@pytest.mark.parametrize("size", [(33, 17), (1000, 700), (0, 5)], ids=str)
def test_images_are_lossless(wire: Wire, mode: str, size: tuple[int, int]) -> None:
    image = Image.new(mode, size)
    if 0 not in size:
        image.frombytes(random.Random(0).randbytes(len(image.tobytes())))
    back = wire.send(image)
    assert type(back) is Image.Image
    assert (back.mode, back.size, back.info) == (mode, size, {})
    assert back.tobytes() == image.tobytes()


def test_an_image_keeps_its_palette_and_what_its_file_said(wire: Wire, tmp_path: pathlib.Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 0, 4, 5, 6, 128], "RGBA")
    image.putpixel((1, 0), 1)
    assert wire.send(image).convert("RGBA").tobytes() == bytes([1, 2, 3, 0, 4, 5, 6, 128])

    image.convert("RGBA").convert("P").save(tmp_path / "a.png", dpi=(72, 72), transparency=0)
    with Image.open(tmp_path / "a.png") as opened:
        back = wire.send(opened)
        assert back.info == opened.info
        assert back.info["transparency"] == 0
        assert back.format == "PNG"
        assert back.convert("RGBA").tobytes() == opened.convert("RGBA").tobytes()
    back.putpixel((0, 0), 1)


def test_a_figure_arrives_unknown_to_pyplot(wire: Wire) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    try:
        back = wire.send({"of": figure})["of"]
        assert type(back) is type(figure)
        assert [list(line.get_ydata()) for line in back.axes[0].lines] == [[1, 2]]
        assert back.axes[0].figure is back
        assert plt.get_fignums() == [figure.number]
    finally:
        plt.close(figure)


# -- what cannot be sent


class Holder:
    def __init__(self, content: Any) -> None:
        self.content = content


@pytest.mark.parametrize(
    ("value", "path", "name"),
    [
        (((), {"x": threading.Lock()}), "arguments['x']", "_thread.lock"),
        ((({"a": [1, threading.Lock()]},), {}), "arguments[0]['a'][1]", "_thread.lock"),
        (((Holder(threading.Lock()),), {}), "arguments[0].content", "_thread.lock"),
        (((), {"f": functools.partial(pow, threading.Lock())}), "arguments['f']", "functools.partial"),
        (threading.Lock(), "arguments", "_thread.lock"),
    ],
    ids=["keyword", "nested", "attribute", "in a callable", "itself"],
)
def test_what_cannot_be_sent_is_named(wire: Wire, value: Any, path: str, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        wire.encoder.encode(value)
    assert str(caught.value).startswith(f"{path} holds a {name}, which cannot be sent to another process (cannot ")
    assert caught.value.__cause__ is None  # its frames would be those of the pickling


def test_an_iterator_is_a_stream_in_the_message(wire: Wire) -> None:
    for role, error in (("arguments", InvalidArgument), ("result", InvalidResult), ("item", InvalidResult)):
        with pytest.raises(error, match=rf"^{role}.* is a stream \(generator\), .* list of its items, `list\(…\)`"):
            wire.encoder.encode(Holder(i for i in range(0)), role)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="is a stream"):
        wire.encoder.encode(i for i in range(0))


class Unwilling:
    def __reduce__(self) -> Any:
        raise PermissionError("not me")


def test_who_refuses_to_be_sent_is_the_cause_with_the_frames_of_the_refusal(wire: Wire) -> None:
    with pytest.raises(InvalidArgument, match="PermissionError: not me") as caught:
        wire.encoder.encode([Unwilling()])
    cause = caught.value.__cause__
    assert isinstance(cause, PermissionError)
    assert [f.name for f in traceback.extract_tb(cause.__traceback__)] == ["__reduce__"]


def test_a_value_that_holds_itself_is_searched_once(wire: Wire) -> None:
    loop: list[Any] = [1]
    loop += [loop, threading.Lock()]
    with pytest.raises(InvalidArgument, match=r"^arguments\[2\] holds a _thread.lock"):
        wire.encoder.encode(loop)


def test_a_result_that_cannot_be_sent_is_the_callees_mistake(wire: Wire) -> None:
    with pytest.raises(InvalidResult, match=r"^result\['x'\] is a stream \(generator\), which is no value"):
        wire.encoder.encode({"x": (i for i in range(0))}, "result")


def test_the_search_for_the_culprit_ends(wire: Wire) -> None:
    with pytest.raises(InvalidArgument, match=r"^arguments holds a list"):
        wire.encoder.encode([*range(10_000), threading.Lock()])


# -- bodies that are wrong


def structured(wire: Wire) -> bytes:
    return wire.body({"large": np.zeros(LARGE, np.uint8), "class": local_class()(1)})


def local_class() -> Any:
    @dataclasses.dataclass
    class Point:
        x: int

    return Point


def test_a_truncated_body_is_refused() -> None:
    for wire in (Wire(None), Wire(SegmentPool())):
        body = structured(wire)
        for length in [*range(0, min(len(body), 400), 7), len(body) - 1]:
            with pytest.raises(CodecError):
                wire.decoder.decode(body[:length])
            wire.decoder.discard(body[:length])
        with pytest.raises(CodecError, match="too many"):
            wire.decoder.decode(body + b"x")


def test_every_byte_of_a_length_counts() -> None:
    wire = Wire(None)
    body = structured(wire)
    ends = [HEAD.size + ENTRY.size * (i + 1) for i in range(HEAD.unpack_from(body)[1])]
    lengths = [position for end in ends for position in range(end - 8, end)]
    for position in [*range(4, HEAD.size), *lengths]:
        broken = bytearray(body)
        broken[position] ^= 0x41
        with pytest.raises(CodecError):
            wire.decoder.decode(broken)


@pytest.mark.parametrize("body", [b"", b"\x80", b"garbage", b"nbc1" + b"\xff" * 12, pickle.dumps(1, 5)[:-1]])
def test_garbage_is_refused(wire: Wire, body: bytes) -> None:
    with pytest.raises(CodecError):
        wire.decoder.decode(body)


def test_what_this_process_cannot_rebuild_says_why(wire: Wire) -> None:
    body = wire.body(Holder(1)).replace(b"Holder", b"Absent")
    with pytest.raises(CodecError, match=r"cannot be rebuilt here: AttributeError: .*Absent"):
        wire.decoder.decode(body)


def test_dumps_is_for_any_reader() -> None:
    point = local_class()(np.zeros(LARGE))
    back = loads(dumps([point, point]))
    assert type(back[0]) is type(point)
    assert back[0] is back[1]


# -- classes of a notebook

NOTEBOOK = """
from __future__ import annotations
import dataclasses, enum
from typing import Any, NamedTuple
import numpy as np
from pydantic import BaseModel, RootModel

class Doc(BaseModel):
    text: str
    score: float = 0.0

@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int = 0

@dataclasses.dataclass
class Page:
    number: int
    docs: list[Doc] = dataclasses.field(default_factory=list)
    parent: Page | None = None

class Color(enum.Enum):
    RED = 1
    GREEN = 2

class Pair(NamedTuple):
    left: int
    right: Doc

class Texts(RootModel[list[str]]): pass

class Plain:
    def __init__(self, value): self.value = value
"""


class Notebook:
    """A `__main__` whose cells are run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.run(NOTEBOOK)

    def run(self, cell: str) -> None:
        exec(compile(cell, "<cell>", "exec", dont_inherit=True), self.names)
        for name, value in self.names.items():
            if isinstance(value, type) and value.__module__ == "__main__":
                self._monkeypatch.setattr(sys.modules["__main__"], name, value, raising=False)

    def __getattr__(self, name: str) -> Any:
        return self.names[name]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    return Notebook(monkeypatch)


def every_kind(notebook: Notebook) -> list[Any]:
    doc = notebook.Doc(text="a", score=0.5)
    return [
        doc,
        notebook.Span(1, 2),
        notebook.Page(1, [doc]),
        notebook.Color.GREEN,
        notebook.Pair(1, doc),
        notebook.Texts(["a", "b"]),
    ]


def test_instances_come_back_as_their_own_class(wire: Wire, notebook: Notebook) -> None:
    values = every_kind(notebook)
    back = wire.send(values)
    assert back == values
    assert [type(b) for b in back] == [type(v) for v in values]
    assert back[3] is notebook.Color.GREEN
    assert back[0].model_fields_set == {"text", "score"}
    plain = wire.send(notebook.Plain(3))
    assert type(plain) is notebook.Plain
    assert plain.value == 3


def test_a_class_itself_and_one_from_a_function(wire: Wire, notebook: Notebook) -> None:
    assert wire.send([notebook.Doc, int, type(None)]) == [notebook.Doc, int, type(None)]
    point = local_class()
    assert type(wire.send(point(1))) is point


def test_receiving_a_class_leaves_ones_own_alone(wire: Wire, notebook: Notebook) -> None:
    method = notebook.Plain.__init__
    wire.send(notebook.Plain(1))
    assert notebook.Plain.__init__ is method


def test_instances_that_refer_to_each_other(wire: Wire, notebook: Notebook) -> None:
    parent = notebook.Page(1)
    child = notebook.Page(2, parent=parent)
    parent.parent = child
    back = wire.send(parent)
    assert back.parent.number == 2
    assert back.parent.parent is back


def test_a_definition_goes_once(wire: Wire, notebook: Notebook) -> None:
    first, second = wire.encoder.encode(notebook.Doc(text="a")), wire.encoder.encode(notebook.Doc(text="b"))
    assert sum(map(len, first)) > 1000
    assert len(second) == 1
    assert len(second[0]) < 400
    assert wire.decoder.decode(b"".join(first)).text == "a"
    assert wire.decoder.decode(second[0]).text == "b"


def test_a_definition_that_was_never_sent_is_sent_again(wire: Wire, notebook: Notebook) -> None:
    with pytest.raises(InvalidArgument):
        wire.encoder.encode([notebook.Doc(text="a"), threading.Lock()])
    assert len(b"".join(wire.encoder.encode(notebook.Doc(text="a")))) > 1000


def test_instances_of_a_class_that_was_re_run_become_the_newest(wire: Wire, notebook: Notebook) -> None:
    body = wire.body(every_kind(notebook))
    old = notebook.Doc
    notebook.run(NOTEBOOK)
    assert notebook.Doc is not old
    back = wire.decoder.decode(body)
    assert back == every_kind(notebook)
    assert [type(b) for b in back] == [type(v) for v in every_kind(notebook)]
    assert type(back[2].docs[0]) is notebook.Doc
    assert type(back[4].right) is notebook.Doc


def test_a_newer_definition_is_filled_by_its_fields(wire: Wire, notebook: Notebook) -> None:
    body = wire.body([notebook.Doc(text="a", score=2), notebook.Span(1, 2), notebook.Color.RED])
    notebook.run("""
class Doc(BaseModel):
    text: str
    score: int
    source: str = "unknown"

@dataclasses.dataclass
class Span:
    start: str | int
    end: int
    label: str = ""

class Color(enum.Enum):
    GREEN = 1
    RED = 2
""")
    doc, span, color = wire.decoder.decode(body)
    assert doc == notebook.Doc(text="a", score=2, source="unknown")
    assert span == notebook.Span(1, 2, "")
    assert color is notebook.Color.RED  # by name, although its value has moved


@pytest.mark.parametrize("annotation", ["np.ndarray", "'Unheard'"])
def test_a_field_that_pydantic_does_not_know_is_left_to_the_class(
    wire: Wire, notebook: Notebook, annotation: str
) -> None:
    cell = f"@dataclasses.dataclass\nclass Vector:\n    values: {annotation}\n"
    notebook.run(cell)
    body = wire.body(notebook.Vector(np.ones(3)))
    notebook.run(cell)
    back = wire.decoder.decode(body)
    assert type(back) is notebook.Vector
    assert back.values.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("make", "cell", "name"),
    [
        (lambda n: n.Doc(text="a"), "class Doc(BaseModel):\n    text: int", "Doc"),
        (lambda n: n.Span(1), "@dataclasses.dataclass\nclass Span:\n    begin: int", "Span"),
        (lambda n: n.Color.RED, "class Color(enum.Enum):\n    BLUE = 7", "Color"),
        (lambda n: n.Pair(1, n.Doc(text="a")), "class Pair(NamedTuple):\n    only: int", "Pair"),
        (lambda n: n.Doc(text="a"), "class Doc: pass", "Doc"),
    ],
    ids=["model", "dataclass", "enum", "named tuple", "something else"],
)
def test_a_value_that_does_not_fit_the_newest_class(
    wire: Wire, notebook: Notebook, make: Any, cell: str, name: str
) -> None:
    body = wire.body(make(notebook))
    notebook.run(cell)
    with pytest.raises(InvalidArgument, match=f"^{name} is another one where this value was made"):
        wire.decoder.decode(body)


def test_importable_classes_go_by_name(wire: Wire) -> None:
    assert len(wire.body(Model(x=1))) < 250
    values = [Model(x=1), Record(1), Level.HIGH, Point(1, 2), Names(["a"])]
    assert wire.send(values) == values


class Model(BaseModel):
    x: int


@dataclasses.dataclass
class Record:
    x: int


class Level(enum.Enum):
    HIGH = 1


class Point(NamedTuple):
    x: int
    y: int


class Names(RootModel[list[str]]):
    pass
