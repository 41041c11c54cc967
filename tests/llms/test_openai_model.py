"""`OpenAIModel` against our own route, and against servers that are odd or hostile."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

from nbcompose import errors
from nbcompose._tracing import CallContext, current_call
from nbcompose.errors import Misuse
from nbcompose.llms import OpenAIModel
from nbcompose.llms.openai_transport import MAX_DOCUMENT, MAX_LINE
from tests.faults.hostile_server import Answer, Hostile, endless, head, response
from tests.replica.http.http_server import Served, serving, soon
from tests.replica.http.test_openai import Chatty, Several, user

CHAT = "/v1/chat/completions"
EVENTS = "text/event-stream"
KEY = "sk-not-to-be-seen"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(Chatty, openai=True) as found:
        yield found


Make = Callable[..., OpenAIModel]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Models whose connections are closed in the end."""
    made: list[OpenAIModel] = []

    def new(*args: Any, **kwargs: Any) -> OpenAIModel:
        made.append(OpenAIModel(*args, **kwargs))
        return made[-1]

    yield new
    for model in made:
        await model.aclose()


@pytest.fixture
def model(served: Served, make: Make) -> OpenAIModel:
    return make(f"http://{served.host}")


async def test_an_answer_comes_in_pieces(served: Served, model: OpenAIModel) -> None:
    answer = model.generate("one two three", max_new_tokens=2)
    assert answer.usage is None
    assert [piece async for piece in answer] == ["one", " two"]
    assert answer.finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)
    assert [piece async for piece in answer] == []  # it is read once


async def test_options_and_chats_go_along(served: Served, model: OpenAIModel) -> None:
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}]
    options: Any = {"max_new_tokens": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 1, "stop": ["x", "y"]}
    async for _ in model.generate(chat, **options):
        pass
    assert served.instance.model.asked == [(chat, options)]


async def test_streams_in_a_prompt_are_read_together_first(served: Served, model: OpenAIModel) -> None:
    begun = asyncio.Event()

    async def first() -> AsyncIterator[str]:
        yield "one"
        await begun.wait()  # the second stream is read, while this one waits for it
        yield " two"

    async def second() -> AsyncIterator[str]:
        begun.set()
        yield " three"

    prompt: Any = ["", first(), second()]
    pieces = [piece async for piece in model.generate(prompt)]
    assert "".join(pieces) == "one two three"
    assert served.instance.model.asked[0][0] == user("one two three")


async def test_sync_code_reads_it_too(served: Served, model: OpenAIModel) -> None:
    def read() -> tuple[list[str], Any]:
        prompt: Any = ["one", iter([" two", " three"])]
        answer = model.generate(prompt)
        pieces = list(answer)
        broken = model.generate("one wait")
        assert next(broken) == "one"
        broken.close()
        assert list(broken) == []
        model.close()
        return pieces, answer.usage

    pieces, usage = await asyncio.to_thread(read)
    assert pieces == ["one", " two", " three"]
    assert usage.total_tokens == 6
    await soon(served.instance.model.stopped.wait())


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_who_wants_no_more_ends_the_work_there(served: Served, model: OpenAIModel, how: str) -> None:
    answer = model.generate("one wait")
    assert await anext(answer) == "one"
    if how == "closed":
        await answer.aclose()
    else:
        waiting = asyncio.ensure_future(anext(answer))
        await soon(served.instance.model.waiting.wait())
        waiting.cancel()
        await asyncio.wait([waiting])
    await soon(served.instance.model.stopped.wait())


async def test_a_caller_that_has_gone_before_it_waits_ends_it_too(model: OpenAIModel) -> None:
    context = CallContext()

    def read() -> None:
        current_call.set(context)
        answer = model.generate("wait")
        context.cancel()
        with pytest.raises(errors.CallCancelled):
            next(answer)

    await asyncio.to_thread(contextvars.copy_context().run, read)


async def test_the_only_model_is_found_and_one_of_several_is_asked_for(served: Served, make: Make) -> None:
    async with serving(Several, openai=True) as several:
        url = f"http://{several.host}/v1/"
        with pytest.raises(errors.ServiceUnavailable, match="has several models: give one of scripted, other, twin"):
            await anext(make(url).generate("a"))
        assert await anext(make(url, "twin").generate("a")) == "a"
        with pytest.raises(errors.ServiceUnavailable, match="there is no model 'none' here"):
            await anext(make(url, "none").generate("a"))


