"""The graph in words: what nbval compares, and what a screen reader reads."""

from __future__ import annotations

import textwrap
from typing import Any

from nbcompose._control.picture.rendering import EMPTY, EXAMPLE, table_html, tree
from nbcompose._control.status import ReplicaStatus, Status
from nbcompose._replica import ApiSummary, Phase


def status(name: str, *dependencies: str, **fields: Any) -> Status:
    up = ReplicaStatus(0, 4711, "up", Phase.READY, None, "cpu", "", 0, 0, None)
    given = {
        "state": "ready", "reason": "", "version": 1, "replicas": (up,), "wanted": 1, "url": "http://h:4712",
        "apis": ("f()",), **fields,
    }  # fmt: skip
    return Status(name=name, dependencies=dependencies, **given)


def test_callers_stand_above_what_they_call() -> None:
    found = tree(
        [
            status("Embedder"),
            status("Retriever", "Embedder"),
            status("Writer"),
            status("Answer", "Retriever", "Writer"),
            status("Other"),
        ],
        {"Writer"},
    )
    assert found == textwrap.dedent("""\
        Other           ready, cpu, 1 replica
        Answer          ready, cpu, 1 replica
        ├─ Retriever    ready, cpu, 1 replica
        │  └─ Embedder  ready, cpu, 1 replica
        └─ Writer       ready, cpu, 1 replica (streams)""")


def test_what_two_call_is_told_of_once() -> None:
    found = tree([status("D"), status("C", "D"), status("A", "C"), status("B", "C", "D")])
    assert found == textwrap.dedent("""\
        B        ready, cpu, 1 replica
        ├─ C     ready, cpu, 1 replica
        │  └─ D  ready, cpu, 1 replica
        └─ D     ready, cpu, 1 replica
        A        ready, cpu, 1 replica
        └─ C     see above""")


def test_who_reads_what_was_passed_on_is_shown_with_it() -> None:
    services = [status("Writer"), status("Refiner", reads=("Writer", "Gone")), status("Pipeline", "Writer", "Refiner")]
    assert tree(services) == textwrap.dedent("""\
        Pipeline      ready, cpu, 1 replica
        ├─ Writer     ready, cpu, 1 replica
        └─ Refiner    ready, cpu, 1 replica
           └─ Writer  streams of it, which were passed on""")
    assert "<td>Writer (streams passed on)</td>" in table_html(services)
    alone = [status("Writer"), status("Refiner", reads=("Writer",))]
    assert [line.split()[0] for line in tree(alone).splitlines()] == ["Refiner", "└─", "Writer"]


def test_states_and_what_is_not_here() -> None:
    found = tree(
        [
            status("S", state="starting", replicas=()),
            status("F", state="failed", replicas=(), error="Traceback\n  line\nValueError: x = 1"),
            status(
                "Top",
                "S",
                "F",
                "Critic",
                "http://h:8000/x",
                state="waiting",
                reason="waiting for S, F, Critic",
                waits_for=("S", "F", "Critic"),
            ),
        ]
    )
    assert found == textwrap.dedent("""\
        Top          waiting for S and 2 more, cpu, 1 replica
        ├─ S         starting
        ├─ F         failed, ValueError: x = 1
        ├─ Critic    does not run
        └─ h:8000/x  elsewhere""")


def test_no_number_that_changes() -> None:
    before = [status("A"), status("B", "A")]
    after = [status("A", counts={"f": ApiSummary(2, 1)}), status("B", "A", version=9, restarts=2)]
    assert tree(before) == tree(after)
    assert table_html(before) == table_html(after)


def test_the_table_has_a_row_for_each() -> None:
    found = table_html([status("A"), status("B<", "A")], {"A"})
    assert found.count('<th scope="row">') == 2
    assert '<tr><th scope="row">A</th><td>ready</td><td>cpu · 1 replica</td><td>-</td><td>B&lt;</td></tr>' in found
    assert "<td>A (streams)</td>" in found


def test_the_table_says_all_of_a_state() -> None:
    found = table_html([status("A", stale=("f",)), status("B", "A", state="waiting", reason="waiting for A, C")])
    assert "<td>ready, stale</td>" in found
    assert "<td>waiting for A, C</td>" in found


def test_an_empty_notebook_says_what_to_do() -> None:
    assert tree([]) == f"{EMPTY}\n\n{EXAMPLE}"
    assert "%%service" in EMPTY
