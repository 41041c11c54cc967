"""A debugger that is attached to replicas: where it stops, and that nothing else takes them for hung meanwhile."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import debugged_services as services
import httpx
import pytest

import nbcompose
from nbcompose._control import debugging
from nbcompose._control.debugging import Debugging
from nbcompose.errors import NbcomposeError, NoTerminal, ReplicaDied, ServiceUnavailable
from tests.conftest import Running
from tests.patience import PATIENCE

pytestmark = pytest.mark.system


class Person:
    """Somebody at the prompt. `over`: no replica is attached any more."""

    def __init__(self, running: Running, service: str, **options: Any) -> None:
        self._portal = running.registry.portal
        self._said: queue.SimpleQueue[tuple[str, str | None] | None] = queue.SimpleQueue()
        attaching = running.registry.debug(service, self._hear, lambda: self._said.put(None), **options)
        self._debugging: Debugging = self._portal.run(attaching)

    def _hear(self, text: str, prompt: str | None) -> None:
        self._said.put((text, prompt))

    def sees(self) -> str:
        """What stands above the next prompt."""
        said = self._said.get(timeout=PATIENCE)
        assert said is not None, "it is over"
        text, prompt = said
        assert prompt == "(Pdb) "
        return text

    def types(self, line: str) -> None:
        self._portal.loop.call_soon_threadsafe(self._debugging.answer, line)

    def asks(self, line: str) -> str:
        self.types(line)
        return self.sees()

    def detach(self) -> None:
        self._portal.loop.call_soon_threadsafe(self._debugging.detach)

    def is_over(self) -> None:
        while self._said.get(timeout=PATIENCE) is not None:
            pass


@pytest.fixture
def attach(running: Running) -> Iterator[Callable[..., Person]]:
    persons: list[Person] = []

    def attach(service: str, **options: Any) -> Person:
        persons.append(Person(running, service, **options))
        return persons[-1]

    yield attach
    for person in persons:
        person.detach()


def at_breakpoint(running: Running, name: str = "Leaf") -> str:
    status = running.until(name, lambda s: any(r.stopped_at for r in s.replicas))
    return next(r.stopped_at for r in status.replicas if r.stopped_at)


def over_http(running: Running, service: str, api: str, timeout: float, **arguments: Any) -> httpx.Response:
    url = f"{running.registry.url(service)}/{api}"
    return httpx.post(url, json=arguments, headers={"X-Request-Timeout": str(timeout)})


@pytest.mark.parametrize("kind", ["sync", "later", "parts", "later_parts"])
def test_a_call_waits_at_a_breakpoint_past_its_deadline(
    running: Running, attach: Callable[..., Person], kind: str
) -> None:
    running.up(services.Top, services.Leaf, services.Beside)
    person = attach("Leaf")
    call = running.in_thread(over_http, running, "Top", kind, 1.0, text="abc")
    assert f"in Leaf.{kind}\n-> loud = text.upper()" in person.sees()
    assert at_breakpoint(running).startswith(f"Leaf.{kind}, line ")
    assert "is at a breakpoint (Leaf." in "; ".join(running.registry.status("Leaf").trouble())
    # A call that does not wait for it has as much time, and begins later.
    assert over_http(running, "Beside", "hang", 1.0).status_code == 504
    assert not call.done()
    assert person.asks("p text") == "'abc'"
    assert f"in Leaf.{kind}\n-> " in person.asks("n")
    assert person.asks("p loud") == "'ABC'"
    person.types("c")
    reply = call.result(PATIENCE)
    assert reply.status_code == 200, reply.text
    assert "!" in reply.text, "it has come to its end"
    status = running.until("Leaf", lambda s: not any(r.stopped_at for r in s.replicas))
    assert (status.state, status.total.failed, status.restarts) == ("ready", 0, 0)
    assert over_http(running, "Top", "sync", PATIENCE, text="x").json() == "X!", "it stops at the next call only"


@pytest.mark.parametrize("api", ["sync", "later"])
def test_a_call_of_this_process_waits_past_its_deadline_too(
    running: Running, attach: Callable[..., Person], api: str
) -> None:
    top = running.up(services.Top, services.Leaf, services.Beside)
    person = attach("Leaf")
    call = running.in_thread(getattr(top, api).options(timeout=1.0), "abc")
    person.sees()
    at_breakpoint(running)
    assert over_http(running, "Beside", "hang", 1.0).status_code == 504
    person.types("c")
    assert call.result(PATIENCE) == "ABC!"


def test_who_waits_in_the_queue_of_a_replica_at_a_breakpoint_keeps_its_time(
    running: Running, attach: Callable[..., Person]
) -> None:
    leaf = running.up(services.Leaf, services.Beside)
    person = attach("Leaf")
    first = running.in_thread(leaf.sync, "a")
    person.sees()
    others = [running.in_thread(leaf.halts.options(timeout=1.0), f" {n} ") for n in range(3)]
    running.until("Leaf", lambda s: s.replicas[0].work.waiting > 0)
    assert over_http(running, "Beside", "hang", 1.0).status_code == 504
    person.types("q")
    assert first.result(PATIENCE) == "A!"
    assert [other.result(PATIENCE) for other in others] == ["0", "1", "2"]


STOPS = {
    "trace": "pdb.set_trace()",
    "post_mortem": "pdb.post_mortem()",
    "run": "pdb",
    "interact": "code.interact()",
    "embed": "IPython.embed()",
    "shell": "IPython.embed()",
}


@pytest.mark.parametrize("name", STOPS)
def test_what_stops_in_a_terminal_says_what_works(running: Running, name: str) -> None:
    stops = running.up(services.Stops)
    assert getattr(stops, name)("a") == "a"
    lines = running.registry.logs("Stops")
    assert len(lines) == 1, lines  # no banner, no prompt
    assert f"{STOPS[name]} in Stops.{name}, line " in lines[0] or name == "run"
    itself = STOPS[name] if name in ("interact", "embed") else "IPython.embed()" if name == "shell" else "pdb"
    assert "no debugger is attached, so the call goes on. `%services debug Stops` attaches one" in lines[0]
    assert f"{itself} itself works in `Stops()`" in lines[0]


def test_who_reads_the_standard_input_is_told_so(running: Running) -> None:
    stops = running.up(services.Stops)
    with pytest.raises(NoTerminal, match=r"sys\.stdin\.readline\(\) in Stops\.reads, line "):
        stops.reads()


def test_a_debugger_with_an_input_of_its_own_works(running: Running) -> None:
    stops = running.up(services.Stops)
    written = stops.has_its_own("ab")
    assert "'abab'" in written
    assert "a banner" in written
    assert running.registry.logs("Stops") == []


@pytest.mark.parametrize("name", ["trace", "interact", "embed"])
def test_what_stops_in_a_terminal_stops_at_an_attached_debugger(
    running: Running, attach: Callable[..., Person], name: str
) -> None:
    stops = running.up(services.Stops)
    person = attach("Stops", next_call=False)
    call = running.in_thread(getattr(stops, name), "a")
    assert f", in Stops.{name}\n-> " in person.sees()
    assert person.asks("p text") == "'a'"
    person.types("c")
    assert call.result(PATIENCE) == "a"


def test_breakpoint_stops_where_a_debugger_is_attached(running: Running, attach: Callable[..., Person]) -> None:
    leaf = running.up(services.Leaf)
    assert leaf.halts(" a ") == "a"
    assert leaf.halts_in_pdb("b") == "b"
    said = "\n".join(running.registry.logs("Leaf"))
    assert "breakpoint() in tidy, line " in said
    assert "called by Leaf.halts: no debugger is attached, so the call goes on. `%services debug Leaf`" in said
    assert "pdb.set_trace() in Leaf.halts_in_pdb, line " in said
    person = attach("Leaf", next_call=False)
    for call, place in (leaf.halts, "tidy"), (leaf.halts_in_pdb, "Leaf.halts_in_pdb"):
        stopped = running.in_thread(call, "c")
        assert f", in {place}\n-> return text" in person.sees()
        person.types("c")
        assert stopped.result(PATIENCE) == "c"
    stopped = running.in_thread(leaf.halts, "d")
    person.sees()
    assert [line.split(", in ")[1] for line in person.asks("w").splitlines() if ", in " in line] == [
        "Leaf.halts",
        "tidy",
    ]
    assert "*** not at this prompt" in person.asks("interact")
    person.types("q")
    person.is_over()
    assert stopped.result(PATIENCE) == "d"
    assert leaf.halts("e") == "e"


def test_input_says_what_works(running: Running) -> None:
    leaf = running.up(services.Leaf)
    with pytest.raises(EOFError, match=r"^input\(\) in Leaf.asks, line \d+: Leaf runs in a process of its own"):
        leaf.asks()


def test_a_breakpoint_that_is_set_holds_for_all_calls(running: Running, attach: Callable[..., Person]) -> None:
    leaf = running.up(services.Leaf)
    person = attach("Leaf")
    first = running.in_thread(leaf.sync, "a")
    line = int(person.sees().split("line ")[1].split(",")[0])
    assert person.asks(f"b {line + 1}").startswith("Breakpoint 1 at ")
    person.asks("c")
    person.types("c")
    assert first.result(PATIENCE) == "A!"
    for word in ("b", "c"):
        call = running.in_thread(leaf.sync, word)
        assert '-> return loud + "!"' in person.sees()
        person.types("c")
        assert call.result(PATIENCE) == f"{word.upper()}!"


def test_the_end_of_a_call_ends_stepping(running: Running, attach: Callable[..., Person]) -> None:
    leaf = running.up(services.Leaf)
    person = attach("Leaf")
    call = running.in_thread(leaf.sync, "a")
    person.sees()
    person.asks("n")
    assert "--Return--" in person.asks("n")
    person.types("n")
    assert call.result(PATIENCE) == "A!"
    for later in (leaf.sync, leaf.later):
        assert later("b") == "B!", "a call that comes later is stopped at"


def test_other_replicas_answer_meanwhile(running: Running, attach: Callable[..., Person]) -> None:
    leaf = running.up(services.Leaf)
    running.registry.scale("Leaf", 3)
    person = attach("Leaf")
    for api in ("sync", "later"):
        stopped = running.in_thread(getattr(leaf, api), "a")
        assert person.sees().startswith("Leaf, replica ")
        calls = [running.in_thread(getattr(leaf, other), "b") for other in ("sync", "later") for _ in range(10)]
        assert [call.result(PATIENCE) for call in calls] == ["B!"] * 20
        person.types("c")
        assert stopped.result(PATIENCE) == "A!"
        running.until("Leaf", lambda s: not any(r.stopped_at for r in s.replicas))
        person.detach()
        person.is_over()
        person = attach("Leaf")


class Told:
    """A replica as `Debugging` has it; `notes`: what it was told."""

    def __init__(self, name: str) -> None:
        self.member = SimpleNamespace(name=name)
        self.asks = ""
        self.notes: list[tuple[str, Any]] = []

    def tell(self, topic: str, value: Any) -> None:
        self.notes.append((topic, value))


async def test_a_prompt_is_shown_once_all_replicas_have_heard_that_one_has_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a call that is made there could be stopped at in another one."""
    monkeypatch.setattr(debugging, "HEAR_WITHIN", PATIENCE)
    said: asyncio.Queue[str] = asyncio.Queue()
    session: Any = Debugging(lambda text, _: said.put_nowait(text), lambda: None, lambda: None, str)
    first, second, third = session._replicas = [Told("a"), Told("b"), Told("c")]
    session.stopped(first)
    session.asked(first, "> here\n(Pdb) ")
    assert (first.notes, second.notes) == ([], [("any", False)])
    session.heard(second)
    assert said.empty()
    session.closed(third)  # which hears nothing any more
    assert said.get_nowait() == "a:\n> here"
    session.stopped(second)  # at a breakpoint
    assert len(second.notes) == 1
    session.asked(second, "> there\n(Pdb) ")
    assert said.empty()
    session.goes_on(first)
    assert said.get_nowait() == "b:\n> there"


