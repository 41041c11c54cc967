"""The api `chat.completions` of a service that answers as an OpenAI-compatible server (`@service(openai=True)`).

It is no method of the service's class: it calls a language model (`nbcompose.llms`) that the instance has as an
attribute (`_replica/chat.py`). In all else it is an api: its limits, deadlines, cancellation, traces and numbers are
those of other calls. `http/openai_routes.py` calls it. Here is what all of them know; it loads no model's code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcompose._spec import ApiSpec, ParamSpec
from nbcompose._user_exceptions import MAX_NAME, clipped
from nbcompose.errors import CallError

if TYPE_CHECKING:
    from nbcompose.llms import Usage

MODELS = "__models__"  # api by which a process that serves HTTP asks a replica for the names of its models

COMPLETIONS = ApiSpec(
    name="chat.completions",
    method="complete",
    route="/v1/chat/completions",
    params=(
        ParamSpec("model", "positional_or_keyword", True, "model: str | None"),
        ParamSpec("chat", "positional_or_keyword", True, "chat: list[dict[str, str]]"),
        ParamSpec("options", "positional_or_keyword", True, "options: dict[str, Any]"),
    ),
    returns="AsyncIterator[Any]",
    stream=True,
    is_async=True,
    doc="Continue a conversation, in OpenAI's format.",
)


class ChatRefused(CallError):
    """A request for a chat completion that cannot be answered, or not here.

    `param` names the field that is wrong, `code` says what it is to OpenAI's clients.
    """

    status = 400

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status

    @classmethod
    def no_model(cls, name: str, known: Iterable[str]) -> ChatRefused:
        shown, listed = clipped(name, MAX_NAME), ", ".join(known)
        return cls(f"there is no model {shown!r} here; there are: {listed}", "model", "model_not_found", 404)


@dataclass(frozen=True, slots=True)
class Begun:
    """The first item of a completion, with the name of the model: the answer's first piece follows."""

    model: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The last item of a completion."""

    finish_reason: str
    usage: Usage | None
