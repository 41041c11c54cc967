"""What a service answers below /v1/ where it is to be an OpenAI-compatible server (`@service(openai=True)`).

Each handler gets an admitted exchange with its whole body, as those of `endpoints.py`; errors have OpenAI's shape.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from nbcompose._replica import COMPLETIONS, Begun, ChatRefused, Ended
from nbcompose._replica.http.exchange import Exchange, Handler
from nbcompose._replica.http.item_streams import SSE, ItemStream, StreamForm
from nbcompose._replica.http.openai_format import (
    COMPLETION_SCHEMA,
    ERROR_SCHEMA,
    MODELS_SCHEMA,
    ChatRequest,
    Completion,
    error_in_format,
    model_list,
)
from nbcompose._replica.http.requests import read_json
from nbcompose._replica.http.responses import Reply, json_reply
from nbcompose._schema import OtherRoute
from nbcompose._spec import ApiSpec, ServiceSpec
from nbcompose._tracing import CallContext
from nbcompose.errors import CallError, UnsupportedMediaType

MODELS_ROUTE = "/v1/models"

# As OpenAI's clients read it: no names of events, and an end that is no JSON.
CHUNKS = StreamForm(
    f"{SSE}; charset=utf-8",
    before=b"data: ",
    after=b"\n\n",
    before_error=b"data: ",
    end=b"data: [DONE]\n\n",
    idle=b": still here\n\n",
)


class ChatBackend(Protocol):
    """What answers. See `endpoints.Backend`."""

    @property
    def spec(self) -> ServiceSpec: ...

    def stream(self, api: ApiSpec, arguments: dict[str, Any], context: CallContext) -> AsyncGenerator[Any, None]:
        """Call a streaming api."""

    async def language_models(self) -> list[str]:
        """Return the names of the language models of an instance."""

    def refused(self, api: str, error_type: str) -> None:
        """Count a call rejected because of its request."""


ERRORS = {
    400: "a field is wrong, or not supported: `param` names it; or the prompt is longer than the model's context",
    401: "no token, or a wrong one",
    404: "there is no such model",
    429: "too many calls at once: try again later",
    500: "the model failed; the id in X-Request-Id is in the log",
    503: "not ready",
    504: "it took too long",
}

DOCUMENTED = (
    OtherRoute(
        method="POST",
        path=COMPLETIONS.route,
        name="openai_chat_completions",
        summary="Continue a conversation, in OpenAI's format.",
        body=ChatRequest.model_json_schema(),
        answer=COMPLETION_SCHEMA,
        stream="with stream: true: server-sent events, a chat.completion.chunk in each one's data, to [DONE]",
        error=ERROR_SCHEMA,
        errors=ERRORS,
    ),
    OtherRoute(
        method="GET",
        path=MODELS_ROUTE,
        name="openai_models",
        summary="List the language models, in OpenAI's format.",
        answer=MODELS_SCHEMA,
        error=ERROR_SCHEMA,
        errors={status: ERRORS[status] for status in (401, 503)},
    ),
)


class OpenAIInterface:
    """What a service has below `root`: handlers, with their methods, by path; the shape of errors; descriptions."""

    root = "/v1/"
    error_format = staticmethod(error_in_format)
    documented = DOCUMENTED

    def __init__(self, backend: ChatBackend) -> None:
        self.routes: dict[str, tuple[str, Handler]] = {
            COMPLETIONS.route: ("POST", ChatEndpoint(backend)),
            MODELS_ROUTE: ("GET", ModelsEndpoint(backend)),
        }

    def route_above(self, path: str) -> str:
        """Return the route that answers a path below it, such as that of one model; "" if none does."""
        return MODELS_ROUTE if path.startswith(f"{MODELS_ROUTE}/") else ""


class ChatEndpoint:
    """Handler of /v1/chat/completions."""

    def __init__(self, backend: ChatBackend) -> None:
        self._backend = backend
        self._hop = f"{backend.spec.name}.{COMPLETIONS.name}"
        self._timeout = backend.spec.traffic.timeout
        self._most_values = backend.spec.http.max_values

    async def __call__(self, exchange: Exchange) -> None:
        try:
            context = exchange.start_call(self._hop, self._timeout)
            request = ChatRequest.read(await self._document(exchange))
        except CallError as error:
            self._backend.refused(COMPLETIONS.name, type(error).__name__)
            raise
        arguments = {
            "model": request.model,
            "chat": request.chat(),
            "options": request.options(),
        }
        items = self._backend.stream(COMPLETIONS, arguments, context)
        if request.stream:
            await ItemStream(exchange, CHUNKS, bytes).send(_chunks(items, with_usage=request.with_usage))
        else:
            exchange.send(Reply(200, await exchange.result(_whole(items))))

    async def _document(self, exchange: Exchange) -> Any:
        if exchange.query:
            raise ChatRefused("a chat completion takes everything in its body, not after a '?' in the address")
        try:
            return await read_json(exchange, self._most_values)
        except UnsupportedMediaType as error:
            raise ChatRefused(str(error), status=error.status) from None


async def _chunks(items: AsyncGenerator[Any, None], *, with_usage: bool) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of an answer as its pieces come."""
    async with aclosing(items):
        completion = Completion(_begun(await anext(items)).model)
        delta = {"role": "assistant", "content": ""}
        yield completion.chunk(delta, with_usage=with_usage)
        async for item in items:
            if isinstance(item, Ended):
                yield completion.chunk({}, item.finish_reason, with_usage=with_usage)
                if with_usage:
                    yield completion.usage_chunk(item.usage)
            else:
                yield completion.chunk({"content": item}, with_usage=with_usage)


async def _whole(items: AsyncGenerator[Any, None]) -> bytes:
    """Return the reply with the whole answer."""
    pieces: list[str] = []
    async with aclosing(items):
        completion = Completion(_begun(await anext(items)).model)
        async for item in items:
            if isinstance(item, Ended):
                return completion.reply("".join(pieces), item.finish_reason, item.usage)
            pieces.append(item)
    raise RuntimeError("a completion has not said how it has ended")


def _begun(item: Any) -> Begun:
    assert isinstance(item, Begun)
    return item


class ModelsEndpoint:
    """Handler of /v1/models, and of a model below it."""

    def __init__(self, backend: ChatBackend) -> None:
        self._backend = backend
        self._created = int(time.time())

    async def __call__(self, exchange: Exchange) -> None:
        names = await self._backend.language_models()
        found = model_list(names, self._backend.spec.name, self._created)
        wanted = exchange.path.removeprefix(MODELS_ROUTE).removeprefix("/")
        if not wanted:
            exchange.send(json_reply(found))
            return
        for model in found["data"]:
            if model["id"] == wanted:
                exchange.send(json_reply(model))
                return
        raise ChatRefused.no_model(wanted, names)
