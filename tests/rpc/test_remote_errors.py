from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic
import pytest

from nbcompose._rpc.codec import Encoder
from nbcompose._rpc.remote_errors import MAX_CONTENTS, RemoteErrorDetail, describe, rebuild
from nbcompose.errors import CallCancelled, InvalidArgument, Overloaded, RemoteError, RemoteTraceback, UnknownApi


class EmptyPrompt(Exception):
    """Wants arguments that its `args` do not have."""

    def __init__(self, prompt: str, *, limit: int) -> None:
        super().__init__(f"{prompt!r} is shorter than {limit}")
        self.limit = limit


class Model(pydantic.BaseModel):
    x: int


@dataclasses.dataclass
class Coded(Exception):
    code: int


class MissingFile(FileNotFoundError):
    def __init__(self, name: str) -> None:
        super().__init__(2, "No such file or directory", name)


class Holding(Exception):
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(first, second)
        self.kept, self.dropped = first, second


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def caught(raiser: Callable[[], Any]) -> BaseException:
    try:
        raiser()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


class Unnamed(AttributeError):
    @property
    def name(self) -> str:  # type: ignore[override]
        return "its own"


def raising(error: BaseException) -> Callable[[], None]:
    def raiser() -> None:
        raise error

    return raiser


def detail(error: BaseException, hop: str = "Writer.write") -> RemoteErrorDetail:
    """As it arrives: plain data, pickled plainly."""
    sent: RemoteErrorDetail = pickle.loads(pickle.dumps(describe(error, hop=hop)))
    return sent


# -- the exception itself


@pytest.mark.parametrize(
    "raiser",
    [
        raising(ValueError("bad", 3)),
        raising(EmptyPrompt("a", limit=3)),
        raising(Coded(7)),
        raising(InvalidArgument("wrong", [{"loc": ("x",), "msg": "missing"}])),
        raising(UnknownApi("no such api")),
        raising(MissingFile("a.txt")),
        lambda: Path("/nowhere/at/all").read_text(),
        lambda: b"\xff".decode(),
        lambda: json.loads("{"),
        lambda: dict[str, int]()["key"],
        lambda: __import__("no_such_module"),
        lambda: compile("a b", "<cell>", "exec"),
        lambda: None.absent,  # type: ignore[attr-defined]
        lambda: absent,  # type: ignore[name-defined]  # noqa: F821
        raising(Unnamed("a")),
    ],
)
def test_type_message_and_attributes_survive(raiser: Callable[[], Any]) -> None:
    error = caught(raiser)
    back = rebuild(detail(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args
    assert vars(back) == vars(error)
    for name in ("errno", "filename", "object", "start", "name", "lineno", "status"):
        assert getattr(back, name, None) == getattr(error, name, None)
    assert isinstance(back.__cause__, RemoteTraceback)


def test_a_validation_error_keeps_its_details() -> None:
    error = caught(lambda: Model(x="a"))  # type: ignore[arg-type]
    back = rebuild(detail(error))
    assert isinstance(error, pydantic.ValidationError)
    assert isinstance(back, pydantic.ValidationError)
    assert back.errors() == error.errors()


def test_init_is_not_called() -> None:
    calls = []

    class Counted(Exception):
        def __init__(self, *args: object) -> None:
            calls.append(args)
            super().__init__("once", *args)

    error = Counted(1)
    assert rebuild(detail(error)).args == ("once", 1)
    assert calls == [(1,)]


def test_notes_are_kept() -> None:
    error = ValueError("bad")
    error.add_note("while writing page 3")
    back = rebuild(detail(error))
    assert back.__notes__ == ["while writing page 3"]
    assert "while writing page 3" in describe(error, hop="A.b").text


def test_what_does_not_pickle_is_left_out_or_shown() -> None:
    lock = threading.Lock()
    back = rebuild(detail(Holding("first", lock)))
    assert isinstance(back, Holding)
    assert back.args == ("first", repr(lock))
    assert vars(back) == {"kept": "first"}


def test_what_is_very_large_is_left_out() -> None:
    sent = detail(Holding("first", bytes(2 * MAX_CONTENTS)))
    assert len(pickle.dumps(sent)) < 100_000
    assert len(sent.text) < 40_000
    assert vars(rebuild(sent)) == {"kept": "first"}


def test_an_exception_without_a_text() -> None:
    assert "RuntimeError" in detail(Unprintable()).message
    assert type(rebuild(detail(Unprintable()))) is Unprintable


def test_status() -> None:
    assert (detail(Overloaded("full")).status, detail(ValueError()).status) == (429, 500)


# -- types


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), StopIteration(1)], ids=repr)
def test_what_would_end_more_than_the_call_is_a_remote_error(error: BaseException) -> None:
    back = rebuild(detail(caught(raising(error))))
    assert type(back) is RemoteError
    assert back.type_name == type(error).__name__


