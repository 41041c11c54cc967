"""The picture: what stands in it, that it is the same every time, and that nothing lies on anything else."""

from __future__ import annotations

import base64
import itertools
from typing import Any
from xml.etree import ElementTree

import pytest

from nbcompose._control import element_id
from nbcompose._control.picture.rendering import MANY, SIGNS, data_url, size, svg
from nbcompose._control.status import ReplicaStatus, Status
from nbcompose._hub import ModelProgress
from nbcompose._replica import ApiSummary, Phase

SVG = "{http://www.w3.org/2000/svg}"


def replica(state: str = "up", phase: str = Phase.READY, progress: ModelProgress | None = None) -> ReplicaStatus:
    return ReplicaStatus(0, 4711, state, Phase(phase), progress, "cpu", "", 0, 0, None)


def status(name: str, *dependencies: str, **fields: Any) -> Status:
    given = {
        "state": "ready", "reason": "", "version": 1, "replicas": (replica(),), "wanted": 1, "url": "http://h:4712",
        "apis": (f"{name.lower()}(text: str) -> str",), **fields,
    }  # fmt: skip
    return Status(name=name, dependencies=dependencies, **given)


def groups(picture: str, kind: str) -> dict[str, ElementTree.Element]:
    found = ElementTree.fromstring(picture).iter(f"{SVG}g")
    return {g.attrib["id"]: g for g in found if kind in g.attrib.get("class", "").split()}


def words(group: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in group.iter(f"{SVG}text")]


FOUR = [
    status("Embedder"),
    status("Retriever", "Embedder"),
    status("Writer", wanted=2),
    status("Answer", "Retriever", "Writer"),
]


def layers(*counts: int) -> list[Status]:
    """Services in layers, each of which calls all of the layer before."""
    found: list[Status] = []
    below: list[str] = []
    for depth, count in enumerate(counts):
        names = [f"Service{depth}{i}" for i in range(count)]
        found += [status(name, *below) for name in names]
        below = names
    return found


def test_nodes_and_edges_have_ids_and_classes() -> None:
    picture = svg(FOUR, {"Writer"})
    assert set(groups(picture, "nbc-node")) == {"node:Embedder", "node:Retriever", "node:Writer", "node:Answer"}
    assert set(groups(picture, "nbc-edge")) == {
        "edge:Retriever:Embedder", "edge:Answer:Retriever", "edge:Answer:Writer"
    }  # fmt: skip
    assert set(groups(picture, "nbc-stream")) == {"edge:Answer:Writer"}
    assert set(groups(picture, "nbc-ready")) == set(groups(picture, "nbc-node"))


def test_a_card_says_name_state_device_and_replicas() -> None:
    cards = groups(svg([*FOUR, status("Half", wanted=3)]), "nbc-node")
    assert words(cards["node:Answer"]) == ["Answer", "ready", "cpu · 1 replica"]
    assert words(cards["node:Half"]) == ["Half", "ready", "cpu · 1 of 3 replicas"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "starting", "replicas": (replica("starting", "load"),)}, "starting: loading (__init__)"),
        (
            {
                "state": "starting",
                "replicas": (replica("starting", "download", ModelProgress("org/m", 1, 2, 30, 120)),),
            },
            "starting: models, 25%",
        ),
        ({"state": "waiting", "reason": "waiting for Embedder", "waits_for": ("Embedder",)}, "waiting for Embedder"),
        ({"state": "waiting", "reason": "waiting for A, B", "waits_for": ("A", "B")}, "waiting for A, B"),
        (
            {"state": "waiting", "reason": "waiting for A, B, C", "waits_for": ("A", "B", "C")},
            "waiting for A and 2 more",
        ),
        ({"state": "waiting", "reason": "its process was stopped"}, "its process was stopped"),
        ({"state": "failed", "replicas": ()}, "failed"),
        ({"state": "stopped", "replicas": ()}, "stopped"),
        ({"stale": ("prompt",)}, "ready, stale"),
        ({"out_of_date_reason": "SyntaxError"}, "ready, previous version"),
        ({"replacing": "new version starting"}, "ready, new version starting"),
    ],
)
def test_states_in_words(fields: dict[str, Any], expected: str) -> None:
    card = groups(svg([status("Answer", **fields)]), "nbc-node")["node:Answer"]
    assert words(card)[1] == expected
    badge = [g for g in card.iter(f"{SVG}g") if g.attrib.get("class") == "nbc-badge"]
    assert bool(badge) == ("stale" in fields or "out_of_date_reason" in fields)


def test_a_failed_service_says_what_went_wrong() -> None:
    error = "Traceback (most recent call last):\n  File ...\nValueError: no such file\n"
    card = groups(svg([status("Answer", state="failed", error=error)]), "nbc-failed")["node:Answer"]
    assert words(card) == ["Answer", "failed", "ValueError: no such file"]


def test_each_state_has_a_sign_of_its_own() -> None:
    assert len(set(SIGNS.values())) == len(SIGNS)
    assert set(SIGNS) >= {"ready", "starting", "waiting", "failed", "stopped"}


