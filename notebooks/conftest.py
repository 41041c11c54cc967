"""Teaches nbval display updates, which it drops: a cell's outputs are those that a reader sees when the cell is done.
After the last cell, the logs of each notebook's services are looked through for warnings, and it is exported while it
runs, and its script is checked against it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbFile

from tests.patience import PATIENCE

GOLDEN = Path(__file__).parents[1] / "tests" / "export" / "golden"
SAME = {"same", "same within 1e-5", "differs from call to call; same shape and types"}
LEFT_OUT = ("Embedder.closeness: app.py has no such api",)  # of a version that was rolled back
# What Python, logging and libraries begin a warning with; a progress bar or a note is none.
WARNING = re.compile(r"\w*Warning\b|\bWARN(ING)?\b|deprecat", re.IGNORECASE)
# What the published inference graph is warned of: by us, arguments that its models do not declare; by transformers 5.16,
# a default of its own.
MEANT = re.compile(r"UnknownArgumentWarning: |Ignoring clean_up_tokenization_spaces=True for BPE tokenizer")
ALL_LOGS = """
from nbcompose._notebook.session import current
registry = current(get_ipython()).registry
lines = [f"{name}: {line}" for name in registry.names() for line in registry.logs(name, 10_000)]
display({"text/plain": "\\n".join(lines)}, raw=True)
"""


def settle(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A cell's messages with every display as its last update left it, and without the updates."""
    latest = {
        m["content"]["transient"]["display_id"]: m["content"]
        for m in messages
        if m["msg_type"] in ("display_data", "update_display_data")
        and "display_id" in m["content"].get("transient", {})
    }
    for message in messages:
        if message["msg_type"] == "update_display_data":
            continue
        if message["msg_type"] == "display_data":
            content = message["content"]
            display_id = content.get("transient", {}).get("display_id")
            message = {**message, "content": latest.get(display_id, content)}
        yield message


class UpdatedNotebook(IPyNbFile):  # type: ignore[misc]  # nbval has no types
    """A notebook whose cells are compared with their displays updated."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settled: deque[dict[str, Any]] = deque()
        self._request = ""

    def collect(self) -> Iterator[pytest.Item]:
        """Its cells, and then what its services wrote, and its script."""
        yield from super().collect()
        if self._golden().exists():
            yield QuietServices.from_parent(self, name="its services warn of nothing")
            yield ExportedScript.from_parent(self, name="exports and passes --check")

    def _golden(self) -> Path:
        """The script that it is expected to be."""
        return (GOLDEN / self.path.name).with_suffix(".py")

    def get_kernel_message(self, timeout: float | None = None, stream: str = "iopub") -> dict[str, Any]:
        """The next message, read ahead as far as the cell's displays can still change."""
        if not self._settled:
            messages = [super().get_kernel_message(timeout, stream)]
            while not self._ends_cell(messages[-1]):
                messages.append(super().get_kernel_message(timeout, stream))
            self._settled.extend(settle(messages))
        return self._settled.popleft()

    def _ends_cell(self, message: dict[str, Any]) -> bool:
        """Whether it is the last of the cell's messages, or its error (after which nbval reads by itself)."""
        request = message["parent_header"].get("msg_id", "")
        if message["msg_type"] == "execute_input":
            self._request = request
        if request != self._request:
            return False
        return message["msg_type"] == "error" or message["content"].get("execution_state") == "idle"


class AfterTheCells(pytest.Item):
    """Something about a notebook that has run."""

    def _run(self, source: str, *, silent: bool = False) -> str:
        """Run a cell after the notebook's own; returns what its display ends with. Fails with its error."""
        kernel: Any = self.parent.kernel  # type: ignore[union-attr]
        cell = kernel.kc.execute(source, silent=silent, allow_stdin=False)
        shown = ""
        while True:
            message = kernel.get_message("iopub", timeout=PATIENCE)
            content = message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown = content["data"]["text/plain"]
            elif message["msg_type"] == "error":
                pytest.fail("\n".join(content["traceback"]), pytrace=False)
            elif content.get("execution_state") == "idle":
                return shown

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: {self.name}"


class QuietServices(AfterTheCells):
    """Its services have written no warning: what a reader would wonder about, in the log or, one day, under a cell."""

    def runtest(self) -> None:
        lines = self._run(ALL_LOGS).splitlines()
        assert [line for line in lines if WARNING.search(line) and not MEANT.search(line)] == []


class ExportedScript(AfterTheCells):
    """The notebook has run: its script is the golden one, starts, and answers as its services do."""

    def runtest(self) -> None:
        folder = Path(self.config._tmp_path_factory.mktemp("export"))  # type: ignore[attr-defined]
        self._run(f"__vsc_ipynb_file__ = {str(self.path)!r}", silent=True)  # how one front end names the notebook
        shown = self._run(f"%export {folder}/app.py --check")
        head, _, *lines = shown.splitlines()
        assert head == "app.py starts, and its services are ready", shown
        answers = [re.split(r"\s{2,}", line)[2:3] for line in lines if line not in LEFT_OUT]
        assert answers, shown
        assert all(set(answer) <= SAME for answer in answers), shown
        golden = self.parent._golden().read_text(encoding="utf-8")  # type: ignore[union-attr]
        assert without_versions((folder / "app.py").read_text(encoding="utf-8")) == golden


def without_versions(script: str) -> str:
    """A script without what depends on the environment that it was exported in."""
    script = re.sub(r'(?<===)\d[^"]*(?=")', "1.0", script)
    return re.sub(r"requires-python = .*", 'requires-python = ">=3.11"', script)


@pytest.hookimpl(tryfirst=True)
def pytest_collect_file(file_path: Any, parent: Any) -> UpdatedNotebook | None:
    if file_path.suffix != ".ipynb":
        return None
    return UpdatedNotebook.from_parent(parent, path=file_path)  # type: ignore[no-any-return]
