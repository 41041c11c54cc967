"""The options of the magics: text in, checked values out; the help that `?` shows."""

from __future__ import annotations

import argparse
import contextlib
import math
import shlex
import textwrap
from collections.abc import Iterable
from typing import Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser, MagicHelpFormatter

from nbcompose._export.check import LIMIT
from nbcompose._service import add_service_arguments
from nbcompose._service import service_options as decorator_options
from nbcompose._units import did_you_mean
from nbcompose.errors import DeclarationError
from nbcompose.settings import LEVELS

SERVICE_HELP = """Run each class with an @api method in this cell as a server.

The cell's code runs in the notebook as usual; then each class that it defines, and that has an api, gets processes of
its own (replicas), and its name stands for the running service: `Answer.ask(...)`, `await Answer.to_async.ask(...)`.
A service that depends on one that does not run yet waits for it, and the notebook goes on.

Running the cell again does what the change calls for: nothing where nothing has changed; new code for the replicas that
run, which keep what they have loaded, where only methods have; new replicas otherwise, which take over when they are
ready. If that fails, the version before serves on. Those that depend on the service are not restarted.

Options here override those of `@service`."""

SERVICES_HELP = """Show the services of this notebook, or do something with some of them.

    %services                  the table
    %services --live           the table with calls, times of answers, memory
    %services --apis           the same, with a row for each api
    %services stop NAME ...    stop services (or --all)
    %services restart NAME     start new replicas of the same code, e.g. when weights on disk have changed
    %services refresh [NAME]   bring stale services up to date with the notebook's functions and values
    %services rollback NAME    have the version before serve again
    %services logs NAME        what its replicas wrote last (-n LINES, --follow, --level, --api, --trace)
    %services forget [NAME]    forget the arguments and answers that are kept of the last calls
    %services scale NAME N     have N replicas
    %services profile NAME S   what it does in the next S seconds, as a flame graph
    %services debug NAME       stop at its next call, with pdb's prompt in this cell

With statements below it, `%%services debug NAME` runs them, and stops in the calls that they make."""

GRAPH_HELP = """Show the services of this notebook, and which calls which, as a live picture.

    %graph          all services
    %graph NAME     a service and everything below it
    %graph --live   in VS Code or Colab, whose pages the picture cannot become live in

The picture changes with its services. Running the cell again shows it as it is then."""

EXPORT_HELP = """Write the services of this notebook as one script, which serves them without Jupyter.

    %export app.py                      all services that run, with what they need of the notebook's cells
    %export app.py --entry Answer       only Answer, and what is below it
    %export app.py --freeze passages    with the present value of a name, in a file beside the script
    %export app.py --check              also start the script, make the calls that were made here, and compare

The check runs the script's services beside those of the notebook, so it takes as much memory again while it lasts. It
says first what it will do, and ends within a minute (`--limit`), or at once with ■. It makes the last five different
calls of each api again, to both, of those that answered; %config NbcomposeMagics.record_calls = False keeps none.

What no cell explains is refused: a name that was set by a cell which has been edited since, or by one that ran for more
than a minute. The message says which, and what can be done about it."""


class HelpAsked(Exception):
    """`--help` was among the options; the text is the help."""


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        raise HelpAsked(parser.format_help())


WIDTH = 88  # characters of a line of help: a page that is 1,280 pixels wide shows them beside its panels


class _Formatter(MagicHelpFormatter):  # type: ignore[misc]  # IPython's imports are not followed
    """Plain text, in lines that a page shows whole. IPython's has marks of reStructuredText."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fill paragraphs anew, except those that are set in columns."""
        parts = text.split("\n\n")
        return "\n\n".join(part if part.startswith(" ") else textwrap.fill(part, width) for part in parts)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return argparse.HelpFormatter._format_action_invocation(self, action)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = "%") -> None:
        super().add_usage(usage, actions, groups, prefix)


