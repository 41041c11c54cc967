"""A prompt is read while its streams still come, and what is read is what the whole prompt would be.

What has come is rendered up to where the first open stream has got to, cut where no later text can change the tokens
before the cut (a space after something else), tokenized by the very function that takes the whole prompt, and read in
blocks. At the end the whole prompt is tokenized as without streams; where it differs from what was read, that is taken
back. So the tokens are the same for every tokenizer and every chat template, and the cut only makes taking back rare.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from nbcompose.errors import Misuse, PromptTooLong
from nbcompose.llms import transformers_adapter as adapter
from nbcompose.llms.prompts import PromptParts

BLOCK = 32  # tokens that are read at once, of a prompt that still comes
HELD_BACK = 8  # tokens that may still change where no space has come for long
FEW = 64  # characters: for less than about half a block more, what has come is not tokenized again
LONGEST = 32  # characters for each token of the context: a prompt far beyond it is not tokenized as a whole


class Prefill:
    """Reads one prompt into a cache. Used in one thread.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        parts: The prompt.
        context: How many tokens the model can take; None: not known.
        name: The model's, for messages.
        check: Raises what ends the reading.
    """

    def __init__(
        self, model: Any, tokenizer: Any, parts: PromptParts, context: int | None, name: str, check: Callable[[], None]
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._parts = parts
        self._context = context
        self._name = name
        self._check = check
        self._mark = f"\ufdd0{secrets.token_hex(8)}\ufdd1"  # stands in no text
        self._read: list[int] = []  # the tokens in the cache
        self._cache: Any = None
        self._is_possible = True
        self._seen = 0  # characters, when it was tokenized last
        self.taken_back = 0  # tokens that were read in vain

    def more(self) -> None:
        """Read what has come of the prompt and is certain. Raises `PromptTooLong`."""
        text = self._rendered_so_far() if self._is_possible else None
        if text is None or len(text) < self._seen + FEW:
            return
        self._seen = len(text)
        self._check_beginning(text)
        ids = self._certain(text)
        self._check_length(len(ids), at_least=True)
        self._agree(ids)
        while self._is_possible and len(ids) - len(self._read) >= BLOCK:
            self._check()
            self._forward(ids[len(self._read) : len(self._read) + BLOCK])

    def whole(self) -> tuple[list[int], Any]:
        """Return the tokens of the whole prompt, and the cache with those that were read: None where none were.

        Raises `PromptTooLong`.
        """
        text = self._rendered()
        self._check_beginning(text)
        ids = self._tokens(text)
        self._check_length(len(ids), at_least=False)
        if not ids:
            raise Misuse("the prompt is empty, and the tokenizer has no token that begins a text")
        self._agree(ids[:-1])  # the last one is read by the step that writes the first token
        return ids, self._cache if self._read else None

    # -- text

    def _rendered_so_far(self) -> str | None:
        """Return the prompt up to where its first open stream has got to; None where that cannot be told."""
        mark = self._mark
        text = self._render(self._parts.messages(mark)) if self._parts.is_chat else self._parts.text(mark)
        before, found, _ = text.partition(mark)
        return before if found else None

    def _rendered(self) -> str:
        return self._render(self._parts.messages()) if self._parts.is_chat else self._parts.text()

    def _render(self, messages: list[dict[str, Any]]) -> str:
        if not getattr(self._tokenizer, "chat_template", None):
            raise Misuse(
                f"{self._name} has no chat template, so a chat cannot be made a prompt: pass a text, or set "
                "tokenizer.chat_template"
            )
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    # -- tokens

    def _tokens(self, text: str) -> list[int]:
        # A template writes the special tokens itself.
        ids: list[int] = self._tokenizer(text, add_special_tokens=not self._parts.is_chat)["input_ids"]
        return ids

    def _certain(self, text: str) -> list[int]:
        """Return the tokens of the beginning of a text that no later text is likely to change."""
        cut = next((p for p in range(len(text) - 1, 0, -1) if text[p] == " " and not text[p - 1].isspace()), 0)
        ids = self._tokens(text[:cut]) if cut else []
        if len(text) - cut > 4 * BLOCK:  # e.g. a language without spaces, or a table
            ids = max(ids, self._tokens(text)[:-HELD_BACK], key=len)
        return ids

    def _check_beginning(self, text: str) -> None:
        if self._context is not None and len(text) > LONGEST * self._context:
            self._check_length(len(self._tokens(text[: LONGEST * self._context])), at_least=True)

    def _check_length(self, count: int, *, at_least: bool) -> None:
        if self._context is not None and count >= self._context:
            some = "at least " if at_least else ""
            raise PromptTooLong(
                f"the prompt has {some}{count:,} tokens, and {self._name} takes {self._context:,}, with those of the "
                "answer: shorten it",
                count,
                self._context,
            )

    # -- the cache

    def _agree(self, ids: list[int]) -> None:
        """Take back what was read that these tokens do not begin with."""
        same = next((i for i, (a, b) in enumerate(zip(self._read, ids, strict=False)) if a != b), len(ids))
        extra = len(self._read) - same
        if extra <= 0:
            return
        self.taken_back += extra
        if not (same and adapter.crop(self._cache, extra)):
            self._read, self._cache = [], None
            self._is_possible = same == 0
        else:
            del self._read[same:]

    def _forward(self, block: list[int]) -> None:
        import torch

        if self._cache is None:
            self._cache = adapter.new_cache(self._model)
            if not adapter.can_crop(self._cache):
                self._cache, self._is_possible = None, False
                return
        ids = torch.tensor([block], device=self._model.device)
        mask = torch.ones(1, len(self._read) + len(block), dtype=torch.long, device=self._model.device)
        adapter.forward(self._model, ids, mask, self._cache)
        self._read += block
