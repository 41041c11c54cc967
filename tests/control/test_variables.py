"""A fork has the environment of a cold start; a replica starts cold only where a library has read what differs."""

from __future__ import annotations

import os

import pytest
from born_services import Variables

from nbcompose import service
from tests.conftest import SERVICES, Running
from tests.handles import handle

pytestmark = pytest.mark.system

GIVEN = {"GIVEN": "at the start", "GIVEN_TOO": "at the start"}


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"NBCOMPOSE_PRELOAD": "reads_variables", "PYTHONPATH": str(SERVICES), **GIVEN}


def cold(running: Running) -> str:
    return running.registry.status("Variables").replicas[0].cold


CHANGES = [
    pytest.param({"OPENAI_API_KEY": "x"}, id="new"),
    pytest.param({"GIVEN": "another"}, id="changed"),
    pytest.param({"GIVEN": None}, id="removed"),
    pytest.param({"GIVEN": ""}, id="empty"),
    pytest.param({"ODD": "ü \udcff = \n"}, id="not text"),
    pytest.param({"KMP_INIT_AT_FORK": "FALSE"}, id="set by scikit-learn"),
    pytest.param({"READ_LATER": "x"}, id="read when used"),
    pytest.param({"SET_AT_IMPORT": "by the library"}, id="set by the library here too"),
    pytest.param({"SET_AT_IMPORT": "by the user"}, id="set by the library in any case"),
    pytest.param({"NBCOMPOSE_TOKEN": "x", "PWD": "/"}, id="of no meaning to a library"),
    pytest.param({"GIVEN": None, "GIVEN_TOO": "b", "NEW": "c"}, id="several"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_fork_has_the_variables_of_the_kernel_as_they_are(
    running: Running, monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None]
) -> None:
    for name, value in change.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    warm = running.up(Variables)
    assert cold(running) == ""
    expected = {**GIVEN, **change, "SET_AT_IMPORT": "by the library", "READ_BY_SETDEFAULT": "a default"}
    for name, value in expected.items():
        assert warm.read(name) == (value, value), name


def test_a_fork_has_the_variables_of_a_cold_start(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW", "x")
    monkeypatch.delenv("GIVEN")
    forked = running.up(Variables).all("reads_variables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBCOMPOSE_ZYGOTE", "0")
        alone = Running()
        try:
            started = alone.up(Variables).all("reads_variables")
        finally:
            alone.close()
    assert started.pop("NBCOMPOSE_ZYGOTE") == "0"
    assert forked == started


@pytest.mark.parametrize("change", CHANGES)
def test_the_variables_of_a_service_reach_a_fork(running: Running, change: dict[str, str | None]) -> None:
    envs = {name: value for name, value in change.items() if value is not None and name != "SET_AT_IMPORT"}
    warm = running.up(service(envs=envs)(handle(Variables).inner))
    assert cold(running) == ""
    for name, value in {**GIVEN, **envs}.items():
        assert warm.read(name) == (value, value), name
    running.up(Variables)  # and no other service
    for name in envs:
        assert running.registry.proxy("Variables").read(name) == (os.environ.get(name),) * 2


@pytest.mark.parametrize(
    "name",
    ["READ_BY_GET", "READ_BY_GETENV", "READ_BY_IN", "READ_AS_BYTES", "READ_BY_SETDEFAULT", "READ_BY_ITEM"],
)
@pytest.mark.parametrize("own", [False, True], ids=["kernel", "service"])
def test_what_a_library_has_read_starts_cold_and_says_who(
    running: Running, monkeypatch: pytest.MonkeyPatch, name: str, own: bool
) -> None:
    if own:
        started = running.up(service(envs={name: "other", "NEW": "x"})(handle(Variables).inner))
    else:
        monkeypatch.setenv(name, "other")
        monkeypatch.setenv("NEW", "x")
        started = running.up(Variables)
    assert cold(running) == f"the environment differs: {name}, which reads_variables read when it was imported"
    assert started.read(name) == ("other", "other")
    assert started.read("NEW") == ("x", "x")


def test_what_native_code_may_have_read_starts_cold_and_says_who(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # OpenBLAS, which numpy brings
    running.up(Variables)
    assert cold(running).startswith("the environment differs: OMP_NUM_THREADS, which lib")
    assert cold(running).endswith(" may have read when it was loaded")


def test_a_library_that_goes_through_all_of_them_has_read_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "goes_through_variables")
    monkeypatch.setenv("PYTHONPATH", str(SERVICES))
    own = Running()
    try:
        own.up(Variables)
        assert cold(own) == ""
        monkeypatch.setenv("NEW", "x")
        own.up(service(name="Next")(handle(Variables).inner))
        reason = own.registry.status("Next").replicas[0].cold
        assert reason == "the environment differs: NEW, which goes_through_variables read when it was imported"
    finally:
        own.close()
