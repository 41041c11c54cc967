"""A service as an OpenAI-compatible server, and one whose model is behind it, in real replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

import nbcompose
from nbcompose import api, service
from nbcompose.errors import LaunchError, Overloaded, PromptTooLong
from nbcompose.llms import OpenAIModel
from tests.handles import handle
from tests.llms.scripted import Scripted
from tests.patience import PATIENCE, wait_until
from tests.replica.http.asgi_client import StreamingTransport

pytestmark = pytest.mark.system

TOKEN = "secret"


@service(openai=True, traffic={"max_concurrency": 2, "max_queue": 0, "timeout": PATIENCE})
class Served:
    def __init__(self) -> None:
        self.model = Scripted()

    @api
    async def stopped(self) -> None:
        await self.model.stopped.wait()
        self.model.stopped.clear()


@service(threads=2)
class Relay:
    """Has its model behind the address that a call names."""

    @api
    async def write(self, url: str, text: str) -> AsyncIterator[str]:
        async for piece in OpenAIModel(url, api_key_variable="RELAY_KEY").generate(text):
            yield piece

    @api
    def write_in_thread(self, url: str, text: str) -> Iterator[str]:
        yield from OpenAIModel(url, api_key_variable="RELAY_KEY").generate(text)


@service(openai=True)
class Empty:
    @api
    async def nothing(self) -> None: ...


@pytest.fixture(scope="module")
def graph() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBCOMPOSE_PRELOAD", "json")
        patch.setenv("RELAY_KEY", TOKEN)
        with nbcompose.run(Served, Relay, http=True, token=TOKEN):
            yield handle(Served).url


def official(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0, **options)


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def has_stopped() -> bool:
    """Whether an answer has been stopped; False while there is no place for the question."""
    try:
        Served.stopped()
    except Overloaded:
        return False
    return True


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    return client.chat.completions.create(model="scripted", messages=user(text), **options)


def test_the_official_client(graph: str) -> None:
    with official(graph) as client:
        assert [model.id for model in client.models.list()] == ["scripted"]
        assert ask(client, "one two").choices[0].message.content == "one two"
        pieces = [chunk.choices[0].delta.content for chunk in ask(client, "one two", stream=True)]
        assert pieces == ["", "one", " two", None]
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, "word " * 101)
        assert caught.value.code == "context_length_exceeded"


def test_its_limits_and_numbers_are_those_of_other_calls(graph: str) -> None:
    with official(graph) as client:
        streams = [ask(client, "one wait", stream=True) for _ in range(2)]
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client, "one")
        assert caught.value.code == "rate_limit_exceeded"
        assert client.models.list().data  # no call: it does not wait behind the others
        for stream in streams:
            stream.close()
        wait_until(has_stopped, "an answer whose caller has gone is stopped")
    metrics = httpx.get(f"{graph}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'api="chat.completions",outcome="Overloaded"' in metrics
    assert 'nbcompose_http_responses_total{replica="0",route="/v1/chat/completions"' in metrics


@pytest.mark.parametrize("name", ["write", "write_in_thread"])
def test_a_model_behind_it(graph: str, name: str) -> None:
    write = getattr(Relay, name)
    assert list(write(graph, "one two three")) == ["one", " two", " three"]
    with pytest.raises(PromptTooLong):
        list(write(graph, "word " * 101))


@pytest.mark.parametrize("name", ["write", "write_in_thread"])
def test_when_the_caller_leaves_the_model_stops(graph: str, name: str) -> None:
    answer = getattr(Relay, name)(graph, "one wait")
    assert next(answer) == "one"
    answer.close()
    Served.stopped()


async def test_as_an_asgi_application(graph: str) -> None:
    app = handle(Served).asgi(token=TOKEN)
    transport = StreamingTransport(app, ("127.0.0.1", 80))
    async with httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport) as http:
        client: Any = http
        made = openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key=TOKEN, http_client=client, max_retries=0)
        assert [model.id async for model in made.models.list()] == ["scripted"]
        answer = await made.chat.completions.create(model="scripted", messages=user("one two"))
        assert answer.choices[0].message.content == "one two"
        with pytest.raises(openai.NotFoundError) as caught:
            await made.chat.completions.create(model="none", messages=user("one"))
        assert caught.value.code == "model_not_found"


def test_without_a_language_model_it_does_not_start(graph: str) -> None:
    why = "its instance has no language model: set one in __init__"
    with pytest.raises(LaunchError, match=why), nbcompose.run(Empty):
        pytest.fail("it runs")
