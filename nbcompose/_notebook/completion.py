"""Tab completion after %%service, %services, %graph and %export: options, devices, names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from nbcompose._host import devices
from nbcompose._notebook.arguments import export_parser, service_parser, services_parser
from nbcompose._notebook.session import Session

MATCHER = "nbcompose"  # the name under which IPython knows it


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
        if words[:1] == ["%%service"] and context.cursor_line == 0:
            found = _service_words(words[1:])
        elif words[:1] == ["%services"]:
            found = self._services_words(words[1:])
        elif words == ["%graph"]:
            found = self._session.registry.names()
        elif words[:1] == ["%export"] and len(words) > 1:
            found = self._export_words(words[1:])
        else:
            return _result([])
        # IPython's token may start inside a word, after the colon of "cuda:0".
        cut = len(current) - len(context.token) if current.endswith(context.token) else 0
        return _result([w[cut:] for w in found if w.startswith(current)])

    def _services_words(self, before: list[str]) -> list[str]:
        parser = services_parser()
        actions = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        if not before:
            return [*actions.choices, *_options(parser)]
        chosen = actions.choices.get(before[0])
        if chosen is None:
            return []
        names = [n for n in self._session.registry.names() if n not in before]
        return [*names, *_options(chosen)]

    def _export_words(self, before: list[str]) -> list[str]:
        """Return completions after the file name, which IPython completes."""
        if before[-1] == "--entry":
            known = [self._session.started[n].variable for n in self._session.registry.names()]
            return [name for name in known if name not in before]
        if before[-1] in ("--freeze", "--recompute"):
            hidden = self._session.shell.user_ns_hidden
            space = self._session.shell.user_ns
            return sorted(n for n in space if n not in hidden and not n.startswith("_") and n not in before)
        once = {w for w in before if w.startswith("-")} - {"--entry", "--freeze", "--recompute"}
        return [option for option in _options(export_parser()) if option not in once]


def _result(words: list[str]) -> SimpleMatcherResult:
    # A new object each time: IPython modifies it.
    return {"completions": [SimpleCompletion(w, type="param") for w in words], "suppress": bool(words)}


def _service_words(before: list[str]) -> list[str]:
    if before and before[-1] == "--device":
        return ["cpu", *(["cuda"] if (found := devices.discover()) else []), *(f"cuda:{d.index}" for d in found)]
    parser = service_parser()
    by_option = {option: action for action in parser._actions for option in action.option_strings}
    if before and before[-1] in by_option and by_option[before[-1]].nargs != 0:
        return list(by_option[before[-1]].choices or [])  # or any value: nothing to offer
    used = {w.partition("=")[0] for w in before} - {"--env"}
    return [option for option in _options(parser) if option not in used]


def _options(parser: argparse.ArgumentParser) -> Iterable[str]:
    return (option for action in parser._actions for option in action.option_strings)
