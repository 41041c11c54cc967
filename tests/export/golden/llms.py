# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "nbcompose==1.0",
#     "openai==1.0",
#     "torch==1.0",  # transformers runs its models with it
#     "transformers==1.0",
# ]
# ///
"""The services of llms.ipynb, without Jupyter (exported by nbcompose)."""

import os
from collections.abc import AsyncIterator, Iterator

import nbcompose
from nbcompose import api, depends, service
from nbcompose.llms import OpenAIModel, TextGenerator
from nbcompose.models import HuggingFaceModel


@service(threads=4, traffic={"timeout": 300}, openai=True)
class Writer:
    """Writes what is asked for, always choosing the likeliest next token."""

    path = HuggingFaceModel("HuggingFaceTB/SmolLM2-135M-Instruct")

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # Full precision, so that every machine's arithmetic agrees on which token is the likeliest.
        model = AutoModelForCausalLM.from_pretrained(self.path).float()
        self.model = TextGenerator(model, AutoTokenizer.from_pretrained(self.path))

    @api
    def write(self, text: str, max_tokens: int = 48) -> Iterator[str]:
        yield from self.model.generate([{"role": "user", "content": text}], max_new_tokens=max_tokens)


@service(traffic={"timeout": 300})
class Reader:
    """Gives a text a title, which it reads while it is written."""

    path = HuggingFaceModel("HuggingFaceTB/SmolLM2-135M-Instruct")

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(self.path).float()
        self.model = TextGenerator(model, AutoTokenizer.from_pretrained(self.path))

    @api
    async def title(self, text: AsyncIterator[str]) -> AsyncIterator[str]:
        chat = [{"role": "user", "content": ["Give this text a title: ", text]}]
        async for piece in self.model.generate(chat, max_new_tokens=40):
            yield piece


@service(traffic={"timeout": 300})
class Pair:
    writer, reader = depends(Writer), depends(Reader)

    @api
    async def tell(self, question: str) -> AsyncIterator[str]:
        text = self.writer.write(question, max_tokens=96)
        async for piece in self.reader.title(text):
            yield piece


@service
class Outside:
    def __init__(self):
        self.model = OpenAIModel(os.environ.get("MODEL_URL", "http://127.0.0.1:8000"), api_key_variable="MODEL_KEY")

    @api
    async def ask(self, question: str) -> AsyncIterator[str]:
        async for piece in self.model.generate(question, max_new_tokens=48):
            yield piece


if __name__ == "__main__":
    nbcompose.serve(Pair, Outside)
