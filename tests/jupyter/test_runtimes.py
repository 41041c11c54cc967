"""Real kernels of a Jupyter server, and a real `nbcompose serve`: found, listed, and gone again."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from nbcompose._jupyter.finding import Runtimes, UnknownRuntime
from nbcompose._protocol import messages
from tests.jupyter.conftest import LOAD, Changes
from tests.serve_process import serving

pytestmark = pytest.mark.system


async def listed(fetch: Any, runtime: str) -> dict[str, Any]:
    found = json.loads((await fetch("nbcompose", "api", "services", request_timeout=60)).body)["runtimes"]
    return next(one for one in found if one["id"] == runtime)


async def test_a_notebook_is_found_by_its_path_also_busy_renamed_and_after_a_restart(
    notebook: Any, runtimes: Runtimes, changes: Changes, jp_fetch: Any
) -> None:
    first = await changes.until("started", lambda runtime: runtime.id == notebook.kernel)
    assert await runtimes.find(notebook.kernel) is first
    assert await runtimes.find("notes/tables.ipynb") is first

    await notebook.run("import threading\nprint('busy', flush=True)\nthreading.Event().wait()", wait=False)
    one = await listed(jp_fetch, notebook.kernel)
    assert (one["kind"], one["path"], one["title"]) == ("kernel", "notes/tables.ipynb", "tables.ipynb")
    [table] = one["services"]
    assert (table["name"], table["state"]) == ("Table", "ready")
    assert table["link"] == f"/a%40b/nbcompose/at/{notebook.kernel}/Table/"
    assert "url" not in table
    assert "token" not in json.dumps(one)

    await notebook.change(path="notes/renamed.ipynb", name="renamed.ipynb")
    assert (await listed(jp_fetch, notebook.kernel))["title"] == "renamed.ipynb"
    assert await runtimes.find("notes/renamed.ipynb") is first
    with pytest.raises(UnknownRuntime):
        await runtimes.find("notes/tables.ipynb")

    await notebook.restart()
    assert await changes.until("ended", lambda runtime: runtime.id == notebook.kernel) is first
    with pytest.raises(UnknownRuntime):
        await runtimes.find(notebook.kernel)  # nothing is loaded in the new process
    await notebook.run(LOAD)
    second = await changes.until("started", lambda runtime: runtime.id == notebook.kernel and runtime is not first)
    assert await runtimes.find("notes/renamed.ipynb") is second
    assert (await second.client.ask({"type": "ps"}, messages.Ps))["services"] == []

    notebook.process.send_signal(signal.SIGKILL)
    assert await changes.until("ended", lambda runtime: runtime is second) is second


async def test_a_path_is_the_kernel_that_the_open_session_has_now(
    open_notebook: Any, runtimes: Runtimes, changes: Changes
) -> None:
    one, other = await open_notebook("a.ipynb"), await open_notebook("b.ipynb")
    first, second = one.kernel, other.kernel
    for notebook in (one, other):
        await notebook.run(LOAD)
        await changes.until("started", lambda runtime, kernel=notebook.kernel: runtime.id == kernel)  # type: ignore[misc]
    assert (await runtimes.find("a.ipynb")).id == first
    await one.change(kernel={"id": second})
    assert (await runtimes.find("a.ipynb")).id == second


async def test_unloading_the_extension_is_an_end(notebook: Any, runtimes: Runtimes, changes: Changes) -> None:
    runtime = await runtimes.find(notebook.kernel)
    await notebook.run("%unload_ext nbcompose")
    assert await changes.until("ended", lambda ended: ended.id == notebook.kernel) is runtime


async def test_a_program_is_found_when_it_begins_and_stops_when_it_is_killed(
    runtimes: Runtimes, changes: Changes, jp_fetch: Any
) -> None:
    with serving("chain_services:Leaf", "--port", "0") as served:
        name = f"serve-{served.process.pid}"
        runtime = await changes.until("started", lambda runtime: runtime.id == name)
        assert await runtimes.find(name) is runtime
        one = await listed(jp_fetch, name)
        assert (one["kind"], one["kernel"], one["path"], one["trouble"]) == ("serve", "", "", "")
        assert [service["name"] for service in one["services"]] == ["Leaf"]
        served.process.kill()
        assert await changes.until("ended", lambda ended: ended.id == name) is runtime
