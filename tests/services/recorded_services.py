"""Apis of every kind, whose arguments and answers are recorded."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import numpy as np

from nbcompose import api, depends, service
from nbcompose._rpc import reads_segments


@dataclass
class User:
    name: str
    password: str


class Token:
    """Travels by pickle, and is of unknown content."""

    def __repr__(self) -> str:
        return "a token"


@service(threads=2)
class Kinds:
    @api
    def plain(self, question: str, api_key: str = "") -> dict[str, str]:
        if question == "bad":
            raise ValueError(f"{api_key} is not good")
        return {"answer": question.upper(), "token": "sekret"}

    @api
    async def later(self, user: User) -> list[int]:
        return [1, 2, 3]

    @api
    def letters(self, count: int) -> Iterator[int]:
        yield from range(count)
        if count == 5:
            raise LookupError("no more")

    @api
    async def numbers(self, count: int) -> AsyncIterator[int]:
        for i in range(count):
            yield i

    @api(batchable=True, max_batch_size=4)
    def batch(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    @api(record=False)
    def private(self, diary: str) -> str:
        return diary

    @api
    def array(self, values: np.ndarray) -> np.ndarray:
        return values[1:]

    @api
    async def hold(self, values: np.ndarray) -> float:
        return float(values.sum())

    @api
    def reads(self) -> bool:
        return reads_segments()

    @api
    async def wait(self) -> None:
        await asyncio.Event().wait()


@service
class Caller:
    kinds = depends(Kinds)

    @api
    def ask(self, question: str) -> str:
        answer: dict[str, str] = self.kinds.plain(question)
        return answer["answer"]

    @api
    def take(self, size: int) -> int:
        return len(self.kinds.array(np.zeros(size)))

    @api
    def reads(self) -> bool:
        return reads_segments()
