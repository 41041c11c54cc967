"""The command `nbcompose`: usage, and looking after the services of other processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from nbcompose import __version__
from nbcompose.cli import main
from tests.patience import PATIENCE
from tests.serve_process import NBCOMPOSE, run, serving

# -- usage (unit)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"nbcompose {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["serve"], "the following arguments are required: TARGET[:SERVICE]"),
        (["serve", "m", "--port", "70000"], "'70000' is not a port (0 to 65535)"),
        (["serve", "m", "--port", "-1"], "--port"),
        (["serve", "m", "--reload", "--replace", "later"], "invalid choice: 'later'"),
        (["logs", "X", "-n", "0"], "'0' is not a whole number from 1"),
        (["serve", "m", "--interrupt-after", "soon"], "'soon' is not a number of seconds"),
        (["serve", "m", "--interrupt-after", "-1"], "--interrupt-after"),
        (["serve", "m", "--interrupt-after", "inf"], "'inf' is not a number of seconds"),
        (["debug", "X", "--replica", "x"], "'x' is not a whole number from 0"),
        (["profile", "X", "0"], "'0' is not a whole number from 1"),
        (["explode"], "invalid choice: 'explode'"),
        (["serve", "m", "--token-file", "/no/such/file"], "the file with the token cannot be read: No such file"),
        (["serve", "m", "--token-file", os.devnull], "there is no token in it"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--token", "s3cret"], ["--token=s3cret"], ["--tok", "s3cret"], ["--t=s3cret"], ["--token-file", "s3cret"]],
)
def test_a_token_on_the_command_line_is_refused_and_not_repeated(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "m", *arguments])
    printed = capsys.readouterr()
    assert "token" in printed.err
    assert "s3cret" not in printed.err + printed.out


def test_what_reload_does_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["serve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--reload" in told
    assert "--replace {start-first,stop-first}" in told
    assert "which keep what they have loaded" in told


def test_a_wrong_target_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "no_such_module"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("nbcompose: there is no module no_such_module here")
    assert error.count("\n") == 1


def test_a_target_that_cannot_be_imported_shows_where(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    file = f"{tmp_path}/broken.py"
    with open(file, "w", encoding="utf-8") as out:
        out.write("x = 1 / 0\n")
    assert main(["serve", file]) == 1
    error = capsys.readouterr().err
    assert "x = 1 / 0" in error
    assert error.count('File "') == 1
    assert error.endswith(f"nbcompose: {file} could not be imported (see above)\n")


# -- other processes (system)


@pytest.mark.system
def test_ps_logs_and_stop_from_another_process() -> None:
    with serving("narrow_entry:Entry", "--port", "0") as served:
        pid = str(served.process.pid)
        assert httpx.post(f"{served.url}/double", json={"a": 21}).json() == 42

        listed = run("ps")
        assert listed.returncode == 0
        header, *rows = listed.stdout.splitlines()
        assert re.split(r"\s{2,}", header) == [
            "PID", "IN", "SERVICE", "STATE", "REPLICAS", "DEVICE", "CALLS", "FAILED", "P50 (5 MIN)", "P95 (5 MIN)",
            "MEMORY", "URL",
        ]  # fmt: skip
        ours = [row for row in rows if row.startswith(pid)]
        assert [re.split(r"\s{2,}", row)[2] for row in ours] == ["Below", "Entry"]
        assert "nbcompose serve narrow_entry:Entry " in ours[1]
        assert ours[1].endswith(served.url)

        logs = run("logs", "Entry", "--pid", pid)
        [(api, trace)] = re.findall(
            r"^\d\d:\d\d:\d\d\.\d{3} {9}Entry#0 (\w+) ([0-9a-f]{8}) \| doubling 21\n$", logs.stdout
        )
        assert api == "double"
        assert run("logs", "Entry", "--pid", pid, "--trace", trace).stdout == logs.stdout
        assert run("logs", "Entry", "--pid", pid, "--api", "double").stdout == logs.stdout
        nothing = run("logs", "Entry", "--pid", pid, "--api", "other")
        assert (nothing.stdout, nothing.stderr) == ("", "Entry has written nothing of that kind\n")
        assert run("logs", "Entry", "--pid", pid, "--level", "warning").stdout == ""

        wrong = run("stop", "Writer", "--pid", pid)
        assert wrong.returncode == 1
        assert re.fullmatch(r"nbcompose: .*'Writer'.*: Below, Entry\n", wrong.stderr)

        followed = subprocess.Popen(
            [NBCOMPOSE, "logs", "Entry", "--pid", pid, "--follow"], stdout=subprocess.PIPE, text=True
        )
        assert followed.stdout is not None
        assert followed.stdout.readline() == logs.stdout
        assert httpx.post(f"{served.url}/double", json={"a": 4}).json() == 8
        assert followed.stdout.readline().endswith(" | doubling 4\n")

        assert run("stop", "Below", "--pid", pid).returncode == 0
        assert run("logs", "Below", "--pid", pid).returncode == 0  # it has one still
        stopped = run("stop", "Entry", "--pid", pid)
        assert (stopped.returncode, stopped.stdout) == (0, "Entry was stopped\n")
        assert followed.wait(PATIENCE) in (0, 1)  # with the service, or with its process
        followed.stdout.close()
        assert served.process.wait(PATIENCE) == 0  # nothing is left to serve


SECRETS = """
import os, sys
import nbcompose

