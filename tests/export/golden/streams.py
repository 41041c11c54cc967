# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "nbcompose==1.0",
#     "torch==1.0",  # transformers runs its models with it
#     "transformers==1.0",
# ]
# ///
"""The services of streams.ipynb, without Jupyter (exported by nbcompose)."""

from collections.abc import AsyncIterator, Iterator

import nbcompose
from nbcompose import api, depends, service
from nbcompose.llms import TextGenerator
from nbcompose.models import HuggingFaceModel


@service(traffic={"timeout": 300})
class Writer:
    """Writes about a topic, always choosing the likeliest next token: the same topic gets the same text."""

    path = HuggingFaceModel("HuggingFaceTB/SmolLM2-135M-Instruct")

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # Full precision, so that every machine's arithmetic agrees on which token is the likeliest.
        model = AutoModelForCausalLM.from_pretrained(self.path).float()
        self.model = TextGenerator(model, AutoTokenizer.from_pretrained(self.path))

    @api
    def write(self, topic: str, max_tokens: int = 80) -> Iterator[str]:
        chat = [{"role": "user", "content": f"Explain {topic} to a child."}]
        yield from self.model.generate(chat, max_new_tokens=max_tokens)


@service(traffic={"timeout": 300})
class Rewriter:
    """Rewrites each sentence of a text as soon as it is whole."""

    path = HuggingFaceModel("HuggingFaceTB/SmolLM2-135M-Instruct")

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(self.path).float()
        self.model = TextGenerator(model, AutoTokenizer.from_pretrained(self.path))

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
        chat = [{"role": "user", "content": f"Rewrite this sentence: {sentence}"}]
        return "".join(self.model.generate(chat, max_new_tokens=24)).strip()


@service(traffic={"timeout": 300})
class Pipeline:
    writer, rewriter = depends(Writer), depends(Rewriter)

    @api
    async def tell(self, topic: str) -> AsyncIterator[str]:
        async for sentence in self.rewriter.to_async.rewrite(self.writer.write(topic)):
            yield sentence


if __name__ == "__main__":
    nbcompose.serve(Pipeline)
