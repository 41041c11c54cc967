"""The widget as a front end has it: the comm of a real kernel, asked by messages as the browser asks."""

from __future__ import annotations

import base64
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
import asyncio
from typing import Iterator
from tests.patience import PATIENCE

class Writer:
    @api
    def write(self, words: int = 3) -> Iterator[str]:
        for i in range(words):
            yield f"w{i} "

    @api
    def endless(self) -> Iterator[int]:
        yield from range(10**9)

class Answer:
    writer = depends(Writer)

    @api
    def ask(self, question: str, times: int = 1) -> dict:
        print("asked", question, flush=True)
        if question == "fail":
            raise LookupError("no answer to that")
        return {"text": "".join(self.writer.write(times)), "times": times}

    @api
    async def wait(self) -> None:
        await asyncio.Event().wait()

    @api
    def size(self, data: bytes) -> int:
        return len(data)
"""
ATTACH = """
from nbcompose._notebook import session as sessions
from nbcompose._notebook.graph import widget
widget.LEASE = 3600.0  # this front end does not renew it
_session = sessions.current(get_ipython())
_widget = widget.attach("element-{n}", _session)
"""

Message = dict[str, Any]


class FrontEnd:
    """Sends what static/src sends, and hears what it hears."""

    serial = itertools.count()

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.element = f"element-{next(self.serial)}"
        kernel.ok(ATTACH.format(n=self.element.removeprefix("element-")))
        opened = kernel.until(lambda m: m["msg_type"] == "comm_open" and self.opened(m)["element"] == self.element)
        self.comm = opened["content"]["comm_id"]
        self.first = self.opened(opened)

    @staticmethod
    def opened(message: Message) -> Message:
        state = message["content"]["data"].get("state", {})
        return {"element": None, **state}

    def send(self, subshell: str = "", **content: Any) -> int:
        """Returns where to hear from: what comes after this message."""
        start = len(self.kernel.messages)
        client = self.kernel.client
        data = {"method": "custom", "content": {"id": f"message-{next(self.serial)}", **content}}
        message = client.session.msg("comm_msg", {"comm_id": self.comm, "data": data})
        if subshell:
            message["header"]["subshell_id"] = subshell
        client.shell_channel.send(message)
        return start

    def data(self, message: Message) -> Message:
        """What a message of this widget carries; {} for others."""
        content = message["content"]
        return content["data"] if message["msg_type"] == "comm_msg" and content["comm_id"] == self.comm else {}

    def hear(self, found: Callable[[Message], bool], since: int = 0) -> Message:
        def wanted(message: Message) -> bool:
            content: Message = self.data(message).get("content") or {}
            return bool(content) and found(content)

        return self.data(self.kernel.until(wanted, since))["content"]

    def state(self, found: Callable[[Message], bool], since: int = 0) -> Message:
        def wanted(message: Message) -> bool:
            state = self.data(message).get("state", {}).get("state")
            return bool(state) and found(state)

        return self.data(self.kernel.until(wanted, since))["state"]["state"]

    def call(self, service: str, api: str, **arguments: Any) -> str:
        call = f"call-{next(self.serial)}"
        self.send(type="call", id=call, service=service, api=api, arguments=arguments)
        return call

    def ended(self, call: str) -> Message:
        ends = ("result", "end", "failed", "cancelled")
        return self.hear(lambda m: m.get("id") == call and m["type"] in ends)

    def items(self, call: str) -> list[str]:
        """The texts of the items that came; read after the end."""
        told = [self.data(m).get("content", {}) for m in self.kernel.messages]
        single = [m for m in told if m.get("id") == call and m["type"] in ("item", "items")]
        return [i["bundle"]["text/plain"] for m in single for i in (m["items"] if m["type"] == "items" else [m])]


BOTH = "widget.attach('a', _session)\nwidget.attach('b', _session)\nNone"


def run_as(kernel: Kernel, cell: str, code: str) -> list[str]:
    """Run code as the cell of that id; returns the comms that it opens."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    message = kernel.client.session.msg("execute_request", content, metadata={"cellId": cell})
    kernel.client.shell_channel.send(message)
    number = message["header"]["msg_id"]
    assert not kernel.finished(number).error
    opened = [m for m in kernel.messages if m["msg_type"] == "comm_open" and kernel.parent(m) == number]
    return [m["content"]["comm_id"] for m in opened if FrontEnd.opened(m)["element"] is not None]