class Echo:
    @nbcompose.api
    def say(self, text: str) -> str:
        return text

if __name__ == "__main__":
    nbcompose.serve(Echo, port=0, say=lambda line: print(line, flush=True))
"""


@pytest.mark.system
def test_ps_shows_no_secret_of_a_command_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SECRETS)
    secrets = ["--token", "s3cret", "--tok=s3cret", "NBCOMPOSE_TOKEN=s3cret", "https://me:s3cret@host/?token=s3cret"]
    python = (sys.executable, "app.py")
    with serving(*secrets, command=python, cwd=tmp_path, NBCOMPOSE_TOKEN="s3cret") as served:
        listed = run("ps").stdout
        wrong = run("stop", "Writer", "--pid", str(served.process.pid)).stderr
        replicas = psutil.Process(served.process.pid).children(recursive=True)
        commands = [" ".join(p.cmdline()) for p in replicas]
        served.process.terminate()
        rest = served.rest()
    [row] = [row for row in listed.splitlines() if row.startswith(f"{served.process.pid} ")]
    assert re.split(r"\s{2,}", row)[1:3] == ["app.py", "Echo"]
    assert len(replicas) >= 2
    assert "s3cret" not in "\n".join([listed, wrong, *commands, *served.lines, *rest])


@pytest.mark.system
@pytest.mark.parametrize("how", ["file", "standard input"])
def test_a_token_in_a_file(how: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    given = {"file": str(tmp_path / "token"), "standard input": "-"}[how]
    with (
        open(tmp_path / "token") as stdin,
        serving("chain_services:Leaf", "--port", "0", "--token-file", given, stdin=stdin) as served,
    ):
        command = " ".join(psutil.Process(served.process.pid).cmdline())
        assert httpx.post(f"{served.url}/add", json={"a": 1}).status_code == 401
        allowed = httpx.post(f"{served.url}/add", json={"a": 1}, headers={"Authorization": "Bearer s3cret"})
        assert allowed.json() == 2
    assert "s3cret" not in command


@pytest.mark.system
def test_a_name_in_two_processes_wants_the_pid() -> None:
    with serving("chain_services:Leaf", "--port", "0") as one, serving("chain_services:Leaf", "--port", "0") as two:
        ambiguous = run("stop", "Leaf")
        assert ambiguous.returncode == 1
        for served in (one, two):
            assert f"--pid {served.process.pid} (nbcompose serve chain_services:Leaf)" in ambiguous.stderr


@pytest.mark.system
def test_a_port_in_use_is_one_line() -> None:
    with serving("chain_services:Leaf", "--port", "0") as served:
        port = served.url.rpartition(":")[2]
        refused = run("serve", "chain_services:Leaf", "--port", port)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"nbcompose: Leaf: port {port} ")


@pytest.mark.system
@pytest.mark.usefixtures("interrupts")
def test_debug_has_its_prompt_in_the_terminal() -> None:
    pexpect: Any = pytest.importorskip("pexpect")
    with serving("debugged_services:Top", "--port", "0") as served, ThreadPoolExecutor() as threads:
        pid = str(served.process.pid)
        terminal = pexpect.spawn(NBCOMPOSE, ["debug", "Leaf", "--pid", pid], timeout=PATIENCE, encoding="utf-8")
        terminal.expect("Leaf stops at its next call and at breakpoints, whoever calls")
        call = threads.submit(
            httpx.post, f"{served.url}/later", json={"text": "abc"}, headers={"X-Request-Timeout": "1"}
        )
        terminal.expect(r"-> loud = text.upper\(\)")
        terminal.expect_exact("(Pdb) ")
        terminal.sendline("p text")
        terminal.expect_exact("'abc'")
        terminal.expect_exact("(Pdb) ")
        listed = run("ps").stdout
        assert "Leaf" in listed
        terminal.sendline("c")
        assert call.result(PATIENCE).json() == "ABC!"
        terminal.sendintr()
        terminal.expect_exact("detached")
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0
        assert httpx.post(f"{served.url}/sync", json={"text": "x"}).json() == "X!"

        wrong = run("debug", "Leaf", "--pid", pid, "--replica", "7")
        assert wrong.returncode == 1
        assert wrong.stderr == "nbcompose: Leaf has no replica 7; those that are up: 0\n"


@pytest.mark.system
def test_profile_writes_a_flame_graph(tmp_path: Path) -> None:
    with serving("debugged_services:Top", "--port", "0") as served:
        flame = tmp_path / "flame.svg"
        told = run("profile", "Leaf", "1", "--pid", str(served.process.pid), "-o", str(flame))
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.startswith("Leaf ran nothing in ")
        assert flame.read_text(encoding="utf-8").startswith("<svg ")
        wrong = run("profile", "Leaf", "1", "--pid", str(served.process.pid), "-o", str(tmp_path / "no" / "flame.svg"))
        assert wrong.returncode == 1
        assert "flame.svg cannot be written: No such file or directory" in wrong.stderr