def test_a_cancelled_task_is_a_cancelled_call() -> None:
    back = rebuild(detail(asyncio.CancelledError()))
    assert type(back) is CallCancelled
    assert str(back) == "the call was cancelled"


def forget(name: str) -> type[Exception]:
    """An exception type of a module that only the sender has."""
    module = ModuleType(name)
    exec("class Lost(Exception): pass", module.__dict__)
    sys.modules[name] = module
    lost: type[Exception] = module.Lost
    return lost


def test_a_type_that_is_not_here_is_a_remote_error() -> None:
    sent = detail(forget("only_there")("gone"))
    del sys.modules["only_there"]
    back = rebuild(sent)
    assert type(back) is RemoteError
    assert (str(back), back.type_name, back.status) == ("only_there.Lost: gone", "only_there.Lost", 500)


def test_a_type_survives_a_process_that_does_not_have_it() -> None:
    lost = forget("at_both_ends")
    sent = detail(lost("gone"))
    module = sys.modules.pop("at_both_ends")
    relayed = describe(caught(raising(rebuild(sent))), hop="Answer.ask")
    sys.modules["at_both_ends"] = module
    back = rebuild(relayed)
    del sys.modules["at_both_ends"]
    assert type(back) is lost
    assert relayed.hops == ("Answer.ask", "Writer.write")
    assert relayed.text.endswith("\nat_both_ends.Lost: gone")


def test_a_type_from_a_notebook_is_the_newest_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "class NotebookError(Exception):\n    def __init__(self, a, b): self.a = a"
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(cell, names)
    sent = detail(names["NotebookError"](1, 2))
    assert type(rebuild(sent)) is names["NotebookError"]  # known by its id, though `__main__` has none
    exec(cell, names)
    monkeypatch.setattr(sys.modules["__main__"], "NotebookError", names["NotebookError"], raising=False)
    back = rebuild(sent)
    assert type(back) is names["NotebookError"]
    assert vars(back) == {"a": 1}


def test_groups_keep_their_members() -> None:
    inner = ExceptionGroup("inner", [EmptyPrompt("b", limit=2)])
    back = rebuild(detail(ExceptionGroup("outer", [ValueError("a"), inner])))
    assert isinstance(back, ExceptionGroup)
    assert [str(e) for e in back.exceptions] == ["a", "inner (1 sub-exception)"]
    assert isinstance(back.exceptions[1], ExceptionGroup)
    assert isinstance(back.exceptions[1].exceptions[0], EmptyPrompt)


# -- the text


WRITER = """
def write(text):
    if not text:
        raise ValueError("nothing to write about")

def careful(text):
    try:
        write(text)
    except ValueError:
        raise LookupError("no passage")
"""

ANSWER = """
def ask(writer, question):
    return writer(question)

def wrap(writer, question):
    try:
        return writer(question)
    except LookupError as error:
        raise RuntimeError("cannot answer") from error
"""


# A call through a proxy and a replica, both of which are nbcompose's own code: compiled as if in one of its files.
PROXY = """
def remote(function, hop):
    def call(*args):
        try:
            return function(*args)
        except BaseException as error:
            sent = detail(error, hop)
        raise rebuild(sent)
    return call
"""


@pytest.fixture
def services(tmp_path: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"detail": detail, "rebuild": rebuild}
    for name, source in (("writer.py", WRITER), ("answer.py", ANSWER)):
        (tmp_path / name).write_text(source)
        exec(compile(source, str(tmp_path / name), "exec"), names)
    exec(compile(PROXY, describe.__code__.co_filename, "exec"), names)
    return names


def text_of(call: Callable[..., Any], *args: Any, here: Path) -> str:
    error = caught(lambda: call(*args))
    cause = error.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert isinstance(cause.detail, RemoteErrorDetail)
    last = "".join(traceback.format_exception_only(error)).rstrip()  # stands once, where the error is raised again
    assert f"{cause.text}\n\n{last}" == cause.detail.text
    return cause.detail.text.replace(f"{here}/", "")


def test_one_hop(services: dict[str, Any], tmp_path: Path) -> None:
    write = services["remote"](services["write"], "Writer.write")
    assert text_of(write, "", here=tmp_path) == (
        "Writer.write\n"
        '  File "writer.py", line 4, in write\n'
        '    raise ValueError("nothing to write about")\n'
        "\n"
        "ValueError: nothing to write about"
    )


def test_two_hops(services: dict[str, Any], tmp_path: Path) -> None:
    write = services["remote"](services["write"], "Writer.write")
    ask = services["remote"](services["ask"], "Answer.ask")
    assert text_of(ask, write, "", here=tmp_path) == (
        "Answer.ask → Writer.write\n"
        "\n"
        "Writer.write\n"
        '  File "writer.py", line 4, in write\n'
        '    raise ValueError("nothing to write about")\n'
        "\n"
        "Answer.ask\n"
        '  File "answer.py", line 3, in ask\n'
        "    return writer(question)\n"
        "\n"
        "ValueError: nothing to write about"
    )