async def test_a_replica_that_does_not_hear_keeps_no_prompt_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugging, "HEAR_WITHIN", 0.01)
    said: asyncio.Queue[str] = asyncio.Queue()
    session: Any = Debugging(lambda text, _: said.put_nowait(text), lambda: None, lambda: None, str)
    session._replicas = [Told("a"), Told("b")]
    session.stopped(session._replicas[0])
    session.asked(session._replicas[0], "> here\n(Pdb) ")
    assert await asyncio.wait_for(said.get(), PATIENCE) == "a:\n> here"


def test_one_replica_can_be_chosen(running: Running, attach: Callable[..., Person]) -> None:
    running.up(services.Leaf)
    running.registry.scale("Leaf", 2)
    attach("Leaf", replica=1)
    with pytest.raises(NbcomposeError, match="a debugger is attached to Leaf already: detach it first"):
        attach("Leaf")
    attach("Leaf", replica=0)  # the failure has left nothing behind
    with pytest.raises(ServiceUnavailable, match="Leaf has no replica 2; those that are up: 0, 1"):
        attach("Leaf", replica=2)


def test_a_replica_that_dies_at_the_prompt(running: Running, attach: Callable[..., Person]) -> None:
    running.up(services.Top, services.Leaf)
    person = attach("Leaf")
    call = running.in_thread(running.registry.proxy("Leaf").later, "a")
    person.sees()
    assert running.until("Leaf", lambda s: any(r.stopped_at for r in s.replicas))
    pid = running.registry.status("Leaf").replicas[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    person.is_over()
    with pytest.raises(ReplicaDied):
        call.result(PATIENCE)
    running.until("Leaf", lambda s: s.state == "ready" and s.replicas[0].pid != pid)
    assert not any(route.held for route in running.registry.client.routes.values())


@pytest.mark.parametrize("api", ["sync", "later"])
def test_a_service_that_is_stopped_at_the_prompt_finishes_its_call(
    running: Running, attach: Callable[..., Person], api: str
) -> None:
    leaf = running.up(services.Leaf)
    person = attach("Leaf")
    call = running.in_thread(getattr(leaf, api), "a")
    person.sees()
    running.registry.remove("Leaf")
    assert call.result(PATIENCE) == "A!"
    person.is_over()


def test_post_mortem_stops_where_an_api_raises(running: Running, attach: Callable[..., Person]) -> None:
    leaf = running.up(services.Leaf)
    person = attach("Leaf", next_call=False, post_mortem=True)
    assert leaf.sync("a") == "A!"
    call = running.in_thread(leaf.divides, 0)
    said = person.sees()
    assert said.startswith("ZeroDivisionError: division by zero\n")
    assert said.endswith("in Leaf.divides\n-> return 1 / kept")
    assert person.asks("p kept") == "0"
    person.types("c")
    with pytest.raises(ZeroDivisionError):
        call.result(PATIENCE)


def version(tag: str) -> Any:
    """A service that travels by value."""

    class Swapped:
        def __init__(self) -> None:
            self.kept = "kept"

        @nbcompose.api
        def say(self) -> str:
            word = tag
            return word + self.kept

    return nbcompose.service(Swapped)


def test_new_code_is_debugged_too(running: Running, attach: Callable[..., Person]) -> None:
    """A hot swap while a debugger is attached."""
    swapped = running.up(version("one "), compare=True)
    person = attach("Swapped")
    running.deploy(version("two "), compare=True)
    assert running.registry.wait("Swapped").swapped
    call = running.in_thread(swapped.say)
    assert person.sees().endswith("-> word = tag")
    assert person.asks("p tag") == "'two '"
    person.types("c")
    assert call.result(PATIENCE) == "two kept"
    person.detach()
    person.is_over()
    assert swapped.say() == "two kept"
