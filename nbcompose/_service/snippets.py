"""Calls as code to be pasted: in a notebook, a Python script, a terminal, a Node script.

Code for outside the notebook holds neither the address nor the token, which change from run to run, and must not be in
a saved output. It reads them from private files, which the notebook keeps while the service runs
(`_notebook/credentials.py`): `url`, `token`, and `header` for curl, which would show a token on its command line to
every user of the machine.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from nbcompose._spec import ApiSpec, ParamSpec

CREDENTIALS = ".nbcompose/run"  # in the user's home: a folder for each service

_LITERALS: dict[str, Any] = {"str": "...", "int": 1, "float": 0.5, "bool": True, "dict": {}, "list": []}

_ITEMS = re.compile(r"(?:list|(?:[\w.]+\.)?(?:Async)?(?:Iterator|Generator))\[(\w+)[],]")

# Result types that are files, which a terminal cannot show, by the last part of their names.
_FILES = {"Image", "Path", "PosixPath", "bytes", "bytearray"}


def python_call(variable: str, api: ApiSpec) -> str:
    """Return an example call, e.g. `Answer.ask("...")`; for an api that yields, a loop over it."""
    arguments = []
    for p in (p for p in api.params if p.required):
        value = _example(p)
        text = "..." if value is None else _python(value)
        arguments.append(f"{p.name}={text}" if p.kind == "keyword_only" else text)
    call = f"{variable}.{api.name}({', '.join(arguments)})"
    return f"for item in {call}: print(item)" if api.stream else call


def terminal_example(service: str, api: ApiSpec) -> str:
    """Return an example call for a terminal."""
    return terminal_call(service, api, shlex.quote(json.dumps(_example_body(api))), saves=_gives_file(api))


def script_example(service: str, api: ApiSpec) -> str:
    """Return an example call for a Python script."""
    return script_call(service, api, _python(_example_body(api)), saves=_gives_file(api))


def terminal_call(service: str, api: ApiSpec, data: str, *, saves: bool) -> str:
    """Return a line for a shell, with `data` as the body, quoted. `saves`: the answer is a file."""
    flags = " -N" if api.stream else " -o answer" if saves else ""
    return (
        f'curl -s{flags} "$(cat ~/{CREDENTIALS}/{service}/url){api.route}" -H "@$HOME/{CREDENTIALS}/{service}/header"'
        f" -H 'Content-Type: application/json' -d {data}"
    )


def terminal_lines(service: str, api: ApiSpec, lines: str, *, saves: bool) -> str:
    """Return a line for a shell that sends the streams of a call as they come, with `lines` as quoted words: each is an
    object of parameters (see `_replica/http/stream_bodies.py`).
    """
    return f"printf '%s\\n' {lines} |\n  {_sent(service, api.route, 'application/x-ndjson', saves=saves)}"


def terminal_events(service: str, api: ApiSpec, query: str, *, saves: bool) -> str:
    """Return the end of a pipe for a shell, which sends the stream of another service as it comes. `query`: the other
    arguments, with the question mark.
    """
    return _sent(service, f"{api.route}{query}", "text/event-stream", saves=saves)


def _sent(service: str, address: str, content_type: str, *, saves: bool) -> str:
    """Return a line for a shell that sends what it reads while it reads the answer."""
    flags = " -o answer" if saves else ""
    return (
        f'curl -sN{flags} -X POST "$(cat ~/{CREDENTIALS}/{service}/url){address}"'
        f" -H \"@$HOME/{CREDENTIALS}/{service}/header\" -H 'Content-Type: {content_type}' -T ."
    )


def script_call(service: str, api: ApiSpec, data: str, *, saves: bool) -> str:
    """Return a Python script, with `data` as the body."""
    head = f"""# in a Python script (pip install httpx)
from pathlib import Path

import httpx

at = Path.home() / "{CREDENTIALS}/{service}"
url, token = (at / "url").read_text(), (at / "token").read_text()
headers = {{"Authorization": f"Bearer {{token}}"}}
"""
    request = f'url + "{api.route}", json={data}, headers=headers, timeout=60'
    if api.stream:
        return f"""{head}with httpx.stream("POST", {request}) as answer:
    for line in answer.iter_lines():
        print(line)"""
    shown = 'Path("answer").write_bytes(answer.content)' if saves else "print(answer.json())"
    return f"{head}answer = httpx.post({request}).raise_for_status()\n{shown}"


def javascript_call(service: str, api: ApiSpec, data: str, *, saves: bool) -> str:
    """Return a script for Node, with `data` as the body."""
    shown = "console.log(await answer.json());"
    if api.stream:
        shown = "for await (const chunk of answer.body) process.stdout.write(chunk);"
    elif saves:
        shown = 'await writeFile("answer", Buffer.from(await answer.arrayBuffer()));'
    return f"""// in a Node script (call.mjs)
import {{ readFile, writeFile }} from "node:fs/promises";
import {{ homedir }} from "node:os";

const read = (name) => readFile(`${{homedir()}}/{CREDENTIALS}/{service}/${{name}}`, "utf8");
const headers = {{ Authorization: `Bearer ${{await read("token")}}`, "Content-Type": "application/json" }};
const body = JSON.stringify({data});
const answer = await fetch((await read("url")) + "{api.route}", {{ method: "POST", headers, body }});
{shown}"""


def _gives_file(api: ApiSpec) -> bool:
    return api.returns.removesuffix(" | None").rpartition(".")[2] in _FILES


def _example_body(api: ApiSpec) -> Any:
    if api.root is not None:
        return _example_value(api.root)
    return {p.name: _example_value(p) for p in api.params if p.required and not p.kind.startswith("var_")}


def _example_value(p: ParamSpec) -> Any:
    return "..." if (value := _example(p)) is None else value


def _example(p: ParamSpec) -> Any:
    """Return an example value of the parameter's type where it is simple; None where the user has to choose one."""
    annotation = p.text.partition(":")[2].strip()
    if items := _ITEMS.match(annotation):  # a list stands for a stream
        inner = _LITERALS.get(items[1])
        return None if inner is None else [inner]
    return _LITERALS.get(annotation.partition("[")[0])


def _python(value: Any) -> str:
    """Return a value as Python, with the quotes that people use."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(k)}: {_python(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)
