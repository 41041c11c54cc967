"""Finding and asking this user's other processes that run services: a registry with replicas, over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import json
import logging
import os
import pkgutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from chain_services import Leaf
from faulty_services import Faulty
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_services import Sleeper, Words

import nbcompose
from nbcompose import cli
from nbcompose._code import deployment_of
from nbcompose._control.operations import own_title
from nbcompose._protocol import Client, Listing, RunningProcess, address, client, listings, messages, wire
from nbcompose.errors import (
    CallCancelled,
    DeadlineExceeded,
    InvalidArgument,
    ProtocolError,
    RemoteError,
    UnknownApi,
    UnknownService,
)
from tests.conftest import Running
from tests.handles import handle
from tests.patience import PATIENCE
from tests.protocol.test_wire import JSON

pytestmark = pytest.mark.system

ALL_MODULES = [m.name for m in pkgutil.walk_packages(nbcompose.__path__, "nbcompose.")]
CALL: messages.Call = {"type": "call", "service": "Leaf", "api": "add", "arguments": {"a": 41}}


def us() -> RunningProcess:
    return next(r for r in address.find() if r.pid == os.getpid())


def ours(found: list[Listing]) -> Listing:
    return next(listing for listing in found if listing.process.pid == os.getpid())


async def all_of(request: messages.RuntimeRequest) -> list[dict[str, Any]]:
    return [said async for said in Client(us()).stream(request)]


# -- what there is to ask


def test_every_request_has_a_function(running: Running) -> None:
    answers = running.registry.operations.answers(messages.RuntimeRequest)
    assert {*answers, "cancel"} == wire.by_type(messages.RuntimeRequest).keys()


def test_a_browser_cannot_ask_for_a_token(running: Running) -> None:
    answers = running.registry.operations.answers(messages.Request)
    assert not answers.keys() & {"hello", "ps", "reach"}


def test_this_process_is_found_and_answers(running: Running) -> None:
    running.up(Leaf)
    listing = ours(asyncio.run(listings()))
    assert (listing.title, listing.trouble) == (own_title(), "")
    assert listing.services is not None
    [leaf] = listing.services
    assert (leaf["name"], leaf["state"], leaf["up"], leaf["wanted"]) == ("Leaf", "ready", 1, 1)
    assert leaf["url"] == running.registry.url("Leaf")
    assert leaf["options"] == {"threads": 4}


async def test_hello_says_who_it_is(running: Running) -> None:
    async with Client(us()) as asking:
        assert asking.hello == {
            "id": "0", "type": "hello", "protocol": 1, "version": nbcompose.__version__, "pid": os.getpid(),
            "kernel": "", "session": "", "title": own_title(),
            "messages": sorted(wire.by_type(messages.RuntimeRequest)),
        }  # fmt: skip


async def test_a_form_a_call_and_its_trace(running: Running) -> None:
    await asyncio.to_thread(running.up, Leaf)
    async with Client(us()) as asking:
        form = await asking.ask({"type": "form", "service": "Leaf", "api": "add"}, messages.Form)
        assert [p["name"] for p in form["params"]] == ["a", "b"]
        assert form["copies"]["python"].startswith("Leaf.add(")
        result = await asking.ask(CALL, messages.Result)
        assert result["bundle"] == {"text/plain": "42", "application/json": 42}
        traces = await asking.ask({"type": "traces"}, messages.Traces)
        assert traces["traces"][0]["root"] == "Leaf.add"
        trace = await asking.ask({"type": "trace", "trace": traces["traces"][0]["trace"]}, messages.Trace)
        assert [(row["service"], row["api"]) for row in trace["rows"]] == [("Leaf", "add")]
        with pytest.raises(InvalidArgument, match="not the id of a trace"):
            await asking.ask({"type": "trace", "trace": "Leaf"}, messages.Trace)


async def test_actions(running: Running) -> None:
    await asyncio.to_thread(running.up, Leaf)
    async with Client(us()) as asking:
        requests: list[messages.Act | messages.Scale] = [
            {"type": "scale", "service": "Leaf", "replicas": 2},
            {"type": "restart", "service": "Leaf"},
        ]
        for request in requests:
            done = await asking.ask(request, messages.Done, PATIENCE)
            assert (done["action"], done["service"]) == (request["type"], "Leaf")
        ps = await asking.ask({"type": "ps"}, messages.Ps)
        assert [s["wanted"] for s in ps["services"]] == [2]
        await asking.ask({"type": "rollback", "service": "Leaf"}, messages.Done, PATIENCE)  # of what is starting
        await asking.ask({"type": "stop", "service": "Leaf"}, messages.Done, PATIENCE)
    assert running.registry.names() == []


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        ({"type": "stop", "service": "Writer"}, UnknownService, "no service is called 'Writer'; there are: Leaf"),
        ({"type": "logs", "service": "Writer"}, UnknownService, "no service is called 'Writer'; there are: Leaf"),
        ({"type": "reach", "service": "Writer"}, UnknownService, "no service is called 'Writer'; there are: Leaf"),
        ({"type": "form", "service": "Leaf", "api": "sub"}, UnknownApi, "Leaf has no api 'sub'; it has: add, left"),
        ({**CALL, "arguments": {"a": "x"}}, InvalidArgument, "a: "),
        ({**CALL, "arguments": [1]}, InvalidArgument, ""),
        ({"type": "scale", "service": "Leaf", "replicas": 0}, RemoteError, "must be a whole number from 1"),
        (
            {"type": "explode"},
            ProtocolError,
            "knows no request 'explode'; it knows: call, cancel, debug, debug_line, end_feed, feed, forget, form",
        ),
    ],
)
async def test_what_goes_wrong_there_is_raised_here(
    request_: Any, error: type[Exception], said: str, running: Running
) -> None:
    await asyncio.to_thread(running.up, Leaf)
    async with Client(us()) as asking:
        with pytest.raises(error) as raised:
            await asking.ask(request_, messages.Done)
        assert said in str(raised.value)
        assert (await asking.ask(CALL, messages.Result))["bundle"]["text/plain"] == "42"


# -- streams


async def test_items_of_a_stream_come_and_end(running: Running) -> None:
    await asyncio.to_thread(running.up, Words)
    request: messages.Call = {"type": "call", "service": "Words", "api": "count", "arguments": {"n": 20_000}}
    said = await all_of(request)
    assert [s["n"] for s in said if s["type"] == "item"] == list(range(20_000))  # nothing is lost
    with pytest.raises(RemoteError, match="ValueError: the well is dry"):
        await all_of({**request, "api": "breaks", "arguments": {"after": 2}})


async def test_a_slow_reader_slows_down_the_api_and_leaving_cancels_it(running: Running) -> None:
    words = await asyncio.to_thread(running.up, Words)
    request: messages.Call = {"type": "call", "service": "Words", "api": "slow", "arguments": {}}
    async with contextlib.aclosing(Client(us()).stream(request)) as items:
        assert [(await anext(items))["type"] for _ in range(3)][-1] == "item"
    assert await words.to_async.outcome() == "cancelled=True"


async def test_a_call_can_be_cancelled_or_be_late(running: Running) -> None:
    sleeper = await asyncio.to_thread(running.up, Sleeper)
    request: messages.Call = {"type": "call", "service": "Sleeper", "api": "coroutine", "arguments": {}}
    async with Client(us()) as asking:
        task = asyncio.ensure_future(asking.ask(request, messages.Result))
        while not await sleeper.to_async.reached():
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await sleeper.to_async.cancelled() == ["async"]
        with pytest.raises(DeadlineExceeded, match=r"has not answered 'call' within 0\.05 s"):
            await asking.ask(request, messages.Result, 0.05)
        assert await sleeper.to_async.cancelled() == ["async", "async"]


async def test_a_brief_watch_is_silent_at_calls(running: Running) -> None:
    leaf = await asyncio.to_thread(running.up, Leaf)
    async with contextlib.aclosing(Client(us()).stream({"type": "watch", "brief": True})) as states:
        assert [s["name"] for s in (await anext(states))["services"]] == ["Leaf"]
        assert await leaf.to_async.add(1) == 2
        await asyncio.to_thread(running.deploy, Words)
        said = await anext(states)
        assert [s["name"] for s in said["services"]] == ["Leaf", "Words"]
        # One of the two comes before the other; calls do not come between them.
        states_of_words = [said["services"][1]["state"]]
        while states_of_words[-1] != "ready":
            states_of_words.append((await anext(states))["services"][1]["state"])
        assert states_of_words == sorted(set(states_of_words), key=states_of_words.index)
        await asyncio.to_thread(running.registry.mark, "Leaf", stale=("x",))
        assert (await anext(states))["services"][0]["stale"] == ["x"]
        await asyncio.to_thread(running.registry.remove, "Leaf")
        while [s["name"] for s in said["services"]] != ["Words"]:
            said = await anext(states)


async def test_a_watch_says_what_changes_and_a_slow_reader_gets_the_last_state(running: Running) -> None:
    await asyncio.to_thread(running.up, Leaf, Words)
    request: messages.WatchRequest = {"type": "watch", "services": ["Leaf"]}
    async with contextlib.aclosing(Client(us()).stream(request)) as states:
        first = await anext(states)
        assert [(s["name"], s["stale"]) for s in first["services"]] == [("Leaf", [])]
        for i in range(100):
            await asyncio.to_thread(running.registry.mark, "Leaf", stale=(str(i),))
        seen = 0
        async for state in states:
            seen += 1
            if state["services"][0]["stale"] == ["99"]:
                break
        assert seen < 50  # of 100: those in between may be left out


async def test_logs_are_followed_until_the_service_stops(running: Running) -> None:
    faulty = await asyncio.to_thread(running.up, Faulty)
    await faulty.to_async.prints(["one", "two"])
    request: messages.LogsRequest = {"type": "logs", "service": "Faulty", "follow": True}
    async with Client(us()) as asking, contextlib.aclosing(asking.stream(request)) as logs:
        heard: list[str] = []
        while heard[-2:] != ["one", "two"]:
            heard += (await anext(logs))["lines"]
        await faulty.to_async.prints(["three"])
        while heard[-1] != "three":
            said = await anext(logs)
            heard += said["lines"]
        assert said["missed"] == 0
        last = await asking.ask({"type": "logs", "service": "Faulty", "lines": 1}, messages.Logs)
        assert last["lines"] == ["three"]
        await asking.ask({"type": "stop", "service": "Faulty"}, messages.Done, PATIENCE)
        assert [said async for said in logs if said["lines"]] == []


async def test_lines_that_are_kept_no_more_are_counted(running: Running) -> None:
    await asyncio.to_thread(running.up, Leaf)
    log = running.registry._supervisors["Leaf"].log
    following = running.registry.follow_log("Leaf", 10)
    assert await anext(following) == (0, [])
    for i in range(10_003):
        log.note(0, str(i))
    missed, lines = await anext(following)
    assert (missed, len(lines), lines[-1].text) == (3, 10_000, "10002")
    await following.aclose()
    assert log.listeners == set()


# -- tokens


async def test_a_token_goes_to_who_reaches_for_it_and_nowhere_else(
    running: Running, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await asyncio.to_thread(running.up, Leaf, token="s3cret")
    others = []
    async with Client(us()) as asking:
        reach = await asking.ask({"type": "reach", "service": "Leaf"}, messages.Reach)
        kinds: list[tuple[Any, Any]] = [
            ({"type": "ps"}, messages.Ps), (CALL, messages.Result), ({"type": "traces"}, messages.Traces),
            ({"type": "logs", "service": "Leaf"}, messages.Logs),
            ({"type": "form", "service": "Leaf", "api": "add"}, messages.Form),
        ]  # fmt: skip
        for request, answer in kinds:
            others.append(await asking.ask(request, answer))
        with pytest.raises(ProtocolError) as raised:
            await asking.ask({"type": "reach", "service": "Leaf"}, messages.Done)  # another type of answer than comes
        async for state in asking.stream({"type": "watch"}):
            others.append(state)
            break
    url, headers = f"http://{reach['host']}:{reach['port']}/add", {"Authorization": f"Bearer {reach['token']}"}
    async with httpx.AsyncClient() as http:
        assert (await http.post(url, json={"a": 1}, headers=headers)).json() == 2
        assert (await http.post(url, json={"a": 1})).status_code == 401
    out, err = capfd.readouterr()
    assert "s3cret" not in json.dumps(others) + str(raised.value) + caplog.text + out + err


async def test_a_service_that_is_not_exposed_cannot_be_reached(running: Running) -> None:
    running.registry.deploy(replace(deployment_of(handle(Leaf)), exposed=False))
    async with Client(us()) as asking:
        with pytest.raises(nbcompose.errors.ServiceUnavailable, match="does not answer over HTTP"):
            await asking.ask({"type": "reach", "service": "Leaf"}, messages.Reach)


FIELDS = {
    "service": st.sampled_from(["Leaf", "Nobody", ""]) | JSON,
    "api": st.sampled_from(["add", "f", "__init__"]) | JSON,
    "arguments": st.fixed_dictionaries({}, optional={"a": JSON, "b": JSON, "$upload": JSON}) | JSON,
    "lines": st.integers(),
    "follow": st.booleans(),
    "trace": st.text(max_size=40),
    "services": st.lists(st.text(), max_size=3),
    "picture": st.booleans(),
    "replicas": st.integers(max_value=0),
}
KINDS = ["ps", "watch", "form", "call", "logs", "traces", "trace", "rollback", "scale", "reach", "cancel", "hello"]


@given(st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=FIELDS))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_answered(running: Running, request_: dict[str, Any]) -> None:
    if "Leaf" not in running.registry.names():
        running.up(Leaf, token="s3cret")

    async def ask() -> None:
        async with Client(us()) as asking:
            stream = asking.stream(request_)  # type: ignore[arg-type]
            if request_["type"] == "cancel":
                return  # it has no answer
            with contextlib.suppress(nbcompose.NbcomposeError):
                said = await asyncio.wait_for(anext(stream, None), PATIENCE)
                assert request_["type"] == "reach" or "s3cret" not in json.dumps(said)
            await stream.aclose()
            assert (await asking.ask(CALL, messages.Result))["bundle"]["text/plain"] == "42"

    asyncio.run(ask())


# -- other versions, and processes that do not answer


@contextlib.asynccontextmanager
async def fake(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[RunningProcess]:
    """A process that answers lines in another way than ours does; None: it closes the connection."""

    connections: set[asyncio.Event] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(ended := asyncio.Event())
        while line := await reader.readline():
            said = answer(line)
            if said is None:
                break
            writer.write(said)
        writer.close()
        await writer.wait_closed()
        ended.set()

    where = f"@{address.PREFIX}.{os.getuid()}.{os.getppid()}.0000"  # whose process lives, and runs no services
    server = await asyncio.start_unix_server(connected, sock=address.listen(where))
    try:
        yield RunningProcess(os.getppid(), where)
    finally:
        server.close()
        for ended in connections:
            await ended.wait()


def newer(line: bytes) -> bytes:
    hello = {"id": "0", "type": "hello", "protocol": 2, "version": "9.0", "more": True, "pid": "in another form"}
    return json.dumps(hello).encode() + b"\n"


def refusing(line: bytes) -> bytes:
    failed = {"id": "0", "type": "failed", "name": "ProtocolError", "message": "speak 2", "traceback": "",
              "problems": [], "action": "hello", "seconds": 0.0, "hint": "of a later version"}  # fmt: skip
    return json.dumps(failed).encode() + b"\n"


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (newer, "runs nbcompose 9.0, which speaks version 2 of the runtime protocol; nbcompose"),
        (refusing, "speak 2"),
        (lambda line: None, "does not speak the runtime protocol: does it run an older nbcompose?"),
        (lambda line: b"\x00\xff\n", "not UTF-8"),
        (lambda line: b"{}\n", "gave no answer that nbcompose"),
        (lambda line: b'{"type": "hello", "id": "0", "protocol": 1}\n', "version is missing"),
        (lambda line: b'{"type": "later", "id": "0"}\n', "type is none of hello"),
    ],
    ids=["newer", "refusing", "closing", "bytes", "nothing", "less", "other"],
)
async def test_a_process_of_another_version_is_told(
    answer: Callable[[bytes], bytes | None], trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with fake(answer) as process:
        [listing] = [found for found in await listings() if found.process == process]
        assert (listing.services, trouble in listing.trouble) == (None, True), listing.trouble
        assert await asyncio.to_thread(cli.main, ["ps"]) == 0
        assert await asyncio.to_thread(cli.main, ["logs", "Nobody", "--pid", str(process.pid)]) == 1
    printed = capsys.readouterr()
    [row] = [line for line in printed.out.splitlines() if line.startswith(f"{process.pid} ")]
    assert trouble in row
    assert f"no service is called 'Nobody'; there are: none; process {process.pid}: " in printed.err
    assert trouble in printed.err


def later(line: bytes) -> bytes:
    """A process of a later version that speaks the same protocol, and says more."""
    request = json.loads(line)
    said: dict[str, Any] = {"id": request["id"], "more": 1}
    if request["type"] == "hello":
        own = {"protocol": 1, "version": "1.9", "pid": 1, "kernel": "", "session": "", "title": "new", "messages": []}
        said |= {"type": "hello", **own}
    else:
        said |= {"type": "ps", "services": []}
    return json.dumps(said).encode() + b"\n"


async def test_a_later_version_may_say_more() -> None:
    async with fake(later) as process:
        [listing] = [found for found in await listings() if found.process == process]
        assert (listing.title, listing.services) == ("new", [])


def named_by_its_command_line(line: bytes) -> bytes:
    """A process whose title is its command line."""
    return later(line).replace(b'"new"', b'"nbcompose serve app.py --token s3cret"')


async def test_what_another_process_calls_itself_shows_no_token() -> None:
    async with fake(named_by_its_command_line) as process:
        [listing] = [found for found in await listings() if found.process == process]
        assert listing.title == "nbcompose serve app.py --token ***"


def saying(*said: dict[str, Any]) -> Callable[[bytes], bytes | None]:
    def answer(line: bytes) -> bytes | None:
        if json.loads(line)["type"] == "hello":
            return later(line)
        return b"".join(json.dumps(one).encode() + b"\n" for one in said)

    return answer


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ({"id": "1", "type": "cancelled", "seconds": 0.0}, CallCancelled, "has cancelled the request"),
        ({"id": "1", "type": "logs"}, ProtocolError, "service is missing"),
        ({"id": "1", "type": "failed"}, ProtocolError, "failed, and does not say why: name is missing"),
        ({"id": "1"}, ProtocolError, "type is missing"),
    ],
)
async def test_answers_are_checked(said: dict[str, Any], error: type[Exception], text: str) -> None:
    async with fake(saying(said)) as process, Client(process) as asking:
        with pytest.raises(error, match=text):
            await asking.ask({"type": "logs", "service": "A"}, messages.Logs)
        with pytest.raises(error, match=text if "type" in said else "says 'None'"):
            async for _ in asking.stream({"type": "logs", "service": "A", "follow": True}):
                pass


async def test_a_connection_that_is_lost_ends_what_waits_and_what_comes() -> None:
    async with fake(lambda line: later(line) if b"hello" in line else None) as process, Client(process) as asking:
        for _ in range(2):
            with pytest.raises(ConnectionError, match=f"process {process.pid} has closed the connection"):
                await asking.ask({"type": "ps"}, messages.Ps)


async def test_an_error_without_an_id_is_raised_by_what_waits() -> None:
    failed: dict[str, Any] = {
        "id": None, "type": "failed", "name": "ProtocolError", "message": "not JSON", "traceback": "",
        "problems": [], "action": "", "seconds": 0.0,
    }  # fmt: skip
    async with fake(saying(failed)) as process, Client(process) as asking:
        with pytest.raises(ProtocolError, match="not JSON"):
            await asking.ask({"type": "ps"}, messages.Ps)


async def test_a_process_that_has_gone_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError):
        async with Client(RunningProcess(1, address.fresh("nbcompose.gone"))):
            pass


def test_a_process_that_hangs_is_told_and_does_not_hide_the_others(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Patient(Client):
        def __init__(self, process: RunningProcess, within: float) -> None:
            super().__init__(process, 0.2 if process.pid == os.getppid() else PATIENCE)

    monkeypatch.setattr(client, "Client", Patient)
    running.up(Leaf)
    with address.listen(f"@{address.PREFIX}.{os.getuid()}.{os.getppid()}.0000"):  # takes connections, answers nothing
        assert cli.main(["ps"]) == 0
        assert cli.main(["logs", "Nobody"]) == 1
    printed = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in printed.out.splitlines()}
    assert rows[str(os.getpid())][1:3] == ["Leaf", "ready"]
    assert " ".join(rows[str(os.getppid())]) == "? ? does not answer"
    assert f"process {os.getppid()}: does not answer" in printed.err


def test_names_of_others_are_not_taken_for_processes(running: Running) -> None:
    for name in ("x.y", "nope", "0.y", "-1.y", "99999999999999999999.y"):
        with address.listen(f"@{address.PREFIX}.{os.getuid()}.{name}"):
            found = {r.pid for r in address.find()}
            assert os.getpid() in found
            assert min(found) > 0
            assert max(found) < 10**9


# -- what it needs


LOADED = """
import json, sys
before = set(sys.modules)
from nbcompose._protocol import Client, listings, messages
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_a_client_loads_the_standard_library_and_little_else() -> None:
    """It lives in the processes of servers, whose environment may have none of what kernels have."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = [name for name in json.loads(done.stdout) if name.partition(".")[0] not in sys.stdlib_module_names]
    assert [name for name in loaded if name.startswith("nbcompose")] == [
        "nbcompose",
        "nbcompose._protocol",
        "nbcompose._protocol.address",
        "nbcompose._protocol.client",
        "nbcompose._protocol.messages",
        "nbcompose._protocol.wire",
        "nbcompose.errors",
    ]
    assert {name.partition(".")[0] for name in loaded} == {"lazy_loader", "nbcompose"}  # faces are resolved lazily


# -- titles


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["/home/me/app.py", "--token", "s3cret"], "app.py"),
        (["/home/me/app.py", "https://me:s3cret@host/?token=s3cret", "TOKEN=s3cret"], "app.py"),
        (["/lib/site-packages/pytest/__main__.py", "tests", "--pw=s3cret"], "pytest"),
        (["/bin/nbcompose", "serve", "--token=s3cret", "app.py"], "nbcompose"),
        (["/lib/ipykernel_launcher.py", "-f", "/run/kernel-s3cret.json"], f"a notebook in {os.getcwd()}"),
        (["/lib/ipykernel/__main__.py", "-f", "kernel.json"], f"a notebook in {os.getcwd()}"),
        (["-c", "s3cret"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_no_argument_of_the_command_is_in_a_title(
    arguments: list[str], title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(sys, "argv", arguments)
    assert own_title() == title


def test_the_title_of_a_notebook_is_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/rag.ipynb")
    assert own_title() == "rag.ipynb"


def test_a_title_of_another_process_does_nothing_to_a_terminal() -> None:
    assert wire.printable("\x1b[2J\x9b1m a\nb\u202e" + 100 * "x") == "?[2J?1m a?b?" + 48 * "x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("serve app.py --token s3cret --port 3", "serve app.py --token *** --port 3"),
        ("serve --token=s3cret app.py", "serve --token=*** app.py"),
        ("x --hf-token 's3 cret' --db_password \"s3 cret\" y", "x --hf-token *** --db_password *** y"),
        ("NBCOMPOSE_TOKEN=s3cret python app.py", "NBCOMPOSE_TOKEN=*** python app.py"),
        ("OPENAI_API_KEY=s3cret MY_SECRET=s3cret x", "OPENAI_API_KEY=*** MY_SECRET=*** x"),
        ("get https://me:s3cret@host/a?token=s3cret&b=1", "get https://***@host/a?token=***&b=1"),
        ("get postgres://s3cret@host", "get postgres://***@host"),
        ("tokenizer.py --tokens-file=s3cret", "tokenizer.py --tokens-file=***"),
        ("tokenize.py a@b --port 3", "tokenize.py a@b --port 3"),
        ("a notebook in /home/me/secret stories", "a notebook in /home/me/secret stories"),
    ],
)
def test_secrets_in_a_text_are_masked(text: str, shown: str) -> None:
    assert wire.masked(text) == shown


def test_what_says_what_a_service_runs_with_does_not_show_its_secrets() -> None:
    """Whoever logs one of these, or has it in the message of an error, writes no token and no variable."""
    secrets = {"token", "envs", "environment"}
    shown = [
        f"{cls.__module__}.{cls.__name__}.{f.name}"
        for name in ALL_MODULES
        for cls in vars(importlib.import_module(name)).values()
        if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == name
        for f in dataclasses.fields(cls)
        if f.name in secrets and f.repr and cls.__repr__ is not object.__repr__
    ]
    assert shown == []
