"""What every language model can do: `LanguageModel`, and the `Generation` that it answers with."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

from nbcompose.errors import Misuse

Text: TypeAlias = str | AsyncIterable[str] | Iterable[str]
Message: TypeAlias = Mapping[str, Any]
Chat: TypeAlias = Sequence[Message]
Prompt: TypeAlias = Text | Sequence[Any]  # of `Text`, or a `Chat`: checkers take such a list for one of objects


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens a generation has read and written."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """The options of `LanguageModel.generate`, checked."""

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    @classmethod
    def checked(
        cls,
        max_new_tokens: int | None,
        temperature: float,
        top_p: float | None,
        top_k: int | None,
        stop: str | Sequence[str],
        seed: int | None,
    ) -> SamplingOptions:
        """Return the options.

        Raises:
            nbcompose.errors.Misuse: One is not of its type, or out of its range.
        """
        stop = (stop,) if isinstance(stop, str) else stop
        if not isinstance(stop, Sequence) or not all(isinstance(text, str) and text for text in stop):
            raise Misuse(f"stop={stop!r}: texts are wanted, at which the answer ends, none of them empty")
        _check_integer("max_new_tokens", max_new_tokens, 1)
        _check_integer("top_k", top_k, 1)
        _check_integer("seed", seed, 0)
        if not _is_number(temperature) or temperature < 0:
            raise Misuse(
                f"temperature={temperature!r}: a number is wanted that is not negative; 0 is always the likeliest"
            )
        if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
            raise Misuse(f"top_p={top_p!r}: a number above 0 and at most 1 is wanted")
        return cls(max_new_tokens, float(temperature), top_p, top_k, tuple(stop), seed)


def _check_integer(name: str, value: object, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise Misuse(f"{name}={value!r}: an integer is wanted, at least {least}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Generation(AsyncGenerator[str, None], Generator[str, None, None]):
    """An answer while it is written: pieces of text, read once, by `async for` or by `for`.

    The model begins with the first piece that is asked for. Closed early, it stops.

    Attributes:
        finish_reason: After the end: "stop" (the model ended its answer, or a stop text came) or "length".
        usage: After the end: how many tokens were read and written, where the model says so.
    """

    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage | None = None

    def __aiter__(self) -> Generation:
        return self

    def __iter__(self) -> Generation:
        return self

    @abstractmethod
    async def __anext__(self) -> str: ...

    @abstractmethod
    def __next__(self) -> str: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Want no more pieces: the model stops, and streams in the prompt are closed."""

    @abstractmethod
    def close(self) -> None:
        """As `aclose`, in sync code."""

    async def asend(self, value: Any) -> str:
        return await self.__anext__()

    def send(self, value: Any) -> str:
        return self.__next__()

    async def athrow(self, *error: Any) -> NoReturn:
        await self.aclose()
        raise error[0]

    def throw(self, *error: Any) -> NoReturn:
        self.close()
        raise error[0]


class LanguageModel(ABC):
    """A language model: in this process (`TextGenerator`), behind a server (`OpenAIModel`), or one of your own."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the model is called."""

    @abstractmethod
    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float | None = None,
        top_k: int | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> Generation:
        """Answer a prompt.

        Args:
            prompt: A text, a chat (messages with "role" and "content"), or a stream of text. A list joins texts and
                streams; a message's content may be such a list, too. Streams are read once the answer is asked for.
            max_new_tokens: The most tokens to write; by default as many as the model's context has room for.
            temperature: 0 always takes the likeliest token; higher takes others more often.
            top_p: Sample from the likeliest tokens that together are at least this likely.
            top_k: Sample from this many of the likeliest tokens.
            stop: Texts at which the answer ends; they are not part of it.
            seed: Makes sampling repeatable.

        Returns:
            The answer while it is written, for `async for piece in …` or `for piece in …`.

        Raises:
            nbcompose.errors.Misuse: The prompt or an option is none.
            nbcompose.errors.PromptTooLong: While it is read: the prompt does not fit the model's context.
        """
