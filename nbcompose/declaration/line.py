"""The options of a %%service line: their arguments, and how they become those of `@service`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from nbcompose.declaration.options import Problems, read_service_options
from nbcompose.spec import Location


def add_service_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--device", metavar="DEVICE", help="cpu, cuda (the freest GPU), cuda:N or mps")
    add("--replicas", metavar="N", type=int, help="processes, each with an instance of its own")
    add("--threads", metavar="N", type=int, help="worker threads of each replica, for apis that are not async")
    add("--timeout", metavar="SECONDS", type=float, help="how long a call may take")
    add("--max-concurrency", metavar="N", type=int, help="calls that a replica works on at once; others queue")
    add(
        "--interrupt-after",
        metavar="SECONDS",
        type=float,
        help="end sync code that runs on so long after its caller has gone (10); 0: never",
    )
    add(
        "--replace-after",
        metavar="SECONDS",
        type=float,
        help="replace a replica, where there is room, whose worker threads have all been held by such code for so long "
        "(30), or whose process has been stopped; 0: never",
    )
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


def service_options(args: argparse.Namespace) -> dict[str, Any]:
    """The given options in the form of `@service`'s. Raises `DeclarationError` with all that is wrong."""
    found: dict[str, Any] = {
        "name": args.name,
        "device": args.device,
        "replicas": args.replicas,
        "threads": args.threads,
        "traffic": _given(
            timeout=args.timeout,
            max_concurrency=args.max_concurrency,
            interrupt_after=args.interrupt_after,
            replace_after=args.replace_after,
        ),
        "http": _given(port=args.port),
        "resources": _given(memory=args.memory),
        "envs": dict(args.env) if args.env else None,
        "strict": args.strict or None,
    }
    options = _given(**found)
    read_options(options)
    return options


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a spec that these options stand for. Raises `DeclarationError`."""
    problems = Problems(Location())
    fields = read_service_options(options, "Service", problems)
    problems.raise_if_any("")
    return fields


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != {}}
