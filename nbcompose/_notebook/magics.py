"""The magics `%%service`, `%services`, `%graph` and `%export`: each one parses and delegates.

Errors that leave here show no frames of nbcompose.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from IPython.core.error import UsageError
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from traitlets import Bool, observe

from nbcompose._ipython_adapter import has_own_look
from nbcompose._notebook import cell, staleness
from nbcompose._notebook.arguments import export_parser, graph_parser, service_options, service_parser, services_parser
from nbcompose._notebook.cell_run import Launching
from nbcompose._notebook.display import ServicesTable
from nbcompose._notebook.session import Session
from nbcompose._notebook.staleness import behind_on_error, compare, declared, names_kept, refreshes, restarts, rollbacks
from nbcompose._notebook.tracebacks import message_only
from nbcompose.errors import CaptureError, NbcomposeError, UnknownService


@contextmanager
def briefly(shell: InteractiveShell) -> Iterator[None]:
    """Show errors that nbcompose raises on purpose, and ■, as a message only."""
    try:
        yield
    except (NbcomposeError, KeyboardInterrupt) as error:
        if has_own_look(error):  # an error of the cell, which has the cell's frames
            raise
        raise message_only(error, shell)  # noqa: B904  it is the same error


@magics_class
class NbcomposeMagics(Magics):  # type: ignore[misc]  # IPython's imports are not followed
    """The magics, registered by `_notebook/extension.py`. `session`: their shared state."""

    auto_refresh = Bool(
        default_value=False,
        help="Bring services up to date as soon as they are stale, after the cell that made them so.",
    ).tag(config=True)

    record_calls = Bool(
        default_value=True,
        help="Keep the last calls of each api, so that `%export --check` can make them again.",
    ).tag(config=True)

    def __init__(self, session: Session) -> None:
        super().__init__(session.shell)
        self._session = session
        session.recording.enabled = self.record_calls

    @observe("auto_refresh")
    def _refresh_anew(self, _: object) -> None:
        self._session.looked.clear()  # services that are stale already have not been tried yet

    @observe("record_calls")
    def _record(self, _: object) -> None:
        self._session.recording.enabled = self.record_calls
        if not self.record_calls:
            self._session.recording.clear()

    def look(self, _: ExecutionResult) -> None:
        """Mark stale services after every cell; with `auto_refresh`, refresh them."""
        stale = staleness.look(self._session)
        if not (stale and self.auto_refresh):
            return
        try:
            with briefly(self._session.shell):
                self._bring_up_to_date(stale)
        except (NbcomposeError, KeyboardInterrupt):
            self._session.shell.showtraceback()

    @cell_magic  # type: ignore[untyped-decorator]
    def service(self, line: str, cell_text: str) -> None:
        with briefly(self._session.shell):
            with behind_on_error(self._session, cell_text), names_kept(self._session.shell):
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
            Launching(self._session, changes).run(wait=not args.no_wait)

    @line_magic  # type: ignore[untyped-decorator]
    def services(self, line: str) -> ServicesTable | None:
        with briefly(self._session.shell):
            args = services_parser().parse_argstring(line)
            if args.action is None:
                return ServicesTable(self._session.registry.statuses(), live=args.live)
            actions: dict[str, Callable[[Namespace], None]] = {
                "stop": self._stop, "restart": self._restart, "refresh": self._refresh, "rollback": self._roll_back,
                "logs": self._logs, "scale": self._scale,
            }  # fmt: skip
            actions[args.action](args)
        return None

    @line_magic  # type: ignore[untyped-decorator]
    def graph(self, line: str) -> None:
        with briefly(self._session.shell):
            from nbcompose._notebook.graph import show  # Graphviz and widgets, which many notebooks do not need

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
            print(f"{name} was stopped")

    def _restart(self, args: Namespace) -> None:
        Launching(self._session, restarts(self._session, self._known(args.names))).run()

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

    def _roll_back(self, args: Namespace) -> None:
        Launching(self._session, rollbacks(self._session, self._known(args.names))).run()

    def _logs(self, args: Namespace) -> None:
        lines = self._session.registry.logs(args.name, args.lines)
        print("\n".join(lines) if lines else f"{args.name} has written nothing")

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
