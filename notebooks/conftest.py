"""Teaches nbval display updates, which it drops: a cell's outputs are those that a reader sees when the cell is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from nbval.plugin import IPyNbFile


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


@pytest.hookimpl(tryfirst=True)
def pytest_collect_file(file_path: Any, parent: Any) -> UpdatedNotebook | None:
    if file_path.suffix != ".ipynb":
        return None
    return UpdatedNotebook.from_parent(parent, path=file_path)  # type: ignore[no-any-return]
