"""What a front end hears over a comm of a real kernel, where its Jupyter server does not see the process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest

from tests.notebook.conftest import Kernel
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

SUBSHELLS = int(version("ipykernel").partition(".")[0]) >= 7
SERVICES = """
%%service
from typing import Iterator

class Echo:
    @api
    def say(self, text: str) -> str:
        print("said", text, flush=True)
        return text + "!"

    @api
    def endless(self) -> Iterator[int]:
        yield from range(10**9)
"""
HELLO = {"type": "hello", "id": "hello", "protocol": 1, "version": "test"}
ENDS = ("result", "end", "failed", "cancelled", "done", "form", "logs", "planned", "here", "hello", "history")

Message = dict[str, Any]


class Page:
    """A front end: it opens a comm, and has its own ids."""

    serial = itertools.count()

    def __init__(self, kernel: Kernel, hello: Any = HELLO, subshell: str = "") -> None:
        self.kernel = kernel
        self.comm = f"page-{next(self.serial)}"
        self.since = len(kernel.messages)
        self._subshell = subshell
        self._send("comm_open", target_name="nbcompose", data=hello)

    def ask(self, **request: Any) -> str:
        request = {"id": f"request-{next(self.serial)}", **request}
        self._send("comm_msg", data=request)
        return str(request["id"])

    def close(self) -> None:
        self._send("comm_close", data={})

    def hear(self, found: Callable[[Message], bool]) -> Message:
        message = self.kernel.until(lambda m: bool(self._said(m)) and found(self._said(m)), self.since)
        return self._said(message)

    def ended(self, request: str) -> Message:
        return self.hear(lambda m: m.get("id") == request and m["type"] in ENDS)

    def is_closed(self) -> None:
        """Wait until the kernel has closed the comm."""
        self.kernel.until(lambda m: m["msg_type"] == "comm_close" and m["content"]["comm_id"] == self.comm, self.since)

    def _said(self, message: Message) -> Message:
        content = message["content"]
        return content["data"] if message["msg_type"] == "comm_msg" and content["comm_id"] == self.comm else {}

    def _send(self, kind: str, **content: Any) -> None:
        client = self.kernel.client
        message = client.session.msg(kind, {"comm_id": self.comm, **content})
        if self._subshell:
            message["header"]["subshell_id"] = self._subshell
        client.shell_channel.send(message)


def comms(kernel: Kernel) -> dict[str, Any]:
    """What `comm_info` tells of ours."""
    client = kernel.client
    message = client.session.msg("comm_info_request", {"target_name": "nbcompose"})
    client.shell_channel.send(message)
    while True:
        reply = client.get_shell_msg(timeout=PATIENCE)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            return dict(reply["content"]["comms"])


@pytest.fixture(scope="module")
def served(shared_kernel: Kernel) -> Kernel:
    shared_kernel.ok(SERVICES)
    return shared_kernel


@pytest.fixture
def page(served: Kernel) -> Iterator[Page]:
    page = Page(served)
    yield page
    page.close()


def test_a_kernel_is_found_by_comm_info_and_nothing_was_sent_for_that(served: Kernel) -> None:
    assert len(comms(served)) == 1
    ours = [m for m in served.messages if m["msg_type"] == "comm_open" and m["content"]["target_name"] == "nbcompose"]
    assert not ours


def test_it_says_who_it_is_and_how_its_services_are(page: Page) -> None:
    hello = page.ended("hello")
    assert (hello["type"], hello["pid"]) == ("hello", page.kernel.pid)
    watch = page.ask(type="watch", brief=True)
    state = page.hear(lambda m: m["id"] == watch)
    assert [(s["name"], s["state"]) for s in state["services"]] == [("Echo", "ready")]


def test_calls_logs_and_actions_are_answered_as_on_the_socket(page: Page) -> None:
    called = page.ask(type="call", service="Echo", api="say", arguments={"text": "hello"})
    assert page.ended(called)["bundle"]["text/plain"] == "hello!"
    assert page.ended(page.ask(type="form", service="Echo", api="say"))["schema"]["required"] == ["text"]
    assert "said hello" in page.ended(page.ask(type="logs", service="Echo"))["lines"]
    planned = page.ended(page.ask(type="plan", cells=[{"cell": "c", "text": SERVICES.strip()}]))
    assert [s["service"] for s in planned["cells"][0]["services"]] == ["Echo"]
    before = page.ask(type="watch")
    state = page.hear(lambda m: m.get("id") == before and m["services"][0]["calls"] > 0)
    served, calls = state["services"][0]["serving"], state["services"][0]["calls"]
    assert page.ended(page.ask(type="restart", service="Echo"))["type"] == "done"
    after = page.ask(type="watch")
    state = page.hear(lambda m: m.get("id") == after and m["services"][0]["serving"] > served)  # it has taken over
    assert state["services"][0]["calls"] >= calls


@pytest.mark.parametrize("request_", [{"type": "reach", "service": "Echo"}, {"type": "debug", "service": "Echo"}])
def test_tokens_and_the_debugger_are_not_to_be_had(page: Page, request_: Message) -> None:
    failed = page.ended(page.ask(**request_))
    assert (failed["type"], failed["name"]) == ("failed", "ProtocolError")
    assert "knows no request" in failed["message"]


def test_what_is_no_request_is_refused_and_the_comm_goes_on(page: Page) -> None:
    for wrong in ({"type": "watch", "brief": "yes"}, {"type": "call", "service": 3, "api": "say"}):
        assert page.ended(page.ask(**wrong))["name"] == "ProtocolError"
    page._send("comm_msg", data=["no object"])
    assert page.ended(page.ask(type="look", client="lab", on=True))["type"] == "here"


@pytest.mark.parametrize("hello", [{}, {**HELLO, "protocol": 99}, {"type": "watch", "id": "hello"}, "hello"])
def test_who_does_not_greet_is_told_so_and_closed(served: Kernel, hello: Any) -> None:
    page = Page(served, hello)
    assert page.hear(lambda m: m["type"] == "failed")["name"] == "ProtocolError"
    page.is_closed()


def test_two_pages_have_ids_of_their_own_and_what_a_closed_one_asked_for_is_cancelled(served: Kernel) -> None:
    one, other = Page(served), Page(served)
    for page in (one, other):
        page.ask(id="same", type="call", service="Echo", api="endless")
        page.hear(lambda m: m["id"] == "same" and m["type"] in ("item", "items"))
    one.close()
    watch = other.ask(type="watch")
    other.hear(lambda m: m["id"] == watch and m["services"][0]["in_flight"] == 1)
    other.ask(type="cancel", id="same")
    assert other.ended("same")["type"] == "cancelled"
    other.close()


def test_a_page_that_has_gone_without_a_word_is_closed(served: Kernel) -> None:
    served.ok("from nbcompose._notebook import comm_target\ncomm_target.LEASE = 0.2")
    page = Page(served)
    page.is_closed()
    served.ok("comm_target.LEASE = 60.0")


@pytest.mark.skipif(not SUBSHELLS, reason="ipykernel 6 has no subshells")
def test_it_is_answered_while_a_cell_runs_over_a_subshell(served: Kernel) -> None:
    control = served.client.session.msg("create_subshell_request", {})
    served.client.control_channel.send(control)
    subshell = served.client.get_control_msg(timeout=PATIENCE)["content"]["subshell_id"]
    cell = served.send("import threading\nprint('it runs', flush=True)\nthreading.Event().wait()")
    served.until(lambda m: m["msg_type"] == "stream" and "it runs" in m["content"]["text"])
    page = Page(served, subshell=subshell)
    called = page.ask(type="call", service="Echo", api="say", arguments={"text": "meanwhile"})
    assert page.ended(called)["bundle"]["text/plain"] == "meanwhile!"
    page.close()
    served.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in served.finished(cell).error


def test_without_a_subshell_it_hears_after_the_cell_and_says_meanwhile_how_it_is(served: Kernel) -> None:
    page = Page(served)
    watch = page.ask(type="watch")
    before = page.hear(lambda m: m["id"] == watch)["services"][0]["calls"]
    cell = served.send(
        "import threading\nprint('it runs now', flush=True)\nEcho.say('in the cell')\nthreading.Event().wait()"
    )
    served.until(lambda m: m["msg_type"] == "stream" and "it runs now" in m["content"]["text"])
    asked = page.ask(type="look", client="lab", on=True)
    page.hear(lambda m: m["id"] == watch and m["services"][0]["calls"] > before)
    assert not [m for m in served.messages if page._said(m).get("id") == asked]
    served.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in served.finished(cell).error
    assert page.ended(asked)["type"] == "here"
    page.close()


def test_after_unloading_nothing_is_left(own_kernel: Kernel) -> None:
    page = Page(own_kernel)
    page.ended("hello")
    own_kernel.ok("%reload_ext nbcompose")  # which the services survive, and who looks at them
    assert page.ended(page.ask(type="look", client="lab", on=True))["type"] == "here"
    own_kernel.ok("%unload_ext nbcompose")
    page.is_closed()
    assert comms(own_kernel) == {}
    own_kernel.ok("%load_ext nbcompose")
    assert len(comms(own_kernel)) == 1
