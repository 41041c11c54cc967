"""Adapter of IPython and ipykernel: all uses of features that they do not document.

Seen to hold from 8.31.0 to 9.18.1; tests/canaries/test_ipython.py fails first where a release changes one of these.

- `shell.compile` remembers, in `_filename_map`, the number of the cell for each file name that it has given to code, in
  the order in which it gave them. `format_code_name` is the public way from one name to `Cell In[3]`, and no way to the
  names.
- The code of a cell has such a file name, also while it runs and however deep a magic is called from it.
- Where an exception has `_render_traceback_`, that says which lines are shown for it; but not for exception groups,
  which a handler of `shell.set_custom_exc` gets. `shell._showtraceback(kind, error, lines)` shows lines.
- `shell.InteractiveTB` and `shell.SyntaxTB` make lines of an exception. `tb_offset` is how many frames are left out; by
  default, up to some version of 9, the first one, whatever it is of.
- `shell.inspector.mime_hooks`: functions by mime type, of data with the `obj` that is inspected. What one returns takes
  the place of what IPython shows: for text and HTML, a list of titles and texts.
- `%reload_ext` unloads an extension in `ExtensionManager.reload_extension`, and says nowhere that it will load it.
- `InteractiveShell.run_code` runs the code of a cell.
- While `%%capture` and `capture_output()` capture displays, `shell.display_pub` is a `CapturingDisplayPublisher`. It
  keeps the `data` that it is given, no copy, for `captured.outputs`.
- `TransformerManager`: the first of its `cleanup_transforms` drops empty lines, the others keep the number of lines;
  then `do_token_transforms` calls `do_one_token_transform(lines)`, which returns (whether it changed one, lines), until
  that changes nothing. One change is of one place.

Seen to hold from 6.29.0 to 7.4.0; tests/canaries/test_ipykernel.py fails first where a release changes one of these.

- `shell.get_parent()` is the message that the running cell came with; its metadata has what the front end says.
- `shell.kernel.io_loop` is the loop of the main thread.
- `ipykernel.get_connection_file()` is the file that the kernel was started with, `kernel-ID.json` by Jupyter's servers.
- `shell.display_pub` has a `session`, the socket `pub_socket` for outputs, which any thread may use, the `topic` of its
  messages, and as `parent_header` the header of the message that the running cell came with.
- Since 7.4 a comm's `_reply_subshell_for(data, default)` says which subshell a message to it is for; `default` is the
  one that the front end names. Earlier versions do not ask, and go by the front end.

In a shell without a kernel (a terminal, a test) there is none of it, and nothing here fails.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import partialmethod
from html import escape
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.extensions import ExtensionManager
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell

E = TypeVar("E", bound=BaseException)

# -- cells


def cell_numbers(shell: InteractiveShell) -> Mapping[str, int]:
    """The numbers of cells by the file names of their code, in the order in which these were given; empty where IPython
    does not say.
    """
    numbers: Mapping[str, int] = getattr(shell.compile, "_filename_map", {})
    return numbers


def is_reloading() -> bool:
    """Whether the extension that is being unloaded will be loaded again."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is ExtensionManager.reload_extension.__code__:
            return True
        frame = frame.f_back
    return False


# -- how exceptions look


def show_as(error: BaseException, render: Callable[[], list[str]]) -> None:
    """Have these lines stand under a cell for `error`."""
    error.__dict__["_render_traceback_"] = render


def show_kind_as(kind: type[E], render: Callable[[E], list[str]] | None) -> None:
    """Have these lines stand under a cell for errors of that kind where `show_as` has said nothing. None: no more."""
    if render is not None:
        kind._render_traceback_ = partialmethod(render)  # type: ignore[attr-defined]
    elif "_render_traceback_" in vars(kind):
        delattr(kind, "_render_traceback_")