def test_what_is_not_here_is_shown_too() -> None:
    url = "https://me:secret@models.example.org:8443/rank"
    picture = svg([status("Answer", "Critic", url)])
    assert words(groups(picture, "nbc-missing")["node:Critic"]) == ["Critic", "does not run"]
    elsewhere = groups(picture, "nbc-elsewhere")[element_id("node", url)]
    assert words(elsewhere) == ["models.exa…:8443/rank", "elsewhere", "https"]
    assert "secret" not in picture


def test_it_is_the_same_every_time_and_holds_no_number_that_changes() -> None:
    later = [status(s.name, *s.dependencies, wanted=s.wanted, counts={"f": ApiSummary(96, 3)}, version=7, restarts=5)
             for s in FOUR]  # fmt: skip
    assert svg(FOUR) == svg(later)
    for number in ("4711", "4712"):
        assert number not in svg(FOUR)


def test_names_that_mean_something_elsewhere() -> None:
    odd = [status("a.b-c_d", reason="<b>&\"'"), status("node", "a.b-c_d", apis=("f(x: 'list[<str>]')",))]
    cards = groups(svg(odd), "nbc-node")
    assert set(cards) == {"node:a.b-c_d", "node:node"}
    title = cards["node:node"].find(f"{SVG}title")
    assert title is not None
    assert title.text == "node: ready\nf(x: 'list[<str>]')"


def test_ids_differ_where_names_do() -> None:
    names = ["a", "a:b", "b", "a~b", "a~3ab", "http://a/b", "http:/a/b", "ä", "a b"]
    ids = [element_id("edge", x, y) for x, y in itertools.product(names, names)]
    assert len(set(ids)) == len(ids)
    assert all(set(i) <= set("abcdefghijklmnopqrstuvwxyz0123456789~:._-") for i in ids)


def test_numbers_have_a_line_of_their_own() -> None:
    plain, live = svg(FOUR), svg(FOUR, numbers=[s.name for s in FOUR])
    assert size(live)[1] > size(plain)[1]
    answer = groups(live, "nbc-node")["node:Answer"]
    assert [text.attrib["class"] for text in answer.iter(f"{SVG}text")][-1] == "nbc-numbers"


def test_long_names_are_cut() -> None:
    card = groups(svg([status("A" * 80)]), "nbc-node")["node:" + "A" * 80]
    assert words(card)[0].startswith("AAA")
    assert words(card)[0].endswith("…AAAAAAAAA")
    assert size(svg([status("A" * 80)]))[0] < 400


def test_long_names_that_differ_at_one_end_differ_in_the_picture() -> None:
    names = [f"ReciprocalRankFusionRetrieverFor{what}" for what in ("Documents", "Pictures")]
    first, second = (words(card)[0] for card in groups(svg([status(name) for name in names]), "nbc-node").values())
    assert first.startswith("Reciprocal")
    assert first.endswith("Documents")
    assert second.endswith("Pictures")


def test_nothing_moves_when_states_change() -> None:
    error = "Traceback\nValueError: " + "x" * 200
    changed = [status(s.name, *s.dependencies, state="failed", error=error, wanted=12) for s in FOUR]
    places = [{i: g.attrib["transform"] for i, g in groups(svg(each), "nbc-node").items()} for each in (FOUR, changed)]
    assert places[0] == places[1]
    assert size(svg(FOUR)) == size(svg(changed))


def test_many_services_have_small_cards_without_details() -> None:
    few, many = layers(MANY), layers(MANY + 1)
    assert words(groups(svg(few), "nbc-node")["node:Service00"]) == ["Service00", "ready", "cpu · 1 replica"]
    card = groups(svg(many, numbers=[s.name for s in many]), "nbc-node")["node:Service00"]
    assert words(card) == ["Service00", "ready"]


def test_what_is_folded_is_said_on_a_knob() -> None:
    picture = svg(FOUR, folded=["Retriever"])
    assert set(groups(picture, "nbc-node")) == {"node:Retriever", "node:Writer", "node:Answer"}
    assert set(groups(picture, "nbc-edge")) == {"edge:Answer:Retriever", "edge:Answer:Writer"}
    knobs = {
        g.attrib["data-fold"]: words(g)
        for g in ElementTree.fromstring(picture).iter(f"{SVG}g")
        if "data-fold" in g.attrib
    }
    assert knobs == {"Retriever": ["+1"], "Answer": ["−"]}
    assert "data-fold" not in svg(FOUR)  # where nobody can fold


def test_alone_it_follows_what_the_reader_prefers() -> None:
    picture = svg(FOUR)
    assert "prefers-color-scheme" not in picture  # in a page, the page's theme decides
    head, _, coded = data_url(picture).partition(",")
    alone = base64.b64decode(coded).decode()
    assert head == "data:image/svg+xml;base64"
    assert "prefers-color-scheme:dark" in alone
    assert groups(alone, "nbc-node").keys() == groups(picture, "nbc-node").keys()
    for loads in ("http://h", "@import", "url(", "<script"):
        assert loads not in alone
