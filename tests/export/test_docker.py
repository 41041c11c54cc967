"""The Dockerfile, by parsing it and by running what it would run. Images are not built: there is no Docker in tests."""

from __future__ import annotations

import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest

from nbcompose._export import docker
from nbcompose._export.requirements import Requirement, Requirements
from tests.conftest import SERVICES
from tests.serve_process import run, serving

NEEDED = Requirements(
    "3.12",
    (
        Requirement("nbcompose==0.1.0"),
        Requirement("torch==2.13.0", "for transformers"),
        Requirement("a @ https://b/c?d"),
    ),
)
FROM_GIT = Requirements("3.12", (Requirement("a @ git+https://example.org/a@0123abc"),))


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments), lines joined, comments left out."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in text.split("\n") if not line.startswith("#")))
    found = [line.partition(" ") for line in joined.split("\n") if line]
    return [(word, rest) for word, _, rest in found]


def only(word: str, text: str) -> str:
    [rest] = [rest for name, rest in instructions(text) if name == word]
    return rest


TEXT = docker.dockerfile("app.py", ["Answer"], NEEDED)


def test_the_order_of_its_instructions() -> None:
    words = [word for word, _ in instructions(TEXT)]
    assert words == ["FROM", "RUN", "RUN", "ENV", "VOLUME", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "CMD"]


def test_the_base_is_the_python_of_the_script() -> None:
    assert only("FROM", TEXT) == "python:3.12-slim"


@pytest.mark.parametrize(
    ("script", "image"), [("app.py", "app"), ("1. My App.py", "1-my-app"), ("_ünï_.py", "n"), ("é.py", "services")]
)
def test_an_image_has_a_name_that_docker_takes(script: str, image: str) -> None:
    text = docker.dockerfile(script, ["Answer"], NEEDED)
    assert f"#   docker build -t {image} .\n" in text
    assert f":/home/app/.cache/huggingface {image}\n" in text


def test_what_the_script_needs_is_installed() -> None:
    install = next(rest for word, rest in instructions(TEXT) if word == "RUN")
    assert shlex.split(install) == [
        "pip", "install", "--no-cache-dir", "nbcompose==0.1.0", "torch==2.13.0", "a @ https://b/c?d",
    ]  # fmt: skip


def test_what_no_index_has_is_installed_from_a_wheel_beside_the_script() -> None:
    text = docker.dockerfile("app.py", ["Answer"], NEEDED, "nbcompose-0.1.0-py3-none-any.whl")
    words = instructions(text)
    copied = words.index(("COPY", '["nbcompose-0.1.0-py3-none-any.whl", "/tmp/nbcompose-0.1.0-py3-none-any.whl"]'))
    assert shlex.split(words[copied + 1][1]) == [
        "pip", "install", "--no-cache-dir", "/tmp/nbcompose-0.1.0-py3-none-any.whl", "torch==2.13.0", "a @ https://b/c?d",
    ]  # fmt: skip
    assert not ignored("nbcompose-0.1.0-py3-none-any.whl")


def test_git_is_there_where_a_requirement_is_from_git() -> None:
    runs = [rest for word, rest in instructions(docker.dockerfile("app.py", ["A"], FROM_GIT)) if word == "RUN"]
    assert "install --yes --no-install-recommends git " in runs[0]
    assert runs[1] == "pip install --no-cache-dir 'a @ git+https://example.org/a@0123abc'"


def test_the_server_is_nobody_in_particular() -> None:
    user = only("USER", TEXT)
    assert user == "1000"
    assert any(f"useradd --uid {user} " in rest and "chown --recursive app:app /home/app" in rest
               for word, rest in instructions(TEXT) if word == "RUN")  # fmt: skip


def test_models_are_kept_in_a_volume() -> None:
    assert f"HF_HOME={only('VOLUME', TEXT)}" in only("ENV", TEXT).split()


def test_no_token_is_in_the_image() -> None:
    assert "NBCOMPOSE_TOKEN" not in " ".join(rest for _, rest in instructions(TEXT))
    assert "#   docker run -e NBCOMPOSE_TOKEN -p 3000:3000 " in TEXT


def test_the_same_input_gives_the_same_bytes() -> None:
    assert docker.dockerfile("app.py", ["Answer"], NEEDED) == TEXT


def test_several_entries() -> None:
    text = docker.dockerfile("my-app.py", ["A", "B"], NEEDED)
    assert only("EXPOSE", text) == "3000 3001"
    assert " -p 3000:3000 -p 3001:3001 " in text
    *command, program = json.loads(only("CMD", text))
    assert command == ["python", "-c"]
    assert program == (
        "import importlib, nbcompose; script = importlib.import_module('my-app'); "
        "nbcompose.serve(script.A, script.B, host='0.0.0.0', port=3000)"
    )
    compile(program, "CMD", "exec")


@pytest.mark.parametrize(
    "name", ["notebook.ipynb", "deep/er/notebook.ipynb", "a/__pycache__", ".env", ".env.local", ".git"]
)
def test_what_is_ignored(name: str) -> None:
    assert ignored(name)


@pytest.mark.parametrize("name", ["app.py", "app_data", "passages.json", "helpers.py", "env.py"])
def test_what_is_not(name: str) -> None:
    assert not ignored(name)


def ignored(name: str) -> bool:
    patterns = [p for p in docker.dockerignore().splitlines() if not p.startswith("#")]
    return any(fnmatch(name, p) or (p.startswith("**/") and fnmatch(name, p.removeprefix("**/"))) for p in patterns)


# -- what is run in the container


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server whose every answer has this status; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.system
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check(status: int, healthy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which does not lead to this machine
    command = json.loads(only("HEALTHCHECK", TEXT).partition(" CMD ")[2])
    assert command[0] == "python"
    with answering(status) as port:
        asked = [word.replace(":3000/", f":{port}/") for word in command[1:]]
        done = subprocess.run([sys.executable, *asked], capture_output=True, check=False)
    assert (done.returncode == 0) is healthy


@pytest.mark.system
def test_the_server_wants_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBCOMPOSE_TOKEN", raising=False)
    done = run(*served("chain_services.py", "Front"))
    assert done.returncode == 1
    assert "0.0.0.0 can be reached from other machines: give a token" in done.stderr


@pytest.mark.system
def test_the_server_with_one_is_healthy() -> None:
    command = json.loads(only("HEALTHCHECK", TEXT).partition(" CMD ")[2])
    arguments = [*served("chain_services.py", "Front")[1:-1], "0"]
    with serving(*arguments, cwd=Path(SERVICES), NBCOMPOSE_TOKEN="secret") as server:
        port = server.url.rpartition(":")[2]
        asked = [word.replace(":3000/", f":{port}/") for word in command[1:]]
        subprocess.run([sys.executable, *asked], check=True)


def served(script: str, entry: str) -> list[str]:
    name, *arguments = json.loads(only("CMD", docker.dockerfile(script, [entry], NEEDED)))
    assert name == "nbcompose"
    return list(arguments)
