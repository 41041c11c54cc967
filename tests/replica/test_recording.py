"""What is kept of arguments and answers, and what is shown of it."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import math
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nbcompose._replica import recorded_values, recording
from nbcompose._replica.recorded_values import SHOWN, Capture, is_secret_name
from nbcompose._replica.recording import Recorder
from nbcompose._spec import ApiSpec
from nbcompose._tracing import CANCELLED, CallContext, RecordedCall, new_span_id
from nbcompose._user_exceptions import in_short
from nbcompose.errors import DeadlineExceeded

API = ApiSpec("ask", "ask", "/ask", ())


@pytest.fixture(autouse=True)
def _reads_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another test of this process has left referred to (in a traceback, say) is no concern of these."""
    monkeypatch.setattr(recorded_values, "reads_segments", lambda: False)


def shown(value: Any) -> str:
    return in_short(Capture().of(value), SHOWN)


def call(arguments: dict[str, Any], recorder: Recorder | None = None, api: ApiSpec = API) -> recording.Record:
    context = CallContext()
    context.span_id = new_span_id()
    record = (recorder or Recorder()).begin(api, arguments, context)
    assert record is not None
    return record


async def told(arguments: dict[str, Any], end: Callable[[recording.Record], object]) -> RecordedCall:
    recorder = Recorder()
    record = call(arguments, recorder)
    end(record)
    [only] = await recorder.calls(record.trace_id)
    return only


# -- values


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    token: str


@dataclasses.dataclass
class User:
    name: str
    password: str
    hidden: str = dataclasses.field(default="never shown", repr=False)
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


class Model(pydantic.BaseModel):
    name: str
    key: pydantic.SecretStr
    inner: dict[str, str] = {}


class PlainObject:
    def __init__(self) -> None:
        self.x = 1
        self.api_key = "sekret"


class Own:
    def __init__(self) -> None:
        self.x = 1

    def __repr__(self) -> str:
        return f"Own {self.x}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (None, "None"),
        ("where?", "'where?'"),
        (b"x", "b'x'"),
        ("x" * 5000, "'" + "x" * 900),
        (b"x" * 5000, "b'xxx"),
        ([1, [2, (3,)]], "[1, [2, (3,)]]"),
        ({"a": {1, 2}}, "{'a': {1, 2}}"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "),
        ({i: i for i in range(100)}, "{0: 0, 1: 1, "),
        (collections.deque([1]), "[1]"),
        (datetime.date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
        (decimal.Decimal("1.50"), "Decimal('1.50')"),
        (Path("a/b"), "PosixPath('a/b')"),
        (Colour.RED, "<Colour.RED: 1>"),
        (Point(1, "sekret"), "Point(x=1, token=•••)"),
        (User("ada", "sekret", tags=["x"]), "User(name='ada', password=•••, tags=['x'])"),
        (Slotted(3), "Slotted(x=3)"),
        (
            Model(name="ada", key=pydantic.SecretStr("sekret"), inner={"token": "sekret", "x": "y"}),
            "Model(name='ada', key=•••, inner={'token': •••, 'x': 'y'})",
        ),
        (PlainObject(), "PlainObject(x=1, api_key=•••)"),
        (Own(), "Own 1"),
        (np.arange(3), "array([0, 1, 2])"),
        (np.float32(0.5), "np.float32(0.5)"),
        (np.zeros((600, 400)), "<array 600 × 400 float64: 0, 0, 0, 0, 0, 0, …>"),
        (np.array([object()]), "<array 1 object>"),
        (bytearray(5), "<bytearray of 5 B>"),
        (pandas.DataFrame({"a": [1]}), "   a\n0  1"),
        (pandas.DataFrame(np.zeros((1000, 100))), "<DataFrame 1000 × 100>"),
        (Image.new("RGB", (4000, 3000)), "<Image 4000 × 3000>"),
        pytest.param(1 << 100_000, "<int of 13 KiB>", id="a large int"),
    ],
)
def test_how_a_value_is_shown(value: Any, text: str) -> None:
    assert shown(value).startswith(text)
    assert len(shown(value)) < SHOWN + 100
    assert "sekret" not in shown(value)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    grad = torch.ones(2, 3, requires_grad=True)
    assert shown(grad) == "<Tensor 2 × 3 float32: 1, 1, 1, 1, 1, 1, …>"
    assert shown(grad.t()).startswith("<Tensor 3 × 2 float32")
    assert shown(torch.eye(3).to_sparse()) == "<Tensor 3 × 3 float32>"


