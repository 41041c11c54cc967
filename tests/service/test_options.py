"""The options of `@service` and `@api`: what is accepted, in both spellings, and what is said of the rest."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest

from nbcompose._service.options import Problems, read_api_options, read_service_options
from nbcompose._spec import BatchPolicy, Http, Location, Resources, Traffic
from nbcompose.errors import DeclarationError, IgnoredOptionWarning

HERE = Location("app.py", 12)


def read(**options: Any) -> dict[str, Any]:
    problems = Problems(HERE)
    values = read_service_options(options, "Answer", problems)
    problems.raise_if_any("wrong:")
    return values


def mistakes(**options: Any) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        read(**options)
    return [str(m) for m in caught.value.mistakes]


def batch(**options: Any) -> BatchPolicy | None:
    problems = Problems(HERE)
    values = read_api_options(options, "f", problems, HERE)
    problems.raise_if_any("wrong:")
    batch: BatchPolicy | None = values["batch"]
    return batch


def api_mistakes(**options: Any) -> list[str]:
    problems = Problems(HERE)
    read_api_options(options, "f", problems, HERE)
    with pytest.raises(DeclarationError) as caught:
        problems.raise_if_any("wrong:")
    return [str(m) for m in caught.value.mistakes]


def test_defaults() -> None:
    assert read() == {
        "name": "Answer", "device": None, "replicas": 1, "threads": 1, "resources": Resources(), "traffic": Traffic(),
        "envs": {}, "http": Http(), "strict": False, "openai": False,
    }  # fmt: skip
    assert read(name=None, device=None, http=None) == read()


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"name": "my-answer.v2"}, "name", "my-answer.v2"),
        ({"device": "cuda:1"}, "device", "cuda:1"),
        ({"device": "mps"}, "device", "mps"),
        ({"replicas": 3}, "replicas", 3),
        ({"workers": 2}, "replicas", 2),
        ({"threads": 8}, "threads", 8),
        ({"strict": True}, "strict", True),
        ({"openai": True}, "openai", True),
        ({"resources": {"gpu": 1, "memory": "4GiB"}}, "resources", Resources(None, 1, 4 * 2**30)),
        ({"resources": {"cpu": "2", "memory": "2Gi"}}, "resources", Resources(2.0, 0, 2 * 2**30)),
        ({"resources": {"cpu": "500m", "gpu": "2"}}, "resources", Resources(0.5, 2)),
        ({"resources": {"gpu": None, "memory": 1000}}, "resources", Resources(None, 0, 1000)),
        ({"traffic": {"timeout": 20}}, "traffic", Traffic(20.0)),
        ({"traffic": {"timeout": None}}, "traffic", Traffic()),
        ({"traffic": {"max_concurrency": 4, "max_queue": 0}}, "traffic", Traffic(60.0, 4, 0)),
        ({"traffic": {"interrupt_after": 0, "replace_after": 5}}, "traffic", Traffic(60.0, None, None, 0.0, 5.0)),
        ({"envs": {"A": "1", "B": 2}}, "envs", {"A": "1", "B": "2"}),
        ({"envs": [{"name": "A", "value": "1"}, {"name": "B", "value": 2}]}, "envs", {"A": "1", "B": "2"}),
        ({"http": {"port": 8080}}, "http", Http(port=8080)),
        (
            {"http": {"host": "0.0.0.0", "cors": "https://a.example"}},
            "http",
            Http(0, "0.0.0.0", ("https://a.example",)),
        ),
        ({"http": {"cors": ["https://a.example", "*"]}}, "http", Http(cors_origins=("https://a.example", "*"))),
        ({"http": {"max_body": "1MiB"}}, "http", Http(max_body=2**20)),
        ({"http": {"max_values": 5_000_000}}, "http", Http(max_values=5_000_000)),
        (
            {"http": {"cors": {"enabled": True, "access_control_allow_origins": ["https://a.example"]}}},
            "http",
            Http(cors_origins=("https://a.example",)),
        ),
        ({"http": {"cors": {"enabled": True, "access_control_allow_origins": "*"}}}, "http", Http(cors_origins=("*",))),
        ({"http": {"cors": {"enabled": False, "access_control_allow_origins": "*"}}}, "http", Http()),
        ({"http": {"cors": {"enabled": True}}}, "http", Http()),
    ],
)
def test_values(given: dict[str, Any], field: str, value: Any) -> None:
    assert read(**given)[field] == value


def test_a_worker_for_each_cpu() -> None:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert read(workers="cpu_count")["replicas"] == cpus


def test_a_variable_without_a_value_is_the_environment_s_own() -> None:
    """BentoML's way to say that a deployment gives the value."""
    assert read(envs=[{"name": "HF_TOKEN"}, {"name": "A", "value": ""}])["envs"] == {"A": ""}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nmae": "x"}, "@service has no option 'nmae'; it has: name, device, replicas, workers"),
        ({"name": "9lives"}, "name='9lives'"),
        ({"name": "a b"}, "name='a b'"),
        ({"name": 5}, "name=5"),
        ({"device": "gpu"}, "cpu, cuda, cuda:N, mps"),
        ({"device": "cuda:x"}, "device='cuda:x'"),
        ({"device": 0}, "device=0"),
        ({"replicas": 0}, "replicas=0 must be a whole number from 1"),
        ({"replicas": True}, "replicas=True"),
        ({"workers": "many"}, "workers='many'"),
        ({"replicas": "cpu_count"}, "replicas='cpu_count'"),
        ({"threads": 1.5}, "threads=1.5"),
        ({"replicas": 1, "workers": 2}, "replicas= and workers= mean the same"),
        ({"strict": "no"}, "strict='no' must be True or False"),
        ({"resources": "4Gi"}, "resources='4Gi' must be a dict with some of: cpu, gpu, memory"),
        ({"resources": {"ram": 1}}, "resources has no 'ram'; it has: cpu, gpu, memory"),
        ({"resources": {"cpu": "two"}}, "resources cpu='two' must be a number"),
        ({"resources": {"cpu": 0}}, "resources cpu=0"),
        ({"resources": {"gpu": -1}}, "resources gpu=-1 must be a whole number, 0 or more"),
        ({"resources": {"gpu": 0.5}}, "resources gpu=0.5"),
        ({"resources": {"gpu": math.inf}}, "resources gpu=inf"),
        ({"resources": {"memory": "lots"}}, "'lots' is not an amount of memory"),
        ({"traffic": {"timeout": 0}}, "traffic timeout=0"),
        ({"traffic": {"timeout": math.nan}}, "traffic timeout=nan"),
        ({"traffic": {"timeout": math.inf}}, "traffic timeout=inf"),
        ({"traffic": {"timeout": True}}, "traffic timeout=True"),
        ({"traffic": {"max_concurrency": 0}}, "traffic max_concurrency=0"),
        ({"traffic": {"max_queue": 1.5}}, "traffic max_queue=1.5"),
        ({"traffic": {"interrupt_after": -1}}, "traffic interrupt_after=-1"),
        ({"traffic": {"replace_after": math.nan}}, "traffic replace_after=nan"),
        ({"envs": ["A=1"]}, "envs must be a dict of environment variables, not a list"),
        ({"envs": {"A=B": "1"}}, "'A=B' is not the name"),
        ({"envs": {"": "1"}}, "'' is not the name"),
        ({"envs": {"A": None}}, "envs: the value of A is not text"),
        ({"envs": {"A": "x\0y"}}, "is not text"),
        ({"http": {"port": 70000}}, "http port=70000 must be at most 65535"),
        ({"http": {"port": "x"}}, "http port='x'"),
        ({"http": {"host": 5}}, "http host=5"),
        ({"http": {"cors": True}}, "http cors=True must be an origin"),
        ({"http": {"cors": [5]}}, "http cors=[5]"),
        ({"http": {"cors": {"origins": "*"}}}, "http cors has no 'origins'"),
        ({"http": {"max_body": 0}}, "http max_body: 0 is not an amount of memory"),
        ({"http": {"max_values": 0}}, "http max_values=0 must be a whole number, 1 or more"),
        ({"http": {"max_values": "many"}}, "http max_values='many' must be a whole number, 1 or more"),
    ],
)
def test_mistakes(given: dict[str, Any], message: str) -> None:
    (found,) = mistakes(**given)
    assert found.startswith("app.py:12: ")
    assert message in found


