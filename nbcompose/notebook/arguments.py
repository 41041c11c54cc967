"""The options of the magics: text in, checked values out. `?` shows the help that is written here."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from nbcompose.declaration.options import Problems, read_service_options
from nbcompose.errors import DeclarationError
from nbcompose.spec import Location, ServiceSpec

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
    %services --live           the table with calls, median time, memory
    %services stop NAME ...    stop services (or --all)
    %services restart NAME     start new replicas of the same code, e.g. when weights on disk have changed
    %services refresh [NAME]   bring stale services up to date with the notebook's functions and values
    %services rollback NAME    have the version before serve again
    %services logs NAME        what its replicas wrote last (-n LINES)
    %services scale NAME N     have N replicas"""

GRAPH_HELP = """Show the services of this notebook, and which calls which, as a live picture.

    %graph          all services
    %graph NAME     a service and everything below it
    %graph --live   in VS Code or Colab, whose pages the picture cannot become live in

The picture changes with its services. Running the cell again shows it as it is then."""


class _Parser(MagicArgumentParser):  # type: ignore[misc]  # IPython's imports are not followed
    """Options are written in full: an abbreviation would change its meaning with the next option that is added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False

    def parse_argstring(self, argstring: str, *, partial: bool = False) -> Any:
        """Quotes are those of a shell: IPython's own splitting would leave them in the values."""
        try:
            words = shlex.split(argstring)
        except ValueError as error:
            raise UsageError(f"{argstring}: {error}") from None
        return self.parse_known_args(words) if partial else self.parse_args(words)


def service_parser() -> MagicArgumentParser:
    parser = _Parser("%service", description=SERVICE_HELP)
    add = parser.add_argument
    add("--device", metavar="DEVICE", help="cpu, cuda (the freest GPU), cuda:N or mps")
    add("--replicas", metavar="N", type=int, help="processes, each with an instance of its own")
    add("--threads", metavar="N", type=int, help="worker threads of each replica, for apis that are not async")
    add("--timeout", metavar="SECONDS", type=float, help="how long a call may take")
    add("--max-concurrency", metavar="N", type=int, help="calls that a replica works on at once; others queue")
    add("--port", metavar="PORT", type=int, help="the HTTP port; any free one by default")
    add("--env", metavar="KEY=VALUE", action="append", type=_pair, help="an environment variable; may be repeated")
    add("--memory", metavar="SIZE", help="what a replica needs, e.g. 4GiB; the card warns where that is not there")
    add("--name", metavar="NAME", help="another name than the class's")
    add("--strict", action="store_true", help="do not start where memory falls short")
    add(
        "--replace",
        choices=("start-first", "stop-first"),
        default="start-first",
        help="stop-first: where memory has no room for two versions, stop the old one before the new one starts",
    )
    add("--no-wait", action="store_true", help="go on at once, and let the card change when the service is ready")
    return parser


def services_parser() -> MagicArgumentParser:
    parser = _Parser("services", description=SERVICES_HELP)
    parser.add_argument("--live", action="store_true", help="also numbers that change: calls, median time, memory")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", prog="%services", parser_class=_Parser)
    stop = actions.add_parser("stop")
    stop.add_argument("names", nargs="*", metavar="NAME")
    stop.add_argument("--all", action="store_true")
    restart = actions.add_parser("restart")
    restart.add_argument("names", nargs="+", metavar="NAME")
    refresh = actions.add_parser("refresh")
    refresh.add_argument("names", nargs="*", metavar="NAME")
    rollback = actions.add_parser("rollback")
    rollback.add_argument("names", nargs="+", metavar="NAME")
    logs = actions.add_parser("logs")
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-n", "--lines", type=_count, default=100, metavar="LINES")
    scale = actions.add_parser("scale")
    scale.add_argument("name", metavar="NAME")
    scale.add_argument("replicas", type=_count, metavar="N")
    return parser


def graph_parser() -> MagicArgumentParser:
    parser = _Parser("graph", description=GRAPH_HELP)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a service: only what is below it is shown")
    live = "show the widget itself, where the picture is not live; a saved notebook does not keep it"
    parser.add_argument("--live", action="store_true", help=live)
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def service_options(args: argparse.Namespace) -> dict[str, Any]:
    """The given options in the form of `@service`'s. Raises `UsageError` with all that is wrong."""
    found: dict[str, Any] = {
        "name": args.name,
        "device": args.device,
        "replicas": args.replicas,
        "threads": args.threads,
        "traffic": _given(timeout=args.timeout, max_concurrency=args.max_concurrency),
        "http": _given(port=args.port),
        "resources": _given(memory=args.memory),
        "envs": dict(args.env) if args.env else None,
        "strict": args.strict or None,
    }
    options = _given(**found)
    _read(options)
    return options


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != {}}


def _read(options: Mapping[str, Any]) -> dict[str, Any]:
    problems = Problems(Location())
    fields = read_service_options(options, "Service", problems)
    try:
        problems.raise_if_any("")
    except DeclarationError as error:
        raise UsageError("; ".join(m.message for m in error.mistakes)) from None
    return fields


def override(spec: ServiceSpec, options: Mapping[str, Any]) -> ServiceSpec:
    """`spec` with these options (see `service_options`) in place of its own."""
    fields = _read(options)
    changes: dict[str, Any] = {}
    for option in options:
        value = fields[option]
        if option == "envs":
            value = {**spec.envs, **value}
        elif isinstance(options[option], dict):
            value = replace(getattr(spec, option), **{part: getattr(value, part) for part in options[option]})
        changes[option] = value
    return replace(spec, **changes)