def test_two_hops_with_a_cause_and_a_context(services: dict[str, Any], tmp_path: Path) -> None:
    careful = services["remote"](services["careful"], "Writer.write")
    wrap = services["remote"](services["wrap"], "Answer.ask")
    assert text_of(wrap, careful, "", here=tmp_path) == (
        "Answer.ask → Writer.write\n"
        "\n"
        "Writer.write\n"
        '  File "writer.py", line 8, in careful\n'
        "    write(text)\n"
        '  File "writer.py", line 4, in write\n'
        '    raise ValueError("nothing to write about")\n'
        "\n"
        "ValueError: nothing to write about\n"
        "\n"
        "During handling of the above exception, another exception occurred:\n"
        "\n"
        "Writer.write\n"
        '  File "writer.py", line 10, in careful\n'
        '    raise LookupError("no passage")\n'
        "\n"
        "Answer.ask\n"
        '  File "answer.py", line 7, in wrap\n'
        "    return writer(question)\n"
        "\n"
        "LookupError: no passage\n"
        "\n"
        "The above exception was the direct cause of the following exception:\n"
        "\n"
        "Answer.ask\n"
        '  File "answer.py", line 9, in wrap\n'
        '    raise RuntimeError("cannot answer") from error\n'
        "\n"
        "RuntimeError: cannot answer"
    )


def test_python_shows_the_remote_frames(services: dict[str, Any]) -> None:
    error = caught(lambda: services["remote"](services["write"], "Writer.write")(""))
    shown = "".join(traceback.format_exception(error))
    assert shown.index('raise ValueError("nothing') < shown.index("direct cause") < shown.index("test_remote_errors.py")
    assert shown.count("ValueError: nothing to write about") == 1


def test_what_a_group_says_stands_once() -> None:
    error = rebuild(detail(ExceptionGroup("outer", [ValueError("first"), KeyError("second")])))
    shown = "".join(traceback.format_exception(error))
    assert [shown.count(said) for said in ("outer (2 sub-", "ValueError: first", "KeyError: 'second'")] == [1, 1, 1]


def test_a_group_that_cannot_be_made_here_is_told_in_full() -> None:
    error = rebuild(detail(BaseExceptionGroup("outer", [KeyboardInterrupt("first")])))
    assert type(error) is RemoteError
    assert "KeyboardInterrupt: first" in "".join(traceback.format_exception(error))


def test_frames_of_nbcompose_are_shown_when_there_are_no_others() -> None:
    text = detail(caught(lambda: rebuild(None))).text  # type: ignore[arg-type]
    assert "test_remote_errors.py" in text
    assert "in rebuild" not in text
    error = caught(lambda: rebuild(None))  # type: ignore[arg-type]
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code is not rebuild.__code__:
        error.__traceback__ = error.__traceback__.tb_next
    assert "in rebuild" in detail(error).text


def test_frames_of_nbcompose_are_left_out_where_others_have_the_lines() -> None:
    """What it says of an error of users, as of one that would end the process, has that as its cause."""
    error = caught(lambda: rebuild(None))  # type: ignore[arg-type]  # of nbcompose's own
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code is not rebuild.__code__:
        error.__traceback__ = error.__traceback__.tb_next
    error.__cause__ = caught(raising(ValueError("a")))
    text = detail(error).text
    assert "in raiser" in text
    assert "in rebuild" not in text


def test_what_nbcompose_raises_on_purpose_has_no_frames_of_its_own() -> None:
    error = caught(lambda: Encoder(None).encode(threading.Lock(), "result"))
    while error.__traceback__ is not None and "test_remote_errors" in error.__traceback__.tb_frame.f_code.co_filename:
        error.__traceback__ = error.__traceback__.tb_next
    assert error.__traceback__ is not None
    hop, _, message = detail(error).text.partition("\n\n")
    assert hop == detail(error).hops[0]
    assert message.startswith("nbcompose.errors.InvalidResult: result holds a _thread.lock")


def test_frames_of_the_event_loop_are_left_out() -> None:
    async def slow() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(3600)

    text = detail(caught(lambda: asyncio.run(slow()))).text
    assert "in slow" in text
    assert "asyncio/" not in text


def test_the_members_of_a_group_are_told() -> None:
    group = ExceptionGroup("two", [caught(raising(ValueError("a"))), KeyError("b")])  # type: ignore[type-var]
    lines = detail(caught(raising(group))).text.splitlines()
    start = lines.index("ExceptionGroup: two (2 sub-exceptions)")
    assert lines[start + 1] == "  | 1 of 2"
    assert lines[start + 2].startswith('  |   File "')
    assert lines[-4:] == ["  | ValueError: a", "  | 2 of 2", "  |", "  | KeyError: 'b'"]


def test_a_received_traceback_pickles() -> None:
    cause = rebuild(detail(caught(raising(ValueError("a"))))).__cause__
    assert str(pickle.loads(pickle.dumps(cause))) == str(cause)