class _Parser(MagicArgumentParser):  # type: ignore[misc]  # IPython's imports are not followed
    """Options are written in full: an abbreviation would change its meaning with the next option that is added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, formatter_class=_Formatter, **kwargs)
        self.allow_abbrev = False
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this")

    def parse_argstring(self, argstring: str, *, partial: bool = False) -> Any:
        """Quotes are those of a shell: IPython's own splitting would leave them in the values."""
        try:
            words = shlex.split(argstring)
        except ValueError as error:
            raise UsageError(f"{argstring}: {error}") from None
        return self.parse_known_args(words) if partial else self.parse_args(words)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self._parser_of(found)
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{_near(unknown[0], parser.words())}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            raise argparse.ArgumentError(action, f"{error.message}{_near(value, action.choices or ())}") from None

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with the message, and the usage where that is one line."""
        usage = " ".join(self.format_usage().split())
        known = f"usage: {usage}" if len(usage) <= MOST_USAGE else f"{usage.split()[0]} --help lists the options"
        raise UsageError(f"{message}\n{known}")

    def words(self) -> list[str]:
        """Return what may stand first: options, and actions."""
        actions = [c for a in self._actions if isinstance(a, argparse._SubParsersAction) for c in a.choices]
        return [*(option for action in self._actions for option in action.option_strings), *actions]

    def _parser_of(self, found: argparse.Namespace) -> _Parser:
        """Return the parser of the action that was chosen."""
        chosen = getattr(found, "action", None)
        below = [a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        return below[0][chosen] if below and chosen else self


MOST_USAGE = 120  # characters of usage that stand in an error


def _near(word: Any, known: Iterable[str]) -> str:
    """Return a hint at the word that was meant, if one is near."""
    return did_you_mean(str(word).partition("=")[0], known)


def service_parser() -> MagicArgumentParser:
    parser = _Parser("%service", description=SERVICE_HELP)
    add_service_arguments(parser)
    return parser


def services_parser() -> MagicArgumentParser:
    parser = _Parser("services", description=SERVICES_HELP)
    parser.add_argument(
        "--live",
        action="store_true",
        help="also numbers that change: calls by how they ended, the median and the 95th percentile of the times that "
        "answers took in the last 5 minutes (of several apis those of the one that is called most), memory",
    )
    parser.add_argument("--apis", action="store_true", help="these numbers also for each api that was called")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", prog="services", parser_class=_Parser)
    stop = actions.add_parser("stop", help="stop services")
    stop.add_argument("names", nargs="*", metavar="NAME", help="a service to stop")
    stop.add_argument("--all", action="store_true", help="stop every service")
    restart = actions.add_parser("restart", help="start new replicas of the same code, e.g. when weights have changed")
    restart.add_argument("names", nargs="+", metavar="NAME", help="a service to restart")
    refresh = actions.add_parser("refresh", help="bring stale services up to date with the notebook")
    refresh.add_argument("names", nargs="*", metavar="NAME", help="a service to refresh (all that are stale)")
    rollback = actions.add_parser("rollback", help="have the version before serve again")
    rollback.add_argument("names", nargs="+", metavar="NAME", help="a service to roll back")
    logs = actions.add_parser("logs", help="what the replicas of a service wrote last")
    logs.add_argument("name", metavar="NAME", help="the service")
    logs.add_argument("-n", "--lines", type=_count, default=100, metavar="LINES", help="how many lines (100)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what it writes, until ■")
    logs.add_argument("--level", choices=LEVELS, help="only lines of logging and warnings, of this level and above")
    logs.add_argument("--api", metavar="API", help="only what calls of this api wrote")
    logs.add_argument("--trace", metavar="ID", help="only what one call wrote: its trace, or the beginning of that")
    forget = actions.add_parser("forget", help="forget the arguments and answers that are kept of the last calls")
    forget.add_argument("names", nargs="*", metavar="NAME", help="a service (all)")
    scale = actions.add_parser("scale", help="change the number of replicas")
    scale.add_argument("name", metavar="NAME", help="the service")
    scale.add_argument("replicas", type=_count, metavar="N", help="how many replicas it is to have")
    profile = actions.add_parser("profile", help="what the replicas of a service do, as a flame graph")
    profile.add_argument("name", metavar="NAME", help="the service")
    profile.add_argument("seconds", type=_count, nargs="?", default=10, metavar="SECONDS", help="for how long (10)")
    profile.add_argument("--replica", type=_index, metavar="N", help="only this replica, from 0 (all)")
    profile.add_argument("--native", action="store_true", help="with frames of C code, by py-spy where it may trace")
    debug = actions.add_parser("debug", help="stop in the apis of a service, with pdb's prompt in this cell")
    debug.add_argument("name", metavar="NAME", help="the service")
    debug.add_argument("--replica", type=_index, metavar="N", help="only this replica, from 0 (all)")
    debug.add_argument(
        "--post-mortem",
        action="store_true",
        help="stop where an api raises, before its caller is told",
    )
    debug.add_argument(
        "--debugpy",
        type=_index,
        nargs="?",
        const=0,
        metavar="PORT",
        help="let VS Code attach to a replica, on this port of 127.0.0.1 (any free one), until --detach",
    )
    debug.add_argument("--detach", action="store_true", help="detach VS Code, and close the port of --debugpy")
    return parser


def graph_parser() -> MagicArgumentParser:
    parser = _Parser("graph", description=GRAPH_HELP)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a service: only what is below it is shown")
    live = "show the widget itself, where the picture is not live; a saved notebook does not keep it"
    parser.add_argument("--live", action="store_true", help=live)
    return parser


def export_parser() -> MagicArgumentParser:
    parser = _Parser("export", description=EXPORT_HELP)
    add = parser.add_argument
    add("file", metavar="FILE", help="the script, e.g. app.py")
    add(
        "--entry", metavar="NAME", action="append", default=[], help="a service to be served over HTTP; may be repeated"
    )
    for option, what in (
        ("--freeze", "store the present value of a name in a file beside the script, and load it there"),
        ("--recompute", "have the script work out a name that took long here"),
    ):
        add(option, metavar="NAME", action="append", default=[], help=f"{what}; may be repeated")
    add("--docker", action="store_true", help="also write a Dockerfile and a .dockerignore")
    add(
        "--check",
        action="store_true",
        help="start the script, and compare its answers to the calls that were made here",
    )
    add("--limit", type=_seconds, default=LIMIT, metavar="SECONDS", help=f"how long the check may take ({LIMIT:g})")
    add("--force", action="store_true", help="overwrite files that nbcompose has not written")
    return parser


def _index(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def service_options(args: argparse.Namespace) -> dict[str, Any]:
    """The given options in the form of `@service`'s. Raises `UsageError` with all that is wrong."""
    try:
        return decorator_options(args)
    except DeclarationError as error:
        raise UsageError("; ".join(m.message for m in error.mistakes)) from None
