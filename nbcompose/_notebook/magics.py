"""The extension (`%load_ext nbcompose`), and its magics `%%service`, `%services`, `%graph` and `%export`: each one
parses and delegates.

Errors that leave here show no frames of nbcompose.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from IPython.core.error import UsageError
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_cell_magic, line_magic, magics_class
from IPython.core.pylabtools import print_figure
from traitlets import Bool, Enum, observe

from nbcompose import settings
from nbcompose._control import Registry
from nbcompose._ipython_adapter import has_own_look, is_reloading, runs_code, show_help_as
from nbcompose._notebook import cell, credentials, staleness, tracebacks
from nbcompose._notebook import session as sessions
from nbcompose._notebook.arguments import (
    HelpAsked,
    export_parser,
    graph_parser,
    service_options,
    service_parser,
    services_parser,
)
from nbcompose._notebook.cell_run import Launching
from nbcompose._notebook.completion import MATCHER, Completer, help_fields
from nbcompose._notebook.debugging import Hints, debug
from nbcompose._notebook.display import ServicesTable
from nbcompose._notebook.rendering import NotebookContext
from nbcompose._notebook.session import Session
from nbcompose._notebook.staleness import compare, declared, previous_on_error, refreshes, without_code
from nbcompose._protocol import LogFilter, LogLine, log_text
from nbcompose._service import add_connector
from nbcompose._tracing import install
from nbcompose.errors import CaptureError, NbcomposeError, UnknownService


@contextlib.contextmanager
def briefly(shell: InteractiveShell) -> Iterator[None]:
    """Show errors that nbcompose raises on purpose, and ■, as a message only; print the help that was asked for."""
    try:
        yield
    except HelpAsked as asked:
        print(str(asked).removeprefix("::").strip())
    except (NbcomposeError, KeyboardInterrupt) as error:
        if has_own_look(error):  # an error of the cell, which has the cell's frames
            raise
        raise tracebacks.message_only(error, shell)  # noqa: B904  it is the same error


@magics_class
class NbcomposeMagics(Magics):  # type: ignore[misc]  # IPython's imports are not followed
    """The magics. `session`: their shared state."""

    auto_refresh = Bool(
        default_value=False,
        help="Bring services up to date as soon as they are stale, after the cell that made them so.",
    ).tag(config=True)

    record_calls = Bool(
        default_value=True,
        help="Keep the last calls of each api, so that `%export --check` can make them again.",
    ).tag(config=True)

    record_arguments = Bool(
        default_value=True,
        help="Keep arguments and answers of the last calls in the replicas, for nbcompose.trace() and the graph.",
    ).tag(config=True)

    output = Enum(
        ("cell", "log"),
        default_value="cell",
        help="Where what services write goes during the calls of a cell: under the cell and to their logs, or to their "
        "logs only.",
    ).tag(config=True)

    def __init__(self, session: Session) -> None:
        super().__init__(session.shell)
        self._session = session
        self._cards: dict[str, object] = {}  # of services, as they were when the cell began
        self.hints = Hints(session)
        session.recording.enabled = self.record_calls
        session.registry.record(settings.record_arguments(self.record_arguments))
        session.outputs.enable(self.output == "cell")

    @observe("auto_refresh")
    def _refresh_anew(self, _: object) -> None:
        self._session.looked.clear()  # services that are stale already have not been tried yet

    @observe("record_calls")
    def _record(self, _: object) -> None:
        self._session.recording.enabled = self.record_calls
        if not self.record_calls:
            self._session.recording.clear()

    @observe("record_arguments")
    def _record_arguments(self, _: object) -> None:
        self._session.registry.record(self.record_arguments)

    def callbacks(self) -> Sequence[tuple[str, Callable[..., None]]]:
        """Return what is called at IPython's events."""
        hints = self.hints
        return (
            ("pre_run_cell", self.begin),
            ("post_run_cell", self.look),
            ("pre_run_cell", hints.before),
            ("post_run_cell", hints.after),
        )

    @observe("output")
    def _show_output(self, _: object) -> None:
        self._session.outputs.enable(self.output == "cell")

    def begin(self, info: object) -> None:
        """Note that a cell begins."""
        self._cards = dict(self._session.cards)
        self._session.cell_begins(str(getattr(info, "raw_cell", None) or ""))
        self._session.outputs.cell_begins(info)

    def look(self, result: ExecutionResult) -> None:
        """After every cell, mark stale services; refresh them (with `auto_refresh`), or say so under the cell."""
        try:
            self._look(result)
        finally:
            self._session.cell_ends()

    def _look(self, result: ExecutionResult) -> None:
        session = self._session
        session.outputs.cell_ends(result.info)
        new = staleness.look(session)
        refreshed = [stale.service for stale in new if stale.changed] if self.auto_refresh else []
        shown = {name for name, card in session.cards.items() if card is not self._cards.get(name)}  # by this cell
        told = [stale for stale in new if stale.service not in refreshed and stale.service not in shown]
        session.notices.after_cell(told, session.history.deleted, succeeded=result.success)
        if not refreshed:
            return
        try:
            with briefly(session.shell):
                self._bring_up_to_date(refreshed)
        except (NbcomposeError, KeyboardInterrupt):
            session.shell.showtraceback()
        staleness.look(session)  # the next call says what is stale still

    @cell_magic  # type: ignore[untyped-decorator]
    def service(self, line: str, cell_text: str) -> None:
        with briefly(self._session.shell):
            with previous_on_error(self._session, cell_text):
                args = service_parser().parse_argstring(line)
                options = service_options(args)
                defined = cell.run(self._session.shell, line, cell_text)
                self._session.history.lap()
                services = declared(defined, options)
                try:
                    # Packed before the names are bound to services: a class may refer to itself by its name.
                    changes = compare(self._session, services, stop_first=args.replace == "stop-first")
                finally:
                    self._session.shell.user_ns.update(services)
                for variable, service in services.items():
                    self._session.notices.declared(variable, service)
            Launching(self._session, changes).run(wait=not args.no_wait)

    @line_cell_magic  # type: ignore[untyped-decorator]
    def services(self, line: str, cell_text: str | None = None) -> Any:
        with briefly(self._session.shell):
            args = services_parser().parse_argstring(line)
            if args.action == "debug":
                self._known([args.name])
                return debug(self._session, args, f"%%services {line}", cell_text)
            if cell_text is not None:
                raise UsageError(
                    "%%services runs what is below it, as `%%services debug NAME` does; all else is a line: %services …"
                )
            if args.action is None:
                registry = self._session.registry
                live = args.live or args.apis
                return ServicesTable(registry.statuses(), registry.usage.latencies if live else None, args.apis)
            if args.action == "profile":
                registry = self._session.registry
                return registry.portal.run(registry.profile(args.name, args.seconds, args.replica, native=args.native))
            actions: dict[str, Callable[[Namespace], None]] = {
                "stop": self._stop, "restart": self._without_code, "rollback": self._without_code,
                "refresh": self._refresh, "logs": self._logs, "scale": self._scale, "forget": self._forget,
            }  # fmt: skip
            actions[args.action](args)
        return None

    @line_magic  # type: ignore[untyped-decorator]
    def graph(self, line: str) -> None:
        with briefly(self._session.shell):
            from nbcompose._notebook.graph import show  # widgets, which many notebooks do not need

            args = graph_parser().parse_argstring(line)
            show(self._session, args.name, live=args.live)

    @line_magic  # type: ignore[untyped-decorator]
    def export(self, line: str) -> None:
        with briefly(self._session.shell):
            from nbcompose._notebook.exporting import export  # its imports are needed by few cells

            export(self._session, export_parser().parse_argstring(line))

    def _stop(self, args: Namespace) -> None:
        registry = self._session.registry
        if bool(args.names) == args.all:
            known = ", ".join(registry.names()) or "none"
            raise UsageError(f"%services stop takes names, or --all. Running: {known}")
        names = registry.names() if args.all else self._known(args.names)
        # Dependencies last: calls in flight of their dependents may need them.
        for name in [s.name for s in reversed(registry.statuses()) if s.name in names]:
            registry.remove(name)
            self._session.started.pop(name, None)
            print(self._session.notices.stopped(name, names))

    def _without_code(self, args: Namespace) -> None:
        action: Literal["restart", "roll back"] = "restart" if args.action == "restart" else "roll back"
        Launching(self._session, without_code(self._session, self._known(args.names), action)).run()

    def _refresh(self, args: Namespace) -> None:
        registry = self._session.registry
        names = self._known(args.names) or [s.name for s in registry.statuses() if s.stale]
        if not names:
            print("no service is stale")
            return
        self._bring_up_to_date(names)

    def _bring_up_to_date(self, names: Sequence[str]) -> None:
        """Refresh services; one that cannot be packed does not prevent the others, and its error
        is raised at the end.
        """
        changes, failed = refreshes(self._session, names)
        if changes:
            Launching(self._session, changes).run()
        if failed:
            raise CaptureError("\n".join(map(str, failed)))

    def _logs(self, args: Namespace) -> None:
        registry, wanted = self._session.registry, LogFilter(args.level or "", args.api or "", args.trace or "")
        color = sys.stdout.isatty()

        def shown(line: LogLine) -> str:
            return tracebacks.cell_names(log_text(args.name, line, color), self._session.shell)

        if args.follow:
            with contextlib.suppress(KeyboardInterrupt):  # ■ is how it ends
                for missed, lines in registry.portal.iterate(registry.follow_log(args.name, args.lines, wanted)):
                    if missed:
                        print(f"… {missed:,} lines are not kept any more")
                    for line in lines:
                        print(shown(line), flush=True)
            return
        lines = registry.log_lines(args.name, args.lines, wanted)
        nothing = f"{args.name} has written nothing{'' if wanted == LogFilter() else ' of that kind'}"
        print("\n".join(map(shown, lines)) or nothing)

    def _forget(self, args: Namespace) -> None:
        self._session.registry.forget(*self._known(args.names))
        whose = ", ".join(args.names) or "all services"
        print(f"the arguments and answers of the last calls of {whose} were forgotten")

    def _scale(self, args: Namespace) -> None:
        self._session.registry.scale(args.name, args.replicas)
        print(f"{args.name} has {args.replicas} replica{'' if args.replicas == 1 else 's'}")

    def _known(self, names: list[str]) -> list[str]:
        running = self._session.registry.names()
        for name in names:
            if name not in running:
                raise UnknownService.among(name, running)
        return list(dict.fromkeys(names))


