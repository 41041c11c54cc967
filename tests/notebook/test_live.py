"""The display, with the real publisher of a kernel, whose socket is replaced by a list."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ipykernel.zmqshell import ZMQDisplayPublisher
from jupyter_client.session import Session

from nbcompose._notebook.display import LiveDisplay

Notebook = Any  # of conftest.py


class Recorder(Session):
    """A session that keeps what it would send."""

    sent: list[tuple[str, str, str, str]]

    def send(self, stream: Any, msg_or_type: Any, content: Any = None, parent: Any = None, *_: Any, **__: Any) -> Any:
        message = msg_or_type if isinstance(msg_or_type, dict) else self.msg(msg_or_type, content, parent)
        content = message["content"]
        self.sent.append(
            (
                message["header"]["msg_type"],
                message["parent_header"]["msg_id"],
                content["data"]["text/plain"],
                content["transient"]["display_id"],
            )
        )


def header(cell: str) -> dict[str, Any]:
    return {"header": {"msg_id": cell, "msg_type": "execute_request"}}


@pytest.fixture
def sent(bare: Notebook) -> list[tuple[str, str, str, str]]:
    session = Recorder()
    session.sent = []
    publisher = ZMQDisplayPublisher(parent=bare.shell, session=session)
    publisher.pub_socket = object()
    bare.shell.display_pub = publisher
    publisher.set_parent(header("cell-1"))
    return session.sent


def in_thread(function: Any, *arguments: Any) -> None:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def text(value: str) -> dict[str, str]:
    return {"text/plain": value}


def test_an_update_from_a_thread_goes_to_the_cell_that_made_the_display(bare: Notebook, sent: Any) -> None:
    display = LiveDisplay(bare.shell)
    display.show(text("a"))
    display.finish(text("b"), keep_open=True)
    bare.shell.display_pub.set_parent(header("cell-2"))
    in_thread(display.update, text("c"))
    assert [message[:3] for message in sent] == [
        ("display_data", "cell-1", "a"),
        ("update_display_data", "cell-1", "b"),
        ("update_display_data", "cell-1", "c"),
    ]
    assert len({message[3] for message in sent}) == 1


def test_what_is_shown_already_is_not_sent_again(bare: Notebook, sent: Any) -> None:
    display = LiveDisplay(bare.shell)
    display.show(text("a"))
    display.update(text("a"))
    display.finish(text("a"))
    assert len(sent) == 1


def test_a_finished_display_does_not_change(bare: Notebook, sent: Any) -> None:
    display = LiveDisplay(bare.shell)
    display.update(text("too early"))
    display.show(text("a"))
    display.finish(text("b"))
    in_thread(display.update, text("too late"))
    assert [message[2] for message in sent] == ["a", "b"]


def test_where_displays_cannot_change_only_the_last_state_is_shown(bare: Notebook, capsys: Any) -> None:
    display = LiveDisplay(bare.shell)
    display.show(text("a"))
    display.update(text("b"))
    display.finish(text("c"), keep_open=True)
    display.update(text("d"))
    assert capsys.readouterr().out == "c\n"
