"""`with nbcompose.run(Answer) as answer:` in real replicas."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import nbcompose
from nbcompose import api, depends, service
from nbcompose.errors import CycleError, LaunchError, NbcomposeError
from tests.handles import handle
from tests.patience import PATIENCE

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def _light_zygotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each graph has a zygote of its own, which these services need not wait for."""
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "json")


@service
class Leaf:
    @api
    async def add(self, x: int) -> int:
        return x + 1

    @api
    def connect(self) -> str:
        return "an api may have this name"


@service
class Top:
    leaf = depends(Leaf)

    @api
    async def times(self, x: int) -> int:
        return await self.leaf.add(x) * 10


class Plain:
    @api
    def f(self) -> str:
        return "plain"


@service
class Fails:
    def __init__(self) -> None:
        raise ValueError("no weights")

    @api
    def f(self) -> None: ...


def children() -> set[int]:
    return {p.pid for p in psutil.Process().children(recursive=True)}


def test_a_graph_runs_while_the_block_does() -> None:
    before = children()
    with nbcompose.run(Top) as top:
        assert top is Top
        assert top.times(1) == Top.times(1) == 20
        assert Leaf.add(3) == 4
        assert Leaf.connect() == "an api may have this name"
        assert handle(top).url == ""
    assert children() == before
    with pytest.raises(NbcomposeError, match=r"Top does not run: .*`with nbcompose.run\(Top\):`"):
        Top.times(1)


def test_several_services_and_a_plain_class() -> None:
    with nbcompose.run(Leaf, Plain) as (leaf, plain):
        assert leaf.add(1) == 2
        assert plain.f() == "plain"


async def test_in_async_code() -> None:
    async with nbcompose.run(Top) as top:
        assert await asyncio.gather(*(top.to_async.times(i) for i in range(3))) == [10, 20, 30]


def test_graphs_beside_and_inside_one_another() -> None:
    with nbcompose.run(Leaf):
        with nbcompose.run(Plain) as plain:
            assert (Leaf.add(1), plain.f()) == (2, "plain")
        assert Leaf.add(2) == 3


def test_over_http() -> None:
    with nbcompose.run(Leaf, http=True, token="secret") as leaf:
        assert leaf.token == "secret"
        assert httpx.post(f"{leaf.url}/add", json={"x": 1}).status_code == 401
        assert httpx.post(f"{leaf.url}/add", json={"x": 1}, headers={"Authorization": "Bearer secret"}).json() == 2


def test_a_service_that_cannot_start() -> None:
    before, lines = children(), list[str]()
    with pytest.raises(LaunchError, match="no weights"), nbcompose.run(Leaf, Fails, say=lines.append):
        pytest.fail("it was entered")
    assert children() == before
    assert any(line.startswith("Fails: it failed") for line in lines)
    with pytest.raises(NbcomposeError, match="Leaf does not run"):
        Leaf.add(1)


def test_an_error_in_the_block_ends_it() -> None:
    before = children()
    with pytest.raises(ZeroDivisionError), nbcompose.run(Leaf):
        raise ZeroDivisionError
    assert children() == before


@pytest.mark.parametrize(
    ("entries", "options", "error", "message"),
    [
        ((), {}, TypeError, "takes the service to run"),
        ((int,), {}, nbcompose.errors.DeclarationError, "has no api"),
        ((Leaf,), {"token": "a b"}, NbcomposeError, "no header can carry it"),
    ],
)
def test_wrong_use(entries: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nbcompose.run(*entries, **options)


def test_a_circle() -> None:
    @service
    class A:
        b = depends("B")

        @api
        def f(self) -> None: ...

    @service
    class B:
        a = depends(A)

        @api
        def f(self) -> None: ...

    with pytest.raises((CycleError, NbcomposeError)), nbcompose.run(B):
        pytest.fail("it was entered")


def test_it_is_entered_once() -> None:
    running = nbcompose.run(Leaf)
    with running:
        pass
    with pytest.raises(NbcomposeError, match="entered already"), running:
        pytest.fail("it was entered")


def test_in_a_script(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    body = """
        import nbcompose
        from nbcompose import api, service

        @service
        class Answer:
            @api
            def ask(self) -> int:
                return 42

        {guard}
            with nbcompose.run(Answer) as answer:
                print(answer.ask())
    """
    script.write_text(textwrap.dedent(body).format(guard='if __name__ == "__main__":'), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
    script.write_text(textwrap.dedent(body).format(guard="if True:"), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert 'under `if __name__ == "__main__":`' in done.stderr