@pytest.fixture
def front(shared_kernel: Kernel) -> Iterator[FrontEnd]:
    """A widget of its own. The services are those of the tests before, where these have left them."""
    shared_kernel.ok(SERVICES)
    yield FrontEnd(shared_kernel)
    shared_kernel.ok("widget.leave_all()")


def subshell(kernel: Kernel) -> str:
    """As JupyterLab has one for widgets."""
    if not SUBSHELLS:
        pytest.skip("this ipykernel has no subshells")
    client = kernel.client
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    reply = client.get_control_msg(timeout=PATIENCE)
    return str(reply["content"]["subshell_id"])


def test_it_opens_with_the_whole_state_and_its_front_end(front: FrontEnd) -> None:
    state = front.first["state"]
    assert [s["name"] for s in state["services"]] == ["Writer", "Answer"]
    assert {s["state"] for s in state["services"]} == {"ready"}
    assert [(e["from"], e["to"]) for e in state["edges"]] == [("Answer", "Writer")]
    assert 'id="node:Answer"' in front.first["svg"]
    assert not state["svg"]  # it comes only when it has changed
    assert front.first["empty"].startswith("No service runs.")
    assert "export default" in front.first["_esm"]
    assert ".nbc-app" in front.first["_css"]


def test_a_form_comes_when_it_is_asked_for(front: FrontEnd) -> None:
    since = front.send(type="form", service="Answer", api="ask")
    form = front.hear(lambda m: m["type"] == "form", since)
    assert form["schema"]["required"] == ["question"]
    assert form["copies"]["python"].startswith("Answer.ask(")


def test_a_call_gives_its_result_also_to_the_notebook(front: FrontEnd) -> None:
    ended = front.ended(front.call("Answer", "ask", question="why", times=2))
    assert ended["type"] == "result"
    assert ended["bundle"]["application/json"] == {"text": "w0 w1 ", "times": 2}
    assert ended["seconds"] > 0
    assert front.kernel.ok("_graph.result").result == "{'text': 'w0 w1 ', 'times': 2}"
    assert front.kernel.ok("_graph").result == "_graph.result is what Answer.ask returned last: dict"


def test_a_call_is_answered_while_a_cell_runs(front: FrontEnd) -> None:
    thread = subshell(front.kernel)
    cell = front.kernel.send("import threading\nprint('it runs', flush=True)\nthreading.Event().wait()")
    front.kernel.until(lambda m: m["msg_type"] == "stream" and "it runs" in m["content"]["text"])
    arguments = {"question": "meanwhile", "times": 1}
    front.send(thread, type="call", id="meanwhile", service="Answer", api="ask", arguments=arguments)
    assert front.ended("meanwhile")["bundle"]["application/json"]["text"] == "w0 "
    front.kernel.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in front.kernel.finished(cell).error


def test_a_call_that_has_nothing_to_tell_says_that_it_has_begun(front: FrontEnd) -> None:
    since = front.send(type="call", id="long", service="Answer", api="wait", arguments={})
    assert front.hear(lambda m: m.get("id") == "long", since)["type"] == "begun"
    front.send(type="cancel", id="long")
    assert front.ended("long")["type"] == "cancelled"


def test_each_look_is_answered_so_that_a_busy_kernel_can_be_told(front: FrontEnd) -> None:
    since = front.send(type="look", client="one", on=True)
    front.hear(lambda m: m["type"] == "here", since)
    since = front.send(type="look", client="one", on=False)
    front.hear(lambda m: m["type"] == "here", since)


def test_items_come_as_they_are_made(front: FrontEnd) -> None:
    call = front.call("Writer", "write", words=5)
    assert front.ended(call)["type"] == "end"
    assert front.items(call) == ["w0 ", "w1 ", "w2 ", "w3 ", "w4 "]
    assert front.kernel.ok("_graph.result").result == "['w0 ', 'w1 ', 'w2 ', 'w3 ', 'w4 ']"


