# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "nbcompose==1.0",
#     "numpy==1.0",
#     "torch==1.0",
#     "transformers==1.0",
# ]
# ///
"""The services of quickstart.ipynb, without Jupyter (exported by nbcompose)."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nbcompose
import numpy as np
from nbcompose import api, depends, service
from nbcompose.llms import TextGenerator
from nbcompose.models import HuggingFaceModel

passages = json.loads(Path("passages.json").read_text(encoding="utf-8"))


@service(device="cpu")
class Embedder:
    """Turns texts into vectors that point the same way when the texts are about the same thing."""

    path = HuggingFaceModel("sentence-transformers/all-MiniLM-L6-v2")

    def __init__(self):
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(self.path)
        self.model = AutoModel.from_pretrained(self.path)

    @api(batchable=True)
    def embed(self, texts: list[str]) -> np.ndarray:
        import torch

        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(means).numpy()


@service(traffic={"timeout": 120})
class Writer:
    """Writes what is asked for, always choosing the likeliest next token: the same prompt gets the same text."""

    path = HuggingFaceModel("HuggingFaceTB/SmolLM2-135M-Instruct")

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # Full precision, so that every machine's arithmetic agrees on which token is the likeliest.
        model = AutoModelForCausalLM.from_pretrained(self.path).float()
        self.model = TextGenerator(model, AutoTokenizer.from_pretrained(self.path))

    @api
    def write(self, system: str, user: str, max_tokens: int = 48) -> Iterator[str]:
        chat = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        yield from self.model.generate(chat, max_new_tokens=max_tokens)


@service(traffic={"timeout": 120})
class Answer:
    """Answers questions from the passages."""

    embedder = depends(Embedder)
    writer = depends(Writer)

    def __init__(self):
        self.vectors = self.embedder.embed([p["text"] for p in passages])

    @api
    async def find(self, question: str, count: int = 2, at_least: float = 0.4) -> list[dict]:
        """The passages that are about the question: at most `count`, the best first."""
        [vector] = await self.embedder.to_async.embed([question])
        scores = self.vectors @ vector
        best = [i for i in np.argsort(-scores)[:count] if scores[i] >= at_least]
        return [passages[i] | {"score": round(float(scores[i]), 2)} for i in best]

    @api
    async def tell(self, question: str) -> AsyncIterator[str]:
        """The answer, while it is being written."""
        async for piece in self._write(question, await self.find(question)):
            yield piece

    @api
    async def ask(self, question: str) -> dict:
        """The answer, with its sources."""
        found = await self.find(question)
        answer = "".join([piece async for piece in self._write(question, found)])
        return {"question": question, "answer": answer, "sources": {p["title"]: p["score"] for p in found}}

    async def _write(self, question: str, found: list[dict]) -> AsyncIterator[str]:
        if not found:
            yield "The passages say nothing about this."
            return
        text = " ".join(p["text"] for p in found)
        system = "Answer the question in one short sentence, using only the text."
        async for piece in self.writer.to_async.write(system, f"Text: {text}\n\nQuestion: {question}"):
            yield piece


if __name__ == "__main__":
    nbcompose.serve(Answer)