def test_deep_and_wide_values_are_cut() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    assert shown(deep) == "[[[[[[…]]]]]]"
    wide = [[[i] for i in range(30)] for _ in range(30)]
    capture = Capture()
    capture.of(wide)
    assert capture.size < 50_000
    itself: list[Any] = []
    itself.append(itself)
    assert len(shown(itself)) < 100


async def test_a_container_is_shown_as_it_was_and_an_object_as_it_is() -> None:
    items, thing = [1, {"x": 1}], Own()

    def change(record: recording.Record) -> None:
        items.append(2)
        thing.x = 7
        record.answered(None)

    call = await told({"items": items, "thing": thing}, change)
    assert call.arguments == (("items", "[1, {'x': 1}]"), ("thing", "Own 7"))
    assert call.held
    assert not (await told({"items": items}, lambda r: r.answered(1))).held


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise SystemError(name)

    def __repr__(self) -> str:
        raise SystemError("no")


class Meta(type):
    def __getattr__(cls, name: str) -> Any:
        raise SystemError(name)


class HostileClass(metaclass=Meta):
    def __eq__(self, other: object) -> bool:
        raise SystemError

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("make", [Hostile, HostileClass])
async def test_objects_that_raise_harm_nothing(make: type) -> None:
    call = await told({"x": make(), "y": 1}, lambda r: r.answered(make()))
    assert call.answer is not None


async def test_a_repr_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbcompose._rpc.exception_data.TELL_WAIT", 0.05)
    begun = threading.Event()

    class Endless:
        def __repr__(self) -> str:
            begun.set()
            while True:
                pass

    call = await told({"x": Endless()}, lambda r: r.answered(1))
    assert begun.is_set()
    assert "not there" in call.why_not


# -- shared memory


def test_objects_are_not_kept_while_something_reads_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Own()
    alive = weakref.ref(thing)
    monkeypatch.setattr(recorded_values, "reads_segments", lambda: True)
    kept = Capture().of([thing, User("ada", "x"), 3])
    assert in_short(kept) == "[<Own>, User(name='ada', password=•••, tags=[]), 3]"
    del thing
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("size", [3, 1_000_000])
def test_nothing_refers_to_an_array(size: int) -> None:
    array = np.zeros(size)
    alive = weakref.ref(array)
    kept = Capture().of({"a": [array[1:]]})
    del array
    gc.collect()
    assert alive() is None
    assert "array" in in_short(kept)


# -- secrets


@pytest.mark.parametrize(
    "name",
    [
        "password", "db_password", "dbPassword", "PASSWD", "token", "hf_token", "accessToken", "api_key", "apiKey",
        "API_KEY", "X-Api-Key", "Authorization", "authorization", "client_secret", "secrets", "private_key",
        "credentials", "Cookie", "pwd", "passphrase", "OPENAI_API_KEY", "apikey",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "max_tokens",
        "tokens",
        "tokenizer",
        "token_ids",
        "token_count",
        "key",
        "keys",
        "monkey",
        "author",
        "passage",
        "x",
    ],
)
def test_names_of_others(name: str) -> None:
    assert not is_secret_name(name)


def test_numbers_and_nothing_are_no_secrets() -> None:
    assert shown({"token": 5, "password": None, "secret": "", "api_key": True}) == (
        "{'token': 5, 'password': None, 'secret': '', 'api_key': True}"
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(User, st.text(max_size=5), st.just("hunter2hunter2"))
        | st.fixed_dictionaries({"api_key": st.just("hunter2hunter2"), "x": inner})
    ),
    max_leaves=30,
)


@settings(max_examples=200)
@given(values)
def test_no_secret_is_shown_and_texts_are_bounded(value: Any) -> None:
    capture = Capture()
    text = in_short(capture.of(value), SHOWN)
    assert "hunter2" not in text
    assert len(text) <= SHOWN + 100
    assert 0 <= capture.size < 200_000


