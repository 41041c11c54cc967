"""What nbcompose/_ipython_adapter.py relies on. One that fails means: look there before anything else."""

from __future__ import annotations

import importlib.util
import inspect
from importlib.metadata import version
from typing import Any

import ipykernel.comm.comm
import pytest
from ipykernel.kernelbase import Kernel
from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQInteractiveShell

VERSION = tuple(map(int, version("ipykernel").split(".")[:2]))


class Socket:
    """Takes what a publisher's session sends."""


class Session:
    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def msg(self, kind: str, content: Any, parent: Any) -> Any:
        return {"msg_type": kind, "content": content, "parent_header": parent}

    def send(self, socket: Any, message: Any, ident: Any = None, **rest: Any) -> None:
        self.sent.append((socket, message, ident))


def test_a_publisher_says_where_outputs_go() -> None:
    session, socket = Session(), Socket()
    publisher = ZMQDisplayPublisher()
    publisher._trait_values["session"] = session
    publisher.pub_socket = socket
    publisher.set_parent({"header": {"msg_id": "cell"}})
    assert publisher.parent_header == {"msg_id": "cell"}, "`parent_header` is something else now"
    publisher.publish({"text/plain": "x"}, transient={"display_id": "d"}, update=True)
    ((where, message, ident),) = session.sent
    assert (where, ident) == (socket, publisher.topic), "a publisher sends in another way"
    assert message["msg_type"] == "update_display_data"
    assert message["content"] == {"data": {"text/plain": "x"}, "metadata": {}, "transient": {"display_id": "d"}}
    assert message["parent_header"] == publisher.parent_header


def test_a_shell_knows_its_kernel_and_the_message_that_a_cell_came_with() -> None:
    assert "kernel" in ZMQInteractiveShell.class_trait_names(), "a shell does not know its kernel any more"
    assert "io_loop" in Kernel.start.__code__.co_names, "a kernel does not say which loop the main thread's is"
    assert callable(ZMQInteractiveShell.get_parent)
    assert inspect.signature(ZMQInteractiveShell.get_parent).parameters.keys() == {"self"}


def test_a_kernel_knows_the_file_that_it_was_started_with() -> None:
    with pytest.raises(RuntimeError):  # this process is none
        ipykernel.get_connection_file()


@pytest.mark.skipif(VERSION < (7, 4), reason="goes by the front end")
def test_a_comm_is_asked_which_subshell_a_message_is_for() -> None:
    default = inspect.signature(ipykernel.comm.comm.BaseComm._reply_subshell_for)
    assert list(default.parameters) == ["self", "data", "default"], "a comm is asked something else"
    source = inspect.getsource(Kernel.shell_channel_thread_main)
    assert "_reply_subshell_for" in source, "a comm is not asked where its messages go any more"


@pytest.mark.skipif(VERSION >= (7, 4), reason="asks the comm")
def test_earlier_a_comm_was_not_asked() -> None:
    assert not hasattr(ipykernel.comm.comm.BaseComm, "_reply_subshell_for")


def test_a_kernel_is_started_by_its_launcher() -> None:
    """By its name a process, or `__main__`, is known as a kernel's."""
    assert importlib.util.find_spec("ipykernel_launcher") is not None
