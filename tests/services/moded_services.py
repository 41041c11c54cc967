"""Services whose `__init__`, or start-up hooks, set modes: of their thread, and of their context."""

from __future__ import annotations

import contextvars
import decimal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np

from nbcompose import api, depends, on_startup, service

language = contextvars.ContextVar("language", default="none")
both = threading.Barrier(2)


def modes() -> dict[str, Any]:
    """What holds where this is called."""
    import torch

    return {
        "decimal": decimal.getcontext().prec,
        "numpy": np.geterr()["over"],
        "language": language.get(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "device": str(torch.ones(1).device),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dtype": str(torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
    }


class Apis:
    @api
    def sync(self) -> dict[str, Any]:
        both.wait()  # so that each of two threads has a call
        return {"thread": threading.current_thread().name, **modes()}

    @api
    async def on_loop(self) -> dict[str, Any]:
        return modes()

    @api
    def items(self) -> Iterator[dict[str, Any]]:
        yield modes()

    @api
    async def items_on_loop(self) -> AsyncIterator[dict[str, Any]]:
        yield modes()

    @api(batchable=True)
    def batch(self, n: list[int]) -> list[dict[str, Any]]:
        return [modes() for _ in n]


@service(threads=2)
class InInit(Apis):
    def __init__(self) -> None:
        set_all(self)


@service(threads=2)
class InHook(Apis):
    @on_startup
    def begin(self) -> None:
        set_all(self)


@service(threads=2)
class InAsyncHook(Apis):
    @on_startup
    async def begin(self) -> None:
        set_all(self)


@service(threads=2)
class Unset(Apis):
    """Sets nothing."""


@service
class MadeInInit:
    def __init__(self) -> None:
        self.unset = depends(Unset)

    @api
    def ask(self) -> dict[str, Any]:
        return self.unset.on_loop()


def set_all(instance: Any) -> None:
    import torch

    decimal.getcontext().prec = 7
    np.seterr(over="raise")
    language.set("en")
    torch.set_grad_enabled(False)
    instance.inference = torch.inference_mode()
    instance.inference.__enter__()
    torch.set_default_device("meta")
    torch.set_autocast_enabled("cpu", True)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