def test_all_mistakes_at_once_in_the_order_of_the_options() -> None:
    found = mistakes(zzz=1, aaa=2, replicas=0, resources={"cpu": "x", "memory": "y"}, traffic={"timeout": -1})
    beginnings = ("@service", "@service", "replicas=0", "resources cpu=", "resources memory:", "traffic timeout=")
    assert len(found) == len(beginnings)
    for mistake, beginning in zip(found, beginnings, strict=True):
        assert mistake.startswith(f"app.py:12: {beginning}")
    assert "'zzz'" in found[0]
    assert "'aaa'" in found[1]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"image": object()}, "@service(image=...)"),
        ({"labels": {"a": "b"}}, "@service(labels=...)"),
        ({"traffic": {"external_queue": True}}, "traffic={'external_queue': ...}"),
        ({"traffic": {"concurrency": 32}}, "traffic={'concurrency': ...}"),
        ({"resources": {"gpu": 1, "gpu_type": "nvidia-l4"}}, "resources={'gpu_type': ...}"),
        (
            {"http": {"cors": {"enabled": True, "access_control_max_age": 5}}},
            "http cors={'access_control_max_age': ...}",
        ),
    ],
)
def test_options_for_a_cloud_are_said_to_do_nothing_where_they_were_written(given: dict[str, Any], named: str) -> None:
    with pytest.warns(IgnoredOptionWarning) as caught:
        read(**given)
    (warning,) = caught
    assert str(warning.message) == f"{named} has no effect here: it is for BentoML's cloud"
    assert (warning.filename, warning.lineno) == ("app.py", 12)


