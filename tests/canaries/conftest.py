"""Canaries come before all other tests: where an upstream release has changed something, they name the reason."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: Path(__file__).parent not in item.path.parents)