def test_an_endless_stream_can_be_cancelled(front: FrontEnd) -> None:
    call = front.call("Writer", "endless")
    front.hear(lambda m: m.get("id") == call and m["type"] in ("item", "items"))
    front.send(type="cancel", id=call)
    assert front.ended(call)["type"] == "cancelled"


def test_what_a_call_has_said_is_told_to_a_page_that_comes_later(front: FrontEnd) -> None:
    call = front.call("Writer", "endless")
    front.hear(lambda m: m.get("id") == call and m["type"] in ("item", "items"))
    since = front.send(type="kept", service="Writer", api="endless")
    kept = front.hear(lambda m: m["type"] == "kept", since)
    assert (kept["call"], kept["end"]) == (call, None)
    assert [i["bundle"]["text/plain"] for i in kept["items"][:2]] == ["0", "1"]
    assert kept["count"] >= len(kept["items"]) >= 1
    front.send(type="cancel", id=call)
    front.ended(call)
    since = front.send(type="kept", service="Writer", api="endless")
    assert front.hear(lambda m: m["type"] == "kept", since)["end"]["type"] == "cancelled"
    since = front.send(type="kept", service="Writer", api="never called")
    assert front.hear(lambda m: m["type"] == "kept", since)["call"] == ""
    told = [front.data(m).get("state", {}).get("last") for m in front.kernel.messages]
    assert {"service": "Writer", "api": "endless"} in told


def test_what_is_below_a_service_is_folded_and_shown_again(front: FrontEnd) -> None:
    def drawn(on: bool) -> str:
        since = front.send(type="fold", service="Answer", on=on)
        front.hear(lambda m: m["type"] == "done" and m["action"] == "fold", since)

        def has_picture(message: Message) -> bool:
            return "svg" in front.data(message).get("state", {})

        return str(front.data(front.kernel.until(has_picture, since))["state"]["svg"])

    front.send(type="look", client="one", on=True)
    folded = drawn(True)
    assert 'id="node:Writer"' not in folded
    assert ">+1<" in folded
    assert 'id="node:Writer"' in drawn(False)
    front.send(type="look", client="one", on=False)


def test_the_picture_is_sent_only_when_it_has_changed(front: FrontEnd) -> None:
    since = front.send(type="look", client="one", on=True)
    front.state(lambda s: True, since)
    quiet = len(front.kernel.messages)
    front.ended(front.call("Answer", "ask", question="seen"))
    front.state(lambda s: any(v["name"] == "Answer" and v["rate"] > 0 for v in s["services"]), quiet)
    assert not [m for m in front.kernel.messages[quiet:] if "svg" in front.data(m).get("state", {})]
    front.send(type="look", client="one", on=False)


def test_an_error_comes_with_its_remote_traceback(front: FrontEnd) -> None:
    failed = front.ended(front.call("Answer", "ask", question="fail"))
    assert (failed["type"], failed["name"], failed["message"]) == ("failed", "LookupError", "no answer to that")
    assert "Answer.ask" in failed["traceback"]
    assert "Cell In[" in failed["traceback"]
    assert 'raise LookupError("no answer to that")' in failed["traceback"]


def test_a_wrong_argument_is_named(front: FrontEnd) -> None:
    failed = front.ended(front.call("Answer", "ask", question="why", times="many"))
    assert failed["name"] == "InvalidArgument"
    assert failed["problems"][0]["loc"] == ["times"]


def test_a_file_is_sent_along(front: FrontEnd) -> None:
    data = base64.b64encode(b"x" * 1000).decode()
    upload = {"$upload": {"name": "x.bin", "type": "application/octet-stream", "data": data}}
    assert front.ended(front.call("Answer", "size", data=upload))["bundle"]["text/plain"] == "1000"


