"""`nbcompose serve`: what it takes, what it says, who may call, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from chain_services import Front, Leaf, Mid

import nbcompose
from nbcompose._control.entry import find_entries, find_entry
from nbcompose._control.serving import Graph, describe
from nbcompose._control.status import ReplicaStatus, Status
from nbcompose._hub import ModelProgress
from nbcompose._replica import Phase
from nbcompose._service.handle import Service
from nbcompose.errors import UnknownService
from tests.conftest import SERVICES, wait_for_end
from tests.handles import handle
from tests.patience import PATIENCE
from tests.serve_process import Served, run, serving

STATUS = Status("Answer", "starting", "it is starting", 1, (), 1, (), (), "")


# -- the target (unit)


def test_an_entry_by_module_by_file_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SERVICES)
    assert find_entry("chain_services:Front").name == "Front"
    assert find_entry("chain_services.py:Mid").name == "Mid"
    assert find_entry(f"{SERVICES}/narrow_entry.py").name == "Entry"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module", "there is no module no_such_module here"),
        ("no/such/file.py", "there is no file .*no/such/file.py"),
        ("chain_services:Writer", "chain_services has no service 'Writer'; it has: Leaf, Mid, Front, Asks"),
        ("chain_services", r"chain_services has 2 services that no other depends on: name one, chain_services:NAME"),
        ("json", "json has no service: decorate a class"),
        ("kernel_program:SERVICES", "kernel_program has no service"),
    ],
)
def test_a_wrong_target_says_what_is_there(target: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SERVICES)
    with pytest.raises(UnknownService, match=message):
        find_entry(target)


def test_all_entries_of_a_module_or_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SERVICES)
    assert [e.name for e in find_entries("chain_services")] == ["Front", "Asks"]
    assert [e.name for e in find_entries("chain_services:Mid")] == ["Mid"]


def on_port(entry: Service, port: int) -> Service:
    return Service(replace(entry.spec, http=replace(entry.spec.http, port=port)))


@pytest.mark.parametrize(
    ("first", "own", "ports"),
    [
        (None, (0, 0), [3000, 3001]),
        (None, (0, 3000), [3001, 3000]),
        (None, (8080, 0), [8080, 3000]),
        (9000, (8080, 0), [9000, 9001]),
        (0, (8080, 0), [0, 0]),
    ],
)
def test_each_entry_has_a_port_and_what_is_below_has_none(
    first: int | None, own: tuple[int, int], ports: list[int]
) -> None:
    graph = Graph(port=first, token="secret")
    packed = graph.pack([on_port(handle(e), p) for e, p in zip((Mid, Front), own, strict=True)])
    assert [d.spec.name for d in packed] == ["Leaf", "Mid", "Front"]
    assert [d.exposed for d in packed] == [False, True, True]
    assert [d.token for d in packed] == [None, "secret", "secret"]
    assert [d.spec.http.port for d in packed[1:]] == ports


@pytest.mark.parametrize(
    ("own", "served", "expected"), [(None, 0.0, 0.0), (None, 20.0, 20.0), (5, 0.0, 5.0), (0, 9.0, 0.0)]
)
def test_calls_are_interrupted_where_that_is_asked_for(own: float | None, served: float, expected: float) -> None:
    entry = handle(nbcompose.service(traffic={"interrupt_after": own})(handle(Leaf).inner))
    [deployment] = Graph(interrupt_after=served).pack([entry])
    assert deployment.spec.traffic.interrupt_after == expected


def test_two_services_of_one_name_cannot_be_served_together() -> None:
    other = replace(handle(Leaf).spec, cls=handle(Mid).inner)
    with pytest.raises(nbcompose.errors.DeclarationError, match="two services are called 'Leaf'"):
        Graph().pack([handle(Leaf), Service(other)])


def test_there_is_something_to_serve() -> None:
    with pytest.raises(TypeError, match=r"the service to serve, or several: nbcompose\.serve\(Answer\)"):
        nbcompose.serve()


def test_a_module_that_is_missing_inside_the_target_is_named(tmp_path: Path) -> None:
    (tmp_path / "wants_more.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        find_entry(str(tmp_path / "wants_more.py"))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_beyond_this_machine_a_token_is_wanted(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBCOMPOSE_TOKEN", raising=False)
    with pytest.raises(nbcompose.NbcomposeError, match=f"{host} can be reached from other machines: give a token"):
        nbcompose.serve(Leaf, host=host)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "the token is empty"),
        (" \n", "the token is empty"),
        ("a\nb", "no header can carry it"),
        ("käse", "no header can"),
    ],
)
def test_a_token_that_nobody_could_send_is_refused(token: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBCOMPOSE_TOKEN", token)
    with pytest.raises(nbcompose.NbcomposeError, match=message) as caught:
        nbcompose.serve(Leaf)
    assert token.strip() == "" or token.strip() not in str(caught.value)


def test_states_in_a_few_words() -> None:
    replica = ReplicaStatus(
        0, 1, "starting", Phase.DOWNLOAD, ModelProgress("org/m", bytes_done=50, bytes_total=200), "", "", 0, 0, None
    )
    assert describe(replace(STATUS, replicas=(replica,))) == "download org/m 25 %"
    assert describe(STATUS) == "starting"
    up = replace(replica, state="up", phase=Phase.READY, device="cpu")
    assert describe(replace(STATUS, state="ready", replicas=(up,), notes=("a note",))) == "ready on cpu (a note)"
    assert describe(replace(STATUS, state="waiting", reason="waiting for B")) == "waiting for B"
    stuck = replace(STATUS, state="ready", replicas=(up,), stuck=("replica 0 is stuck: not replaced",))
    assert describe(stuck) == "ready on cpu (replica 0 is stuck: not replaced)"


def test_why_a_replica_is_started_again_is_said_once() -> None:
    said: list[str] = []
    graph = Graph(say=said.append)
    died = replace(STATUS, restarts=1, error="A, replica 0: exit status 3\nits last line")
    for status in (STATUS, died, died, replace(died, state="waiting", reason="waiting for B")):
        graph.show(status)
    why = f"{STATUS.name}: A, replica 0: exit status 3; `nbcompose logs {STATUS.name}` has what it wrote"
    assert said == [f"{STATUS.name}: starting", why, f"{STATUS.name}: waiting for B"]


# -- the server (system)


@pytest.mark.system
def test_a_graph_is_served_and_only_its_entry_answers_over_http() -> None:
    with serving("chain_services:Front", "--port", "0") as served:
        assert httpx.post(f"{served.url}/ask", json={"a": 4}).json() == {"twice": 8, "plus": 5}
        assert httpx.get(f"{served.url}/readyz").json() == {"status": "ready"}
        listening = {
            c.laddr.port
            for p in [psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children(recursive=True)]
            for c in p.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN
        }
        assert listening == {int(served.url.rpartition(":")[2])}


@pytest.mark.system
def test_several_entries_are_served_each_where_it_answers() -> None:
    with serving("chain_services", "--port", "0") as served:
        urls = dict(line.split(" answers at ") for line in (served.lines[-1], served.read_until("answers at")))
        urls = {name: rest.split()[0] for name, rest in urls.items()}
        assert httpx.post(f"{urls['Front']}/ask", json={"a": 4}).json() == {"twice": 8, "plus": 5}
        assert httpx.post(f"{urls['Asks']}/value", json={}).json() == 3
        assert run("stop", "Asks", "--pid", str(served.process.pid)).returncode == 0
        assert httpx.post(f"{urls['Front']}/ask", json={"a": 1}).json() == {"twice": 2, "plus": 2}
        assert run("stop", "Front", "--pid", str(served.process.pid)).returncode == 0
        assert served.process.wait(PATIENCE) == 0  # nothing is left to serve


@pytest.mark.system
def test_reload_wants_one_entry() -> None:
    done = run("serve", "chain_services", "--reload")
    assert done.returncode == 1
    assert "name one, chain_services:NAME (Front, Asks)" in done.stderr


@pytest.mark.system
def test_what_a_script_that_was_run_has_pickled_is_found_in_its_module(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(
        "import pickle\nfrom multiprocessing import get_context\nimport nbcompose\n\nclass Net:\n    size = 3\n\n"
        "def square(x):\n    return x * x\n\n@nbcompose.service\nclass Kept:\n    def __init__(self):\n"
        f"        with open({str(tmp_path / 'net.pickle')!r}, 'rb') as file:\n"
        "            self.net = pickle.load(file)\n\n"
        "    @nbcompose.api\n    def size(self) -> int:\n        return self.net.size\n\n"
        "    @nbcompose.api\n    def pool(self, how: str) -> list[int]:\n"
        "        with get_context(how).Pool(1) as pool:\n            return pool.map(square, [2, 3])\n\n"
        "if __name__ == '__main__':\n    import sys\n    pickle.dump(Net(), open(sys.argv[1], 'wb'))\n"
    )
    subprocess.run([sys.executable, tmp_path / "kept.py", tmp_path / "net.pickle"], check=True, timeout=PATIENCE)
    with serving(str(tmp_path / "kept.py"), "--port", "0") as served:
        assert httpx.post(f"{served.url}/size", json={}, timeout=PATIENCE).json() == 3
        for how in ("fork", "spawn"):
            answer = httpx.post(f"{served.url}/pool", json={"how": how}, timeout=PATIENCE)
            assert answer.json() == [4, 9]


@pytest.mark.system
def test_a_graph_that_uses_no_heavy_library_imports_none(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(
        "import nbcompose\n\n@nbcompose.service\nclass Hello:\n    @nbcompose.api\n"
        "    def hi(self) -> str:\n        return 'hi'\n"
    )
    path = os.pathsep.join([str(SERVICES), str(tmp_path)])
    with serving(
        "hello:Hello", "--port", "0", cwd=tmp_path, NBCOMPOSE_PRELOAD="slow_to_import", PYTHONPATH=path
    ) as served:
        assert httpx.post(f"{served.url}/hi", json={}).json() == "hi"


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_lets_calls_in_hand_finish(number: signal.Signals, tmp_path: Path) -> None:
    with serving("narrow_entry", "--port", "0") as served:
        replicas = psutil.Process(served.process.pid).children(recursive=True)
        answers: list[httpx.Response] = []
        with httpx.Client() as client:
            slow, until = f"{served.url}/slow", {"until": str(tmp_path / "go")}
            call = threading.Thread(target=lambda: answers.append(client.post(slow, json=until)))
            call.start()
            _wait_until_in_hand(served.url)
            served.process.send_signal(number)
            served.read_until("stopping: calls in flight may finish")
            (tmp_path / "go").touch()
            call.join(PATIENCE)
        assert served.process.wait(PATIENCE) == 0
        assert answers[0].json() == "done"
    for replica in replicas:
        wait_for_end(replica.pid)


def _wait_until_in_hand(url: str) -> None:
    """`slow` tells that it has begun to whoever asks."""
    assert httpx.post(f"{url}/wait_for_slow", json={}, timeout=PATIENCE).json() is True


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_start_too(number: signal.Signals) -> None:
    with serving("faulty_services:InitNeverEnds", "--port", "0", wait=False) as served:
        served.read_until("InitNeverEnds: loading (__init__)")
        replicas = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(number)
        assert served.process.wait(PATIENCE) == 0
    for replica in replicas:
        wait_for_end(replica.pid)


@pytest.mark.system
def test_a_service_that_cannot_start_ends_it_with_the_traceback() -> None:
    done = run("serve", "faulty_services:InitRaises", "--port", "0")
    assert done.returncode == 1
    assert "InitRaises" in done.stderr
    assert "self.weights = 1 / 0" in done.stderr


@pytest.mark.system
def test_a_token_is_wanted_where_one_is_given() -> None:
    with serving("chain_services:Leaf", "--port", "0", "--host", "0.0.0.0", NBCOMPOSE_TOKEN="secret") as served:
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.post(f"{url}/add", json={"a": 1}).status_code == 401
        allowed = httpx.post(f"{url}/add", json={"a": 1}, headers={"Authorization": "Bearer secret"})
        assert allowed.json() == 2
        assert "secret" not in "\n".join(served.lines)


@pytest.mark.system
def test_a_module_that_serves_itself_when_it_is_imported_is_told_so() -> None:
    done = run("serve", "serves_itself.py")
    assert done.returncode == 1
    assert 'put what starts them under `if __name__ == "__main__":`' in done.stderr


@pytest.mark.system
def test_a_script_serves_with_one_call(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import nbcompose\n"
        "@nbcompose.service(http={'port': 0})\n"
        "class Hello:\n"
        "    @nbcompose.api\n"
        "    def greet(self, name: str) -> str:\n"
        "        return f'Hello {name}'\n"
        "if __name__ == '__main__':\n"
        "    nbcompose.serve(Hello, port=0, say=lambda line: print(line, flush=True))\n"
    )
    environment = {**os.environ, "NBCOMPOSE_PRELOAD": "json"}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    served = Served(process)
    try:
        url = served.read_until("answers at").split()[3]
        assert httpx.post(f"{url}/greet", json={"name": "you"}).json() == "Hello you"
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        served.close()
