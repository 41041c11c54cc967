"""Modules that not every environment has: tests name what is in them, and are skipped where they would use it."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import pytest


class Absent:
    """A module that is not installed, and whatever a table of cases takes from it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if "PYTEST_CURRENT_TEST" in os.environ:  # no table is being made: a test runs
            self.skip()
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __repr__(self) -> str:
        return f"<{self._module} is not installed>"

    def skip(self) -> None:
        pytest.skip(f"needs {self._module}")


def needs(module: str) -> pytest.MarkDecorator:
    """Marks tests whose processes use a module; it is not imported here."""
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs {module}")


def optional(module: str) -> Any:
    """A module, or what stands for it: `torch = optional("torch")`. One that all of a file needs: `importorskip`."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return Absent(module)
