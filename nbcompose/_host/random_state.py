"""Random generators of a process that will be forked: each child must draw its own numbers, as after a cold start.

The zygote calls `watch` before it imports libraries, and then `find` to collect the generators of all libraries; a
replica that it forks calls `renew` to reseed them. A generator that a library seeded with a fixed value is left as it
is: it would be the same in every process. So are `rand`, `random` and `drand48` of the C library, which start with the
same seed in each process.
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

_CHUNK = 20_000  # objects whose references are looked up at once
_DAY = 86_400.0  # seconds
_SEED, _SETSTATE = random.Random.seed, random.Random.setstate

_chosen: weakref.WeakSet[random.Random] = weakref.WeakSet()  # those with a fixed seed
_found: list[Callable[[], object]] = []  # functions that reseed the generators, in this order


def watch() -> None:
    """Record from now on which of Python's generators are seeded, since they do not store the seed."""
    _put(_seed, _setstate)


def _seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    _SEED(self, a, version)
    with contextlib.suppress(TypeError):  # a subclass that is not hashable counts as seeded by the system
        _chosen.add(self) if is_chosen(a) else _chosen.discard(self)


def _setstate(self: random.Random, state: Any) -> None:
    _SETSTATE(self, state)  # usually one saved before a seed was given
    with contextlib.suppress(TypeError):
        _chosen.discard(self)


def _put(seed: Any, setstate: Any) -> None:
    """Patch `Random` and the module, whose functions are methods of one generator, bound at import."""
    cls, module = cast(Any, random.Random), cast(Any, random)
    cls.seed, cls.setstate = seed, setstate
    module.seed, module.setstate = module._inst.seed, module._inst.setstate


def is_chosen(seed: object) -> bool:
    """Whether a seed is a fixed value, rather than from the system, the clock or the process id.

    A heuristic, since a number does not say where it comes from: it is fixed if it fits into 32 bits and is neither the
    present time (within a day) nor this process's id.
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
    """Stop watching, and collect the generators among all objects. They may be of any library, and anywhere."""
    _put(_SEED, _SETSTATE)
    renewals = _renewals()
    kinds = {kind: renewal for base, renewal in renewals for kind in _with_subclasses(base)}
    alive = [thing for thing in _objects(kinds.keys()) if type(thing) in kinds]
    # In the order of the list: a seed sequence is renewed before the generators that take their state from it.
    order = {base: place for place, (base, _) in enumerate(renewals)}
    alive.sort(key=lambda thing: next(place for base, place in order.items() if isinstance(thing, base)))
    _found.extend(renew for thing in alive if (renew := kinds[type(thing)](thing)) is not None)


def renew() -> None:
    """In a forked process: give the collected generators states that differ from those of the parent and its other
    children.
    """
    for one in _found:
        try:
            one()
        except Exception as error:  # an error here must not keep a service from starting
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
    """Yield all objects that the garbage collector tracks, and untracked ones of `kinds` that these refer to.

    The collector does not track what cannot be part of a reference cycle, such as a dictionary of numbers.
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


# Returns the function that reseeds a generator; None for one with a fixed seed.
_Renewal = Callable[[Any], Callable[[], object] | None]


def _renewals() -> list[tuple[type, _Renewal]]:
    """Return the types of generators that may exist, each with its `_Renewal`."""
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
    seeds = bits.seed_seq if hasattr(bits, "seed_seq") else bits._seed_seq  # numpy 1.26; public since then
    entropy = getattr(seeds, "entropy", 0)  # none if seeded by `numpy.random.seed`, or by a key
    if is_chosen(entropy):
        return None

    def again() -> None:
        bits.state = type(bits)(seeds).state

    return again


def _legacy(generator: Any) -> Callable[[], object] | None:
    """Discard the second half of a pair of normal numbers, which the generator keeps for its next draw."""
    if _bits(generator._bit_generator) is None:
        return None
    return lambda: generator.set_state({**generator.get_state(legacy=False), "has_gauss": 0, "gauss": 0.0})


def _torch(generator: Any) -> Callable[[], object] | None:
    untouched = type(generator)().initial_seed()  # the initial seed of an unseeded generator: the same in every process
    seed = generator.initial_seed()
    return None if seed == untouched or is_chosen(seed) else generator.seed
