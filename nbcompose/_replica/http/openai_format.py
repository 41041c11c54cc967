"""OpenAI's shapes: the request of a chat completion, its reply and its chunks, errors. Written here, not taken from the
`openai` package, which a replica does not need for this.

Independent of connections and of models; `openai_routes.py` uses both.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from nbcompose._replica import ChatRefused
from nbcompose._replica.http.responses import Reply
from nbcompose._user_exceptions import MAX_NAME, clipped
from nbcompose.errors import PromptTooLong
from nbcompose.llms import Usage

# What OpenAI's interface has, and a service does not do: with these values it is what happens anyway, or nothing.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
# They say who asks, and change nothing.
IGNORED = frozenset({"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user"})


class TextPart(BaseModel):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """Options of a reply that streams."""

    include_usage: bool = Field(False, description="also a last chunk, with the numbers of tokens")


Stop = Annotated[str, Field(min_length=1)]


class ChatRequest(BaseModel):
    """A request for a chat completion, in OpenAI's format."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = Field(None, description="one of /v1/models; may be left out where there is only one")
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1, description="the older name of max_completion_tokens")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1, description="not OpenAI's own")
    stop: Stop | list[Stop] | None = None
    seed: int | None = Field(None, ge=0)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @classmethod
    def read(cls, document: Any) -> ChatRequest:
        """Return a request of which everything can be done. Raises `ChatRefused`, which names the field."""
        if not isinstance(document, dict):
            raise ChatRefused("the body has to be a JSON object with `messages`", code="invalid_json")
        try:
            request = cls.model_validate(document)
        except ValidationError as error:
            raise _of_field(error.errors(include_url=False, include_context=False)) from None
        for name, value in (request.model_extra or {}).items():
            _check_extra(name, value)
        if request.stream_options is not None and not request.stream:
            raise ChatRefused("stream_options: only with stream: true", "stream_options")
        return request

    def chat(self) -> list[dict[str, str]]:
        """Return the messages, as models know them: most templates have no developer."""
        roles = {"developer": "system"}
        return [{"role": roles.get(m.role, m.role), "content": m.text} for m in self.messages]

    def options(self) -> dict[str, Any]:
        """Return the options of `LanguageModel.generate` that are given."""
        found = {
            "max_new_tokens": self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "stop": self.stop,
            "seed": self.seed,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def with_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def _check_extra(name: str, value: Any) -> None:
    """Refuse a field that would change the answer if it were known."""
    if value is None or name in IGNORED:
        return
    if name not in NEUTRAL:
        shown = clipped(name, MAX_NAME)
        raise ChatRefused(f"{shown}: a chat completion has no such field here: leave it out", shown)
    # `1 == True` in Python.
    if not any(type(value) is type(one) and value == one for one in NEUTRAL[name]) and not _is_number(name, value):
        only = ", ".join(json.dumps(one) for one in NEUTRAL[name])
        only = f" (or send {only})" if only else ""
        raise ChatRefused(f"{name}: this service does not support it: leave it out{only}", name, "unsupported_value")


def _is_number(name: str, value: Any) -> bool:
    return isinstance(value, float) and any(type(one) is int and value == one for one in NEUTRAL[name])


_FIELDS = frozenset(name for model in (ChatRequest, Message, TextPart, StreamOptions) for name in model.model_fields)


def _of_field(problems: Sequence[ErrorDetails]) -> ChatRefused:
    """Return the error of the first field that is wrong."""
    # What may be one of several types has an error for each: the one that looked furthest into it says most.
    of_first = [problem for problem in problems if problem["loc"][0] == problems[0]["loc"][0]]
    detail = max(of_first, key=lambda problem: len(problem["loc"]))
    # Names of types are in the path, too.
    path = [part for part in detail["loc"] if isinstance(part, int) or part in _FIELDS]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    message = detail["msg"]
    if path[-1] == "role":
        message = "the roles are system, developer, user and assistant"
    elif "content" in path:
        message = 'a text is wanted, or a list of parts {"type": "text", "text": "…"}; other kinds are not supported'
    code = "missing_required_parameter" if detail["type"] == "missing" else "invalid_value"
    return ChatRefused(f"{name}: {message}", name, code)


# -- replies


class Completion:
    """One completion: what its reply, or each of its chunks, says of it."""

    def __init__(self, model: str) -> None:
        self._same = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def reply(self, text: str, finish_reason: str, usage: Usage | None) -> bytes:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return _json({**self._same, "object": "chat.completion", "choices": [choice], "usage": _counts(usage)})

    def chunk(self, delta: Mapping[str, str], finish_reason: str | None = None, *, with_usage: bool = False) -> bytes:
        """Return a part of the answer. `with_usage`: there will be a chunk with the numbers of tokens."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage: dict[str, Any] = {"usage": None} if with_usage else {}
        return _json({**self._same, "object": "chat.completion.chunk", "choices": [choice], **usage})

    def usage_chunk(self, usage: Usage | None) -> bytes:
        return _json({**self._same, "object": "chat.completion.chunk", "choices": [], "usage": _counts(usage)})


def _counts(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def model_list(names: Iterable[str], owner: str, created: int) -> dict[str, Any]:
    """Return the reply of /v1/models."""
    found = [{"id": name, "object": "model", "created": created, "owned_by": owner} for name in names]
    return {"object": "list", "data": found}


def _json(document: Mapping[str, Any]) -> bytes:
    try:
        return to_json(document)
    except ValueError:  # lone surrogates, which JSON cannot encode
        return json.dumps(document).encode()


# -- errors

_TYPES: Mapping[int, tuple[str, str | None]] = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "unknown_url"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "service_unavailable"),
    504: ("server_error", "timeout"),
}
# What a second try would only repeat, at the cost of a whole generation: OpenAI's clients send it again otherwise.
_IN_VAIN = (500, 504)


def error_in_format(error: BaseException, reply: Reply) -> Reply:
    """Return the reply of an error in OpenAI's shape; `reply`: the one in our own, whose status and message it has."""
    told = from_json(reply.body)["error"]
    too_long = isinstance(error, PromptTooLong) and reply.status == error.status
    # OpenAI's clients know what to do with a 400; a 422 is something else to them.
    status = 400 if too_long or reply.status == 422 else reply.status
    internal = status >= 500
    kind, code = _TYPES.get(status, ("server_error" if internal else "invalid_request_error", None))
    param = None
    if isinstance(error, ChatRefused) and not internal:
        param, code = error.param, error.code
    elif too_long:
        param, code = "messages", "context_length_exceeded"
    document = {"message": told["message"], "type": kind, "param": param, "code": code}
    headers = {**reply.headers, "X-Request-Id": told["id"]}
    if status in _IN_VAIN:
        headers["X-Should-Retry"] = "false"
    return Reply(status, _json({"error": document}), reply.media_type, headers)


# -- JSON schemas of replies, for the OpenAPI document


def _object(title: str, **properties: Any) -> dict[str, Any]:
    return {"title": title, "type": "object", "properties": properties, "required": list(properties)}


def _nullable(**schema: Any) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "integer"}
_OWN_MODEL = _object("ChatModel", id=_TEXT, object={"const": "model"}, created=_NUMBER, owned_by=_TEXT)
_ANSWER = _object("ChatAnswer", role={"const": "assistant"}, content=_TEXT, refusal=_nullable(type="string"))
_CHOICE = _object("ChatChoice", index=_NUMBER, message=_ANSWER, finish_reason={"enum": ["stop", "length"]})
_USAGE = _object("ChatUsage", prompt_tokens=_NUMBER, completion_tokens=_NUMBER, total_tokens=_NUMBER)

COMPLETION_SCHEMA: dict[str, Any] = _object(
    "ChatCompletion",
    id=_TEXT,
    object={"const": "chat.completion"},
    created=_NUMBER,
    model=_TEXT,
    choices={"type": "array", "items": _CHOICE},
    usage=_USAGE,
)
MODELS_SCHEMA: dict[str, Any] = _object(
    "ChatModels", object={"const": "list"}, data={"type": "array", "items": _OWN_MODEL}
)
ERROR_SCHEMA: dict[str, Any] = _object(
    "ChatError",
    error=_object(
        "ChatErrorDetail",
        message=_TEXT,
        type=_TEXT,
        param=_nullable(type="string"),
        code=_nullable(type="string"),
    ),
)
