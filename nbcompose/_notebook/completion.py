"""Completion by Tab, and help by `?`: options and names after magics, and the apis of services, with their signatures.

Apis are offered after a service (`Answer.`, `Answer.to_async.`) and, in a class that is being written, after a
dependency (`self.writer.`), which the cell's text declares by `writer = depends(Writer)`; after `self.` what the class
has, dependencies first: Jedi, which IPython asks else, takes seconds for its first answer, and front ends wait for one;
after a parameter that takes a stream, what ends that; in the brackets of `depends`, services; in those of the call of
an api, the names of its arguments. What the text says is read by `_notebook/written_class.py`.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from nbcompose._export import service_line
from nbcompose._host import devices
from nbcompose._notebook.arguments import export_parser, service_parser, services_parser
from nbcompose._notebook.session import Session
from nbcompose._notebook.written_class import Around, is_api
from nbcompose._rpc import Proxy, is_notebooks
from nbcompose._service import Described, Service
from nbcompose._spec import ApiSpec

MATCHER = "nbcompose"  # the name under which IPython knows it

OTHER_FORMS = ("to_async", "to_sync")
OTHERS = (*OTHER_FORMS, "url", "token", "graph", "asgi", "name", "inner", "spec")  # of a service, after its apis
_ATTRIBUTE = re.compile(
    r"(?<![\w.)\]])([A-Za-z_]\w*(?:\.(?!to_a?sync\b)[A-Za-z_]\w*)?)(?:\.(to_async|to_sync))?\.(\w*)$"
)
_CALLED = re.compile(r"(?<![\w.)\]])([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.([A-Za-z_]\w*)$")
_TARGET = re.compile(r"(?<![\w.)\]])((?:[A-Za-z_]\w*\.)?[A-Za-z_]\w*)\(\s*(?:(['\"])([^'\"]*)|([A-Za-z_]\w*)?)$")
_STRINGS = re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'|\"[^\"\\]*(?:\\.[^\"\\]*)*\"")
_CLOSE = ("close", "() -> None")  # of a stream that a sync api takes
_ALIASES = 8  # local names for one another that are followed


class Member(NamedTuple):
    """Something to offer after a service: with what a completer shows beside it, and the names of its arguments."""

    name: str
    type: str
    keywords: tuple[str, ...] = ()


class Completer:
    """Provides `match`, a matcher for IPython's completer (matcher API v2)."""

    def __init__(self, session: Session) -> None:
        self._session = session

        @context_matcher(identifier=MATCHER)  # type: ignore[untyped-decorator]  # IPython's imports are not followed
        def match(context: CompletionContext) -> SimpleMatcherResult:
            return self._match(context)

        self.match = match

    def _match(self, context: CompletionContext) -> SimpleMatcherResult:
        text = context.text_until_cursor.lstrip()
        words = text.split()
        if not words:
            return _result([])
        current = "" if text[-1].isspace() else words.pop()
        if words[:1] == ["%%service"] and context.cursor_line == service_line(context.full_text.splitlines()):
            found = _service_words(words[1:])
        elif words[:1] == ["%services"] or (words[:1] == ["%%services"] and context.cursor_line == 0):
            found = self._services_words(words[1:])
        elif words == ["%graph"]:
            found = self._session.registry.names()
        elif words == ["%export"]:
            found = _scripts()
        elif words[:1] == ["%export"]:
            found = self._export_words(words[1:])
        else:
            return self._attributes(context)
        # IPython's token may start inside a word, after the colon of "cuda:0".
        cut = len(current) - len(context.token) if current.endswith(context.token) else 0
        return _result([SimpleCompletion(w[cut:], type="param") for w in found if w.startswith(current)])

    def _services_words(self, before: list[str]) -> list[str]:
        parser = services_parser()
        actions = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        if not before:
            return [*actions.choices, *_options(parser)]
        chosen = actions.choices.get(before[0])
        if chosen is None:
            return []
        registry = self._session.registry
        by_option = {option: action for action in chosen._actions for option in action.option_strings}
        if before[-1] in by_option and by_option[before[-1]].nargs != 0:
            if before[-1] == "--api":
                deployments = map(registry.deployment, before)
                return [api.name for d in deployments if d is not None for api in d.spec.apis]
            return list(by_option[before[-1]].choices or [])  # or any value: nothing to offer
        names = [n for n in (registry.logged() if before[0] == "logs" else registry.names()) if n not in before]
        return [*names, *_options(chosen)]

    def _export_words(self, before: list[str]) -> list[str]:
        """Return completions after the file name."""
        if before[-1] == "--entry":
            known = [self._session.started[n].variable for n in self._session.registry.names()]
            return [name for name in known if name not in before]
        if before[-1] in ("--freeze", "--recompute"):
            hidden = self._session.shell.user_ns_hidden
            space = self._session.shell.user_ns
            return sorted(n for n in space if n not in hidden and not n.startswith("_") and n not in before)
        if before[-1] == "--limit":
            return []
        once = {w for w in before if w.startswith("-")} - {"--entry", "--freeze", "--recompute"}
        return [option for option in _options(export_parser()) if option not in once]

    # -- apis

    def _attributes(self, context: CompletionContext) -> SimpleMatcherResult:
        if targets := self._targets(context):
            return targets
        found = _ATTRIBUTE.search(context.text_until_cursor)
        if found is None:
            return self._keywords(context)
        holder, form, typed = found.groups()
        members = [m for m in self._members(holder, form, context) if m.name.startswith(typed)]
        return _result([SimpleCompletion(m.name, type=m.type) for m in members], fragment=typed)

    def _targets(self, context: CompletionContext) -> SimpleMatcherResult | None:
        """Offer what a class can depend on, in the brackets of `depends`; None elsewhere."""
        found = _TARGET.search(context.text_until_cursor)
        if found is None:
            return None
        called, quote, text, typed = found[1], found[2], found[3] or "", found[4] or ""
        space = self._session.shell.user_ns
        around = Around.of(context.full_text, context.cursor_line, space)
        if not (around.is_depends(called) if around is not None else called.rpartition(".")[2] == "depends"):
            return None
        started = self._session.started
        if quote:
            typed, names = text, self._session.registry.names()
        else:
            running = [started[n].variable if n in started else n for n in self._session.registry.names()]
            declared = [name for name, value in list(space.items()) if isinstance(value, Service)]
            declared = self._still_written([name for name in declared if name not in running])
            above = [c.name for c in around.tree.body if isinstance(c, ast.ClassDef)] if around is not None else []
            names = list(dict.fromkeys([*reversed(above), *running, *declared]))
            names = [n for n in names if not (n.startswith("_") or (around is not None and n == around.cls.name))]
        offered = [SimpleCompletion(name, type="class") for name in names if name.startswith(typed)]
        return _result(offered, fragment=typed) if offered else None

    def _still_written(self, variables: list[str]) -> list[str]:
        """Return those of these services, which do not run, that a cell defines still, or that come from a module: the
        names of others stand only for what has been.
        """
        if not variables:
            return []
        written = "\n".join(cell.source for cell in self._session.history.cells() if cell.current)
        space = self._session.shell.user_ns
        return [
            name
            for name in variables
            if not is_notebooks(space[name].spec.cls)
            or re.search(rf"^[ \t]*(?:class[ \t]+{name}\b|{name}\b.*=)", written, re.MULTILINE)
        ]

    def _keywords(self, context: CompletionContext) -> SimpleMatcherResult:
        """Offer the names of the arguments of the api that is called around the cursor, beside what else may stand
        there.
        """
        call = _open_call(context.text_until_cursor)
        if call is None:
            return _result([])
        called, given, typed = call
        found = _CALLED.search(called)
        if found is None:
            return _result([])
        holder, form = _without_form(found[1])
        keywords = next((m.keywords for m in self._members(holder, form, context) if m.name == found[2]), ())
        offered = [f"{k}=" for k in keywords if k.startswith(typed) and k not in given]
        result = _result([SimpleCompletion(k, type="param") for k in offered], fragment=typed)
        result["suppress"] = False
        return result

    def _members(self, holder: str, form: str | None, context: CompletionContext) -> list[Member]:
        """Return what to offer after `holder`: apis first."""
        around: Around | None = None
        for _ in range(_ALIASES):
            if holder.count(".") > 1:
                return []
            if members := self._of_object(holder, form):
                return members
            if around is None:
                around = Around.of(context.full_text, context.cursor_line, self._session.shell.user_ns)
            if around is None:
                return []
            if "." in holder:
                return self._of_dependency(holder, form, around)
            if around.method is not None and holder == around.instance and form is None:
                return list(_others(around.attributes(context.full_text, context.cursor_line)))
            reader = around.stream(holder) if form is None else None
            if reader is not None:  # besides it is read by `for`
                closes = ("aclose", "async () -> None") if isinstance(reader, ast.AsyncFunctionDef) else _CLOSE
                return [Member(closes[0], _unbroken(closes[1]))]
            alias = around.alias(holder)
            if alias is None:
                return []
            holder, of_alias = _without_form(alias)
            form = form or of_alias
        return []

    def _of_object(self, holder: str, form: str | None) -> list[Member]:
        """Return the members of a service, or of a proxy, that the notebook knows."""
        value = self._session.shell.user_ns.get(holder)
        if isinstance(value, Service):
            return [*_apis(value.spec.apis), *_others(() if form else OTHERS)]
        if isinstance(value, Proxy):
            return [*_apis(value._caller.apis() or ()), *_others(() if form else OTHER_FORMS)]
        base, _, name = holder.partition(".")
        value = self._session.shell.user_ns.get(base)
        if isinstance(value, Service):  # a dependency of it
            targets = [d.service for d in value.spec.dependencies if d.attribute == name]
            others = () if form else OTHER_FORMS
            return [m for t in targets for m in (*self._apis_of(t, ast.Module([], [])), *_others(others))]
        return []

    def _of_dependency(self, holder: str, form: str | None, around: Around) -> list[Member]:
        """Return the members of `self.NAME` where the class around the cursor, or a base of it, declares that."""
        base, _, name = holder.partition(".")
        if base != around.instance:
            return []
        target = around.declared(name)
        if target is None:
            target = self._inherited(around.cls, name)
        if target is None:
            return []
        return [*self._apis_of(target, around.tree), *_others(() if form else OTHER_FORMS)]

    def _inherited(self, cls: ast.ClassDef, name: str) -> str | None:
        for base in cls.bases:
            value = self._session.shell.user_ns.get(ast.unparse(base))
            if isinstance(value, Service):
                return next((d.service for d in value.spec.dependencies if d.attribute == name), None)
        return None

    def _apis_of(self, target: str, tree: ast.Module) -> Iterable[Member]:
        """Return the apis of a service by its variable or its name: as this cell defines it, or as it runs."""
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == target:
                return _written(node)
        value = self._session.shell.user_ns.get(target)
        if isinstance(value, Service):
            return _apis(value.spec.apis)
        deployment = self._session.registry.deployment(target)
        return _apis(deployment.spec.apis) if deployment is not None else ()


