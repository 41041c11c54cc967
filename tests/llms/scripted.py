"""A language model without weights: it writes what its prompt tells it to, and notes what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from nbcompose.errors import PromptTooLong
from nbcompose.llms import Generation, LanguageModel, Prompt, Usage

CONTEXT = 100  # words


class Scripted(LanguageModel):
    """Repeats the last message word by word. "wait" in its place waits until it is stopped, "fail" raises.

    `asked`: prompts and options; `waiting`, `stopped`: an answer waits; it has ended before its end.
    """

    def __init__(self, name: str = "scripted") -> None:
        self._name = name
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.stopped = asyncio.Event()
        self.waiting = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

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
        given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        given |= {"top_p": top_p, "top_k": top_k, "stop": stop}
        self.asked.append((prompt, {name: value for name, value in given.items() if value}))
        return _Answer(self, prompt, max_new_tokens)


class _Answer(Generation):
    def __init__(self, model: Scripted, prompt: Any, most: int | None) -> None:
        self._model = model
        self._items = self._words(prompt, most)

    async def _words(self, prompt: Any, most: int | None) -> AsyncGenerator[str, None]:
        words = prompt[-1]["content"].split()
        if len(words) > CONTEXT:
            raise PromptTooLong(f"the prompt has {len(words)} tokens, the context {CONTEXT}", len(words), CONTEXT)
        written, whole = 0, False
        try:
            for i, word in enumerate(words):
                if written == most:
                    break
                if word == "fail":
                    raise ZeroDivisionError("a fault of the model")
                if word == "wait":
                    self._model.waiting.set()
                    await asyncio.Event().wait()
                yield word if i == 0 else f" {word}"
                written += 1
            whole = True
        finally:
            if not whole:
                self._model.stopped.set()
        self.finish_reason = "stop" if written == len(words) else "length"
        self.usage = Usage(len(words), written)

    async def __anext__(self) -> str:
        return await anext(self._items)

    def __next__(self) -> str:
        raise NotImplementedError("async only")

    async def aclose(self) -> None:
        await self._items.aclose()

    def close(self) -> None:
        raise NotImplementedError("async only")
