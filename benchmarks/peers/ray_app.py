"""The same graphs as Ray Serve declares them; runs in `.venv-ray` and stops on SIGTERM.

    python -m benchmarks.peers.ray_app front|inference PORT

The ingress reads the request by hand: FastAPI, which most applications put there, only makes it slower.
"""
# mypy: ignore-errors
# Ray is not installed where the project's own types are checked.

import asyncio
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

TEXT = "What is the answer?"
MIB = 1024 * 1024
# Ray counts CPUs by what deployments ask for; the machine's own count would not hold five replicas.
LOGICAL_CPUS = 8


@serve.deployment(max_ongoing_requests=1000)
class Leaf:
    async def echo(self, text: str) -> str:
        return text

    def echo_sync(self, text: str) -> str:
        return text

    async def ends(self, array: np.ndarray) -> float:
        return float(array[0] + array[-1])


@serve.deployment(max_ongoing_requests=1000)
class Front:
    def __init__(self, leaf: DeploymentHandle) -> None:
        self.leaf = leaf

    async def __call__(self, request: Request) -> Any:
        """Methods by the path's last part, arguments by name from the JSON body."""
        method = getattr(self, request.url.path.strip("/"))
        return await method(**await request.json())

    async def echo(self, text: str) -> str:
        return text

    async def ask(self, text: str) -> str:
        return await self.leaf.echo.remote(text)

    async def hop(self, calls: int) -> list[float]:
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            await self.leaf.echo.remote(TEXT)
            durations.append(time.perf_counter() - start)
        return durations

    async def hop_mixed(self, calls: int) -> list[float]:
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            await self.leaf.echo_sync.remote(TEXT)
            durations.append(time.perf_counter() - start)
        return durations

    # A blocking `.result()` is refused on a replica's loop, so there is nothing more sync than that.
    hop_sync = hop_mixed

    async def in_flight(self, calls: int, width: int) -> dict[str, float]:
        failures = 0
        left = iter(range(calls))

        async def caller() -> None:
            nonlocal failures
            for _ in left:
                try:
                    await self.leaf.echo.remote(TEXT)
                except Exception:
                    failures += 1

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(width)))
        return {"seconds": time.perf_counter() - start, "failures": failures}

    async def one_way(self, mib: int, calls: int) -> dict[str, list[float]]:
        array = np.ones(mib * MIB // 8)
        target = np.zeros_like(array)
        seconds: dict[str, list[float]] = {"call": [], "copy": []}
        for i in range(calls):
            array[0] = array[-1] = i
            start = time.perf_counter()
            np.copyto(target, array)
            middle = time.perf_counter()
            ends = await self.leaf.ends.remote(array)
            seconds["call"].append(time.perf_counter() - middle)
            seconds["copy"].append(middle - start)
            if ends != 2 * i:
                raise ValueError(f"the array that arrived is not the one sent: its ends add up to {ends}, not {2 * i}")
        return seconds


@serve.deployment
class Generator:
    def __init__(self, model: str) -> None:
        import transformers

        self.pipeline = transformers.pipeline(task="text-generation", model=model)

    def generate(self, sentence: str) -> list[Any]:
        result: list[Any] = self.pipeline(sentence)
        return result


@serve.deployment
class BertBaseUncased:
    def __init__(self) -> None:
        import transformers

        model = "google-bert/bert-base-uncased"
        self.pipeline = transformers.pipeline(task="text-classification", model=model, tokenizer=model)

    def classify(self, sentence: str) -> float:
        return float(self.pipeline(sentence)[0]["score"])


@serve.deployment
class InferenceGraph:
    def __init__(self, gpt2: DeploymentHandle, distilgpt2: DeploymentHandle, bert: DeploymentHandle) -> None:
        self.generators = (gpt2, distilgpt2)
        self.bert = bert

    async def __call__(self, request: Request) -> list[dict[str, Any]]:
        sentence = (await request.json())["original_sentence"]
        answers = await asyncio.gather(*(generator.generate.remote(sentence) for generator in self.generators))
        texts = [answer[0]["generated_text"] for answer in answers]
        return [{"generated": text, "score": await self.bert.classify.remote(text)} for text in texts]


def main(graph: str, port: int) -> None:
    ray.init(num_cpus=LOGICAL_CPUS, include_dashboard=False, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    if graph == "front":
        app = Front.bind(Leaf.bind())
    else:
        gpt2 = Generator.options(name="GPT2").bind("openai-community/gpt2")
        distilgpt2 = Generator.options(name="DistilGPT2").bind("distilbert/distilgpt2")
        app = InferenceGraph.bind(gpt2, distilgpt2, BertBaseUncased.bind())
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    serve.run(app)
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