def _without_form(text: str) -> tuple[str, str | None]:
    """Split "self.writer.to_async" into "self.writer" and "to_async"."""
    holder, _, last = text.rpartition(".")
    return (holder, last) if holder and last in OTHER_FORMS else (text, None)


def _open_call(text: str) -> tuple[str, set[str], str] | None:
    """Return what is called where the cursor is in the brackets of a call, the keywords that are given already, and
    the beginning of a name that is typed; None elsewhere.
    """
    plain = _STRINGS.sub("''", text)
    if plain.count("'") % 2 or plain.count('"') % 2:
        return None  # in a string
    depth, parts, end = 0, [], len(plain)  # from the cursor on to the left: the arguments of the innermost call
    for at in range(len(plain) - 1, -1, -1):
        char = plain[at]
        if char in ")]}":
            depth += 1
        elif char in "([{" and depth:
            depth -= 1
        elif char == "," and not depth:
            parts.append(plain[at + 1 : end])
            end = at
        elif char in "([{":
            typed, *given = [*parts, plain[at + 1 : end]]
            if char != "(" or not re.fullmatch(r"\s*(?:[A-Za-z_]\w*)?", typed):
                return None
            names = (re.match(r"\s*([A-Za-z_]\w*)\s*=(?!=)", part) for part in given)
            return plain[:at], {name[1] for name in names if name}, typed.strip()
    return None


