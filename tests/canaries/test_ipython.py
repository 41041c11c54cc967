"""What nbcompose/_ipython_adapter.py relies on. One that fails means: look there before anything else."""

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Iterator

import pytest
from IPython.core.completer import CompletionContext
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.extensions import ExtensionManager
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from nbcompose._ipython_adapter import show_groups


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    hook = sys.excepthook
    yield InteractiveShell.instance(config=config)
    sys.excepthook = hook
    InteractiveShell.clear_instance()


def output_of(shell: InteractiveShell, source: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.redirect_stderr(shown):
        shell.run_cell(source, store_history=True)
    return shown.getvalue()


def test_the_compiler_knows_the_cells_of_its_file_names_in_their_order(shell: InteractiveShell) -> None:
    first = shell.execution_count
    for source in ("import sys\nfile = sys._getframe().f_code.co_filename", "1 + 1", "2 + 2"):
        assert "Error" not in output_of(shell, source)
    numbers = shell.compile._filename_map
    assert list(numbers.values())[-3:] == [first, first + 1, first + 2], "cells are numbered in another way"
    assert numbers[shell.user_ns["file"]] == first, "the code of a cell has another file name"
    assert shell.compile.format_code_name(shell.user_ns["file"]) == ("Cell", f"In[{first}]")


def test_the_compiler_names_code_that_it_is_given(shell: InteractiveShell) -> None:
    name = shell.compile.cache("x = 1", 7, raw_code="%%magic\nx = 1")
    assert shell.compile._filename_map[name] == 7
    assert shell.compile("x = 1", name, "exec").co_filename == name
    with shell.compile.extra_flags(0):
        assert shell.transform_ast(shell.compile.ast_parse("x = 1", filename=name)) is not None


def test_an_exception_may_say_how_it_is_shown(shell: InteractiveShell) -> None:
    source = "e = ValueError('hidden')\ne._render_traceback_ = lambda: ['shown', 'so']\nraise e"
    shown = output_of(shell, source)
    assert "shown\nso" in shown, "IPython does not ask `_render_traceback_` any more"
    assert "hidden" not in shown


def test_an_exception_group_is_shown_by_a_handler(shell: InteractiveShell) -> None:
    source = "e = ExceptionGroup('hidden', [ValueError()])\ne._render_traceback_ = lambda: ['shown', 'so']\nraise e"
    assert "shown" not in output_of(shell, source), "IPython asks `_render_traceback_` of groups: no handler is needed"
    undo = show_groups(shell)
    assert "shown\nso" in output_of(shell, source)
    assert "plain" in output_of(shell, "raise ExceptionGroup('plain', [ValueError()])")
    undo()
    assert "shown" not in output_of(shell, source)


def test_lines_of_exceptions(shell: InteractiveShell) -> None:
    with pytest.raises(ValueError, match="said") as raised:
        raise ValueError("said")
    error = raised.value
    lines = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__, tb_offset=0)
    assert 'raise ValueError("said")' in "\n".join(map(str, lines))
    assert "".join(shell.InteractiveTB.get_exception_only(type(error), error)).strip() == "ValueError: said"
    mistake = SyntaxError("said", ("<cell>", 1, 1, "x ="))
    assert "x =" in "\n".join(map(str, shell.SyntaxTB.structured_traceback(SyntaxError, mistake, [])))


def test_a_reload_unloads_in_a_frame_that_can_be_recognized(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def unload(_: object) -> None:
        frame: types.FrameType | None = sys._getframe()
        codes = []
        while frame is not None:
            codes.append(frame.f_code)
            frame = frame.f_back
        seen.append(ExtensionManager.reload_extension.__code__ in codes)

    module = types.ModuleType("nbcompose_canary")
    vars(module)["load_ipython_extension"] = lambda _: None
    vars(module)["unload_ipython_extension"] = unload
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("IPython.core.extensions.reload", lambda module: module)
    shell.extension_manager.load_extension(module.__name__)
    shell.extension_manager.reload_extension(module.__name__)
    shell.extension_manager.unload_extension(module.__name__)
    assert seen == [True, False], "%reload_ext unloads in another place"


def test_the_first_cleanup_drops_empty_lines_and_the_others_keep_all_lines() -> None:
    first, *others = TransformerManager().cleanup_transforms
    assert first(["\n", "x\n"]) == ["x\n"], "the transform that drops empty lines is not the first any more"
    lines = ["  x = 1\n", "\n", "  y = 2\n"]
    for transform in others:
        assert len(transform(list(lines))) == len(lines)


def test_one_token_transform_changes_one_place() -> None:
    manager = TransformerManager()
    lines = ["%pwd\n", "x = 1\n", "!ls\n"]
    changed, after = manager.do_one_token_transform(lines)
    assert changed
    assert sum(a != b for a, b in zip(lines, after, strict=True)) == 1, "more than one place is changed at a time"
    again, finally_ = manager.do_one_token_transform(after)
    assert again
    assert manager.do_one_token_transform(finally_) == (False, finally_)
    assert manager.do_token_transforms(lines) == finally_


def test_what_a_shell_offers_to_extensions(shell: InteractiveShell) -> None:
    """Public names without documentation, which are used as they are."""
    for name in ("meta", "configurables", "user_ns", "user_global_ns", "user_ns_hidden", "execution_count"):
        assert hasattr(shell, name), f"a shell has no {name} any more"
    assert isinstance(shell.Completer.custom_matchers, list)
    assert {"cell", "line"} <= shell.magics_manager.magics.keys()
    assert hasattr(shell.history_manager, "input_hist_raw")
    assert {"text_until_cursor", "token", "cursor_line"} <= set(dir(CompletionContext)) | set(
        CompletionContext.__dataclass_fields__
    )
    with pytest.raises(ValueError, match="registered"):
        shell.events.unregister("post_run_cell", print)


def test_a_capture_keeps_the_data_of_a_display(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        data = {"text/plain": "before"}
        assert isinstance(shell.display_pub, CapturingDisplayPublisher)
        shell.display_pub.publish(data=data, metadata={})
    data["text/plain"] = "after"
    assert captured.outputs[0].data == {"text/plain": "after"}, "a captured display cannot be changed any more"


def test_code_of_a_cell_is_seen_to_run_from_another_thread(shell: InteractiveShell) -> None:
    import threading

    from nbcompose._ipython_adapter import runs_code

    main, told = threading.main_thread().ident, list[bool]()

    def ask() -> None:
        thread = threading.Thread(target=lambda: told.append(runs_code(main)))
        thread.start()
        thread.join()

    shell.user_ns["ask"] = ask
    shell.run_cell("ask()")
    ask()
    assert told == [True, False]
