"""What to type to call an api: in Python, and with curl. Placeholders stand for values; nothing here is secret."""

from __future__ import annotations

import json
from typing import Any

from nbcompose.spec import ApiSpec, ParamSpec

_LITERALS: dict[str, Any] = {"str": "...", "int": 1, "float": 0.5, "bool": True, "dict": {}, "list": []}


# Results that are files, which no terminal shows, by the last part of their names.
_FILES = {"Image", "Path", "PosixPath", "bytes", "bytearray"}


def python_call(variable: str, api: ApiSpec) -> str:
    """E.g. `Answer.ask("...")`; for an api that yields, a loop over it."""
    arguments = []
    for p in _needed(api):
        value = _value(p)
        text = "..." if value is None else json.dumps(value) if value is not True else "True"
        arguments.append(f"{p.name}={text}" if p.kind == "keyword_only" else text)
    call = f"{variable}.{api.name}({', '.join(arguments)})"
    return f"for item in {call}: print(item)" if api.stream else call


def curl_call(variable: str, api: ApiSpec) -> str:
    """A cell's line that calls the api over HTTP. IPython fills in the address and the token when it runs."""
    body = json.dumps({p.name: "..." if (value := _value(p)) is None else value for p in _needed(api)})
    braces = body.replace("{", "{{").replace("}", "}}")  # single ones are IPython's
    saves = api.returns.removesuffix(" | None").rpartition(".")[2] in _FILES
    flags = " -N" if api.stream else " -o answer" if saves else ""
    return (
        f'!curl -s{flags} {{{variable}.url}}{api.route} -H "Authorization: Bearer {{{variable}.token}}"'
        f" -H \"Content-Type: application/json\" -d '{braces}'"
    )


def _needed(api: ApiSpec) -> list[ParamSpec]:
    return [p for p in api.params if p.required]


def _value(p: ParamSpec) -> Any:
    """A value of the parameter's type where that is plain; None where somebody has to think."""
    annotation = p.text.partition(":")[2].strip()
    if annotation.startswith("list[") and annotation.endswith("]"):
        inner = _LITERALS.get(annotation[5:-1])
        return None if inner is None else [inner]
    return _LITERALS.get(annotation.partition("[")[0])
