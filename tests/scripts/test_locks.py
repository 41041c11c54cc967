"""locks/: that they hold what pyproject.toml asks for, name no place to get it from, and have a hash for everything."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]
LOCKS = CHECKOUT / "locks"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TORCH = "torch"  # locked by itself, without hashes
CUDA = re.compile(r"triton|cuda-.*|nvidia-(?!ml-py).*")

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
BUILD = [
    Requirement(line) for line in (LOCKS / "build.in").read_text(encoding="utf-8").splitlines() if line[0] not in "#"
]
PEERS = {
    peer: [
        Requirement(line)
        for line in (CHECKOUT / "benchmarks" / "peers" / f"{peer}.in").read_text(encoding="utf-8").splitlines()
        if line[0] != "#"
    ]
    for peer in ("bentoml", "ray")
}
HUB = [Requirement(line) for line in (LOCKS / "hub.in").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
IN_NOTEBOOKS = [
    Requirement(line) for extra in ("notebook", "jupyter") for line in PROJECT["optional-dependencies"][extra]
]
WANTED = {
    "dev": CORE + EXTRAS + BUILD,
    "core": CORE + BUILD,
    "oldest": CORE + EXTRAS + BUILD,
    "hub": CORE + IN_NOTEBOOKS + BUILD + HUB,
    **PEERS,
}


def pins(lock: str, python: str) -> dict[str, str]:
    """What a lock installs under a Python on Linux: names and versions."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    found: dict[str, str] = {}
    for line in (LOCKS / f"{lock}.txt").read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-zA-Z0-9]", line):
            pin = Requirement(line.removesuffix("\\").strip())
            if pin.marker is None or pin.marker.evaluate(environment):  # type: ignore[arg-type]
                assert canonicalize_name(pin.name) not in found, f"{pin.name} is there twice"
                [only] = pin.specifier
                assert only.operator == "=="
                found[canonicalize_name(pin.name)] = only.version
    return found


@pytest.mark.parametrize("lock", WANTED)
@pytest.mark.parametrize("python", PYTHONS)
def test_it_holds_what_is_asked_for(lock: str, python: str) -> None:
    if lock == "oldest" and python != "3.11":
        pytest.skip("the lowest versions are those for Python 3.11")
    pinned = pins(lock, python)
    for wanted in WANTED[lock]:
        name = canonicalize_name(wanted.name)
        if name != TORCH:
            assert name in pinned, f"{wanted} is not in locks/{lock}.txt: make lock KEEP=1"
            assert wanted.specifier.contains(pinned[name]), f"{wanted}, locked {pinned[name]}: make lock KEEP=1"


def test_the_lowest_versions_are_those_that_the_ranges_name() -> None:
    pinned = pins("oldest", "3.11")
    for wanted in CORE + EXTRAS:
        name = canonicalize_name(wanted.name)
        [low] = [s.version for s in wanted.specifier if s.operator in (">=", "==")]
        if name != TORCH:
            # A later patch where the first release of that number was withdrawn or has no wheel.
            assert (pinned[name] + ".").startswith(low + "."), f"{wanted} is run with {pinned[name]}: raise the bound"


@pytest.mark.parametrize("lock", WANTED)
def test_every_pin_has_hashes_and_nothing_names_an_index_or_a_file(lock: str) -> None:
    text = (LOCKS / f"{lock}.txt").read_text(encoding="utf-8")
    for block in re.split(r"\n(?=[a-zA-Z0-9])", text)[1:]:
        assert "--hash=sha256:" in block, block
    assert not re.search(r"://|--index|--extra|--find-links|@ ", text)


@pytest.mark.parametrize("lock", [lock for lock in WANTED if lock not in ("core", "hub")])
def test_what_torch_needs_is_locked(lock: str) -> None:
    """It comes alone, without what it depends on."""
    pytest.importorskip(TORCH)
    needed = [Requirement(text) for text in importlib.metadata.requires(TORCH) or ()]
    ours = [
        r for r in needed if (r.marker is None or r.marker.evaluate()) and not CUDA.fullmatch(canonicalize_name(r.name))
    ]
    assert ours
    assert {canonicalize_name(r.name) for r in ours} - pins(lock, "3.11").keys() == set()


@pytest.mark.parametrize("lock", WANTED)
def test_no_torch_and_nothing_of_cuda_is_locked(lock: str) -> None:
    assert not [name for name in pins(lock, "3.11") if name == TORCH or CUDA.fullmatch(name)]


@pytest.mark.parametrize("peer", PEERS)
def test_peers_run_the_same_models_code(peer: str) -> None:
    ours, theirs = pins("dev", "3.11"), pins(peer, "3.11")
    for name in ("transformers", "tokenizers", "safetensors", "numpy"):
        assert theirs[name] == ours[name]
