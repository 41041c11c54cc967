"""The options of a %%service cell in a class's decorator."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbcompose
from nbcompose._export.naming import ScriptNames
from nbcompose._export.service_options import decorated, written
from nbcompose._service import override
from nbcompose.errors import ExportRefused
from tests.export.slices import statements_of

IMPORTS = "import nbcompose as bentoml\nfrom nbcompose import api, service\n"

BODY = """\
class Answer:
    @api
    def ask(self) -> int:
        return 42"""


def with_options(above: str, options: Mapping[str, Any] | None, body: str = BODY) -> str:
    """What is above the class then."""
    text = result(f"{above}\n{body}" if above else body, options)
    assert text.endswith(body)
    return text.removesuffix(body).removesuffix("\n")


def result(text: str, options: Mapping[str, Any] | None) -> str:
    [statement] = statements_of(text, "cell 2", {"Answer": options})
    return decorated(statement, ["Answer"], ScriptNames(ast.parse(IMPORTS).body, {"RES", "OPTIONS", "ENVS", "other"}))


# -- classes without a decorator


@pytest.mark.parametrize(
    ("options", "decorator"),
    [
        (None, ""),
        ({}, "@service"),
        ({"device": "cuda:1"}, "@service(device='cuda:1')"),
        ({"replicas": 2, "threads": 4}, "@service(replicas=2, threads=4)"),
        (
            {"traffic": {"timeout": 120.0, "max_concurrency": 8}},
            "@service(traffic={'timeout': 120, 'max_concurrency': 8})",
        ),
        ({"traffic": {"timeout": 0.5}}, "@service(traffic={'timeout': 0.5})"),
        ({"resources": {"memory": "4GiB"}, "strict": True}, "@service(resources={'memory': '4GiB'}, strict=True)"),
        ({"envs": {"A": "it's", "B": ""}}, """@service(envs={'A': "it's", 'B': ''})"""),
        ({"name": "my-answer", "http": {"port": 3000}}, "@service(name='my-answer', http={'port': 3000})"),
    ],
)
def test_a_plain_class(options: Mapping[str, Any] | None, decorator: str) -> None:
    assert with_options("", options) == decorator


def test_comments_and_other_decorators_stay_below() -> None:
    assert with_options("# Asked by all.\n@other\n# really", {}) == "# Asked by all.\n@service\n@other\n# really"


def test_a_class_in_a_condition() -> None:
    text = "if True:\n    # one\n    class Answer: ...\nelse:\n    class Answer: ..."
    assert result(text, {"threads": 2}) == (
        "if True:\n    # one\n    @service(threads=2)\n    class Answer: ...\n"
        "else:\n    @service(threads=2)\n    class Answer: ..."
    )


def test_classes_that_are_no_services_stay_as_they_are() -> None:
    text = "if True:\n    class Helper: ...\n    class Answer: ..."
    assert result(text, {}) == "if True:\n    class Helper: ...\n    @service\n    class Answer: ..."


# -- classes with one


@pytest.mark.parametrize(
    ("own", "options", "merged"),
    [
        # What is not overridden stays as it is written.
        ("@service( threads=2 )", {}, "@service( threads=2 )"),
        ("@service", {"threads": 2}, "@service(threads=2)"),
        ("@bentoml.service()", {"threads": 2}, "@bentoml.service(threads=2)"),
        ("@bentoml.service( )", {"threads": 2}, "@bentoml.service( threads=2)"),
        ("@service(threads=2)", {"device": "cpu"}, "@service(threads=2, device='cpu')"),
        ("@service(\n    threads=2,  # two\n)", {"device": "cpu"}, "@service(\n    threads=2, device='cpu',  # two\n)"),
        ("@service(threads = 1, name='é')", {"threads": 4}, "@service(threads=4, name='é')"),
        ("@service(name='é', threads=1)", {"threads": 4, "strict": True}, "@service(name='é', threads=4, strict=True)"),
        # Two words for one thing.
        ("@service(workers='cpu_count')", {"replicas": 3}, "@service(replicas=3)"),
        # Dicts are merged by key.
        (
            '@service(resources={"gpu": 1, "memory": "4Gi"})',
            {"resources": {"memory": "8GiB"}},
            "@service(resources={\"gpu\": 1, 'memory': '8GiB'})",
        ),
        ("@service(traffic={})", {"traffic": {"timeout": 20.0}}, "@service(traffic={'timeout': 20})"),
        ("@service(traffic=None)", {"traffic": {"timeout": 20.0}}, "@service(traffic={'timeout': 20})"),
        (
            "@service(resources=RES)",
            {"resources": {"memory": "1GiB"}},
            "@service(resources={**RES, 'memory': '1GiB'})",
        ),
        (
            "@service(resources={**RES, 'gpu': 1})",
            {"resources": {"memory": "1GiB"}},
            "@service(resources={**RES, 'gpu': 1, 'memory': '1GiB'})",
        ),
        (
            "@service(resources=RES or {})",
            {"resources": {"memory": "1GiB"}},
            "@service(resources={**(RES or {}), 'memory': '1GiB'})",
        ),
        ("@service(envs={'A': '1'})", {"envs": {"A": "2", "B": "3"}}, "@service(envs={'A': '2', 'B': '3'})"),
        (
            "@service(envs=[{'name': 'A', 'value': '1'}, {'name': 'HOME'}])",
            {"envs": {"B": "2"}},
            "@service(envs={'A': '1', 'B': '2'})",
        ),
        ("@other\n@service(threads=2)\n@other", {"threads": 3}, "@other\n@service(threads=3)\n@other"),
    ],
)
def test_a_decorated_class(own: str, options: Mapping[str, Any], merged: str) -> None:
    assert with_options(own, options) == merged


_OPTIONS = {
    "name": st.sampled_from(["a", "b-c"]),
    "device": st.sampled_from(["cpu", "cuda:1"]),
    "threads": st.integers(1, 9),
    "replicas": st.integers(1, 9),
    "strict": st.just(True),
    "envs": st.dictionaries(st.sampled_from("AB"), st.sampled_from(["1", "it's", "", "é\n"]), min_size=1),
    "resources": st.fixed_dictionaries({}, optional={"memory": st.just("4GiB"), "gpu": st.integers(0, 2)}),
    "traffic": st.fixed_dictionaries({}, optional={"timeout": st.sampled_from([0.5, 120.0]), "max_queue": st.just(3)}),
    "http": st.fixed_dictionaries({}, optional={"port": st.just(3000), "cors": st.just("https://example.org")}),
}
_MAGIC = _OPTIONS | {
    "resources": st.just({"memory": "8GiB"}),
    "traffic": st.dictionaries(st.sampled_from(["timeout", "max_concurrency"]), st.integers(1, 9), min_size=1),
    "http": st.just({"port": 3001}),
}


@given(own=st.fixed_dictionaries({}, optional=_OPTIONS), options=st.fixed_dictionaries({}, optional=_MAGIC))
def test_merged_options_mean_what_they_mean_in_the_notebook(own: dict[str, Any], options: dict[str, Any]) -> None:
    check_meaning(own, options)


@pytest.mark.parametrize(
    ("own", "options"),
    [
        ({"workers": 2, "traffic": {"timeout": 5, "max_queue": 3}}, {"replicas": 3, "traffic": {"timeout": 20.0}}),
        ({"envs": [{"name": "A", "value": "1"}], "http": {"cors": "*"}}, {"envs": {"B": "2"}, "http": {"port": 3000}}),
    ],
)
def test_so_do_other_forms_of_them(own: dict[str, Any], options: dict[str, Any]) -> None:
    check_meaning(own, options)


def check_meaning(own: dict[str, Any], options: dict[str, Any]) -> None:
    text = result(f"@service({', '.join(f'{k}={v!r}' for k, v in own.items())})\n{BODY}", options)
    names: dict[str, Any] = {"service": nbcompose.service, "api": nbcompose.api, "__name__": "app"}
    exec(text, names)
    merged = names["Answer"].spec
    exec(BODY, names)
    assert merged == override(nbcompose.service(**own)(names["Answer"]).spec, options)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ("@service(**OPTIONS)", "@service(**OPTIONS) does not say which options it has"),
        ("@service(envs=ENVS)", "envs=ENVS of Answer cannot be told from its text"),
    ],
)
def test_what_cannot_be_merged_is_refused(own: str, reason: str) -> None:
    with pytest.raises(ExportRefused) as refused:
        with_options(own, {"envs": {"A": "1"}})
    assert str(refused.value) == (
        f"the services cannot be exported:\n  cell 2, line 1: {reason}: write it out, or move the options of %%service "
        "to where it is made"
    )


@pytest.mark.parametrize("own", ["@service(**OPTIONS)", "@service(envs=ENVS)"])
def test_what_need_not_be_merged_is_not(own: str) -> None:
    assert with_options(own, {}) == own


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "2"), (0.25, "0.25"), (True, "True"), ("a\n", r"'a\n'"), ({"a": {"b": 1.0}}, "{'a': {'b': 1}}")],
)
def test_values_are_written_as_people_do(value: Any, text: str) -> None:
    assert written(value) == text