def show_groups(shell: InteractiveShell) -> Callable[[], None]:
    """Have exception groups shown as `show_as` says, where nobody handles exceptions already. Return what undoes it."""
    if shell.custom_exceptions:
        return lambda: None

    def handle(
        shell: InteractiveShell, kind: type[BaseException], error: BaseException, frames: Any, tb_offset: Any = None
    ) -> None:
        if has_own_look(error):
            shell._showtraceback(kind, error, error.__dict__["_render_traceback_"]())
        else:
            shell.showtraceback((kind, error, frames), running_compiled_code=True)

    shell.set_custom_exc((BaseExceptionGroup,), handle)
    ours = shell.CustomTB

    def undo() -> None:
        if shell.CustomTB is ours:
            shell.set_custom_exc((), None)

    return undo


def has_own_look(error: BaseException) -> bool:
    """Whether somebody has said already how `error` is shown."""
    return "_render_traceback_" in error.__dict__


def traceback_lines(shell: InteractiveShell, error: BaseException, frames: TracebackType | None) -> list[str]:
    """The lines of `error` with these frames, but for those of IPython that run the cell."""
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith("IPython."):
        frames = frames.tb_next
    made = shell.InteractiveTB.structured_traceback(type(error), error, frames, tb_offset=0)
    return [str(line) for line in made]


def message_lines(shell: InteractiveShell, error: BaseException) -> list[str]:
    """Type and message of `error`, without frames."""
    return [str(line) for line in shell.InteractiveTB.get_exception_only(type(error), error)]


def syntax_error_lines(shell: InteractiveShell, error: SyntaxError) -> list[str]:
    """The lines of a mistake in a cell's own text."""
    return [str(line) for line in shell.SyntaxTB.structured_traceback(type(error), error, [])]


# -- help


def show_help_as(shell: InteractiveShell, fields: Callable[[Any], list[tuple[str, str]]] | None) -> None:
    """Have `?`, and the help of front ends, show these pairs of a title and a text for an object; where there are none,
    what IPython shows. None: no more.
    """
    hooks = {kind: hook for kind, hook in shell.inspector.mime_hooks.items() if not isinstance(hook, _HelpHook)}
    if fields is not None:
        hooks |= {"text/plain": _HelpHook(fields), "text/html": _HelpHook(fields, as_html)}
    shell.inspector.mime_hooks = hooks


