"""Services that show what a process was born with: random numbers, environment variables."""

import ctypes
import hashlib
import importlib
import multiprocessing
import os

from nbcompose import api, service


@service
class Draws:
    @api
    def all(self) -> tuple[int, dict[str, float | int | str], dict[str, float | int | str]]:
        """The process, what is to differ between processes, and what is to be the same."""
        import unheard_of

        key = hashlib.sha256(bytes(multiprocessing.current_process().authkey)).hexdigest()
        return os.getpid(), {**unheard_of.free(), "key": key}, {**unheard_of.fixed(), "C": ctypes.CDLL(None).rand()}


@service
class Seeded:
    def __init__(self) -> None:
        import random

        import numpy as np
        import torch

        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    @api
    def draw(self) -> list[float]:
        import random

        import numpy as np
        import torch

        return [random.random(), np.random.rand(), torch.rand(1).item()]


@service
class Loads:
    @api
    def load(self) -> list[int]:
        """By two processes that torch forks."""
        from torch.utils.data import DataLoader

        return [int(i) for batch in DataLoader(range(8), batch_size=2, num_workers=2) for i in batch]


@service
class Variables:
    @api
    def all(self, library: str) -> dict[str, str]:
        """All that there are once `library` is imported."""
        importlib.import_module(library)
        return dict(os.environ)

    @api
    def read(self, name: str) -> tuple[str | None, str | None]:
        """One of them, as Python and as C has it."""
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_char_p
        value: bytes | None = getenv(os.fsencode(name))
        return os.environ.get(name), None if value is None else os.fsdecode(value)
