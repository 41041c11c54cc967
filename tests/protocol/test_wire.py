"""Lines of JSON: what is a message, what is wrong with one, and errors as data."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcompose import errors
from nbcompose._protocol import messages, wire
from nbcompose.errors import InvalidArgument, ProtocolError, RemoteError, RemoteTraceback, UnknownService

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_written_is_read(message: dict[str, Any]) -> None:
    line = wire.encode(message)
    assert line.count(b"\n") == 1
    assert wire.decode(line) == message


def test_half_a_pair_of_surrogates_goes_through() -> None:
    assert wire.decode(wire.encode({"text": "\ud800 \U0001f600"})) == {"text": "\ud800 \U0001f600"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\xff\n", "not UTF-8: byte 0 is 0xff"),
        (b"{\n", "not JSON: Expecting property name"),
        (b"[1]\n", "a message is a JSON object, and this is a list"),
        (b"true\n", "a message is a JSON object, and this is true or false"),
        (b'{"a": NaN}\n', "not JSON: NaN is none of its numbers"),
        (b"[" * 100_000 + b"\n", "not read: it is nested too deeply"),
        (b"9" * 5000 + b"\n", "not JSON: Exceeds the limit"),
    ],
    ids=["bytes", "text", "list", "bool", "nan", "deep", "digits"],
)
def test_what_is_no_message(line: bytes, said: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        wire.decode(line)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_what_has_no_json_is_not_sent(value: Any) -> None:
    with pytest.raises(ProtocolError, match="what was to be sent is not JSON"):
        wire.encode({"value": value})


def test_what_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE", 1000)
    with pytest.raises(ProtocolError, match="a message has at most 1,000"):
        wire.encode({"value": 1000 * "x"})


@pytest.mark.parametrize("extra", [-1, 0, 1])
async def test_lines_of_any_length_up_to_the_limit(extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE", 3 * wire.CHUNK)
    reader = asyncio.StreamReader(wire.CHUNK)
    line = (wire.MAX_MESSAGE + extra - 1) * b"x" + b"\n"
    reader.feed_data(line + b"short\n" + b"without an end")
    reader.feed_eof()
    if extra > 0:
        with pytest.raises(ProtocolError, match=f"a line of {len(line):,} bytes"):
            await wire.read_line(reader)
    else:
        assert await wire.read_line(reader) == line
    assert await wire.read_line(reader) == b"short\n"  # what comes after it is found all the same
    assert await wire.read_line(reader) == b""


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"type": "ps"}, None),
        ({"type": "logs", "service": "A", "lines": 1}, None),
        ({"type": "logs"}, "service is missing"),
        ({"type": "logs", "service": 1}, "service is a whole number, not a text"),
        ({"type": "logs", "service": 1001 * "x"}, "the length of service is not between 0 and 1000"),
        ({"type": "logs", "service": "A", "lines": 0}, "lines is not between 1 and 10000"),
        ({"type": "logs", "service": "A", "lines": True}, "lines is true or false, not a whole number"),
        ({"type": "logs", "service": "A", "lines": "9" * 50}, "lines is a text, not a whole number"),
        ({"type": "traces", "n": 1}, "there is no field n, only id, type, service, api, state, since, text"),
        ({"type": "watch", "services": "A"}, "services is a text, not a list"),
        ({"type": "watch", "services": ["A", None]}, "services[1] is null, not a text"),
        ({"type": "call", "service": "A", "api": "f", "arguments": [{"any": None}]}, None),
        ({"type": "ps", "id": ""}, "the length of id is not between 1 and 64"),
        ({"type": "scale", "service": None}, "service is null, not a text; replicas is missing"),
    ],
)  # fmt: skip
def test_requests_are_checked_and_all_that_is_wrong_is_told(request_: dict[str, Any], said: str | None) -> None:
    definition = wire.by_type(messages.RuntimeRequest)[request_["type"]]
    if said is None:
        wire.check(request_, definition, strict=True)
        return
    with pytest.raises(ProtocolError) as raised:
        wire.check(request_, definition, strict=True)
    assert str(raised.value) == said


def test_answers_of_a_newer_version_may_say_more() -> None:
    done = {"id": "1", "type": "done", "action": "stop", "service": "A", "later": 1}
    wire.check(done, messages.Done, strict=False)
    with pytest.raises(ProtocolError, match="service is missing"):
        wire.check({"id": "1", "type": "done", "action": "stop"}, messages.Done, strict=False)


@given(st.dictionaries(st.sampled_from(["id", "type", "service", "api", "lines", "protocol"]), JSON))
def test_a_check_raises_nothing_else_and_shows_no_value(message: dict[str, Any]) -> None:
    secret = {**message, "service": {"token": "s3cret"}}
    for definition in wire.by_type(messages.RuntimeRequest).values():
        with pytest.raises(ProtocolError) as raised:
            wire.check({**secret, "extra": "s3cret"}, definition, strict=True)
        assert "s3cret" not in str(raised.value), definition


def test_every_request_is_of_one_type_and_has_an_id() -> None:
    for union in (messages.Request, messages.RuntimeRequest, messages.Event, messages.RuntimeReply):
        kinds = wire.by_type(union)
        assert all("id" in wire.fields_of(cls) for cls in kinds.values())


OURS = [name for name, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.NbcomposeError)]


@pytest.mark.parametrize("name", OURS)
def test_errors_come_back_as_what_they_were(name: str) -> None:
    cls = vars(errors)[name]
    again = wire.rebuilt(wire.failure(cls("it went wrong")))
    assert type(again) is cls
    assert str(again) == "it went wrong"


PROBLEM: dict[str, object] = {"msg": 10**4 * "x"}


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("error", [Silent(), LookupError(10**8 * "x"), InvalidArgument("no", 10**4 * [PROBLEM])])
def test_what_is_told_of_an_error_is_bounded(error: Exception) -> None:
    assert len(wire.encode(wire.failure(error))) < wire.MAX_MESSAGE
    assert type(wire.rebuilt(wire.failure(error))) in (RemoteError, InvalidArgument)


def test_an_error_has_its_fields_and_frames() -> None:
    error = InvalidArgument("two are wrong", [{"loc": ("a", 0), "msg": "not a number", "type": "int"}])
    error.__cause__ = RemoteTraceback("Leaf.add\n  File ...")
    told = json.loads(wire.encode(wire.failure(error)))
    again = wire.rebuilt(told)
    assert isinstance(again, InvalidArgument)
    assert again.problems == [{"loc": ["a", 0], "msg": "not a number"}]
    assert str(again.__cause__) == "\nLeaf.add\n  File ..."


@pytest.mark.parametrize(
    "name", ["LookupError", "RemoteTraceback", "Mistake", "Sequence", "CallInterrupted", "\x1b[2J"]
)
def test_other_classes_come_back_as_remote_errors(name: str) -> None:
    again = wire.rebuilt({"name": name, "message": "no", "traceback": "", "problems": []})
    assert type(again) is RemoteError
    assert str(again) == f"{wire.printable(name)}: no"
    assert type(wire.rebuilt(wire.failure(UnknownService("x")))) is UnknownService
