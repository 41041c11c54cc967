"""ipykernel, where more of it is used than its documentation promises: the one module that knows how.

Seen to hold from 6.29.0 to 7.4.0; tests/canaries/test_ipykernel.py fails first where a release changes one of these.

- `shell.get_parent()` is the message that the running cell came with; its metadata has what the front end says.
- `shell.kernel.io_loop` is the loop of the main thread.
- `shell.display_pub` has a `session`, the socket `pub_socket` for outputs, which any thread may use, the `topic` of its
  messages, and as `parent_header` the header of the message that the running cell came with.
- Since 7.4 a comm's `_reply_subshell_for(data, default)` says which subshell a message to it is for; `default` is the
  one that the front end names. Earlier versions do not ask, and go by the front end.

In a shell without a kernel (a terminal, a test) there is none of it, and nothing here fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.interactiveshell import InteractiveShell


def request_of(shell: InteractiveShell) -> Mapping[str, Any]:
    """The message that the running cell came with; empty where there is none."""
    get_parent = getattr(shell, "get_parent", None)
    request = get_parent() if get_parent is not None else None
    return request if isinstance(request, Mapping) else {}


def main_loop(shell: InteractiveShell) -> Any:
    """The tornado loop of the main thread, whose `add_callback` any thread may call; None where there is none."""
    return getattr(getattr(shell, "kernel", None), "io_loop", None)


class Output:
    """Where what the running cell displays goes, now and after the cell has ended."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self._parent = publisher.parent_header  # as it is now: later another cell may run

    @classmethod
    def of(cls, shell: InteractiveShell) -> Output | None:
        """The running cell's; None where outputs cannot be updated."""
        publisher = shell.display_pub
        if not all(hasattr(publisher, name) for name in ("session", "pub_socket", "topic", "parent_header")):
            return None
        return cls(publisher)

    def update(self, display_id: str, data: Mapping[str, str]) -> None:
        """Change a display of the cell, from any thread: returns at once, and prints nothing."""
        content = {"data": dict(data), "metadata": {}, "transient": {"display_id": display_id}}
        publisher = self._publisher
        publisher.session.send(
            publisher.pub_socket, "update_display_data", content, parent=self._parent, ident=publisher.topic
        )


def receive_where_asked(comm: Any) -> None:
    """Have the messages to a comm come to the subshell that the front end names.

    ipykernel would take them to the thread that the comm has last answered to, the main one at times, where they wait
    until a cell has ended.
    """
    comm._reply_subshell_for = lambda data, default: default
