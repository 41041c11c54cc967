# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "nbcompose==1.0",
#     "torch==1.0",
#     "transformers==1.0",
# ]
# ///
"""The services of streams.ipynb, without Jupyter (exported by nbcompose)."""

from collections.abc import AsyncIterator, Iterator

import nbcompose
from nbcompose import api, depends, service
from nbcompose.models import HuggingFaceModel


@service(traffic={"timeout": 300})
class Writer:
    """Writes about a topic, always choosing the likeliest next token: the same topic gets the same text."""

    path = HuggingFaceModel("HuggingFaceTB/SmolLM2-135M-Instruct")

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(self.path)
        # Full precision, so that every machine's arithmetic agrees on which token is the likeliest.
        self.model = AutoModelForCausalLM.from_pretrained(self.path).float()

    @api
    def write(self, topic: str, max_tokens: int = 80) -> Iterator[str]:
        chat = [{"role": "user", "content": f"Explain {topic} to a child."}]
        prompt = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        tokens, done = [], ""
        for token in self._tokens(prompt, max_tokens):
            tokens.append(token)
            text = self.tokenizer.decode(tokens)
            if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half a character: wait for its other tokens
                yield text[len(done) :]
                done = text

    def _tokens(self, prompt: str, limit: int) -> Iterator[int]:
        import torch
        from transformers import DynamicCache

        ids = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        cache = DynamicCache()  # the fourth argument: releases of transformers differ in its name
        for _ in range(limit):
            with torch.inference_mode():
                logits = self.model(ids, None, None, cache).logits
            ids = logits[:, -1:].argmax(-1)
            if ids.item() == self.tokenizer.eos_token_id:
                return
            yield ids.item()


@service(traffic={"timeout": 300})
class Rewriter:
    """Rewrites each sentence of a text as soon as it is whole."""

    path = HuggingFaceModel("HuggingFaceTB/SmolLM2-135M-Instruct")

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(self.path)
        self.model = AutoModelForCausalLM.from_pretrained(self.path).float()

    @api
    def rewrite(self, text: Iterator[str]) -> Iterator[str]:
        waiting = ""
        for piece in text:
            *whole, waiting = (waiting + piece).replace("\n", " ").split(". ")
            for sentence in filter(None, whole):
                yield self._rewritten(f"{sentence}.")
        if waiting.strip():
            yield self._rewritten(waiting.strip())

    def _rewritten(self, sentence: str) -> str:
        import torch

        chat = [{"role": "user", "content": f"Rewrite this sentence: {sentence}"}]
        text = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        inputs = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            made = self.model.generate(**inputs, max_new_tokens=24, do_sample=False)
        return self.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@service(traffic={"timeout": 300})
class Pipeline:
    writer, rewriter = depends(Writer), depends(Rewriter)

    @api
    async def tell(self, topic: str) -> AsyncIterator[str]:
        async for sentence in self.rewriter.to_async.rewrite(self.writer.write(topic)):
            yield sentence


if __name__ == "__main__":
    nbcompose.serve(Pipeline)
