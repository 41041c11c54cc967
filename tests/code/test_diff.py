"""Two versions of a service as plain data, and what has to be done to get from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nbcompose._code.diff import (
    DependencyCall,
    Fingerprint,
    Part,
    Plan,
    compare,
    differing,
    incompatible_calls,
    reached_from,
)
from nbcompose._service.decorators import api
from nbcompose._service.introspect import declare
from nbcompose._spec import DependencySpec, Http, Location, Resources, ServiceSpec, Traffic


class Answer:
    @api
    def ask(self) -> None: ...

    @api
    def more(self) -> None: ...


SPEC = declare(Answer, {})
PARTS = {
    "Answer": Part("class", "1"),
    "Answer.__init__": Part("method", "1", frozenset({"load"})),
    "Answer.ask": Part("method", "1", frozenset({"helper", "Item"})),
    "Answer.size": Part("attribute", "1"),
    "load": Part("function", "1", frozenset({"PATH", "Weights"})),
    "helper": Part("function", "1", frozenset({"LIMIT", "load"})),
    "PATH": Part("value", "1"),
    "LIMIT": Part("value", "1"),
    "math": Part("module", "math"),
    "Item": Part("type", "1", identity="1"),
    "Weights": Part("type", "1", identity="1"),
}
ROOTS = frozenset({"Answer.__init__"})


def fingerprint(roots: frozenset[str] = ROOTS, rigid: str = "", **parts: Part | None) -> Fingerprint:
    named = {name.replace("__dot__", "."): part for name, part in parts.items()}
    found = {name: part for name, part in {**PARTS, **named}.items() if part is not None}
    return Fingerprint(found, roots, rigid)


def planned(new: Fingerprint, spec: ServiceSpec = SPEC, old: Fingerprint | None = None) -> Plan:
    return compare((SPEC, old or fingerprint()), (spec, new))


def edited(name: str, **fields: Any) -> Fingerprint:
    return Fingerprint({**PARTS, name: replace(PARTS[name], **{"digest": "2", **fields})}, ROOTS)


@pytest.mark.parametrize(
    ("name", "action", "reason"),
    [
        ("Answer.ask", "swap", "Answer.ask changed"),
        ("Answer.__init__", "replace", "Answer.__init__ changed"),
        ("Answer.size", "replace", "class attribute Answer.size changed"),
        ("Answer", "replace", "the bases of Answer changed"),
        ("helper", "swap", "helper changed"),
        ("load", "replace", "load changed, which Answer.__init__ uses"),
        ("PATH", "replace", "PATH changed, which Answer.__init__ uses"),
        ("LIMIT", "swap", "LIMIT changed"),
        ("math", "swap", "module math changed"),
        ("Item", "swap", "class Item changed"),
        ("Weights", "replace", "class Weights changed, which Answer.__init__ uses"),
    ],
)
def test_a_part_that_changed(name: str, action: str, reason: str) -> None:
    plan = planned(edited(name))
    assert (plan.action, plan.reasons, plan.changed) == (action, (reason,), frozenset({name}))


def test_nothing_changed() -> None:
    assert planned(fingerprint()) == Plan("nothing")
    assert planned(fingerprint(rigid="it has slots"), replace(SPEC, location=Location("elsewhere", 7))) == Plan(
        "nothing"
    )
    assert planned(fingerprint(), replace(SPEC, apis=SPEC.apis[::-1])) == Plan("nothing")


def test_parts_that_come_and_go() -> None:
    new = fingerprint(extra=Part("method", "1"))
    assert planned(new).reasons == ("extra is new",)
    assert compare((SPEC, new), (SPEC, fingerprint())).reasons == ("extra is gone",)
    assert planned(fingerprint(LIMIT=Part("function", "1"))).reasons == ("LIMIT changed",)


def test_what_only_the_version_before_reached_counts() -> None:
    """Its instance was made by it."""
    new = Fingerprint({**PARTS, "Answer.__init__": Part("method", "1"), "PATH": Part("value", "2")}, ROOTS)
    assert planned(new).reasons == ("PATH changed, which Answer.__init__ uses",)
    assert compare((SPEC, new), (SPEC, fingerprint())).action == "replace"


def test_a_root_that_is_new() -> None:
    roots = ROOTS | {"Answer.ask"}
    assert planned(fingerprint(roots, helper=Part("function", "2"))).action == "replace"
    assert planned(fingerprint(), old=fingerprint(roots)) == Plan("nothing")


def test_instances_that_cannot_be_given_new_code() -> None:
    rigid = replace(edited("Answer.ask"), rigid="Answer has __slots__")
    assert planned(rigid) == Plan("replace", ("Answer has __slots__",), frozenset({"Answer.ask"}))
    assert planned(edited("Answer.ask"), old=fingerprint(rigid="it had")).reasons == ("it had",)


def test_classes_made_anew() -> None:
    anew: dict[str, Any] = {"Item": replace(PARTS["Item"], identity="2")}
    assert planned(fingerprint(**anew)) == Plan("nothing")
    ask: dict[str, Any] = {"Answer.ask": replace(PARTS["Answer.ask"], digest="2")}
    plan = planned(fingerprint(**anew, **ask))
    assert plan == Plan("swap", ("Answer.ask changed",), frozenset({"Answer.ask", "Item"}), plan.affected)
    plan = planned(fingerprint(Weights=replace(PARTS["Weights"], identity="2"), **ask))
    assert (plan.action, plan.reasons) == ("replace", ("Weights was defined anew, and Answer.__init__ uses it",))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "Other"),
        ("device", "cpu"),
        ("replicas", 2),
        ("threads", 2),
        ("resources", Resources(cpu=2)),
        ("traffic", Traffic(timeout=1)),
        ("envs", {"A": "1"}),
        ("http", Http(port=1)),
        ("strict", True),
    ],
)
def test_options(option: str, value: Any) -> None:
    assert planned(fingerprint(), replace(SPEC, **{option: value})).reasons == (f"{option} changed",)


def test_what_the_parts_do_not_explain() -> None:
    """An api that comes from an imported class, say."""
    ask, more = SPEC.apis
    plan = planned(fingerprint(), replace(SPEC, apis=(replace(ask, doc="new"), more)))
    assert (plan.action, plan.reasons) == ("replace", ("api ask changed",))
    assert planned(fingerprint(), replace(SPEC, apis=(ask,))).reasons == ("api more changed",)
    assert planned(edited("Answer.ask"), replace(SPEC, apis=(replace(ask, doc="new"), more))).action == "swap"
    assert planned(fingerprint(), replace(SPEC, on_startup=("a",))).reasons == ("what runs at start-up changed",)
    depending = replace(SPEC, dependencies=(DependencySpec("a", "A"),))
    assert planned(fingerprint(), depending).reasons == ("dependency a changed",)


def test_addresses_in_texts_do_not_count() -> None:
    ask, more = SPEC.apis
    one, other = (replace(SPEC, apis=(replace(ask, returns=f"<f at 0x{n}>"), more)) for n in ("7f1", "7f2"))
    assert compare((one, fingerprint()), (other, fingerprint())) == Plan("nothing")


def test_the_first_reasons_are_said() -> None:
    assert Plan("swap").because == ""
    assert Plan("swap", ("a", "b", "c")).because == "a, b, c"
    assert Plan("swap", ("a", "b", "c", "d", "e")).because == "a, b, c, 2 more"


def test_what_differs() -> None:
    assert differing(fingerprint(), fingerprint()) == frozenset()
    assert differing(fingerprint(), fingerprint(LIMIT=None)) == {"LIMIT"}


def test_what_is_reached_may_go_in_circles() -> None:
    parts = {"a": Part("function", "", frozenset({"b", "gone"})), "b": Part("function", "", frozenset({"a"}))}
    assert reached_from(frozenset({"a"}), parts) == {"a": "a", "b": "a"}


# -- calls


def signature(function: Callable[..., Any]) -> ServiceSpec:
    return declare(type("Callee", (), {"f": api(function)}), {})


def call(positional: int = 0, *keywords: str, open: bool = False) -> DependencyCall:
    return DependencyCall("A.b", "w", "f", positional, keywords, open, Location())


def a_b(self: Any, a: int, b: int = 1) -> None: ...
def a_only(self: Any, a: int, /) -> None: ...
def key(self: Any, *, a: int, b: int = 1) -> None: ...
def stars(self: Any, a: int, *rest: int, k: int, **more: int) -> None: ...
def star(self: Any, *rest: int, k: int = 1) -> None: ...
def none(self: Any) -> None: ...
def a_more(self: Any, a: int, **more: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "made", "why"),
    [
        (a_b, call(1), ""),
        (a_b, call(2), ""),
        (a_b, call(0, "a"), ""),
        (a_b, call(0, "b", "a"), ""),
        (a_b, call(1, "b"), ""),
        (a_b, call(), "it does not give a to f(a: int, b: int = 1)"),
        (a_b, call(0, "b"), "it does not give a to"),
        (a_b, call(3), "it gives 3 positional arguments to"),
        (a_b, call(1, "a"), "it gives a twice to"),
        (a_b, call(1, "c"), "it gives c, which f(a: int, b: int = 1) -> None does not declare"),
        (a_b, call(0, open=True), ""),
        (a_b, call(5, "z", open=True), ""),
        (a_only, call(1), ""),
        (a_only, call(0, "a"), "it does not give a to"),
        (a_only, call(1, "a"), "it gives a, which"),
        (key, call(0, "a"), ""),
        (key, call(1), "it gives 1 positional arguments to"),
        (key, call(0, "b"), "it does not give a to"),
        (stars, call(5, "k"), ""),
        (stars, call(5), "it does not give k to"),
        (stars, call(0, "k"), "it does not give a to"),
        (stars, call(1, "k", "z"), ""),
        (stars, call(1, "k", "a"), "it gives a twice to"),
        (star, call(), ""),
        (star, call(9, "k"), ""),
        (star, call(0, "z"), "it gives z, which"),
        (none, call(), ""),
        (none, call(1), "it gives 1 positional arguments to"),
        (a_more, call(1, "z"), ""),
        (a_more, call(0, "z"), "it does not give a to"),
    ],
)
def test_calls_that_fit_and_that_do_not(function: Callable[..., Any], made: DependencyCall, why: str) -> None:
    found = incompatible_calls(made, signature(function))
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_an_api_that_is_gone() -> None:
    assert incompatible_calls(replace(call(), api="g"), signature(a_b)) == "Callee has no api 'g'"