async def test_errors_of_the_server_say_which_server(served: Served, model: OpenAIModel) -> None:
    with pytest.raises(errors.PromptTooLong, match=rf"{served.host}.*the prompt has 101 tokens, the context 100"):
        await anext(model.generate("word " * 101))
    with pytest.raises(errors.ServiceUnavailable, match="a fault of the model") as caught:
        await anext(model.generate("fail"))
    assert caught.value.internal  # no mistake of whoever calls the service that the model is in
    answer = model.generate("one fail")
    assert await anext(answer) == "one"
    with pytest.raises(errors.ServiceUnavailable, match="a fault of the model"):
        await anext(answer)
    with pytest.raises(errors.UnsupportedOption, match="the roles are system, developer, user and assistant"):
        await anext(model.generate([{"role": "wizard", "content": "a"}]))


async def test_the_key_is_read_from_its_variable_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    caplog.set_level("DEBUG")
    async with serving(Chatty, openai=True, token=KEY) as secured:
        model = make(f"http://{secured.host}", api_key_variable="SOME_KEY")
        with pytest.raises(errors.ServiceUnavailable, match=r"SOME_KEY.* is not set where the model is used"):
            await anext(model.generate("a"))
        monkeypatch.setenv("SOME_KEY", "wrong")
        with pytest.raises(errors.ServiceUnavailable, match="refuses the key, see SOME_KEY"):
            await anext(model.generate("a"))
        monkeypatch.setenv("SOME_KEY", KEY)
        assert await anext(model.generate("a")) == "a"
        assert KEY not in repr(model) + repr(vars(model)) + caplog.text
        assert KEY.encode() not in pickle.dumps(model)
        copy = pickle.loads(pickle.dumps(model))
        assert [piece async for piece in copy.generate("b")] == ["b"]
        await copy.aclose()


async def test_nothing_else_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch, odd: Odd, make: Make) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Other: {KEY}")
    server = odd({})
    with pytest.raises(errors.ServiceUnavailable):
        await anext(make(server.url, "m").generate("a"))
    assert KEY.encode() not in server.requests[0]
    assert b"authorization" not in server.requests[0].lower()


# -- odd servers

Odd = Callable[[dict[str, Answer]], Hostile]


@pytest.fixture
def odd() -> Iterator[Odd]:
    made: list[Hostile] = []

    def start(answers: dict[str, Answer]) -> Hostile:
        made.append(Hostile(answers))
        return made[-1]

    yield start
    for server in made:
        with contextlib.suppress(OSError):  # it has been stopped
            server.stop()