def test_logs_and_traces(front: FrontEnd) -> None:
    front.ended(front.call("Answer", "ask", question="loud"))
    since = front.send(type="logs", service="Answer", lines=50)
    assert "asked loud" in front.hear(lambda m: m["type"] == "logs", since)["lines"]
    since = front.send(type="traces")
    listed = front.hear(lambda m: m["type"] == "traces", since)["traces"]
    newest = next(t for t in listed if t["root"] == "Answer.ask")
    assert newest["spans"] == 2
    since = front.send(type="trace", trace=newest["trace"])
    rows = front.hear(lambda m: m["type"] == "trace", since)["rows"]
    assert [(r["service"], r["api"], r["depth"]) for r in rows] == [("Answer", "ask", 0), ("Writer", "write", 1)]


def test_updates_come_only_while_somebody_looks(front: FrontEnd) -> None:
    quiet = len(front.kernel.messages)
    front.ended(front.call("Answer", "ask", question="unseen"))
    front.kernel.ok("%services")
    assert not [m for m in front.kernel.messages[quiet:] if "state" in front.data(m).get("state", {})]
    since = front.send(type="look", client="one", on=True)
    state = front.state(lambda s: True, since)
    before = next(s["calls"] for s in state["services"] if s["name"] == "Answer")
    since = len(front.kernel.messages)
    front.call("Answer", "ask", question="seen")
    front.state(lambda s: any(v["name"] == "Answer" and v["calls"] > before for v in s["services"]), since)
    front.send(type="look", client="one", on=False)


def test_actions_and_what_is_refused(front: FrontEnd) -> None:
    since = front.send(type="restart", service="Writer")
    assert front.hear(lambda m: m["type"] in ("done", "failed"), since)["type"] == "done"
    front.kernel.ok("assert _session.registry.wait('Writer').state == 'ready'")
    since = front.send(type="scale", service="Writer", replicas=2)
    assert front.hear(lambda m: m["type"] in ("done", "failed"), since)["type"] == "done"
    assert front.kernel.ok("_session.registry.status('Writer').wanted").result == "2"
    since = front.send(type="scale", service="Writer", replicas=0)
    assert "whole number from 1" in front.hear(lambda m: m["type"] == "failed", since)["message"]
    since = front.send(type="rollback", service="Nobody")
    assert front.hear(lambda m: m["type"] == "failed", since)["service"] == "Nobody"
    since = front.send(type="form", service="Nobody", api="x")
    assert front.hear(lambda m: m["type"] == "failed", since)["action"] == "form"


BROKEN = """
%%service --no-wait
class Broken:
    def __init__(self):
        raise RuntimeError("no weights")

    @api
    def ask(self) -> None: ...
"""


def test_why_a_service_does_not_start_names_its_cell(front: FrontEnd) -> None:
    since = front.send(type="look", client="one", on=True)
    front.kernel.ok(BROKEN)
    state = front.state(lambda s: any(v["state"] == "failed" for v in s["services"]), since)
    front.kernel.ok("%services stop Broken")
    front.send(type="look", client="one", on=False)
    error = next(v["error"] for v in state["services"] if v["name"] == "Broken")
    assert "Cell In[" in error
    assert "ipykernel" not in error


def test_two_in_one_cell_are_both_live_until_it_runs_again(front: FrontEnd) -> None:
    first = run_as(front.kernel, "cell", BOTH)
    second = run_as(front.kernel, "cell", BOTH)
    closed = [m["content"]["comm_id"] for m in front.kernel.messages if m["msg_type"] == "comm_close"]
    assert len(first) == len(second) == 2
    assert set(first) <= set(closed)
    assert not set(second) & set(closed)


def test_stop_takes_the_service_out_of_the_graph(front: FrontEnd) -> None:
    front.send(type="look", client="one", on=True)
    since = front.send(type="stop", service="Answer")
    assert front.hear(lambda m: m["type"] in ("done", "failed"), since)["type"] == "done"
    front.state(lambda s: [v["name"] for v in s["services"]] == ["Writer"], since)
    front.send(type="look", client="one", on=False)


def test_nothing_is_printed_and_leaving_ends_the_comm(front: FrontEnd) -> None:
    front.kernel.ok("widget.leave_all()")
    front.kernel.until(lambda m: m["msg_type"] == "comm_close" and m["content"]["comm_id"] == front.comm)
    printed = [m["content"]["text"] for m in front.kernel.messages if m["msg_type"] == "stream"]
    assert not [text for text in printed if "Traceback" in text or "asked" in text]
