"""Lays out the models of the notebooks and tests in a Hugging Face cache, without a model hub.

    python scripts/lay_out_models.py [--home models] [--build build/wheels] [MODEL ...]

Point `HF_HOME` at the home folder afterwards, and set `HF_HUB_OFFLINE=1`. What is there already is left alone, and a
run that was interrupted goes on with the model that it was at.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub_cache import CachedRepository
from real_models import REAL_MODELS
from stand_ins import STAND_INS

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Recipe:
    """How one model gets into the cache."""

    repo_id: str
    kind: str
    revision: str
    write: Callable[[Path], None]


def recipes(wheels: Path) -> dict[str, Recipe]:
    """Every model that can be laid out, by its id on the hub. `wheels` is where downloads are kept."""
    known = [Recipe(m.repo_id, "a random stand-in", m.revision, m.write) for m in STAND_INS]
    for model in REAL_MODELS:

        def write(snapshot: Path, write: Callable[[Path, Path], None] = model.write) -> None:
            write(wheels, snapshot)

        known.append(Recipe(model.repo_id, f"real, from {model.wheel.requirement}", model.revision, write))
    return {recipe.repo_id: recipe for recipe in known}


@contextmanager
def only_one_run(home: Path) -> Iterator[None]:
    """Wait for another run on the same cache to end; the lock goes with the process, however that ends."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lay_out_models.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run on this cache ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lay_out(home: Path, chosen: list[Recipe]) -> None:
    """Write what is missing of `chosen` into the cache at `home`."""
    for recipe in chosen:
        repository = CachedRepository(home / "hub", recipe.repo_id)
        if repository.holds(recipe.revision):
            continue
        print(f"laying out {recipe.repo_id} ({recipe.kind}) ...", flush=True)
        repository.publish(recipe.revision, recipe.write)
    print(f"{len(chosen)} models are in {home}", flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=CHECKOUT / "models", help="what HF_HOME will be (default: models)")
    parser.add_argument("--build", type=Path, default=CHECKOUT / "build" / "wheels", help="where downloads are kept")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="hub ids (default: all of them)")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    known = recipes(options.build)
    unknown = [m for m in options.models if m not in known]
    if unknown:
        print(f"no recipe for {', '.join(unknown)}; there is one for: {', '.join(known)}", file=sys.stderr)
        return 2
    # Converting shows progress bars and notes on the hub that mean nothing here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with only_one_run(options.home):
        try:
            lay_out(options.home.resolve(), [known[m] for m in options.models or known])
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, error.cmd))
            print(f"a model's wheel could not be downloaded (pip says why above): {command}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
