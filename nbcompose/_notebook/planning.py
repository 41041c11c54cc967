"""What a run of a %%service cell would do, worked out from its text (`plan`): nothing, a first version, a hot swap, new
replicas, or `unknown`.

The text is parsed and compiled, and never runs: `_notebook/preview.py` makes the classes that it defines,
`_code/expected.py` their fingerprints, and from there on it is what the run itself does (`declared`, the registry). It
says what the run would set out to do; whether new replicas come up, nobody knows before. Runs on any thread but the
main one, which may be busy.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import TransformerManager

from nbcompose._code import Around, CannotTell, Deployment, code_handing_on, expected_fingerprint
from nbcompose._export import service_line
from nbcompose._ipython_adapter import default_transforms, lines_of, runs_code
from nbcompose._notebook.arguments import HelpAsked, service_options, service_parser
from nbcompose._notebook.cell import defined_by, service_line_first
from nbcompose._notebook.preview import Preview
from nbcompose._notebook.session import Session
from nbcompose._notebook.staleness import declared
from nbcompose._notebook.tracebacks import cell_names
from nbcompose._protocol import messages
from nbcompose._replica import ByValue
from nbcompose._service import Service, dependency_graph
from nbcompose.errors import DeclarationError, NbcomposeError

TRIES = 3  # where a cell begins or ends meanwhile
WHY: Mapping[messages.Outcome, str] = {
    "nothing": "it means what runs",
    "start": "no version of it serves",
    "swap": "only methods change",
    "replace": "more than methods changes",
}
_FILE = "<nbcompose plan "
_CLASS = re.compile(r"^\s*class\s+(\w+)", re.MULTILINE)
_ODD_LINES = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # where Python and IPython count lines differently
_numbers = itertools.count(1)


def plan(session: Session, text: str) -> list[messages.PlannedService]:
    """Return what a run of the cell would do with each service that it defines; none for a cell without %%service."""
    lines = text.splitlines(keepends=True)
    at = service_line(lines)
    if not lines or not re.match(r"%%service(?!\w)", lines[at].strip()):
        return []
    try:
        services = _told(session, text, lines, at)
    except CannotTell as reason:
        why = cell_names(" ".join(str(reason).split()), session.shell)
        return [{"service": name, "outcome": "unknown", "why": why} for name in _names(session, text) or [""]]
    return [{"service": name, "outcome": outcome, "why": WHY[outcome]} for name, outcome in services.items()]


def _names(session: Session, text: str) -> list[str]:
    """Return the services that the classes of a cell are, as far as that is known."""
    started = {s.variable: name for name, s in list(session.started.items())}
    return list(dict.fromkeys(started.get(variable, variable) for variable in _CLASS.findall(text)))


def _told(session: Session, text: str, lines: list[str], at: int) -> dict[str, messages.Outcome]:
    if _ODD_LINES.search(text):
        raise CannotTell("it has ends of lines that are not usual")
    magic = lines[at].rstrip()
    if not re.match(r"%%service( |$)", magic) or magic.endswith("\\") or re.search(r"[{}$?]", magic):
        raise CannotTell("the options are not known before it runs")
    body = "".join([*lines[:at], *lines[at + 1 :]])
    options = _options(magic.removeprefix("%%service").strip())
    for _ in range(TRIES):
        before = _state(session)
        found = _outcomes(session, body, options, busy=before[1])
        if _state(session) == before:
            return found
    raise CannotTell("cells run meanwhile")


def _state(session: Session) -> tuple[int, bool]:
    return session.cell_changes, session.cell_runs or runs_code(threading.main_thread().ident)


def _options(line: str) -> dict[str, Any]:
    try:
        return service_options(service_parser().parse_argstring(line))
    except HelpAsked:
        raise CannotTell("it shows the help of %%service") from None
    except UsageError as error:
        raise CannotTell(str(error).partition("\n")[0]) from None


def _outcomes(session: Session, body: str, options: Mapping[str, Any], *, busy: bool) -> dict[str, messages.Outcome]:
    main = session.shell.user_ns
    file = f"{_FILE}{next(_numbers)}>"
    source, tree = _parsed(session, body, file)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # where calls are looked for
    try:
        preview = Preview(dict(main))
        preview.read(tree, compile(tree, file, "exec", flags=session.shell.compile.flags, dont_inherit=True))
        services = declared(defined_by(tree, main, preview.space), options)
        around = Around(main, preview.space, preview.made, busy)
        deployments = [
            Deployment(s.spec, ByValue(b"", {}), session.token, fingerprint=expected_fingerprint(s.spec, around))
            for s in _ordered(session, services)
        ]
        outcomes = session.registry.outcomes(deployments)
    except DeclarationError as error:
        raise CannotTell("; ".join(m.message for m in error.mistakes) or str(error)) from None
    except (NbcomposeError, UsageError, SyntaxError) as error:
        raise CannotTell(str(error).partition("\n")[0]) from None
    finally:
        linecache.cache.pop(file, None)
    found = {d.spec.name: outcome for d, outcome in zip(deployments, outcomes, strict=True)}
    for name, outcome in found.items():
        serving = session.registry.deployment(name)
        if outcome == "swap" and serving is not None and (method := code_handing_on(serving.spec.cls)):
            raise CannotTell(f"{name} may keep its method {method}, and then new replicas are needed")
    return {s.name: found[s.name] for s in services.values()}


def _ordered(session: Session, services: Mapping[str, Service]) -> Iterator[Service]:
    """Yield the services in the order in which a run deploys them. Raises `CycleError`."""
    by_name = {s.name: s for s in services.values()}
    registry = session.registry
    others = [d.spec for n in registry.names() if n not in by_name and (d := registry.deployment(n)) is not None]
    specs = [s.spec for s in by_name.values()]
    dependency_graph.check_acyclic([*others, *specs])
    yield from (by_name[n] for n in dependency_graph.order(dependency_graph.edges(specs)) if n in by_name)


def _parsed(session: Session, body: str, file: str) -> tuple[str, ast.Module]:
    """Return the Python of the body of a cell, and its statements."""
    shell = session.shell
    if not default_transforms(shell, service_line_first):
        raise CannotTell("something else than IPython changes cells before they run")
    written = [line for line in lines_of(body) if line.strip()]
    if len(written) < 2 or written[0][:1].isspace():
        raise CannotTell("it has no class, or is indented")
    _ignore_warnings()
    try:
        # Numbers of lines are those of the cell: IPython drops empty lines, and the magic has one.
        above = 1 + next(i for i, line in enumerate(lines_of(body)) if line.strip())
        source = "\n" * above + TransformerManager().transform_cell(body)
        tree = compile(source, file, "exec", flags=shell.compile.flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, RuntimeError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise CannotTell(f"it is not Python: {getattr(error, 'msg', error)}{where}") from None
    return source, tree


def _ignore_warnings() -> None:
    """Have the compiler's warnings of a text ignored until it runs: they would show under some other cell."""
    warnings.filterwarnings("ignore", module=re.escape(_FILE))
