"""The public names, and what it costs to import them."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import nbcompose

PUBLIC = [
    "NbcomposeError",
    "Service",
    "UnknownArgumentWarning",
    "__version__",
    "api",
    "cancelled",
    "depends",
    "device",
    "errors",
    "graph",
    "llms",
    "load_ipython_extension",
    "models",
    "on_shutdown",
    "on_startup",
    "run",
    "serve",
    "service",
    "settings",
    "streams",
    "trace",
    "traces",
    "unload_ipython_extension",
]

# What is public in what these name: members, and parameters.
MEMBERS = {
    "Service": "asgi graph inner link name to_async to_sync token url",
    "models": "HuggingFaceModel ModelProgress models_of prefetch",
    "streams": "map tee",
    "settings": """
        FORMAT LEVELS LOG_LEVEL PRELOAD RECORD_ARGUMENTS REPLICA_FORMAT SAMPLERS TOKEN TraceExport VARIABLES ZYGOTE
        checked_token log_level preload record_arguments start_logging token trace_export trace_sampler zygote
    """,
    "errors": """
        BadRequest BlockingCall CallCancelled CallError CallInterrupted CannotSwap CaptureError CycleError
        DeadlineExceeded DeclarationError DeviceError ExportRefused Forbidden HeadersTooLarge IgnoredOptionWarning
        Incompatible InvalidArgument InvalidResult LargeCaptureWarning LaunchError MemoryShortage MethodNotAllowed
        Mistake Misuse ModelError NbcomposeError NbcomposeWarning NoTerminal NotAcceptable NotAwaited NotAwaitedWarning
        NotBegun Overloaded PayloadTooLarge PortInUse PromptTooLong ProtocolError RemoteError RemoteTraceback
        ReplicaDied ResourceShortageWarning ServiceUnavailable SlowRequest StreamLag StreamTaken Unauthorized UnknownApi
        UnknownArgumentWarning UnknownService UnsupportedMediaType UnsupportedOption
    """,
}
PARAMETERS = {
    "api": "function options",
    "cancelled": "",
    "depends": "target url token",
    "device": "",
    "graph": "service live",
    "load_ipython_extension": "shell",
    "on_shutdown": "method",
    "on_startup": "method",
    "run": "entries http token say",
    "serve": "entries host port token allowed_hosts reload stop_first interrupt_after title say",
    "service": "cls options",
    "trace": "trace",
    "traces": "trace service api state since text",
    "unload_ipython_extension": "shell",
}

HEAVY = (
    "IPython",
    "anywidget",
    "ipykernel",
    "jupyter_client",
    "torch",
    "transformers",
    "pandas",
    "PIL",
    "tornado",
    "httpx",
)


def test_the_names_are_these() -> None:
    assert nbcompose.__all__ == PUBLIC
    assert dir(nbcompose) == PUBLIC


@pytest.mark.parametrize("name", [n for n in PUBLIC if "ipython" not in n])
def test_each_of_them_is_there(name: str) -> None:
    assert getattr(nbcompose, name) is not None


@pytest.mark.parametrize("name", [n for n in PUBLIC if n != "__version__"])
def test_each_of_them_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(nbcompose, name))


@pytest.mark.parametrize("name", MEMBERS)
def test_their_members_are_these(name: str) -> None:
    holder = getattr(nbcompose, name)
    home = holder.__name__ if inspect.ismodule(holder) else holder.__module__
    own = [
        n for n, v in inspect.getmembers(holder) if getattr(v, "__module__", home) == home and not inspect.ismodule(v)
    ]
    assert sorted(getattr(holder, "__all__", [n for n in own if not n.startswith("_")])) == MEMBERS[name].split()


def test_their_parameters_are_these() -> None:
    functions = {n: getattr(nbcompose, n) for n in PUBLIC if inspect.isfunction(getattr(nbcompose, n))}
    assert {n: " ".join(inspect.signature(f).parameters) for n, f in functions.items()} == PARAMETERS


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'nbcompose' has no attribute 'sevrice'"):
        nbcompose.sevrice  # type: ignore[attr-defined]


@pytest.mark.system
@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import nbcompose", set()),
        ("from nbcompose import api, depends, models, on_shutdown, on_startup, service", {"httpx"}),
        ("import nbcompose.cli", {"httpx", "tornado"}),
    ],
)
def test_an_import_loads_nothing_heavy(statement: str, allowed: set[str]) -> None:
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(json.loads(done.stdout)) <= allowed


ROOMS = sorted(
    ".".join(("nbcompose", *path.parent.relative_to(Path(nbcompose.__file__).parent).parts))
    for path in Path(nbcompose.__file__).parent.rglob("__init__.pyi")
)


@pytest.mark.system
@pytest.mark.parametrize("room", ROOMS)
def test_every_room_can_be_the_first(room: str) -> None:
    """It must not depend on what others have imported before."""
    code = f"import {room} as room\nfor name in room.__all__: getattr(room, name)"
    subprocess.run([sys.executable, "-c", code], check=True)