def as_html(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


class _HelpHook:
    def __init__(self, fields: Callable[[Any], list[tuple[str, str]]], form: Callable[[str], str] = str) -> None:
        self._fields = fields
        self._form = form

    def __call__(self, data: Any) -> list[tuple[str, str]] | None:
        return [(title, self._form(text)) for title, text in self._fields(data.obj)] or None


# -- cells as Python


class Transformer(TransformerManager):  # type: ignore[misc]  # IPython's imports are not followed
    """Makes Python of a cell as IPython does, but every line stays where it is."""

    def transform_cell(self, cell: str) -> str:
        lines = lines_of(cell if cell.endswith("\n") or not cell else cell + "\n")
        first = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
        body = lines[first:]
        for transform in self.cleanup_transforms[1:]:  # the first drops the empty lines
            body = lines_of("".join(transform(body)))
        return "".join(["\n"] * first + self.do_token_transforms(body))

    def do_token_transforms(self, lines: list[str]) -> list[str]:
        """What IPython makes of the lines, with an empty one for each that has become part of the one before.

        These come in at the end: what IPython finds next depends on the lines that it has made.
        """
        self._heights = [1] * len(lines)  # how many of the cell's lines each line stands for
        self._made: set[int] = set()
        after = super().do_token_transforms(lines)
        placed: list[str] = []
        for at, (line, height) in enumerate(zip(after, self._heights, strict=True)):
            placed.append(self.transformed(line) if at in self._made else line)
            placed += ["\n"] * (height - 1)
        return placed

    def do_one_token_transform(self, lines: list[str]) -> tuple[bool, list[str]]:
        changed, after = super().do_one_token_transform(lines)
        if changed:
            at = next((i for i, (a, b) in enumerate(zip(lines, after, strict=False)) if a != b), len(after) - 1)
            joined = len(lines) - len(after)
            self._heights[at : at + joined + 1] = [sum(self._heights[at : at + joined + 1])]
            self._made = {m if m <= at else m - joined for m in self._made} | {at}
        return changed, after

    def transformed(self, line: str) -> str:
        """What a line that IPython has made shall be; to be overridden."""
        return line


def lines_of(text: str) -> list[str]:
    """The lines as Python counts them: `splitlines` knows more ends of lines."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def request_of(shell: InteractiveShell) -> Mapping[str, Any]:
    """The message that the running cell came with; empty where there is none."""
    get_parent = getattr(shell, "get_parent", None)
    request = get_parent() if get_parent is not None else None
    return request if isinstance(request, Mapping) else {}


def cell_id(shell: InteractiveShell) -> str:
    """The front end's id of the cell that runs; "" where it does not say."""
    return str(request_of(shell).get("metadata", {}).get("cellId", ""))


def kernel_id() -> str:
    """The id by which a Jupyter server knows this kernel; "" where there is no kernel."""
    kernels = sys.modules.get("ipykernel")
    try:
        file = Path(kernels.get_connection_file()) if kernels is not None else Path()
    except RuntimeError:  # it is imported, and runs none
        return ""
    return file.stem.removeprefix("kernel-") if file.stem.startswith("kernel-") else ""


def main_loop(shell: InteractiveShell) -> Any:
    """The tornado loop of the main thread, whose `add_callback` any thread may call; None where there is none."""
    return getattr(getattr(shell, "kernel", None), "io_loop", None)


def default_transforms(shell: InteractiveShell, own: Callable[[list[str]], list[str]]) -> bool:
    """Whether the shell makes Python of a cell as IPython does by itself, but for one transformer of ours."""
    manager = shell.input_transformer_manager
    known = [*manager.cleanup_transforms, *manager.line_transforms, *manager.token_transformers]
    others = [t for t in known if not str(getattr(t, "__module__", "")).startswith("IPython.")]
    mine = all(getattr(t, "__name__", "") == own.__name__ for t in others)
    return mine and not shell.input_transformers_post and not shell.ast_transformers


def runs_code(thread: int | None) -> bool:
    """Whether a thread runs the code of a cell at this moment."""
    frame = sys._current_frames().get(thread or 0)
    while frame is not None:
        if frame.f_code is InteractiveShell.run_code.__code__:
            return True
        frame = frame.f_back
    return False


class Output:
    """Where what the running cell displays goes, now and after the cell has ended."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self._parent = publisher.parent_header  # as it is now: later another cell may run

    @classmethod
    def of(cls, publisher: Any) -> Output | None:
        """The running cell's, by a shell's `display_pub`; None where outputs cannot be updated."""
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


class Captured:
    """A display that is captured, in which it can be changed, also when the capture is over."""

    def __init__(self, publisher: CapturingDisplayPublisher) -> None:
        self._publisher = publisher
        self._data: dict[str, str] | None = None

    @classmethod
    def of(cls, publisher: Any) -> Captured | None:
        """One of a shell's `display_pub`; None where that captures nothing."""
        return cls(publisher) if isinstance(publisher, CapturingDisplayPublisher) else None

    def show(self, data: Mapping[str, str]) -> None:
        """Have it be this; nothing, where there has been no text."""
        if self._data is not None:
            self._data.update(data)
        elif data["text/plain"]:
            self._data = dict(data)
            self._publisher.publish(data=self._data, metadata={})


def comm_manager(shell: InteractiveShell) -> Any:
    """What has the comms of this shell's kernel; None where there is none."""
    return getattr(getattr(shell, "kernel", None), "comm_manager", None)


def registered_comm(manager: Any, target: str) -> Any:
    """A comm that `comm_info` tells of, and that no front end has been told to open."""
    from comm import create_comm

    made = create_comm(target_name=target, primary=False)
    manager.register_comm(made)
    return made


def receive_where_asked(comm: Any) -> None:
    """Have the messages to a comm come to the subshell that the front end names.

    ipykernel would take them to the thread that the comm has last answered to, the main one at times, where they wait
    until a cell has ended.
    """
    comm._reply_subshell_for = lambda data, default: default
