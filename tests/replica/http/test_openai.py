"""A service as an OpenAI-compatible server, over both faces, called by OpenAI's own client and by hand."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import openai
import pytest
from openapi_spec_validator import validate

from nbcompose import api
from nbcompose._replica.chat import Completions
from nbcompose._service.introspect import declare
from nbcompose.errors import DeclarationError, LaunchError
from tests.llms.scripted import Scripted
from tests.replica.http.http_server import Face, Served, serving, soon

CHAT = "/v1/chat/completions"


class Chatty:
    def __init__(self) -> None:
        self.model = Scripted()

    @api
    async def echo(self, text: str) -> str:
        return text


class Several(Chatty):
    def __init__(self) -> None:
        self.model, self.other, self.twin = Scripted(), Scripted("other"), Scripted("other")


class Own(Chatty):
    @api(route="/v1/models")
    async def mine(self) -> str:
        return "mine"


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@contextlib.asynccontextmanager
async def chatty(face: Face, token: str | None = None) -> AsyncIterator[tuple[Served, openai.AsyncOpenAI]]:
    async with serving(Chatty, face=face, openai=True, token=token) as served:
        client: Any = served.http  # the package knows httpx's clients as well as its own
        made = openai.AsyncOpenAI(
            base_url=f"http://{served.host}/v1", api_key=token or "none", http_client=client, max_retries=0
        )
        yield served, made


async def test_the_official_client_gets_an_answer(face: Face) -> None:
    async with chatty(face) as (served, client):
        answer = await client.chat.completions.create(model="scripted", messages=user("one two three"), user="me")
        (choice,) = answer.choices
        assert (choice.message.role, choice.message.content, choice.finish_reason) == (
            "assistant",
            "one two three",
            "stop",
        )
        assert answer.model == "scripted"
        assert answer.object == "chat.completion"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 3, 6)
        assert served.runtime.answers[CHAT, 200] == 1


@pytest.mark.parametrize("with_usage", [False, True])
async def test_it_streams(face: Face, with_usage: bool) -> None:
    async with chatty(face) as (_, client):
        options: Any = {"stream_options": {"include_usage": True}} if with_usage else {}
        stream = await client.chat.completions.create(
            model="scripted", messages=user("one two three"), max_tokens=2, stream=True, **options
        )
        chunks = [chunk async for chunk in stream]
        usage = chunks.pop() if with_usage else None
        assert [c.choices[0].delta.role for c in chunks] == ["assistant", None, None, None]
        assert [c.choices[0].delta.content for c in chunks] == ["", "one", " two", None]
        assert [c.choices[0].finish_reason for c in chunks] == [None, None, None, "length"]
        assert len({c.id for c in chunks}) == 1
        assert all(c.usage is None for c in chunks)
        if usage is not None:
            assert usage.choices == []
            assert usage.usage is not None
            assert usage.usage.total_tokens == 5


async def test_options_and_messages_reach_the_model(face: Face) -> None:
    async with chatty(face) as (served, client):
        parts: Any = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
        messages: Any = [
            {"role": "developer", "content": "be brief"},
            {"role": "assistant", "content": "well"},
            {"role": "user", "content": parts},
        ]
        await client.chat.completions.create(
            model="scripted", messages=messages, max_completion_tokens=5, temperature=0.5, top_p=0.9, seed=3,
            stop=["x"], n=1, presence_penalty=0, response_format={"type": "text"}, extra_body={"top_k": 4},
        )  # fmt: skip
        ((prompt, options),) = served.instance.model.asked
        assert prompt == [
            {"role": "system", "content": "be brief"},
            {"role": "assistant", "content": "well"},
            {"role": "user", "content": "one two"},
        ]
        assert options == {
            "max_new_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["x"], "top_k": 4
        }  # fmt: skip


async def test_models(face: Face) -> None:
    async with serving(Several, face=face, openai=True) as served:
        listed = (await served.http.get("/v1/models")).json()
        assert [m["id"] for m in listed["data"]] == ["scripted", "other", "twin"]
        assert {m["owned_by"] for m in listed["data"]} == {"Several"}
        one = (await served.http.get("/v1/models/twin")).json()
        assert one == listed["data"][2]
        answer = await served.http.post(CHAT, json={"model": "twin", "messages": user("a")})
        assert answer.json()["model"] == "twin"
        assert served.instance.twin.asked
        error_of(await served.http.get("/v1/models/none"), 404, "model", "model_not_found")
        error_of(await served.http.post(CHAT, json={"messages": user("a")}), 400, "model", "missing_required_parameter")


def error_of(
    response: httpx.Response, status: int, param: str | None = None, code: str | None = None
) -> Mapping[str, Any]:
    assert response.status_code == status, response.text
    document = response.json()
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, code)
    assert response.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    ("field", "value", "param", "code"),
    [
        ("n", 2, "n", "unsupported_value"),
        ("n", True, "n", "unsupported_value"),
        ("tools", [{"type": "function"}], "tools", "unsupported_value"),
        ("logprobs", True, "logprobs", "unsupported_value"),
        ("response_format", {"type": "json_object"}, "response_format", "unsupported_value"),
        ("frequency_penalty", 0.5, "frequency_penalty", "unsupported_value"),
        ("reasoning_effort", "low", "reasoning_effort", "unsupported_value"),
        ("nonsense", 1, "nonsense", None),
        ("temperature", 3, "temperature", "invalid_value"),
        ("temperature", "hot", "temperature", "invalid_value"),
        ("max_tokens", 0, "max_tokens", "invalid_value"),
        ("stop", [""], "stop[0]", "invalid_value"),
        ("stream_options", {"include_usage": True}, "stream_options", None),
        ("messages", [], "messages", "invalid_value"),
        ("messages", None, "messages", "invalid_value"),
        ("messages", [{"role": "tool", "content": "x"}], "messages[0].role", "invalid_value"),
        ("messages", [{"role": "user"}], "messages[0].content", "missing_required_parameter"),
        (
            "messages",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "messages[0].content[0].type",
            "invalid_value",
        ),
        ("model", "gpt-9", "model", "model_not_found"),
        ("messages", [{"role": "user", "content": "word " * 101}], "messages", "context_length_exceeded"),
    ],
)
async def test_what_is_refused_names_its_field(
    face: Face, field: str, value: Any, param: str, code: str | None
) -> None:
    async with serving(Chatty, face=face, openai=True) as served:
        body = {"model": "scripted", "messages": user("a")} | {field: value}
        for streams in (False, True):
            response = await served.http.post(CHAT, json=body | {"stream": streams})
            if field == "stream_options" and streams:
                assert response.status_code == 200
                continue
            error = error_of(response, 404 if code == "model_not_found" else 400, param, code)
            assert error["type"] == "invalid_request_error"
            assert param.partition("[")[0] in error["message"] or code == "context_length_exceeded"


@pytest.mark.parametrize("value", [0, 0.0, None])
async def test_neutral_values_pass(face: Face, value: Any) -> None:
    async with serving(Chatty, face=face, openai=True) as served:
        response = await served.http.post(CHAT, json={"messages": user("a"), "presence_penalty": value, "n": 1})
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"", b"\xff"])
async def test_a_body_that_is_no_request(face: Face, body: bytes) -> None:
    async with serving(Chatty, face=face, openai=True) as served:
        response = await served.http.post(CHAT, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"
        assert served.runtime.refusals


async def test_other_kinds_of_request(face: Face) -> None:
    async with serving(Chatty, face=face, openai=True) as served:
        error_of(await served.http.post(CHAT, content=b"x", headers={"Content-Type": "text/plain"}), 415)
        error_of(await served.http.get(CHAT), 405)
        error_of(await served.http.post("/v1/models"), 405)
        error = error_of(await served.http.post("/v1/embeddings", json={}), 404, None, "unknown_url")
        assert f"POST {CHAT}" in error["message"]
        assert "error" in (await served.http.get("/elsewhere")).json()


async def test_the_token_is_the_key(face: Face) -> None:
    async with chatty(face, token="secret") as (served, client):
        await client.chat.completions.create(model="scripted", messages=user("a"))
        assert [m.id async for m in client.models.list()] == ["scripted"]
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.with_options(api_key="wrong").chat.completions.create(model="scripted", messages=user("a"))
        assert caught.value.code == "invalid_api_key"
        assert caught.value.request_id
        error_of(await served.http.get("/v1/models"), 401, None, "invalid_api_key")


async def test_a_fault_in_the_model(face: Face) -> None:
    async with chatty(face) as (_, client):
        with pytest.raises(openai.InternalServerError, match="a fault of the model") as caught:
            await client.chat.completions.create(model="scripted", messages=user("fail"))
        assert caught.value.type == "server_error"
        # The client would otherwise send it again, twice.
        assert caught.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(openai.InternalServerError):  # before the first piece it still has a status
            await client.chat.completions.create(model="scripted", messages=user("fail"), stream=True)
        stream = await client.chat.completions.create(model="scripted", messages=user("one fail"), stream=True)
        assert [(await anext(stream)).choices[0].delta.content for _ in range(2)] == ["", "one"]
        with pytest.raises(openai.APIError, match="a fault of the model"):
            await anext(stream)


async def test_a_client_that_leaves_stops_the_model(face: Face) -> None:
    async with chatty(face) as (served, client):
        stream = await client.chat.completions.create(model="scripted", messages=user("one wait"), stream=True)
        assert [(await anext(stream)).choices[0].delta.content for _ in range(2)] == ["", "one"]
        await soon(served.instance.model.waiting.wait())
        await stream.close()
        await soon(served.instance.model.stopped.wait())


async def test_the_deadline(face: Face) -> None:
    async with serving(Chatty, face=face, openai=True) as served:
        body = {"messages": user("wait")}
        response = await served.http.post(CHAT, json=body, headers={"X-Request-Timeout": "0.1"})
        assert error_of(response, 504, None, "timeout")["type"] == "server_error"
        assert served.instance.model.stopped.is_set()


async def test_the_document_has_the_routes(face: Face) -> None:
    async with serving(Chatty, face=face, openai=True, token="secret") as served:
        headers = {"Authorization": "Bearer secret"}
        for version in ("3.1", "3.2"):
            document = (await served.http.get(f"/openapi.json?version={version}", headers=headers)).json()
            assert set(document["paths"]) == {"/echo", CHAT, "/v1/models"}
            assert "400" in document["paths"][CHAT]["post"]["responses"]
        validate((await served.http.get("/openapi.json", headers=headers)).json())


async def test_without_the_option_nothing_is_there(face: Face) -> None:
    async with serving(Own, face=face) as served:
        assert (await served.http.post("/v1/models")).json() == "mine"
        missing = await served.http.post(CHAT, json={"messages": user("a")})
        assert missing.status_code == 404
        assert missing.json()["error"]["type"] == "UnknownApi"
        assert CHAT not in json.dumps((await served.http.get("/openapi.json")).json())


def test_routes_below_v1_are_taken() -> None:
    with pytest.raises(DeclarationError, match="below /v1/ are those of OpenAI's interface"):
        declare(Own, {"openai": True})
    assert not declare(Own, {}).openai
    assert declare(Chatty, {"openai": True}).openai
    with pytest.raises(DeclarationError, match="openai='yes' must be True or False"):
        declare(Chatty, {"openai": "yes"})


def test_an_instance_without_a_model_does_not_start() -> None:
    with pytest.raises(LaunchError, match="its instance has no language model: set one in __init__"):
        Completions("Chatty", object.__new__(Chatty))
