"""A library that a zygote imports: it keeps random generators of all kinds wherever a library can keep them.

`free()` draws from those whose seed came from the system, the clock or the process's number: they differ in every
process. `fixed()` draws from those whose seed was chosen: they are the same in every process.
"""

import os
import random
import time

import numpy as np
import torch


class Dice(random.Random):
    """A generator of its own making."""


class Holder:
    __slots__ = ("legacy",)

    def __init__(self, seed=None):
        self.legacy = np.random.RandomState(seed)


def keep(generator):
    return lambda: generator.random()


def put_back():
    """Seeded for a moment, as code does that makes a table which must be the same everywhere."""
    generator = random.Random()
    before = generator.getstate()
    generator.seed(0)
    generator.setstate(before)
    return generator


def started(generator):
    """Advanced when the library was imported; the legacy one keeps half a pair of normal numbers."""
    generator.standard_normal()
    return generator


def random_torch():
    generator = torch.Generator()
    generator.seed()
    return generator


closure, fixed_closure = keep(np.random.default_rng()), keep(np.random.default_rng(5))
holder, fixed_holder = Holder(), Holder(5)
dice, fixed_dice = Dice(), Dice(5)
text = random.Random("a text")
clocks = [random.Random(time.time()), random.Random(time.time_ns()), random.Random(int(time.time()))]
mine = random.Random(os.getpid())
system = random.Random(os.urandom(16))
sequence, fixed_sequence = np.random.SeedSequence(), np.random.SeedSequence([5, 6])
parent, fixed_parent = np.random.default_rng(), np.random.default_rng(5)
deep = {"nested": [({"philox": np.random.Generator(np.random.Philox())},)]}
only_torch = ({"generator": random_torch()},)
fixed_torch = {"chosen": torch.Generator().manual_seed(5), "untouched": torch.Generator()}
normal, fixed_normal = started(np.random.RandomState()), started(np.random.RandomState(5))
back = put_back()
keyed = np.random.Generator(np.random.Philox(key=5))


def free():
    return {
        "random": random.random(),
        "numpy": np.random.rand(),
        "torch": torch.rand(1).item(),
        "closure": closure(),
        "instance": holder.legacy.rand(),
        "subclass": dice.random(),
        **{f"clock {i}": clock.random() for i, clock in enumerate(clocks)},
        "pid": mine.random(),
        "bytes": system.random(),
        "sequence": sequence.generate_state(1)[0].item(),
        "spawned": parent.spawn(1)[0].random(),
        "deep": deep["nested"][0][0]["philox"].random(),
        "torch generator": torch.rand(1, generator=only_torch[0]["generator"]).item(),
        "half a pair": normal.standard_normal(),
        "put back": back.random(),
    }


def fixed():
    return {
        "closure": fixed_closure(),
        "instance": fixed_holder.legacy.rand(),
        "subclass": fixed_dice.random(),
        "text": text.random(),
        "sequence": fixed_sequence.generate_state(1)[0].item(),
        "spawned": fixed_parent.spawn(1)[0].random(),
        **{f"torch, {n}": torch.rand(1, generator=g).item() for n, g in fixed_torch.items()},
        "half a pair": fixed_normal.standard_normal(),
        "key": keyed.random(),
    }
