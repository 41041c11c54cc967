"""What the tests of exports share."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import pytest


@pytest.fixture(scope="package", autouse=True)
def distributions_once() -> Iterator[None]:
    """What is installed is read once for each path: each export reads the metadata of all distributions."""
    real: Callable[[], Mapping[str, list[str]]] = importlib.metadata.packages_distributions

    @cache
    def of_path(path: tuple[str, ...]) -> Mapping[str, list[str]]:
        return real()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(importlib.metadata, "packages_distributions", lambda: of_path(tuple(sys.path)))
        yield
