"""The command `nbcompose`: serve a graph, and look after the services of any process of this user."""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import functools
import math
import os
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

from nbcompose import __version__, settings
from nbcompose._control import Prompt, Watched, find_entries, latency_words, memory_words, serve, told
from nbcompose._export import command
from nbcompose._protocol import (
    Client,
    Listing,
    RunningProcess,
    listings,
    log_line,
    log_text,
    messages,
    printable,
)
from nbcompose._rpc import background
from nbcompose._units import with_previous
from nbcompose.errors import NbcomposeError

PROFILE_WITHIN = 30.0  # seconds for its answer, besides those that it takes
COLUMNS = (
    "PID", "IN", "SERVICE", "STATE", "REPLICAS", "DEVICE", "CALLS", "FAILED", "P50 (5 MIN)", "P95 (5 MIN)", "MEMORY",
    "URL",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 for an error that was reported, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except (NbcomposeError, ConnectionError) as error:
        print(f"nbcompose: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nbcompose", description="Compose models, serve them, look after them.")
    parser.add_argument("--version", action="version", version=f"nbcompose {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _serve_parser(commands)
    command.add_parser(commands)
    ps = commands.add_parser("ps", help="the services of all your notebooks and servers")
    ps.set_defaults(run=_ps)
    logs = commands.add_parser("logs", help="what a service's replicas wrote")
    _service_arguments(logs)
    logs.add_argument("-n", "--lines", type=_positive, default=100, help="how many lines, at most 10000 (100)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what it writes, until Ctrl-C")
    logs.add_argument(
        "--level", choices=settings.LEVELS, help="only lines of logging and warnings, of this level and above"
    )
    logs.add_argument("--api", help="only what calls of this api wrote")
    logs.add_argument("--trace", metavar="ID", help="only what one call wrote: its trace, or the beginning of that")
    logs.set_defaults(run=_logs)
    stop = commands.add_parser("stop", help="stop a service")
    _service_arguments(stop)
    stop.set_defaults(run=_stop)
    profile = commands.add_parser("profile", help="what a service does for some seconds, as a flame graph")
    _service_arguments(profile)
    profile.add_argument("seconds", type=_positive, nargs="?", default=10, help="for how long (10)")
    profile.add_argument("--replica", type=_index, metavar="N", help="only this replica, from 0 (all)")
    profile.add_argument("--native", action="store_true", help="with frames of C code, by py-spy where it may trace")
    profile.add_argument("-o", "--output", metavar="FILE", help="where the flame graph goes, e.g. flame.svg")
    profile.set_defaults(run=_profile)
    debug = commands.add_parser("debug", help="stop in the apis of a service, with pdb's prompt here")
    _service_arguments(debug)
    debug.add_argument("--replica", type=_index, metavar="N", help="only this replica, from 0 (all)")
    debug.add_argument("--post-mortem", action="store_true", help="stop where an api raises, not at the next call")
    debug.set_defaults(run=_debug)
    return parser


def _service_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", help="its name, as `nbcompose ps` shows it")
    parser.add_argument(
        "--pid", type=_positive, help="of the process that it belongs to, where several have one of that name"
    )


def _serve_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "serve", help="serve a service of a module, and all that it depends on", allow_abbrev=False
    )
    parser.add_argument(
        "target",
        metavar="TARGET[:SERVICE]",
        help="a module or a file.py, and a service in it; without one, all that no other of its services depends on",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (127.0.0.1)")
    parser.add_argument("--port", type=_port, help="port to bind (the service's own, or 3000); 0: any free one")
    parser.add_argument(
        "--token-file",
        type=_token,
        dest="token",
        metavar="FILE",
        help="file with the bearer token that callers must send (-: standard input); or the variable NBCOMPOSE_TOKEN",
    )
    # Whatever begins so was an abbreviation of it: none of them is to be repeated in an error message.
    parser.add_argument("--t", "--to", "--tok", "--toke", "--token", action=_RefuseToken, help=argparse.SUPPRESS)
    parser.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="a name that Host may carry (repeatable)"
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="watch the module and those of yours that it imports, and apply what is saved: methods go into the "
        "replicas that run, which keep what they have loaded; a change of __init__, of what it uses, of options or of "
        "another module replaces the replicas; what is broken leaves the version before in place",
    )
    parser.add_argument(
        "--replace",
        choices=("start-first", "stop-first"),
        default="start-first",
        help="with --reload: a new replica loads beside the old one (start-first), or after that has stopped, where "
        "there is no room for two (stop-first)",
    )
    parser.add_argument(
        "--interrupt-after",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="end sync code that runs on so long after its caller has gone (0: never), in services that do not say so "
        "themselves",
    )
    parser.add_argument(
        "--log-level",
        choices=settings.LEVELS,
        help="write log lines of nbcompose and of the services from this level on (or NBCOMPOSE_LOG_LEVEL); without "
        "it, logging is left as it is",
    )
    parser.add_argument(
        "--record-arguments",
        action="store_true",
        help="keep arguments and answers of the last calls in the memory of the replicas, for clients of the runtime "
        "protocol (or NBCOMPOSE_RECORD_ARGUMENTS=1)",
    )
    parser.set_defaults(run=_serve)


class _RefuseToken(argparse.Action):
    """`--token SECRET`: while the server runs, the list of processes would show it to all users of the machine."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.error(
            "a token on the command line can be read by every user of this machine: "
            "put it into the variable NBCOMPOSE_TOKEN, or give --token-file FILE (- is standard input)"
        )


def _token(path: str) -> str:
    try:
        with open(path, encoding="utf-8") if path != "-" else contextlib.nullcontext(sys.stdin) as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:  # the name is not repeated: it may be the token itself
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise argparse.ArgumentTypeError(f"the file with the token cannot be read: {reason}") from None
    if not token:
        raise argparse.ArgumentTypeError("there is no token in it")
    return token


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _index(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _serve(options: argparse.Namespace) -> int:
    if options.log_level is not None:
        os.environ[settings.LOG_LEVEL] = options.log_level  # replicas read it too
    if options.record_arguments:
        os.environ[settings.RECORD_ARGUMENTS] = "1"
    settings.start_logging()
    watched = Watched(options.target) if options.reload else None
    try:
        entries = [watched.load()] if watched is not None else find_entries(options.target)
    except NbcomposeError:
        raise
    except Exception as error:
        print(told(error), file=sys.stderr)
        print(f"nbcompose: {options.target} could not be imported (see above)", file=sys.stderr)
        return 1
    serve(
        *entries,
        host=options.host,
        port=options.port,
        token=options.token,
        allowed_hosts=options.allowed_host,
        reload=watched,
        title=f"nbcompose serve {options.target}",
        stop_first=options.replace == "stop-first",
        interrupt_after=options.interrupt_after,
        say=lambda line: print(line, flush=True),
    )
    return 0


def _ps(options: argparse.Namespace) -> int:
    rows = [row for listing in asyncio.run(listings()) for row in _rows(listing)]
    if not rows:
        print("no service runs: start one in a notebook (%%service) or with `nbcompose serve`")
        return 0
    widths = [max(len(row[i]) for row in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    for row in [COLUMNS, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _rows(listing: Listing) -> list[tuple[str, ...]]:
    if listing.services is None:
        return [(str(listing.process.pid), listing.title, "?", listing.trouble, *[""] * (len(COLUMNS) - 4))]
    return [_row(listing, service) for service in listing.services]


def _row(listing: Listing, service: messages.ListedService) -> tuple[str, ...]:
    return (
        str(listing.process.pid),
        listing.title,
        printable(service["name"]),
        with_previous(service["state"]) if service["behind"] else service["state"],
        f"{service['up']}/{service['wanted']}",
        printable(service["device"]),
        str(service["calls"]),
        str(service["errors"]),
        latency_words(service.get("numbers", ()), "p50"),
        latency_words(service.get("numbers", ()), "p95"),
        memory_words(
            service["memory"],
            service.get("memory_limit"),
            service.get("memory_over", False),
            service.get("gpu_memory"),
        ),
        printable(service["url"]),
    )


_OF_A_KIND = frozenset({"level", "api", "trace"})


def _logs(options: argparse.Namespace) -> int:
    request: messages.LogsRequest = {"type": "logs", "service": options.service}
    request["lines"] = min(options.lines, messages.MOST_LINES)
    if options.level:
        request["level"] = options.level
    if options.api:
        request["api"] = options.api
    if options.trace:
        request["trace"] = options.trace
    color = sys.stdout.isatty()

    def show(said: messages.Logs | messages.Lines) -> None:
        details = said.get("details", [])
        for text, known in zip_longest(said["lines"], details):  # versions before had no details
            print(log_text(options.service, log_line(text, known), color) if known else text)
        sys.stdout.flush()

    async def run() -> None:
        async with Client(await _find_log(options.service, options.pid)) as client:
            if not options.follow:
                said = await client.ask(request, messages.Logs)
                show(said)
                if not said["lines"]:  # not among the lines, which may be read by a program
                    nothing = "has written nothing" + (" of that kind" if request.keys() & _OF_A_KIND else "")
                    print(f"{options.service} {nothing}", file=sys.stderr)
                return
            async with contextlib.aclosing(client.stream({**request, "follow": True})) as events:
                async for event in events:
                    if event["missed"]:
                        print(f"… {event['missed']:,} lines are not kept any more")
                    show(cast(messages.Lines, event))

    asyncio.run(run())
    return 0


def _stop(options: argparse.Namespace) -> int:
    async def run() -> None:
        async with Client(await _find(options.service, options.pid)) as client:
            await client.ask({"type": "stop", "service": options.service}, messages.Done)

    asyncio.run(run())
    print(f"{options.service} was stopped")
    return 0


def _profile(options: argparse.Namespace) -> int:
    request: messages.ProfileRequest = {"type": "profile", "service": options.service, "seconds": options.seconds}
    if options.native:
        request["native"] = True
    if options.replica is not None:
        request["replica"] = options.replica

    async def run() -> messages.Profiled:
        async with Client(await _find(options.service, options.pid)) as client:
            return await client.ask(request, messages.Profiled, options.seconds + PROFILE_WITHIN)

    found = asyncio.run(run())
    print(found["text"])
    if options.output is not None:
        try:
            Path(options.output).write_text(found["svg"], encoding="utf-8")
        except OSError as error:
            raise NbcomposeError(f"{options.output} cannot be written: {error.strerror}") from None
    return 0


def _debug(options: argparse.Namespace) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  with it, `input` has a history

    portal, prompt = background(), Prompt()
    request: messages.DebugRequest = {"type": "debug", "service": options.service, "post_mortem": options.post_mortem}
    if options.replica is not None:
        request["replica"] = options.replica

    async def run() -> None:
        async with (
            Client(await _find(options.service, options.pid)) as client,
            contextlib.aclosing(client.stream(request)) as events,
        ):
            async for event in events:
                prompt.answer = functools.partial(answer, client, event["debugger"])
                prompt.say(event["text"], event["prompt"])

    def answer(client: Client, debugger: str, line: str) -> None:
        told: messages.DebugLine = {"type": "debug_line", "debugger": debugger, "line": line}
        portal.run(client.ask(told, messages.Done))

    running = asyncio.run_coroutine_threadsafe(run(), portal.loop)
    running.add_done_callback(lambda _: prompt.over())
    prompt.detach = running.cancel
    prompt.run()
    with contextlib.suppress(concurrent.futures.CancelledError):
        running.result()
    return 0


async def _find_log(service: str, pid: int | None) -> RunningProcess:
    """The process that has the log of this service, which may run no more. Raises as `_find`."""
    try:
        return await _find(service, pid)
    except NbcomposeError:
        has_it = []
        for listing in await listings():
            if listing.services is not None and (pid is None or listing.process.pid == pid):  # one that answers
                with contextlib.suppress(NbcomposeError, ConnectionError):
                    async with Client(listing.process) as client:
                        await client.ask({"type": "logs", "service": service, "lines": 1}, messages.Logs)
                        has_it.append(listing.process)
        if len(has_it) != 1:
            raise
        return has_it[0]


async def _find(service: str, pid: int | None) -> RunningProcess:
    """The process that has this service. Raises `NbcomposeError` where none has, or several have."""
    asked = [listing for listing in await listings() if pid is None or listing.process.pid == pid]
    everything = [(listing, known["name"]) for listing in asked for known in listing.services or ()]
    found = [listing for listing, name in everything if name == service]
    if len(found) == 1:
        return found[0].process
    if found:
        where = ", ".join(f"--pid {listing.process.pid} ({listing.title})" for listing in found)
        raise NbcomposeError(f"several processes have a service {service}: add one of {where}")
    known = ", ".join(dict.fromkeys(printable(name) for _, name in everything)) or "none"
    unknown = "".join(f"; process {one.process.pid}: {one.trouble}" for one in asked if one.services is None)
    raise NbcomposeError(f"no service is called {service!r}; there are: {known}{unknown}")


if __name__ == "__main__":
    sys.exit(main())
