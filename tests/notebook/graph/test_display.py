"""`%graph`, `nbcompose.graph()` and `Answer.graph()` in a real shell, and a picture that changes in a real kernel."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from typing import Any

import pytest

from nbcompose._control.picture.rendering import EXAMPLE

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py, which is no module that could be imported
Kernel = Any

CHAIN = """
%%service
class Echo:
    @api
    def say(self, text: str) -> str:
        return text

class Tokens:
    @api
    def stream(self, text: str) -> "Iterator[str]":
        yield from text

class Top:
    echo = depends(Echo)
    tokens = depends(Tokens)
    @api
    def say(self, text: str) -> str:
        return self.echo.say(text)

class Other:
    @api
    def say(self, text: str) -> str:
        return text
"""

BELOW = """\
Top        ready, cpu, 1 replica
├─ Echo    ready, cpu, 1 replica
└─ Tokens  ready, cpu, 1 replica (streams)"""

WHOLE = f"{BELOW}\nOther      ready, cpu, 1 replica"
ECHO = "%%service\nclass Echo:\n    @api\n    def say(self, text: str) -> str:\n        return text\n"
OUTPUTS = "print(sum(k.startswith('graph in') for k in get_ipython().meta['nbcompose'].lingering))"


@pytest.fixture
def chain(clean: Notebook) -> Notebook:
    clean.ok("import nbcompose\nfrom collections.abc import Iterator")
    clean.ok(CHAIN)
    return clean


def test_an_empty_notebook(clean: Notebook) -> None:
    ran = clean.ok("%graph")
    assert ran.plain.startswith("No service runs. Put %%service in the first line")
    assert "<pre>%%service\nfrom nbcompose import api\n" in ran.html


def test_the_example_of_an_empty_graph_runs(clean: Notebook) -> None:
    assert clean.ok(EXAMPLE).plain.startswith("Greeter is ready")
    assert clean.ok("Greeter.greet('Ada')").result == "Hello, Ada!"


def test_all_services(chain: Notebook) -> None:
    for source in ("%graph", "nbcompose.graph()"):
        ran = chain.ok(source)
        assert ran.plain == WHOLE
        assert ran.result is None


def test_what_is_below_one(chain: Notebook) -> None:
    for source in ("%graph Top", "Top.graph()", "nbcompose.graph('Top')", "nbcompose.graph(Top)"):
        assert chain.ok(source).plain == BELOW
    assert chain.ok("%graph Echo").plain == "Echo  ready, cpu, 1 replica"


def test_the_output_is_html_with_a_picture_and_a_table(chain: Notebook) -> None:
    [bundle] = chain.ok("%graph").displays
    assert set(bundle) == {"text/plain", "text/html"}
    html = bundle["text/html"]
    assert re.match(r'<div class="nbc-graph" data-graph="[0-9a-f]{32}" ', html)
    found = re.search(r'<img alt="[^"]+" width="\d+" height="\d+" [^>]*src="data:image/svg\+xml;base64,([^"]+)">', html)
    assert found is not None
    svg = base64.b64decode(found[1]).decode()
    assert 'id="edge:Top:Tokens" class="nbc-edge nbc-stream"' in svg
    assert 'id="edge:Top:Echo" class="nbc-edge"' in svg
    assert html.count('<th scope="row">') == 4


def test_two_outputs_are_told_apart(chain: Notebook) -> None:
    ids = re.findall(r'data-graph="(\w+)"', chain.ok("%graph\n%graph Top").html)
    assert len(set(ids)) == 2


def test_a_name_that_is_not_there(chain: Notebook) -> None:
    for source in ("%graph Answr", "nbcompose.graph('Answr')"):
        ran = chain.run(source)
        assert "UnknownService: no service is called 'Answr'; there are: Echo, Tokens, Other, Top" in ran.error
        assert "nbcompose/_" not in ran.error  # no frames of ours


def test_a_service_that_was_stopped(chain: Notebook) -> None:
    chain.ok("%services stop Other")
    assert "Other does not run: run the cell that defines it" in chain.run("Other.graph()").error


def test_help_and_completion(chain: Notebook) -> None:
    assert "a service: only what is below it is shown" in chain.shell.find_line_magic("graph").__doc__
    assert chain.complete("%graph To") == ["Tokens", "Top"]
    assert "usage" not in chain.ok("%graph").stdout
    assert "unrecognized arguments: Other" in chain.run("%graph Top Other").error


def test_without_a_notebook() -> None:
    done = subprocess.run([sys.executable, "-c", "import nbcompose; nbcompose.graph()"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "NbcomposeError: a graph is shown in a notebook: run `%load_ext nbcompose`" in done.stderr


def test_an_api_cannot_hide_it(chain: Notebook) -> None:
    ran = chain.run(ECHO.replace("say", "graph"))
    assert "an api cannot be called 'graph'" in ran.error


def shows(kernel: Kernel, cell: str, plain: str) -> dict[str, Any]:
    """Wait until that stands under the cell."""

    def found(message: dict[str, Any]) -> bool:
        content = message["content"]
        return kernel.parent(message) == cell and content.get("data", {}).get("text/plain") == plain

    return dict(kernel.until(found))


def test_a_picture_changes_with_its_services(kernel: Kernel) -> None:
    cell = kernel.send("%graph")
    empty = kernel.finished(cell).displays[0]
    kernel.ok(ECHO)
    message = shows(kernel, cell, "Echo  ready, cpu, 1 replica")
    assert message["msg_type"] == "update_display_data"
    element = r'data-graph="(\w+)"'
    assert re.findall(element, message["content"]["data"]["text/html"]) == re.findall(element, empty["text/html"])
    kernel.messages.clear()
    kernel.ok("%services stop Echo")
    assert "data:image" not in shows(kernel, cell, empty["text/plain"])["content"]["data"]["text/html"]


def test_what_is_below_one_changes_with_it(kernel: Kernel) -> None:
    kernel.ok(ECHO)
    first, second = kernel.send("Echo.graph()"), kernel.send("%graph")
    kernel.finished(second)
    kernel.ok("%services scale Echo 2")
    for cell in (first, second):
        shows(kernel, cell, "Echo  ready, cpu, 2 replicas")
    kernel.ok("%services stop Echo")
    shows(kernel, first, "Echo was stopped.")


def test_a_cell_that_runs_again_has_only_its_new_outputs(own_kernel: Kernel) -> None:
    def run(cell: str, code: str = "%graph") -> None:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = own_kernel.client.session.msg("execute_request", content, metadata={"cellId": cell})
        own_kernel.client.shell_channel.send(message)
        own_kernel.finished(message["header"]["msg_id"])

    for cell in ("a", "a", "b", "a"):
        run(cell)
    assert own_kernel.ok(OUTPUTS).stdout.strip() == "2"
    run("a", "%graph\n%graph")
    assert own_kernel.ok(OUTPUTS).stdout.strip() == "3"
    for i in range(20):
        run(f"cell {i}")
    assert own_kernel.ok(OUTPUTS).stdout.strip() == "16"
    own_kernel.ok("session = get_ipython().meta['nbcompose']\n%unload_ext nbcompose")
    assert own_kernel.ok("print(len(session.lingering))").stdout.strip() == "0"


def test_without_widgets_the_picture_still_changes(own_kernel: Kernel) -> None:
    own_kernel.ok("import sys\nsys.modules['anywidget'] = None")
    cell = own_kernel.send("%graph")
    own_kernel.finished(cell)
    own_kernel.ok(ECHO)
    shows(own_kernel, cell, "Echo  ready, cpu, 1 replica")
    assert not [m for m in own_kernel.messages if m["msg_type"] == "comm_open"]


def test_while_the_widget_shows_it_only_what_lasts_is_drawn_anew(kernel: Kernel) -> None:
    cell = kernel.send("%graph")
    kernel.finished(cell)
    [opened] = [
        m for m in kernel.messages
        if m["msg_type"] == "comm_open" and kernel.parent(m) == cell and "element" in m["content"]["data"]["state"]
    ]  # fmt: skip
    for asked in ({"id": "1", "type": "look", "on": True, "client": "test"}, {"id": "2", "type": "traces"}):
        data = {"method": "custom", "content": asked}
        content = {"comm_id": opened["content"]["comm_id"], "data": data}
        kernel.client.shell_channel.send(kernel.client.session.msg("comm_msg", content))
    kernel.until(lambda m: m["content"].get("data", {}).get("content", {}).get("type") == "traces")
    kernel.ok(ECHO)
    shows(kernel, cell, "Echo  ready, cpu, 1 replica")
    updates = [m for m in kernel.messages if m["msg_type"] == "update_display_data" and kernel.parent(m) == cell]
    assert len(updates) == 1


def test_the_widget_itself_where_a_picture_cannot_become_live(kernel: Kernel) -> None:
    kernel.ok(ECHO)
    view = "application/vnd.jupyter.widget-view+json"
    for source in ("%graph --live", "%graph Echo --live", "import nbcompose\nnbcompose.graph('Echo', live=True)"):
        [bundle] = kernel.ok(source).displays
        opened = next(
            m for m in kernel.messages
            if m["msg_type"] == "comm_open" and m["content"]["comm_id"] == bundle[view]["model_id"]
        )  # fmt: skip
        state = opened["content"]["data"]["state"]
        assert state["element"] == ""
        assert [s["name"] for s in state["state"]["services"]] == ["Echo"]


def test_the_widget_itself_without_widgets(own_kernel: Kernel) -> None:
    own_kernel.ok("import sys\nsys.modules['anywidget'] = None")
    assert "a live graph needs anywidget: run `pip install anywidget`" in own_kernel.run("%graph --live").error
