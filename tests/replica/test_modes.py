"""Modes that `__init__` and start-up hooks set hold in all worker threads, on the loop, in streams and in batches."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from moded_services import InAsyncHook, InHook, InInit, MadeInInit, Unset

from nbcompose._service.handle import Service
from nbcompose.errors import DeclarationError
from tests.conftest import Running
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

SET = {
    "decimal": 7,
    "numpy": "raise",
    "language": "en",
    "gradients": False,
    "inference": True,
    "device": "meta",
    "autocast": True,
    "dtype": "torch.float64",
    "threads": 1,
}
PLAIN = {
    "decimal": 28,
    "numpy": "warn",
    "language": "none",
    "gradients": True,
    "inference": False,
    "device": "cpu",
    "autocast": False,
    "dtype": "torch.float32",
}


@pytest.fixture(scope="module", params=["torch", None], ids=["forked", "cold"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"NBCOMPOSE_ZYGOTE": "0"} if request.param is None else {"NBCOMPOSE_PRELOAD": request.param}


@pytest.mark.parametrize(("service", "wanted"), [(InInit, SET), (InHook, SET), (InAsyncHook, SET), (Unset, PLAIN)])
def test_everywhere(running: Running, service: Service, wanted: dict[str, Any]) -> None:
    proxy = running.up(service)
    url = running.registry.url(service.name)
    calls = [running.in_thread(proxy.sync) for _ in range(2)]
    in_threads = [call.result(PATIENCE) for call in calls]
    over_http = [running.in_thread(httpx.post, f"{url}/sync", json={}, timeout=PATIENCE) for _ in range(2)]
    in_threads += [call.result(PATIENCE).json() for call in over_http]
    assert sorted(found.pop("thread") for found in in_threads) == sorted(["nbcompose-api-0", "nbcompose-api-1"] * 2)
    others = [proxy.on_loop(), *proxy.items(), *proxy.items_on_loop(), *proxy.batch([1, 2])]
    others.append(httpx.post(f"{url}/on_loop", json={}, timeout=PATIENCE).json())
    others += httpx.post(f"{url}/batch", json={"n": [1]}, timeout=PATIENCE).json()
    for found in [*in_threads, *others]:
        assert {name: found[name] for name in wanted} == wanted


def test_a_dependency_that_init_makes_is_refused(running: Running) -> None:
    message = r"MadeInInit\.__init__ puts depends\('Unset'\) into self\.unset, .* write `unset = depends\('Unset'\)`"
    running.deploy(Unset)
    running.deploy(MadeInInit)
    status = running.registry.wait("MadeInInit")
    assert status.state == "failed"
    assert "DeclarationError" in status.error
    assert "write `unset = depends('Unset')` in the body of the class, above __init__" in status.error
    with pytest.raises(DeclarationError, match=message):
        MadeInInit()