def chunk(text: str | None, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    document = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def events(*pieces: bytes) -> bytes:
    return head(kind=EVENTS) + b"".join(pieces)


DONE = b"data: [DONE]\n\n"


async def test_a_server_that_counts_no_tokens_is_fine(odd: Odd, make: Make) -> None:
    server = odd({CHAT: events(b": hello\n\n", chunk("one"), chunk(None, "stop"), DONE)})
    answer = make(server.url, "m").generate("a")
    assert [piece async for piece in answer] == ["one"]
    assert (answer.finish_reason, answer.usage) == ("stop", None)


def endless_events(start: bytes, piece: bytes) -> Callable[[], Iterable[bytes]]:
    return endless(head(kind=EVENTS) + start, piece)


ODD: dict[str, tuple[Answer, type[Exception], str]] = {
    "nothing there": (response(b"nothing", "404 Not Found"), errors.ServiceUnavailable, r"failed: 404, and no error"),
    "a page": (response(b"<html>", kind="text/html"), errors.ServiceUnavailable, "an answer of the type text/html"),
    "a page of an error": (
        response(b"<html>", "500 Oh", "text/html"), errors.ServiceUnavailable, "failed: 500, and no error",
    ),
    "an error of another form": (
        response(b'{"error": "no"}', "500 Oh"), errors.ServiceUnavailable, r"failed: 500, and no error|no",
    ),
    "a busy one": (
        response(b'{"error": {"message": "later"}}', "429 No"), errors.Overloaded, "is busy: later",
    ),
    "an endless error": (
        endless(head("500 Oh"), b"x" * 65536), errors.ServiceUnavailable, "more than 262,144 bytes",
    ),
    "no JSON": (events(b"data: {no\n\n"), errors.ServiceUnavailable, "what is no answer"),
    "no object": (events(b"data: [1]\n\n"), errors.ServiceUnavailable, "a chunk without choices"),
    "no text": (
        events(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'), errors.ServiceUnavailable, "content is no text",
    ),
    "no list": (events(b'data: {"choices": {"a": 1}}\n\n'), errors.ServiceUnavailable, "a chunk without choices"),
    "nothing at all": (events(), errors.ReplicaDied, "in the middle of an answer"),
    "an end without a reason": (events(DONE), errors.ReplicaDied, "in the middle of an answer"),
    "a cut body": (
        head("200 OK", EVENTS, "Content-Length: 9999"), errors.ReplicaDied, "went away while it worked",
    ),
    "an endless line": (
        endless_events(b"data: ", b"x" * 65536), errors.ServiceUnavailable, f"more than {MAX_LINE:,} bytes",
    ),
    "an endless message": (
        endless_events(b"", b"data: x\n" * 8192), errors.ServiceUnavailable, f"more than {MAX_LINE:,} bytes",
    ),
    "packed": (
        response(b"xx", "200 OK", EVENTS, "Content-Encoding: gzip"), errors.ServiceUnavailable, "that is packed",
    ),
    "an endless document": (
        endless(head(), b"x" * 65536), errors.ServiceUnavailable, f"more than {MAX_DOCUMENT:,} bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
async def test_what_is_no_answer_is_an_error_that_names_the_server(odd: Odd, case: str, make: Make) -> None:
    answer, error_type, message = ODD[case]
    server = odd({CHAT: answer})
    with pytest.raises(error_type, match=message) as caught:
        await soon(anext(make(server.url, "m").generate("a")))
    assert server.host in str(caught.value)


async def test_a_stream_that_is_cut_gives_what_came_before(odd: Odd, make: Make) -> None:
    server = odd({CHAT: events(chunk("one"))})
    answer = make(server.url, "m").generate("a")
    assert await anext(answer) == "one"
    with pytest.raises(errors.ReplicaDied):
        await anext(answer)


async def test_a_redirection_does_not_get_the_key(odd: Odd, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    thief = odd({})
    server = odd({CHAT: response(b"", "307 Elsewhere", "text/plain", f"Location: {thief.url}{CHAT}")})
    with pytest.raises(errors.ServiceUnavailable, match=f"redirects to {thief.url}"):
        await anext(make(server.url, "m", api_key_variable="SOME_KEY").generate("a"))
    assert thief.requests == []
    assert KEY.encode() in server.requests[0]


async def test_nobody_is_there(odd: Odd, make: Make) -> None:
    server = odd({})
    server.stop()
    with pytest.raises(errors.ServiceUnavailable, match="cannot be reached"):
        await anext(make(server.url, "m").generate("a"))


async def test_a_server_that_is_silent(served: Served, make: Make) -> None:
    model = make(f"http://{served.host}", "scripted", timeout=0.2)
    with pytest.raises(errors.DeadlineExceeded, match=r"was silent for 0.2 s: give it more by"):
        await anext(model.generate("wait"))
    await soon(served.instance.model.stopped.wait())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost:8000",), "the url begins with http"),
        ((None,), "the url begins with http"),
        (("http://me:secret@host",), "leave user, password"),
        (("http://host?key=secret",), "leave user, password"),
        (("http://host", ""), "the name of a model"),
    ],
)
def test_arguments_are_checked(arguments: Any, message: str) -> None:
    with pytest.raises(Misuse, match=message) as caught:
        OpenAIModel(*arguments)
    assert "secret" not in str(caught.value)


def test_a_key_in_place_of_its_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(Misuse, match="the name of an environment variable") as caught:
        OpenAIModel("http://host", api_key_variable=KEY)
    assert KEY not in str(caught.value)
    with pytest.raises(Misuse, match="timeout=0"):
        OpenAIModel("http://host", timeout=0)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://host:1", "http://host:1/v1"),
        ("http://host/v1", "http://host/v1"),
        ("http://host/v1/", "http://host/v1"),
        ("http://host/at/Answer/", "http://host/at/Answer/v1"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai"),
    ],
)
def test_the_url_may_have_its_version(url: str, base: str) -> None:
    assert repr(OpenAIModel(url, "m")) == f"OpenAIModel({base!r}, 'm')"
    assert OpenAIModel(url, "m").name == "m"
