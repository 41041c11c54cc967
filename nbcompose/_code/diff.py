"""Compares two versions of a service: nothing to do, hot swap, or new replicas. Pure.

A hot swap gives the running instance, with the weights that it has loaded, new methods. It is correct only if the new
code would have made the same instance, so a change that cannot be shown to affect methods alone replaces the replicas.
`_code/fingerprint.py` makes the parts that are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nbcompose._code.undefined import Undefined
from nbcompose._spec import ApiSpec, Location, ServiceSpec

Kind = Literal["method", "attribute", "class", "function", "value", "type", "module"]
Action = Literal["nothing", "swap", "replace"]
Use = Literal["awaited", "async for", "for", "value", "handed on"]

# Fields of a spec that say how a service is run. The others follow from its code.
OPTIONS = ("name", "device", "replicas", "threads", "resources", "traffic", "envs", "http", "strict", "openai")

_NOUNS: dict[Kind, str] = {
    "attribute": "class attribute ", "class": "the bases of ", "type": "class ", "module": "module ",
    "method": "", "function": "", "value": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a service consists of, or uses: a method, an attribute, a helper, a value of the notebook.

    `digest` is equal for what means the same. `uses` are the names of parts that its code may reach. `identity` tells
    apart two classes that were made by the same code, since an instance of one is none of the other.
    """

    kind: Kind
    digest: str
    uses: frozenset[str] = frozenset()
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a service's class means, part by part, under names that people know: "Answer.ask", "helper", "LIMIT".

    `roots`: the parts that make an instance what it is (`__init__`, start-up hooks). `rigid`: why its instances cannot
    be given new code, in words; "" where they can. `stores`: globals that its code sets while it runs. `calls`: calls
    of dependencies that stand in its code. `undefined`: names that its code uses and nothing defines. `large`: values
    that are too large to be compared by content without need, and their digests.
    """

    parts: Mapping[str, Part]
    roots: frozenset[str] = frozenset()
    rigid: str = ""
    stores: frozenset[str] = frozenset()
    calls: tuple[DependencyCall, ...] = ()
    undefined: tuple[Undefined, ...] = field(default=(), compare=False)
    large: Mapping[int, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DependencyCall:
    """`self.<attribute>.<api>(...)` in a service's code.

    `open`: it has `*args` or `**kwargs`, so it may fit anything. `form` is "to_async", "to_sync" or "". `use`: what the
    code does with what the call gives; `is_async`: it is async code, `on_loop`: for sure that of an event loop.
    """

    caller: str
    attribute: str
    api: str
    positional: int
    keywords: tuple[str, ...]
    open: bool
    where: Location
    form: str = ""
    use: Use = "handed on"
    is_async: bool = False
    on_loop: bool = False

    @property
    def where_called(self) -> str:
        return f"{self.caller} calls self.{self.attribute}.{self.api} ({self.where})"


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done, and why. `changed`: the names of the parts that differ, or are of classes made anew;
    `affected`: those whose code may reach one of these, or a global that the service sets.
    """

    action: Action
    reasons: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()
    affected: frozenset[str] = frozenset()

    @property
    def because(self) -> str:
        """The reasons, for a card; the first few of many."""
        shown = list(self.reasons[:3])
        if len(self.reasons) > len(shown):
            shown.append(f"{len(self.reasons) - len(shown)} more")
        return ", ".join(shown)


def compare(old: tuple[ServiceSpec, Fingerprint], new: tuple[ServiceSpec, Fingerprint]) -> Plan:
    """How to get from one version of a service to another. `old` is the one that serves."""
    (before, was), (after, now) = old, new
    changed = differing(was, now)
    reached = {**reached_from(was.roots, was.parts), **reached_from(now.roots, now.parts)}
    replacing = [f"{name} changed" for name in OPTIONS if getattr(before, name) != getattr(after, name)]
    replacing += [_reason(name, was, now, reached) for name in sorted(changed) if _is_rooted(name, was, now, reached)]
    replacing += _unexplained(before, after, changed)
    if replacing:
        return Plan("replace", tuple(replacing), changed)
    if not changed:
        return Plan("nothing")
    if rigid := now.rigid or was.rigid:
        return Plan("replace", (rigid,), changed)
    made_anew = _made_anew(was, now)
    if anew := sorted(made_anew & reached.keys()):
        return Plan("replace", tuple(f"{name} was defined anew, and {reached[name]} uses it" for name in anew), changed)
    said, differs = tuple(_said(name, was, now) for name in sorted(changed)), changed | made_anew
    return Plan("swap", said, differs, _users(differs | now.stores, now.parts))


def differing(old: Fingerprint, new: Fingerprint) -> frozenset[str]:
    """The names of the parts that are not the same in both."""
    names = old.parts.keys() | new.parts.keys()
    return frozenset(n for n in names if _digest(old, n) != _digest(new, n))


def incompatible_calls(call: DependencyCall, spec: ServiceSpec) -> str:
    """Why a dependent's call does not fit this version of the service, in words; "" where it does."""
    api = spec.api(call.api)
    if api is None:
        return f"{spec.name} has no api {call.api!r}"
    return ("" if call.open else _unfit(call, api)) or _misused(call, spec.name, api)


