"""The language models of an instance, as they answer `chat.completions`. See `chat_api.py`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from nbcompose._replica.chat_api import Begun, ChatRefused, Ended
from nbcompose.errors import LaunchError, Misuse
from nbcompose.llms import LanguageModel


class Completions:
    """The language models of an instance. Raises `LaunchError` where it has none."""

    def __init__(self, service: str, instance: Any) -> None:
        self._service = service
        self._instance = instance
        if not self.models():
            raise LaunchError(
                f"{service} is to answer as an OpenAI-compatible server (openai=True), and its instance has no "
                "language model: set one in __init__, as in `self.model = nbcompose.llms.TextGenerator(…)`, or leave "
                "openai out"
            )

    def models(self) -> dict[str, LanguageModel]:
        """Return the models by the names that requests give. Of models with the same name, those of the attributes."""
        found = {a: value for a, value in vars(self._instance).items() if isinstance(value, LanguageModel)}
        names = [model.name for model in found.values()]
        return {(m.name if names.count(m.name) == 1 else attribute): m for attribute, m in found.items()}

    async def complete(
        self, model: str | None, chat: list[dict[str, str]], options: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Yield `Begun`, the pieces of the answer, and `Ended`.

        `Begun` comes with the first piece, so that an error before that can still be the status of a reply.
        """
        name, chosen = self._chosen(model)
        try:
            pieces = chosen.generate(chat, **options)
        except Misuse as error:  # what a chat template, say, does not take
            raise ChatRefused(str(error)) from error
        async with contextlib.aclosing(pieces):
            first = await anext(pieces, None)
            yield Begun(name)
            if first:
                yield first
            async for piece in pieces:
                if piece:
                    yield piece
            yield Ended(pieces.finish_reason or "stop", pieces.usage)

    def _chosen(self, name: str | None) -> tuple[str, LanguageModel]:
        models = self.models()
        if name is None and len(models) == 1:
            return next(iter(models.items()))
        known = ", ".join(models)
        if name is None:
            raise ChatRefused(f"model is missing; there are: {known}", "model", "missing_required_parameter")
        if name not in models:
            raise ChatRefused.no_model(name, models)
        return name, models[name]