def test_batching() -> None:
    assert batch() is None
    assert batch(batchable=False, max_batch_size=5) is None
    assert batch(batchable=True) == BatchPolicy((0, 0), 100, None)
    assert batch(batchable=True, batch_dim=1, max_batch_size=8, max_latency_ms=5) == BatchPolicy((1, 1), 8, 5)
    assert batch(batchable=True, batch_dim=(0, 1)) == BatchPolicy((0, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batchabel": True}, "f: @api has no option 'batchabel'; it has: name, route, batchable"),
        ({"name": 5}, "f: name=5 is not text"),
        ({"route": 5}, "f: route=5 is not text"),
        ({"batchable": "yes"}, "batchable='yes' must be True or False"),
        ({"batchable": True, "batch_dim": (0, 1, 2)}, "batch_dim=(0, 1, 2)"),
        ({"batchable": True, "batch_dim": True}, "batch_dim=True"),
        ({"batchable": True, "batch_dim": -1}, "batch_dim=-1"),
        ({"batchable": True, "max_batch_size": 0}, "max_batch_size=0 must be a whole number from 1"),
        ({"batchable": True, "max_latency_ms": -1}, "max_latency_ms=-1 must be a number of milliseconds"),
        ({"batchable": True, "max_latency_ms": math.nan}, "max_latency_ms=nan"),
        ({"batchable": True, "max_latency_ms": True}, "max_latency_ms=True"),
        ({"batchable": True, "max_latency_ms": "5"}, "max_latency_ms='5'"),
    ],
)
def test_mistakes_in_an_api_s_options(given: dict[str, Any], message: str) -> None:
    (found,) = api_mistakes(**given)
    assert found.startswith("app.py:12: ")
    assert message in found
