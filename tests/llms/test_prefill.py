"""A prompt with streams has the tokens that it has without, for each tokenizer, and little is read in vain."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra `transformers` is not installed")
pytest.importorskip("transformers", reason="the extra `transformers` is not installed")

from nbcompose.llms import transformers_adapter as adapter
from nbcompose.llms.prefill import Prefill
from nbcompose.llms.prompts import PromptParts
from tests.llms.tiny import SMOLLM, llama, tokenizer

pytestmark = pytest.mark.system

TOKENIZERS = [
    SMOLLM,
    "sentence-transformers/all-MiniLM-L6-v2",
    "openai-community/gpt2",
    "FacebookAI/roberta-large-mnli",
]
TEXTS = {
    "prose": "The sea was calm, and nobody on deck — not even the captain's dog — expected what came next. " * 6,
    "code": "def f(x):\n    return [y ** 2 for y in x if y % 2]  # squares\n\n\nclass A(B):\n    pass\n" * 6,
    "scripts": "Ελληνικά и русский, 日本語の文章です。हिन्दी עברית العربية — naïve café, ﬁn. " * 6,
    "emoji": "🦊🧑‍🚀 flags 🇩🇪🇯🇵 and 👩‍👩‍👧 families, 1️⃣2️⃣ keys … " * 8,
    "no spaces": "あ" * 300 + "x" * 300 + "https://example.org/" + "a/b" * 100,
    "table": "| a | b |\n|---|---|\n" + "| 1.0   | 2.50    |\n" * 30,
}


class Streamed:
    """A prompt with one stream, whose pieces come when they are given."""

    def __init__(self, chat: bool) -> None:
        items: list[str] = []
        self.parts = PromptParts(
            [{"role": "user", "content": ["Read: ", iter(items)]}] if chat else ["Read: ", iter(items)]
        )
        [self.stream] = self.parts.streams

    def prefill(self, model: Any, tokenizer: Any) -> Prefill:
        return Prefill(model, tokenizer, self.parts, None, "tiny", lambda: None)


def whole(text: str, model: Any, tokenizer: Any, chat: bool) -> list[int]:
    parts = PromptParts([{"role": "user", "content": f"Read: {text}"}] if chat else f"Read: {text}")
    return Prefill(model, tokenizer, parts, None, "tiny", lambda: None).whole()[0]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_tokens_are_the_same(name: str, text: str) -> None:
    known, model = tokenizer(name), llama()
    chats = [False, True] if known.chat_template else [False]
    rng = random.Random(f"{name} {text}")
    read, taken_back = 0, 0
    for at in range(2):
        chat = chats[at % len(chats)]
        streamed = Streamed(chat)
        prefill = streamed.prefill(model, known)
        rest = TEXTS[text]
        while rest:
            size = rng.randint(1, 60)
            streamed.stream.take(rest[:size])
            rest = rest[size:]
            prefill.more()
        streamed.stream.is_over = True
        ids, cache = prefill.whole()
        assert ids == whole(TEXTS[text], model, known, chat)
        read += 0 if cache is None else cache.get_seq_length()
        taken_back += prefill.taken_back
    assert read > 0, "nothing was read before the end"
    # WordPiece ends a text with a token of its own, which is not read before the end.
    assert taken_back <= (
        0 if text in ("prose", "code", "emoji") and "MiniLM" not in name and "roberta" not in name else 4 * 40
    )


def test_what_a_model_answers_is_the_same() -> None:
    import torch

    model, known = llama(), tokenizer()
    streamed = Streamed(chat=True)
    prefill = streamed.prefill(model, known)
    for word in TEXTS["prose"].split(" "):
        streamed.stream.take(word + " ")
        with torch.inference_mode():
            prefill.more()
    streamed.stream.is_over = True
    with torch.inference_mode():
        ids, cache = prefill.whole()
        assert cache.get_seq_length() >= len(ids) - 64
        options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
        prompt = torch.tensor([ids])
        mask = torch.ones_like(prompt)
        expected = model.generate(prompt, attention_mask=mask, **options)
        options[adapter.cache_argument(model)] = cache
        assert torch.equal(model.generate(prompt, attention_mask=mask, **options), expected)


def test_a_cache_that_cannot_be_cropped_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer whose tokens depend on what comes later: what was read is taken back, or thrown away."""
    model, known = llama(), tokenizer()

    class Late:
        """As another tokenizer, and its third token is how long the text is."""

        chat_template = None

        def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
            ids = known(text, **options)["input_ids"]
            return {"input_ids": [*ids[:2], len(text), *ids[2:]]}

    def ids_of() -> tuple[Prefill, list[int], Any]:
        streamed = Streamed(chat=False)
        prefill = streamed.prefill(model, Late())
        for word in TEXTS["prose"].split(" "):
            streamed.stream.take(word + " ")
            prefill.more()
        streamed.stream.is_over = True
        return prefill, *prefill.whole()

    prefill, ids, cache = ids_of()
    assert ids == Late()("Read: " + TEXTS["prose"] + " ")["input_ids"]
    assert prefill.taken_back > 0
    assert cache.get_seq_length() == 2

    monkeypatch.setattr(adapter, "crop", lambda cache, count: False)
    prefill, again, cache = ids_of()
    assert (again, cache) == (ids, None)


def test_a_cache_that_never_can_be_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "can_crop", lambda cache: False)
    streamed = Streamed(chat=True)
    prefill = streamed.prefill(llama(), tokenizer())
    streamed.stream.take(TEXTS["prose"])
    prefill.more()
    streamed.stream.is_over = True
    ids, cache = prefill.whole()
    assert ids
    assert cache is None


def test_a_template_that_loses_the_text_is_waited_for() -> None:
    known, model = tokenizer(), llama()
    template = "{% for m in messages %}{{ m.content | length }} {% endfor %}"

    class Counting:
        chat_template = template

        def apply_chat_template(self, messages: Any, **options: Any) -> Any:
            return known.apply_chat_template(messages, chat_template=template, **options)

        def __call__(self, text: str, **options: Any) -> Any:
            return known(text, **options)

    streamed = Streamed(chat=True)
    prefill = streamed.prefill(model, Counting())
    streamed.stream.take(TEXTS["prose"])
    prefill.more()
    streamed.stream.is_over = True
    ids, cache = prefill.whole()
    assert ids == known(f"{len(TEXTS['prose']) + 6} ", add_special_tokens=False)["input_ids"]
    assert cache is None
