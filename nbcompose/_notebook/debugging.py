"""`%services debug`: pdb's prompt in the cell, while it waits for a call or makes one.

Where `%debug` and `%prun` do not reach, a line says what does.
"""

from __future__ import annotations

import builtins
import re
import sys
from argparse import Namespace
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult

from nbcompose._control import Prompt
from nbcompose._notebook import cell
from nbcompose._notebook.session import Session
from nbcompose._notebook.tracebacks import where_raised
from nbcompose._service import Service


def debug(session: Session, args: Namespace, line: str, cell_text: str | None) -> Any:
    """Attach a debugger: while `cell_text` runs, whose last expression's value is returned, or (None) until it is
    detached.
    """
    if args.debugpy is not None or args.detach:
        if cell_text is not None:
            raise UsageError("--debugpy and --detach stand in a line of their own: %services debug …")
        return _debugpy(session, args)
    portal = session.registry.portal
    prompt = Prompt(lambda text: builtins.input(text))  # the one that the kernel has put there for this cell
    attaching = session.registry.debug(
        args.name,
        prompt.say,
        prompt.over,
        replica=args.replica,
        next_call=not args.post_mortem,
        post_mortem=args.post_mortem,
    )
    attached = portal.run(attaching)
    prompt.answer = lambda typed: portal.loop.call_soon_threadsafe(attached.answer, typed)
    prompt.detach = lambda: portal.loop.call_soon_threadsafe(attached.detach)
    before = portal.meanwhile

    def serve() -> None:
        before()
        prompt.serve()

    portal.meanwhile = serve
    try:
        if cell_text is not None:
            return cell.evaluate(session.shell, line, cell_text)
        print(attached.greeting(args.name, post_mortem=args.post_mortem))
        prompt.run()
    finally:
        portal.meanwhile = before
        prompt.leave()
        prompt.run()  # until no replica is attached any more
    return None


def _debugpy(session: Session, args: Namespace) -> None:
    registry = session.registry
    if args.detach:
        was_open = registry.portal.run(registry.detach_debugpy(args.name))
        print(f"{args.name}: {'detached, and the port is closed' if was_open else 'debugpy does not listen'}")
        return
    detach = f"%services debug {args.name} --detach"
    print(registry.portal.run(registry.debugpy(args.name, args.debugpy, args.replica, detach)))


_POST_MORTEM = re.compile(r"\s*%debug\s*")
_AWAITED_ANSWER = re.compile(r"can't be used in 'await' expression|'async for' requires")
_AWAITED_STREAM = re.compile(
    # By their names, which are all that such an error has: of calls, of parameters, of nbcompose.streams, and Python's.
    r"object (AsyncItems|SyncItems|ArrivingStream|LocalStream|Branch|Mapped|async_generator|generator) "
    r"can't be used in 'await' expression"
)
_AWAITS = re.compile(r"\b(await|async for \w+ in)\s+([A-Za-z_]\w*)\.([A-Za-z_]\w*)\(")
_PROFILED = re.compile(r"^\s*%{1,2}prun\b", re.MULTILINE)


class Hints:
    """Says what works where IPython's own tools see this process only. Callbacks of IPython's events."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._calls: dict[str, int] | None = None  # made before a cell with %prun

    def before(self, info: ExecutionInfo) -> None:
        cell_text = str(info.raw_cell or "")
        if _POST_MORTEM.fullmatch(cell_text) and (hint := where_raised(getattr(sys, "last_value", None))):
            print(hint)
        self._calls = self._made() if _PROFILED.search(cell_text) else None

    def after(self, result: ExecutionResult) -> None:
        if hint := self._awaited(result):
            print(hint)
        if self._calls is None:
            return
        called = [name for name, count in self._made().items() if count > self._calls.get(name, 0)]
        if called:
            ways = ", ".join(f"%services profile {name}" for name in called)
            print(f"{' and '.join(called)} ran in replicas, where %prun does not look: {ways}")

    def _awaited(self, result: ExecutionResult) -> str:
        """Return what awaits the api of a service, where a cell, or an api that it has called, has failed since it has
        awaited an answer or a stream; else "".
        """
        error = result.error_in_exec
        if type(error) is not TypeError or not _AWAITED_ANSWER.search(str(error)):
            return ""
        if _AWAITED_STREAM.search(str(error)):
            return (
                "What was awaited is a stream, whose items come one by one: async for item in stream: …, or all of "
                "them: [item async for item in stream]"
            )
        space = self._session.shell.user_ns
        for kind, name, api in _AWAITS.findall(str(result.info.raw_cell or "")):
            service = space.get(name)
            if isinstance(service, Service) and service.spec.api(api) is not None:
                each = "each item" if "for" in kind else "the answer"
                return (
                    f"{name}.{api}(…) waits, and gives {each} itself: leave out the {kind.split()[0]}, or write "
                    f"{kind} {name}.to_async.{api}(…)"
                )
        return ""

    def _made(self) -> dict[str, int]:
        return {name: counts.calls for name, counts in self._session.registry.client.traffic().items()}
