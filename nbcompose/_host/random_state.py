"""Random generators of a process that is to be forked: each child must draw for itself, as if it had imported all.

The zygote `watch`es while it imports and then `find`s what generators are alive, whoever holds them; a replica that it
forks `renew`s them. One that a library has given a seed of its own choice is left as it is: it would be the same in
every process. So are `rand`, `random` and `drand48` of the C library, which begin with the same seed in each.
"""

from __future__ import annotations

import _random
import contextlib
import functools
import gc
import os
import random
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

_CHUNK = 20_000  # objects that the collector is asked about at once
_DAY = 86_400.0  # seconds
_SEED, _SETSTATE = random.Random.seed, random.Random.setstate

_chosen: weakref.WeakSet[random.Random] = weakref.WeakSet()  # those whose seed somebody has written down
_found: list[Callable[[], object]] = []  # what renews them, in this order


def watch() -> None:
    """Note from now on which of Python's generators are given a seed: nothing in them tells of it later."""
    _put(_seed, _setstate)


def _seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    _SEED(self, a, version)
    with contextlib.suppress(TypeError):  # a subclass that cannot be hashed: taken for one with the system's seed
        _chosen.add(self) if is_chosen(a) else _chosen.discard(self)


def _setstate(self: random.Random, state: Any) -> None:
    _SETSTATE(self, state)  # mostly one that was put aside before a seed was given
    with contextlib.suppress(TypeError):
        _chosen.discard(self)


def _put(seed: Any, setstate: Any) -> None:
    """In `Random`, and in the module: its functions are methods of one generator, bound when it was imported."""
    cls, module = cast(Any, random.Random), cast(Any, random)
    cls.seed, cls.setstate = seed, setstate
    module.seed, module.setstate = module._inst.seed, module._inst.setstate


def is_chosen(seed: object) -> bool:
    """Whether somebody wrote this seed down, or it came from the system, the clock or the number of the process.

    A rule of thumb, since a number does not say where it comes from: what fits into 32 bits and is neither the
    present time nor this process's number was written down.
    """
    if isinstance(seed, str):
        return True
    if isinstance(seed, Iterable) and not isinstance(seed, bytes | bytearray):
        return all(map(is_chosen, seed))
    try:
        number = seed.__index__()  # type: ignore[attr-defined]
    except AttributeError:
        return False
    return bool(abs(number) < 2**32 and number != os.getpid() and abs(number - time.time()) > _DAY)


def find() -> None:
    """Stop watching, and look for generators among all objects there are. They may be of any library, and anywhere."""
    _put(_SEED, _SETSTATE)
    renewals = _renewals()
    kinds = {kind: renewal for base, renewal in renewals for kind in _with_subclasses(base)}
    alive = [thing for thing in _objects(kinds.keys()) if type(thing) in kinds]
    # In the order of the list: a sequence of seeds comes before what draws its state from it.
    order = {base: place for place, (base, _) in enumerate(renewals)}
    alive.sort(key=lambda thing: next(place for base, place in order.items() if isinstance(thing, base)))
    _found.extend(renew for thing in alive if (renew := kinds[type(thing)](thing)) is not None)


def renew() -> None:
    """In a forked process: give what was found other states than its parent and its siblings have."""
    for one in _found:
        try:
            one()
        except Exception as error:  # one that cannot be renewed must not keep a service from starting
            print(f"nbcompose: {one} has the random numbers of other replicas: {error!r}", file=sys.stderr)
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)


def _with_subclasses(cls: type) -> Iterator[type]:
    yield cls
    subclasses: list[type] = type.__subclasses__(cls)
    for sub in subclasses:
        yield from _with_subclasses(sub)


def _objects(kinds: Iterable[type]) -> Iterator[object]:
    """All objects: those that the collector knows, and those of `kinds` that only these know, as in a dictionary of
    numbers: the collector keeps no account of what cannot be part of a circle.
    """
    wanted = {*kinds, dict, tuple}
    seen: set[int] = set()
    objects: list[object] = gc.get_objects()
    while objects:
        yield from objects
        further: dict[int, object] = {}
        for start in range(0, len(objects), _CHUNK):
            for thing in gc.get_referents(*objects[start : start + _CHUNK]):
                if type(thing) in wanted and not gc.is_tracked(thing):
                    further[id(thing)] = thing
        objects = [thing for key, thing in further.items() if key not in seen]
        seen.update(further)


# What renews a generator; None for one whose seed was chosen.
_Renewal = Callable[[Any], Callable[[], object] | None]


def _renewals() -> list[tuple[type, _Renewal]]:
    """The kinds of generators that can be around, with what makes one's renewal."""
    known: list[tuple[type, _Renewal]] = [(_random.Random, _python)]
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        known += [(numpy.SeedSequence, _seeds), (numpy.BitGenerator, _bits), (numpy.RandomState, _legacy)]
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        known.append((torch.Generator, _torch))
    return known


def _python(generator: Any) -> Callable[[], object] | None:
    return None if isinstance(generator, random.Random) and generator in _chosen else generator.seed


def _seeds(seeds: Any) -> Callable[[], object] | None:
    if is_chosen(seeds.entropy):
        return None
    again = {"spawn_key": seeds.spawn_key, "pool_size": seeds.pool_size, "n_children_spawned": seeds.n_children_spawned}
    return functools.partial(type(seeds).__init__, seeds, **again)


def _bits(bits: Any) -> Callable[[], object] | None:
    seeds = bits.seed_seq if hasattr(bits, "seed_seq") else bits._seed_seq  # numpy 1.26: public since then
    entropy = getattr(seeds, "entropy", 0)  # none: seeded by `numpy.random.seed`, or by a key
    if is_chosen(entropy):
        return None

    def again() -> None:
        bits.state = type(bits)(seeds).state

    return again


def _legacy(generator: Any) -> Callable[[], object] | None:
    """The second half of a pair of normal numbers, which it keeps for the next time."""
    if _bits(generator._bit_generator) is None:
        return None
    return lambda: generator.set_state({**generator.get_state(legacy=False), "has_gauss": 0, "gauss": 0.0})


def _torch(generator: Any) -> Callable[[], object] | None:
    untouched = type(generator)().initial_seed()  # of one that nobody has given a seed: the same in every process
    seed = generator.initial_seed()
    return None if seed == untouched or is_chosen(seed) else generator.seed