# Shown by `%%service?`, `%services?` and so on.
NbcomposeMagics.service.__doc__ = service_parser().format_help()
NbcomposeMagics.services.__doc__ = services_parser().format_help()
NbcomposeMagics.graph.__doc__ = graph_parser().format_help()
NbcomposeMagics.export.__doc__ = export_parser().format_help()


# -- the extension

KEEP = 60.0  # seconds that a replaced version is kept, for `%services rollback`
WIDGET = "nbcompose._notebook.graph.widget"
MISPLACED = "%service"  # what IPython takes `%%service` for below the first line of a cell
MAGICS = (
    ("cell", "service"), ("line", "services"), ("cell", "services"), ("line", "graph"), ("line", "export"),
    ("line", MISPLACED),
)  # fmt: skip


def misplaced(_: str) -> None:
    """The line magic for a `%%service` that is not in the first line of its cell."""
    raise UsageError(
        "%%service comes first in its cell, with only comments and empty lines above it: move what is above it to "
        "another cell, or below it"
    )


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add the magics to IPython, and start what services need in the background. Services that run already go on.

    Args:
        shell: The IPython shell of the notebook.
    """
    session = sessions.current(shell)
    if session is None:
        registry = Registry(keep=KEEP)
        session = Session(shell, registry)
        registry.start(NotebookContext(session))
        registry.subscribe(session.follow)
        credentials.sweep()
        atexit.register(registry.stop)
        session.history.start()
        session.comms.open()
        sessions.keep(shell, session)
    _unhook(shell)  # what an earlier load, by another copy of this module, has left
    session.disconnect()
    session.disconnect = add_connector(session.connect)
    install(session.registry.collect_traces, session.registry)
    session.restore_tracebacks()
    session.restore_tracebacks = tracebacks.install(shell)
    magics = NbcomposeMagics(session)
    shell.register_magics(magics)
    shell.register_magic_function(misplaced, "line", MISPLACED)
    shell.input_transformers_cleanup.append(cell.service_line_first)
    shell.configurables.append(magics)  # for %config
    if runs_code(threading.get_ident()):  # no cell does where a configuration loads the extension
        _follow_this_cell(shell, session)
    for event, callback in magics.callbacks():
        shell.events.register(event, callback)
    shell.Completer.custom_matchers.append(Completer(session).match)
    show_help_as(shell, help_fields)
    # Of a kernel that has plotted nothing IPython would show a figure as a text.
    shell.display_formatter.formatters["image/png"].for_type_by_name(
        "matplotlib.figure", "Figure", lambda figure: print_figure(figure, "png")
    )


def _follow_this_cell(shell: InteractiveShell, session: Session) -> None:
    """Note that the cell runs that loads the extension, and its end also where the request was silent.

    IPython has no `post_run_cell` for those: `plan` would take the cell as running until the next one has ended.
    """

    def end() -> None:
        shell.events.unregister("post_execute", end)
        session.outputs.cell_ends()
        session.cell_ends()

    session.cell_begins("")
    session.outputs.cell_begins()
    shell.events.register("post_execute", end)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics and stop all services; before a reload the services go on.

    Args:
        shell: The IPython shell of the notebook.
    """
    _unhook(shell)
    session = sessions.current(shell)
    if session is None or is_reloading():
        return
    widgets = sys.modules.get(WIDGET)  # imported once a graph has been shown
    if widgets is not None:
        widgets.leave_all()
    session.live_cards.close()
    session.comms.close()
    for name in list(session.lingering):
        session.stop_lingering(name)
    session.history.stop()
    sessions.keep(shell, None)
    session.disconnect()
    install(None)
    session.restore_tracebacks()
    atexit.unregister(session.registry.stop)
    session.registry.stop()


def _unhook(shell: InteractiveShell) -> None:
    for kind, name in MAGICS:
        shell.magics_manager.magics[kind].pop(name, None)
    # By name: an earlier load may have registered another copy of the class.
    for known in [c for c in shell.configurables if type(c).__name__ == NbcomposeMagics.__name__]:
        shell.configurables.remove(known)
        for event, callback in known.callbacks():
            with contextlib.suppress(ValueError):
                shell.events.unregister(event, callback)
    transformers = shell.input_transformers_cleanup
    transformers[:] = [t for t in transformers if getattr(t, "__name__", "") != cell.service_line_first.__name__]
    show_help_as(shell, None)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != MATCHER]