def _unfit(call: DependencyCall, api: ApiSpec) -> str:
    """What is wrong with the arguments."""
    ordered = [p for p in api.params if p.kind in ("positional_only", "positional_or_keyword")]
    given = {p.name for p in ordered[: call.positional]}
    by_name = {p.name for p in api.params if p.kind in ("positional_or_keyword", "keyword_only")} & set(call.keywords)
    if call.positional > len(ordered) and not any(p.kind == "var_positional" for p in api.params):
        return f"it gives {call.positional} positional arguments to {api.signature}"
    if missing := [p.name for p in api.params if p.required and p.name not in given | by_name]:
        return f"it does not give {', '.join(missing)} to {api.signature}"
    if twice := sorted(given & by_name):
        return f"it gives {', '.join(twice)} twice to {api.signature}"
    unknown = sorted(set(call.keywords) - by_name)
    if unknown and not any(p.kind == "var_keyword" for p in api.params):
        return f"it gives {', '.join(unknown)}, which {api.signature} does not declare"
    return ""


def _misused(call: DependencyCall, service: str, api: ApiSpec) -> str:
    """What is wrong with how the answer is taken: dependencies are called as they are declared (_rpc/proxy.py)."""
    holder, label = f"self.{call.attribute}", f"{service}.{api.name}"
    to_async, to_sync = f"{holder}.to_async.{api.name}(...)", f"{holder}.to_sync.{api.name}(...)"
    as_called = f"{holder}.{call.form}.{api.name}(...)" if call.form else f"{holder}.{api.name}(...)"
    if call.form == "to_async" or (not call.form and api.is_async):
        if api.stream and call.use in ("for", "awaited"):
            written = f"async for item in {as_called}" if call.is_async else f"for item in {to_sync}"
            return f"{label} gives its items to `async for`: write `{written}`"
        if not api.stream and call.use in ("for", "value"):
            written = f"await {as_called}" if call.is_async else to_sync
            return f"{label} is not awaited, so there is no answer: write `{written}`"
        return ""
    waits = call.on_loop and (call.use == "for" if api.stream else True)
    if not waits and call.use not in ("awaited", "async for"):
        return ""
    written = f"async for item in {to_async}" if api.stream else f"await {to_async}"
    return f"{label} waits, and would stop the event loop: write `{written}`"


def _digest(fingerprint: Fingerprint, name: str) -> str | None:
    part = fingerprint.parts.get(name)
    return None if part is None else f"{part.kind} {part.digest}"


def _unexplained(before: ServiceSpec, after: ServiceSpec, changed: frozenset[str]) -> list[str]:
    """What of a spec differs other than by the parts that changed: by the order of the hooks, say, or by an import."""
    found = []
    if before.on_startup != after.on_startup:
        found.append("what runs at start-up changed")
    members = {name.rpartition(".")[2] for name in changed}
    depending = {d for d in {*before.dependencies} ^ {*after.dependencies} if d.attribute not in members}
    found += sorted({f"dependency {d.attribute} changed" for d in depending})
    was, now = {a.name: a for a in before.apis}, {a.name: a for a in after.apis}
    for name in sorted(was.keys() | now.keys()):
        api = was.get(name) or now[name]
        if _said_of(was.get(name)) != _said_of(now.get(name)) and api.method not in members:
            found.append(f"api {name} changed")
    return found


def _said_of(api: ApiSpec | None) -> str:
    """All of it as text, without the addresses that annotations may show."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(api))


# -- what an instance is made by


def reached_from(roots: frozenset[str], parts: Mapping[str, Part]) -> dict[str, str]:
    """Every part that the making of an instance may reach, and the root that reaches it."""
    found: dict[str, str] = {}
    for root in sorted(roots):
        todo = [root]
        while todo:
            name = todo.pop()
            if name not in found and name in parts:
                found[name] = root
                todo.extend(parts[name].uses)
    return found


def _users(used: frozenset[str], parts: Mapping[str, Part]) -> frozenset[str]:
    """The parts that may reach any of these."""
    found, todo = set[str](), set(used)
    while todo:
        todo = {name for name, part in parts.items() if part.uses & todo} - found
        found |= todo
    return frozenset(found)


def _is_rooted(name: str, old: Fingerprint, new: Fingerprint, reached: Mapping[str, str]) -> bool:
    """Whether a part that changed has a say in what an instance is."""
    return name in reached or any(p.kind in ("attribute", "class") for p in _both(name, old, new))


def _made_anew(old: Fingerprint, new: Fingerprint) -> set[str]:
    return {
        name
        for name, part in new.parts.items()
        if part.identity and name in old.parts and old.parts[name].identity != part.identity
    }


def _both(name: str, old: Fingerprint, new: Fingerprint) -> Iterator[Part]:
    return (fingerprint.parts[name] for fingerprint in (old, new) if name in fingerprint.parts)


# -- in words


def _reason(name: str, old: Fingerprint, new: Fingerprint, reached: Mapping[str, str]) -> str:
    said = _said(name, old, new)
    root = reached.get(name, name)
    return said if root == name else f"{said}, which {root} uses"


def _said(name: str, old: Fingerprint, new: Fingerprint) -> str:
    part: Iterable[Part] = _both(name, old, new)
    noun = _NOUNS[next(iter(part)).kind]
    if name not in old.parts:
        return f"{noun}{name} is new"
    return f"{noun}{name} changed" if name in new.parts else f"{noun}{name} is gone"
