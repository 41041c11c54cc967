from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError

from nbcompose._notebook.arguments import service_options, service_parser, services_parser
from nbcompose._service.decorators import api
from nbcompose._service.introspect import declare
from nbcompose._service.options import override
from nbcompose._spec import Http, Resources, Traffic

FRONT_END = Path(__file__).parents[2] / "labextension" / "src" / "completion.ts"


class Echo:
    @api
    def say(self, text: str) -> str:
        return text


def options(line: str) -> dict[str, Any]:
    return service_options(service_parser().parse_argstring(line))


def test_without_options_nothing_is_overridden() -> None:
    spec = declare(Echo, {"device": "cpu", "replicas": 2})
    assert options("") == {}
    assert override(spec, {}) == spec


def test_every_option_reaches_the_spec() -> None:
    line = (
        "--device cuda:1 --replicas 2 --threads 3 --timeout 2.5 --max-concurrency 4 --port 8123 "
        "--env A=1 --env 'B=x y=z' --memory 2GiB --name Other --strict --openai --no-wait"
    )
    spec = override(declare(Echo, {}), options(line))
    assert (spec.device, spec.replicas, spec.threads, spec.name, spec.strict) == ("cuda:1", 2, 3, "Other", True)
    assert spec.openai
    assert spec.traffic == Traffic(timeout=2.5, max_concurrency=4)
    assert spec.http == Http(port=8123)
    assert spec.resources == Resources(memory=2 * 2**30)
    assert spec.envs == {"A": "1", "B": "x y=z"}
    assert service_parser().parse_argstring(line).no_wait


def test_what_is_not_given_stays_as_it_was_decorated() -> None:
    spec = declare(
        Echo,
        {
            "device": "cpu",
            "resources": {"cpu": 2, "memory": "1GiB"},
            "traffic": {"timeout": 5, "max_queue": 7},
            "http": {"port": 80, "cors": "https://example.org"},
            "envs": {"A": "1", "B": "2"},
        },
    )
    changed = override(spec, options("--timeout 9 --memory 3GiB --port 81 --env B=3"))
    assert changed == replace(
        spec,
        traffic=Traffic(timeout=9, max_queue=7),
        resources=Resources(cpu=2, memory=3 * 2**30),
        http=replace(spec.http, port=81),
        envs={"A": "1", "B": "3"},
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--replicas 0", "replicas=0 must be a whole number from 1"),
        ("--replicas two", "argument --replicas: 'two' is not a whole number"),
        ("--timeout long", "argument --timeout: 'long' is not a number of seconds"),
        ("--device gpu", "device='gpu' must be one of cpu, cuda, cuda:N, mps"),
        ("--timeout -1", "traffic timeout=-1.0 must be a number"),
        ("--max-concurrency 0", "traffic max_concurrency=0 must be a whole number"),
        ("--port 70000", "http port=70000 must be at most 65535"),
        ("--env A", "'A' is not of the form KEY=VALUE"),
        ("--memory lots", "'lots' is not an amount of memory"),
        ("--name 'a b'", "name='a b': a service's name"),
        ("--nane x", "unrecognized arguments: --nane x"),
        ("--rep 2", "unrecognized arguments: --rep 2"),
        ("Embedder", "unrecognized arguments: Embedder"),
        ("--device", "argument --device: expected one argument"),
        ("--name 'A", "No closing quotation"),
    ],
)
def test_a_wrong_option_is_a_usage_error(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(line)
    assert message in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError, match=r"replicas=0.*; threads=0") as caught:
        options("--replicas 0 --threads 0")
    assert "device" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {"action": None, "live": False}),
        ("--live", {"action": None, "live": True}),
        ("stop A B", {"action": "stop", "names": ["A", "B"], "all": False}),
        ("stop --all", {"action": "stop", "names": [], "all": True}),
        ("restart A", {"action": "restart", "names": ["A"]}),
        ("logs A -n 5", {"action": "logs", "name": "A", "lines": 5}),
        ("logs --lines 5 A", {"action": "logs", "name": "A", "lines": 5}),
        ("logs A -f --level error", {"name": "A", "follow": True, "level": "error", "api": None, "trace": None}),
        ("logs A --api ask --trace a3f2", {"follow": False, "level": None, "api": "ask", "trace": "a3f2"}),
        ("scale A 3", {"action": "scale", "name": "A", "replicas": 3}),
    ],
)
def test_actions_on_services(line: str, expected: dict[str, Any]) -> None:
    found = vars(services_parser().parse_argstring(line))
    assert {k: found[k] for k in expected} == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stopp A", "invalid choice: 'stopp' (choose from"),
        ("scale A", "required: N"),
        ("scale A 0", "'0' is not a whole number from 1"),
        ("scale A two", "'two' is not a whole number from 1"),
        ("logs", "required: NAME"),
        ("logs A -n 0", "'0' is not a whole number from 1"),
        ("logs A --level loud", "invalid choice: 'loud'"),
        ("restart", "required: NAME"),
    ],
)
def test_a_wrong_action_is_a_usage_error(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        services_parser().parse_argstring(line)
    assert message in str(caught.value)


def test_the_front_end_offers_the_same_options_and_values() -> None:
    table = FRONT_END.read_text(encoding="utf-8").partition("export const OPTIONS")[2].partition("\n};")[0]
    offered = {name: re.findall(r'"([^"]+)"', values) for name, values in re.findall(r'"(--[\w-]+)": (.+),', table)}
    wanted = {
        option: ["flag"] if action.nargs == 0 else list(action.choices or [])
        for action in service_parser()._actions
        for option in action.option_strings
        if action.dest != "help"
    }
    assert offered == wanted | {"--device": ["cpu"]}  # what other devices there are, only the kernel knows
