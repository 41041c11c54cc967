"""`%export`: passes the live notebook to the exporter, and shows the result under the cell."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from nbcompose._code import functions_of
from nbcompose._export import Exported, NotebookSource, Request, export_to
from nbcompose._export.check import LARGEST, Report, check, plan, words
from nbcompose._notebook.display import Bundle, LiveDisplay, Table
from nbcompose._notebook.history import Run
from nbcompose._notebook.session import Session
from nbcompose._notebook.tracebacks import cell_names
from nbcompose._service import dependency_graph

COLUMNS = ("api", "calls", "answers")
UNKNOWN = "a notebook"  # where the file name is not known


def export(session: Session, args: Namespace) -> None:
    """Run the magic. Raises `ExportRefused`, `NbcomposeError`."""
    path = Path(args.file).expanduser()
    request = Request(
        entries=tuple(args.entry) or _entries(session),
        freeze=tuple(args.freeze),
        recompute=tuple(args.recompute),
        docker=args.docker,
        force=args.force,
    )
    exported = export_to(path, source_of(session), request)
    print(exported.summary(path))
    for note in (*exported.notes, *_stale(session, exported.services)):
        print(f"note: {note}")
    if args.check:
        _check(session, path, exported, args.limit)


def source_of(session: Session) -> NotebookSource:
    """Return the notebook's present state, as source of an export."""
    space = session.shell.user_ns
    return NotebookSource(session.history.cells(), _notebook(space), values=space, versions=_versions(session))


def _entries(session: Session) -> tuple[str, ...]:
    """Return the variables of the running services that no other service depends on."""
    deployments = [session.registry.deployment(name) for name in session.registry.names()]
    names = dependency_graph.entries(dependency_graph.edges(d.spec for d in deployments if d is not None))
    return tuple(session.started[name].variable for name in names if name in session.started)


def _stale(session: Session, variables: Sequence[str]) -> Iterator[str]:
    """Yield a line for each service that runs with older values than the script gets, which are the present ones."""
    for status in session.registry.statuses():
        started = session.started.get(status.name)
        if status.stale and started is not None and started.variable in variables:
            yield (
                f"{status.name} is stale: the script has {', '.join(status.stale)} as the notebook has it now "
                f"(%services refresh {status.name} brings the service up to date)"
            )


def _versions(session: Session) -> Mapping[str, str]:
    """Return for each running service, by variable, the label of the cell run that defined the class that serves."""
    found = {}
    for name, started in session.started.items():
        deployment = session.registry.deployment(name)
        run = _run_of(session, deployment.spec.cls) if deployment is not None else None
        if run is not None:
            found[started.variable] = run.label
    return found


def _run_of(session: Session, cls: type) -> Run | None:
    """Return the run that defined a class, found by its methods; a method wrapped by a decorator may be of another
    cell.
    """
    files = dict.fromkeys(function.__code__.co_filename for function in functions_of(cls))
    runs = [session.history.run_of(file) for file in files]
    statement = re.compile(rf"^\s*class\s+{re.escape(cls.__name__)}\b", re.MULTILINE)
    return next((run for run in runs if run is not None and statement.search(run.source)), None)


def _notebook(space: Mapping[str, object]) -> str:
    """Return the name of the notebook's file, where the front end provides it."""
    told = os.environ.get("JPY_SESSION_NAME") or space.get("__vsc_ipynb_file__") or ""
    return Path(str(told)).name if str(told).endswith(".ipynb") else UNKNOWN


# -- the check


def _check(session: Session, path: Path, exported: Exported, limit: float) -> None:
    display = LiveDisplay(session.shell)
    registry, recording = session.registry, session.recording
    services = [name for name, started in session.started.items() if started.variable in exported.services]
    todo = plan(recording.calls(), recording.skipped(), registry.names(), services, limit)

    def say(text: str) -> None:
        display.update(_bundle(f"{path.name}: {todo}\n{text}"))

    display.show(_bundle(f"{path.name}: {todo}"))
    try:
        report = check(path, todo, registry.caller, say)
    except BaseException:
        display.finish(_bundle(f"{path.name} was not checked to the end"))
        raise
    display.finish(_report(session, path, report, exported.unseeded))


def _bundle(text: str) -> Bundle:
    return {"text/plain": text, "text/html": f'<div style="white-space:pre-wrap">{escape(text)}</div>'}


def _report(session: Session, path: Path, report: Report, unseeded: Sequence[str] = ()) -> Bundle:
    rows = [(row.api, str(row.calls), words(row.kind)) for row in report.rows]
    slower = [f"{row.api} is slower there: {_times(row.slower)}" for row in report.rows if row.slower is not None]
    differences = [f"{row.api}: {line}" for row in report.rows for line in row.differences]
    if not report.passed:
        differences += unseeded
    lines = [
        cell_names(line, session.shell) for line in (*differences, *slower, *report.left_out, *_large(session, report))
    ]
    head = f"{path.name} starts, and its services are ready"
    if not rows:
        why = "none of the calls can be made again" if lines else "no call of its services has been made here"
        lines.insert(0, f"There is nothing to compare: {why if session.recording.enabled else 'recording is off'}.")
    table = Table(COLUMNS, rows)
    below = "".join(f'<div style="white-space:pre-wrap">{escape(line)}</div>' for line in lines)
    return {
        "text/plain": "\n".join([head, *([repr(table)] if rows else []), *lines]),
        "text/html": f"<div>{escape(head)}</div>{table._repr_html_() if rows else ''}{below}",
    }


def _large(session: Session, report: Report) -> Iterator[str]:
    for service, api in session.recording.large():
        if service in report.services:
            yield f"{service}.{api}: calls with more than {LARGEST >> 20} MiB of arguments are not recorded"


def _times(slower: tuple[float, float]) -> str:
    """Return durations, which are told only where they matter: saved outputs are compared."""
    here, there = slower
    return f"{there * 1000:.0f} ms, here {here * 1000:.0f} ms"