def _written(cls: ast.ClassDef) -> Iterator[Member]:
    """Yield the apis of a class that has not run as it is written."""
    for node in cls.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not is_api(node):
            continue
        parameters = ast.unparse(node.args).partition(", ")[2]  # without self
        returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
        kind = "async api" if isinstance(node, ast.AsyncFunctionDef) else "api"
        keywords = tuple(a.arg for a in (*node.args.args, *node.args.kwonlyargs)[0 if node.args.posonlyargs else 1 :])
        yield Member(node.name, _unbroken(f"{kind} ({parameters}){returns}"), keywords)


def _apis(apis: Iterable[ApiSpec]) -> Iterator[Member]:
    """Yield apis with what a completer shows beside them: there is no other place for a signature."""
    for api in apis:
        kind = "async api" if api.is_async else "api"
        keywords = tuple(p.name for p in api.params if p.kind in ("positional_or_keyword", "keyword_only"))
        yield Member(api.name, _unbroken(f"{kind} {api.signature[len(api.name) :]}"), keywords)


def _unbroken(text: str) -> str:
    """Return text that JupyterLab shows on one line beside a completion: it would break it at spaces and hyphens."""
    return text.replace(" ", "\N{NO-BREAK SPACE}").replace("-", "\N{NON-BREAKING HYPHEN}")


