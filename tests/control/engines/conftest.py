"""The contract runs on every engine there is."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", params=["zygote", "cold"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "cold":
        return {"NBCOMPOSE_ZYGOTE": "0"}
    return {"NBCOMPOSE_PRELOAD": "json"}
