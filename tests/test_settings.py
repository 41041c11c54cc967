"""Settings from environment variables, and the level of logging in the owner and its replicas."""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from nbcompose import settings
from nbcompose.errors import NbcomposeError
from tests.conftest import Running
from tests.patience import wait_until
from tests.serve_process import run, serving

APP = """
import logging
from nbcompose import api, service

logger = logging.getLogger("app")

@service
class Answer:
    @api
    def ask(self) -> int:
        logger.debug("asked, in detail")
        logger.info("asked")
        return 42
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("", None), (" ", None), ("debug", logging.DEBUG), ("INFO", logging.INFO), ("critical", 50)],
)
def test_the_level(text: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.LOG_LEVEL, raising=False)
    if text is not None:
        monkeypatch.setenv(settings.LOG_LEVEL, text)
    assert settings.log_level() == expected


def test_what_is_no_level_names_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.LOG_LEVEL, "loud")
    with pytest.raises(NbcomposeError, match="NBCOMPOSE_LOG_LEVEL='loud' is no level: debug, info, warning"):
        settings.start_logging()


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("", ()), ("json", ("json",)), (" json, torch ,", ("json", "torch"))]
)
def test_what_the_zygote_imports(
    text: str | None, expected: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(settings.PRELOAD, raising=False)
    if text is not None:
        monkeypatch.setenv(settings.PRELOAD, text)
    assert settings.preload() == expected


@pytest.mark.parametrize(("text", "expected"), [(None, True), ("1", True), ("0", False)])
def test_whether_there_is_a_zygote(text: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.ZYGOTE, raising=False)
    if text is not None:
        monkeypatch.setenv(settings.ZYGOTE, text)
    assert settings.zygote() is expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ENDPOINT": "http://a"}, ("http://a", "http/protobuf", 5.0, 512, 2048)),
        ({"ENDPOINT": "http://a", "TRACES_ENDPOINT": "http://b"}, ("http://b", "http/protobuf", 5.0, 512, 2048)),
        ({"ENDPOINT": " "}, None),
        (
            {"ENDPOINT": "http://a", "PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/json"},
            ("http://a", "http/json", 5.0, 512, 2048),
        ),
        ({"ENDPOINT": "http://a", "SCHEDULE_DELAY": "250"}, ("http://a", "http/protobuf", 0.25, 512, 2048)),
        ({"ENDPOINT": "http://a", "MAX_QUEUE_SIZE": "9"}, ("http://a", "http/protobuf", 5.0, 9, 9)),
        (
            {"ENDPOINT": "http://a", "SCHEDULE_DELAY": "soon", "MAX_QUEUE_SIZE": "0", "MAX_EXPORT_BATCH_SIZE": "-1"},
            ("http://a", "http/protobuf", 5.0, 512, 2048),
        ),
    ],
)
def test_where_spans_are_sent(
    variables: dict[str, str], expected: tuple[object, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        kind = "EXPORTER_OTLP" if name.endswith(("ENDPOINT", "PROTOCOL")) else "BSP"
        monkeypatch.setenv(f"OTEL_{kind}_{name}", value)
    assert settings.trace_export() == expected


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("", "", (1.0, True)),
        ("always_on", "0.5", (1.0, False)),
        ("parentbased_always_off", "", (0.0, True)),
        ("TraceIdRatio", "0.25", (0.25, False)),
        ("parentbased_traceidratio", "0.25", (0.25, True)),
        ("traceidratio", "2", (1.0, False)),
        ("traceidratio", "some", (1.0, False)),
        ("traceidratio", "nan", (1.0, False)),
        ("jaeger_remote", "", (1.0, True)),
    ],
)
def test_which_traces_are_sampled(
    name: str, argument: str, expected: tuple[float, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert settings.trace_sampler()[1:] == (1.0, True)  # as ever, where nothing is sent
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a")
    assert settings.trace_sampler()[1:] == expected


@pytest.mark.system
def test_nbcompose_serve_with_a_level(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP, encoding="utf-8")
    with serving(str(app), "--port", "0", "--log-level", "info") as served:
        assert httpx.post(f"{served.url}/ask").json() == 42

        def logs() -> str:
            return run("logs", "Answer", "--pid", str(served.process.pid)).stdout

        # Time and level are those of the log, and not said twice.
        written = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} INFO    Answer#0 ask [0-9a-f]{8} \| app: asked$", re.MULTILINE)
        wait_until(lambda: written.search(logs()), "the line is in the log")
        assert "in detail" not in logs()


@pytest.mark.system
def test_a_replica_that_is_forked_has_the_level_of_its_kernel(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(settings.LOG_LEVEL, "debug")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "logging_app.py").write_text(APP, encoding="utf-8")
    assert running.up(importlib.import_module("logging_app").Answer).ask() == 42
    assert running.registry.status("Answer").replicas[0].cold == ""

    def levels() -> list[str]:
        return [
            line.level for line in running.registry.log_lines("Answer", 100) if line.text == "app: asked, in detail"
        ]

    wait_until(lambda: levels() == ["DEBUG"], "the line is in the log")


@pytest.mark.system
def test_a_wrong_level_is_said_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nbcompose.cli", "serve", "json", "--log-level", "loud"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "invalid choice: 'loud'" in done.stderr