def _others(names: Iterable[str]) -> Iterator[Member]:
    return (Member(name, "instance") for name in names)


def help_fields(value: Any) -> list[tuple[str, str]]:
    """Return what `?` shows of a service or an api, as titles and texts; empty for other objects."""
    if isinstance(value, Described):
        return value.help_fields()
    if isinstance(value, Service):
        return [("Service", value.name), ("Docstring", str(value.__doc__))]
    return []


# -- words


def _result(found: list[SimpleCompletion], fragment: str | None = None) -> SimpleMatcherResult:
    # A new object each time: IPython modifies it.
    result: SimpleMatcherResult = {"completions": found, "suppress": bool(found), "ordered": True}
    if fragment is not None:
        result["matched_fragment"] = fragment
    return result


def _service_words(before: list[str]) -> list[str]:
    if before and before[-1] == "--device":
        return ["cpu", *(["cuda"] if (found := devices.discover()) else []), *(f"cuda:{d.index}" for d in found)]
    parser = service_parser()
    by_option = {option: action for action in parser._actions for option in action.option_strings}
    if before and before[-1] in by_option and by_option[before[-1]].nargs != 0:
        return list(by_option[before[-1]].choices or [])  # or any value: nothing to offer
    used = {w.partition("=")[0] for w in before} - {"--env"}
    return [option for option in _options(parser) if option not in used]


def _scripts() -> list[str]:
    """Return names for a script: those that are here already, and one that is usual."""
    here = sorted(path.name for path in Path().glob("*.py"))
    return [*here, *(["app.py"] if "app.py" not in here else [])]


def _options(parser: argparse.ArgumentParser) -> Iterable[str]:
    """Return the options of a parser; `--help` is known."""
    return (option for action in parser._actions for option in action.option_strings if action.dest != "help")
