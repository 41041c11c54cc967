from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra `transformers` is not installed")
pytest.importorskip("transformers", reason="the extra `transformers` is not installed")

import openai
import torch

import nbcompose
from nbcompose import api, service
from nbcompose.errors import Misuse, PromptTooLong
from nbcompose.llms import TextGenerator
from nbcompose.models import HuggingFaceModel
from tests.handles import handle
from tests.llms.tiny import SMOLLM, folder, llama, tokenizer
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.system

CHAT = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def tiny() -> TextGenerator:
    return TextGenerator(llama(), tokenizer())


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nbcompose-writes"]


async def joined(items: AsyncIterator[str]) -> str:
    return "".join([item async for item in items])


# -- a real model


@service(openai=True, threads=2, traffic={"timeout": PATIENCE})
class Writer:
    path = HuggingFaceModel(SMOLLM)

    def __init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(self.path)
        self.generator = TextGenerator(model.float(), AutoTokenizer.from_pretrained(self.path))

    @api
    def write(self, text: str) -> Iterator[str]:
        yield from self.generator.generate([{"role": "user", "content": text}], max_new_tokens=48)

    @api
    async def rewrite(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in self.generator.generate(
            [{"role": "user", "content": ["Repeat: ", text]}], max_new_tokens=24
        ):
            yield piece

    @api
    async def endless(self) -> AsyncIterator[str]:
        async for piece in self.generator.generate("a b c", max_new_tokens=5000):
            yield piece

    @api
    async def writing(self) -> int:
        return len(writers())


@pytest.fixture(scope="module")
def writer() -> Iterator[Any]:
    folder(SMOLLM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        with nbcompose.run(Writer, http=True) as writer:
            yield writer


def test_it_answers(writer: Any) -> None:
    assert list(writer.write("What is the capital of France?")) == [
        "The",
        " capital",
        " of",
        " France",
        " is",
        " Paris",
        ".",
    ]


def test_a_stream_in_its_prompt_gives_the_same_answer(writer: Any) -> None:
    words = ["The ", "quick ", "brown ", "fox ", "jumps."] * 20
    assert list(writer.rewrite(iter(words))) == list(writer.rewrite(["".join(words)]))


def test_it_stops_for_a_caller_that_leaves(writer: Any) -> None:
    items = writer.endless()
    assert next(items)
    assert writer.writing() == 1
    items.close()
    wait_until(lambda: writer.writing() == 0, "the model has stopped")


def test_it_speaks_as_openai(writer: Any) -> None:
    client = openai.OpenAI(base_url=f"{handle(Writer).url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list().data] == [SMOLLM]
    messages: Any = CHAT
    answer = client.chat.completions.create(model=SMOLLM, messages=messages, max_tokens=48)
    assert answer.choices[0].message.content == "The capital of France is Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


# -- one with random weights


@pytest.mark.parametrize("prompt", [CHAT, "Once upon a time", ["Once ", "upon"], iter(["Once ", "upon"])])
def test_prompts(tiny: TextGenerator, prompt: Any) -> None:
    answer = tiny.generate(prompt, max_new_tokens=5)
    assert "".join(answer)
    assert answer.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


async def test_async_and_sync_answers_are_the_same(tiny: TextGenerator) -> None:
    expected = await asyncio.to_thread(lambda: "".join(tiny.generate(CHAT, max_new_tokens=8)))
    assert await joined(tiny.generate(CHAT, max_new_tokens=8)) == expected
    assert await asyncio.gather(*(joined(tiny.generate(CHAT, max_new_tokens=8)) for _ in range(4))) == [expected] * 4


def test_an_answer_has_no_more_than_there_is_room_for() -> None:
    answer = TextGenerator(llama(context=40), tokenizer()).generate("one two three four five")
    assert list(answer)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 40
    assert answer.finish_reason == "length"


def test_a_stop_text_ends_it(tiny: TextGenerator) -> None:
    text = "".join(tiny.generate(CHAT, max_new_tokens=8))
    answer = tiny.generate(CHAT, max_new_tokens=8, stop=text[10:14])
    assert "".join(answer) == text[: text.index(text[10:14])]
    assert answer.finish_reason == "stop"


def test_seeds_repeat_an_answer_and_leave_others_alone(tiny: TextGenerator) -> None:
    def sampled(seed: int | None, **options: Any) -> str:
        return "".join(tiny.generate(CHAT, max_new_tokens=8, temperature=1.0, seed=seed, **options))

    before = torch.random.get_rng_state()
    assert sampled(1) == sampled(1) != sampled(2)
    assert sampled(None) != sampled(None)
    assert sampled(3, top_k=1) == "".join(tiny.generate(CHAT, max_new_tokens=8))
    assert sampled(3, top_p=1e-9) == "".join(tiny.generate(CHAT, max_new_tokens=8))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_samples_are_as_likely_as_the_model_says(tiny: TextGenerator) -> None:
    """Of the two likeliest tokens, as often as their odds say: 200 draws, within five standard deviations."""
    ids = torch.tensor([tokenizer()("Once upon a time")["input_ids"]])
    with torch.inference_mode():
        logits = tiny._model(ids).logits[0, -1].float()
    (high, low), best = logits.topk(2).values.tolist(), int(logits.argmax())
    odds = torch.softmax(torch.tensor([high, low]) / 3.0, 0)[0].item()
    first = tokenizer().decode([best])
    drawn = [
        next(tiny.generate("Once upon a time", max_new_tokens=1, temperature=3.0, top_k=2, seed=i)) for i in range(200)
    ]
    assert abs(drawn.count(first) / 200 - odds) < 5 * (odds * (1 - odds) / 200) ** 0.5


async def test_a_prompt_that_is_too_long_says_both_lengths() -> None:
    tiny = TextGenerator(llama(context=64), tokenizer(), name="tiny")
    with pytest.raises(PromptTooLong, match=r"has 100 tokens, and tiny takes 64") as caught:
        await joined(tiny.generate(" word" * 100))
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (100, 64)
    is_closed = asyncio.Event()

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "word "
                await asyncio.sleep(0)
        finally:
            is_closed.set()

    with pytest.raises(PromptTooLong, match="at least"):
        await joined(tiny.generate(["Read: ", endless()]))
    assert is_closed.is_set()

    async def stands_still() -> AsyncIterator[str]:
        yield "word " * 1000
        await asyncio.Event().wait()

    with pytest.raises(PromptTooLong, match="at least"):
        await joined(tiny.generate(["Read: ", stands_still()]))


def test_so_it_does_in_sync_code() -> None:
    tiny = TextGenerator(llama(context=64), tokenizer(), name="tiny")
    left = []

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "word "
        finally:
            left.append(True)

    with pytest.raises(PromptTooLong, match="at least"):
        list(tiny.generate(["Read: ", endless()]))
    assert left == [True]


async def test_an_error_of_a_stream_is_the_answers(tiny: TextGenerator) -> None:
    async def fails() -> AsyncIterator[str]:
        yield "word "
        raise ZeroDivisionError("above")

    with pytest.raises(ZeroDivisionError, match="above"):
        await joined(tiny.generate(["Read: ", fails()]))
    with pytest.raises(Misuse, match="item 1 of a stream in the prompt is int"):
        await joined(tiny.generate(iter(["a", 5])))  # type: ignore[arg-type]
    wait_until(lambda: not writers(), "no thread is left")


async def test_an_error_of_the_model_is_the_answers(tiny: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny._model, "generate", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        await joined(tiny.generate(CHAT))
    with pytest.raises(RuntimeError, match="out of memory"):
        await asyncio.to_thread(lambda: list(tiny.generate(CHAT)))


async def test_leaving_it_stops_the_model(tiny: TextGenerator) -> None:
    answer = tiny.generate("a b c", max_new_tokens=4000)
    assert await anext(answer)
    await answer.aclose()
    wait_until(lambda: not writers(), "the model has stopped")
    with pytest.raises(StopAsyncIteration):
        await anext(answer)

    dropped = tiny.generate("a b c", max_new_tokens=4000)
    assert await anext(dropped)
    del dropped
    wait_until(lambda: not writers(), "the model has stopped")

    waits = asyncio.Event()

    async def never() -> AsyncIterator[str]:
        yield "a"
        waits.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(joined(tiny.generate(["Read: ", never()])))
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: not writers(), "the model has stopped")


def test_one_that_was_not_begun_does_nothing(tiny: TextGenerator) -> None:
    items = iter(["a"])
    tiny.generate(["Read: ", items]).close()
    assert not writers()


def test_what_it_refuses() -> None:
    from transformers import T5Config

    class Translator:
        config = T5Config()

        def generate(self) -> None: ...

    for model, tokens in ((object(), tokenizer()), (Translator(), tokenizer()), (llama(), object())):
        with pytest.raises(Misuse, match="AutoModelForCausalLM"):
            TextGenerator(model, tokens)


async def test_a_chat_without_a_template_says_what_to_do() -> None:
    tiny = TextGenerator(llama(), tokenizer("openai-community/gpt2"), name="tiny")
    with pytest.raises(Misuse, match="tiny has no chat template"):
        await joined(tiny.generate(CHAT))


@pytest.mark.parametrize(
    ("path", "name"),
    [("/x/models--a--b-c/snapshots/0f/", "a/b-c"), ("/x/y/", "y"), ("a", "a"), ("", "LlamaForCausalLM")],
)
def test_its_name(path: str, name: str) -> None:
    model = llama()
    model.config._name_or_path = path
    assert TextGenerator(model, tokenizer()).name == name
