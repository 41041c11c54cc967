"""The two faces of HTTP exchanges: what is the same over both is tested over both."""

from __future__ import annotations

import pytest

from tests.replica.http.http_server import Face


@pytest.fixture(params=["tornado", "asgi"])
def face(request: pytest.FixtureRequest) -> Face:
    found: Face = request.param
    return found