@settings(max_examples=100)
@given(st.lists(st.integers() | st.text(max_size=10), max_size=recorded_values.ITEMS))
def test_small_values_are_shown_as_python_writes_them(value: list[Any]) -> None:
    assert shown(value) == repr(value)


async def test_a_secret_is_not_in_the_error_either() -> None:
    call = await told(
        {"api_key": "sk-12345", "user": {"password": "hunter2"}},
        lambda r: r.failed(ValueError("sk-12345 is not known to hunter2"), "ValueError"),
    )
    assert call.error == "ValueError: ••• is not known to •••"


# -- calls


@pytest.mark.parametrize(
    ("error", "outcome", "text"),
    [
        (ValueError("no"), "ValueError", "ValueError: no"),
        (KeyError("x"), "KeyError", "KeyError: 'x'"),
        (ValueError(Own()), "ValueError", "ValueError"),
        (DeadlineExceeded("late"), "DeadlineExceeded", "DeadlineExceeded: late"),
        (GeneratorExit(), CANCELLED, CANCELLED),
    ],
)
async def test_an_error_takes_the_place_of_the_answer(error: BaseException, outcome: str, text: str) -> None:
    call = await told({"x": 1}, lambda r: r.failed(error, outcome))
    assert (call.answer, call.error) == (None, text)


async def test_the_first_and_last_items_of_a_stream_are_kept() -> None:
    api = dataclasses.replace(API, stream=True)
    recorder = Recorder()
    for count in (0, 2, 5, 100):
        record = call({"n": count}, recorder, api)
        for i in range(count):
            record.item(i)
        record.ended()
        [kept] = await recorder.calls(record.trace_id)
        assert kept.items == count
        assert kept.answer is None
        assert [*kept.first, *kept.last] == [str(i) for i in range(count) if i < 3 or i >= max(3, count - 3)]


def test_the_items_of_a_long_stream_take_no_more_than_those_that_are_kept() -> None:
    recorder = Recorder()
    call({"n": 1}, recorder).answered(None)
    record = call({"n": 2}, recorder, dataclasses.replace(API, stream=True))
    for _ in range(10_000):
        record.item("x" * 1000)
    record.ended()
    assert recorder.size < 10_000


def test_an_api_that_is_not_to_be_recorded_is_not() -> None:
    assert Recorder().begin(dataclasses.replace(API, record=False), {"x": 1}, CallContext()) is None


async def test_the_last_calls_are_kept() -> None:
    recorder = Recorder(calls=3)
    records = [call({"n": n}, recorder) for n in range(5)]
    for record in records:
        record.answered(None)
    assert [bool(await recorder.calls(r.trace_id)) for r in records] == [False, False, True, True, True]
    recorder.forget()
    assert recorder.size == 0
    assert await recorder.calls(records[-1].trace_id) == []


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4000), max_size=60))
def test_what_is_kept_is_bounded_in_bytes(lengths: list[int]) -> None:
    limit = 20_000
    recorder = Recorder(size=limit)
    for length in lengths:
        call({"text": "x" * length}, recorder).answered(None)
        assert recorder.size <= limit


async def test_calls_are_found_by_what_is_in_them() -> None:
    recorder = Recorder()
    records = [call({"question": f"Where is {n}?"}, recorder) for n in ("Ada", "Bob")]
    records[0].answered({"place": "London"})
    records[1].failed(ValueError("nowhere"), "ValueError")
    assert await recorder.search("ada") == [records[0].span_id]
    assert await recorder.search("LONDON") == [records[0].span_id]
    assert await recorder.search("nowhere") == [records[1].span_id]
    assert await recorder.search("question") == [r.span_id for r in records]
    assert await recorder.search("nothing of it") == []


async def test_what_is_told_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "REPLY", 5000)
    recorder, context = Recorder(), CallContext()
    for n in range(10):
        context.span_id = n + 1
        record = recorder.begin(API, {"text": "x" * 1500}, context)
        assert record is not None
        record.answered(math.pi)
    assert len(await recorder.calls(context.trace_id)) == 4
