"""Directives whose content comes from the package: options of magics and commands, the tree of errors, metrics."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from docstrings import meaning
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective


class Generated(SphinxDirective):
    """A directive whose content is Markdown that `markdown` returns."""

    def markdown(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # the page changes with the package, not with its own file
        return self.parse_text_to_nodes(self.markdown())


class ParserOptions(Generated):
    """`{parser-options} module:function`: what the argument parser that the function returns takes."""

    required_arguments = 1
    option_spec: ClassVar = {"usage": directives.unchanged}

    def markdown(self) -> str:
        module, _, function = self.arguments[0].partition(":")
        parser: argparse.ArgumentParser = getattr(importlib.import_module(module), function)()
        return "\n\n".join(described(parser, self.options.get("usage", parser.prog).strip('"')))


def described(parser: argparse.ArgumentParser, usage: str, summary: str = "") -> Iterator[str]:
    """Markdown paragraphs: description, usage, arguments, and the same of each command below."""
    if summary:
        yield f"{summary[0].upper()}{summary[1:]}."
    if parser.description:
        yield parser.description
    own = [a for a in parser._actions if not isinstance(a, argparse._SubParsersAction)]
    shown = [a for a in own if a.help != argparse.SUPPRESS and "--help" not in a.option_strings]
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    yield "```text\n" + wrapped([usage, *map(in_usage, shown), *(str(a.metavar) for a in below)]) + "\n```"
    if any(a.help for a in shown):
        rows = [f"| `{in_table(a)}` | {text_of(a, parser)} |" for a in shown]
        yield "\n".join(["| option | meaning |", "| --- | --- |", *rows])
    for action in below:
        summaries = {c.dest: c.help or "" for c in action._choices_actions}
        for name, command in action.choices.items():
            anchor = f"{usage.strip('%')}-{name}".replace(" ", "-")
            yield f":::{{rubric}} `{usage} {name}`\n:heading-level: 3\n:name: {anchor}\n:::"
            yield from described(command, f"{usage} {name}", summaries.get(name, ""))


def wrapped(words: list[str], width: int = 76) -> str:
    """The words in lines of this width, those after the first one indented; no word is divided."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append("   ")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def in_usage(action: argparse.Action) -> str:
    if not action.option_strings:
        name = action.metavar or action.dest
        return {"*": f"[{name} ...]", "+": f"{name} ...", "?": f"[{name}]"}.get(str(action.nargs), str(name))
    repeated = " ..." if isinstance(action, argparse._AppendAction) else ""
    return f"[{action.option_strings[-1]}{value_of(action)}]{repeated}"


def in_table(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest)
    return ", ".join(action.option_strings) + value_of(action)


def value_of(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    choices = f"{{{','.join(action.choices)}}}" if action.choices else ""
    return f" {action.metavar or choices or action.dest.upper()}"


def text_of(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """The help as Markdown: options and dunder names are code."""
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    text = re.sub(r"[|*<]", r"\\\g<0>", text)
    return re.sub(r"(?<![\w-])--[a-z][a-z-]*|__\w+__", r"`\g<0>`", text)


class ErrorTree(Generated):
    """The exceptions of `nbcompose.errors` as nested lists, with their HTTP status."""

    def markdown(self) -> str:
        from nbcompose import errors

        return "\n".join([*tree(errors.NbcomposeError), *tree(errors.CallInterrupted), *tree(errors.NbcomposeWarning)])


def tree(cls: type[Any], depth: int = 0) -> Iterator[str]:
    status = cls.__dict__.get("status") if depth else None  # what is not said is that of the class above
    also = [b.__name__ for b in cls.__bases__ if b.__module__ == "builtins" and b not in (Exception, BaseException)]
    notes = [*([f"HTTP {status}"] if status else []), *(f"also `{name}`" for name in also)]
    said = f" ({', '.join(notes)})" if notes else ""
    summary = meaning(cls.__name__) or (cls.__doc__ or "").partition("\n")[0]
    said += f": {summary}" if summary else ""
    yield f"{'  ' * depth}- {{py:exc}}`~{cls.__module__}.{cls.__name__}`{said}"
    for below in cls.__subclasses__():
        if below.__module__ == cls.__module__:
            yield from tree(below, depth + 1)


class Metrics(Generated):
    """The metrics that a replica exposes by itself, as a table."""

    def markdown(self) -> str:
        rows = [
            f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |"
            for family, name, labels in families()
        ]
        return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])


def families() -> Iterable[tuple[Any, str, list[str]]]:
    """Each family of a replica that has answered one call, its name as Prometheus stores it, its labels."""
    from nbcompose._replica.admission import Work
    from nbcompose._replica.metrics import ServiceMetrics

    metrics = ServiceMetrics("Service", 0, ["api"])
    metrics.apis["api"].in_progress += 1
    metrics.apis["api"].finished(0.001, 0.0, "")
    metrics.answered("/api", 200)
    work = Work(held=(), waiting=0, waiting_since=None, paused=0)
    for family in [*metrics.families(), *metrics.work_families(work, busy=0)]:
        suffix = "_total" if family.type == "counter" else ""
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        yield family, family.name + suffix, list(labels)


class MagicTraits(Generated):
    """What `%config NbcomposeMagics` can set."""

    def markdown(self) -> str:
        from nbcompose._notebook.magics import NbcomposeMagics

        traits = NbcomposeMagics.class_own_traits(config=True)
        rows = [
            f"| `%config NbcomposeMagics.{n} = {t.default_value!r}` | {t.help} |" for n, t in sorted(traits.items())
        ]
        return "\n".join(["| default | meaning |", "| --- | --- |", *rows])


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("parser-options", ParserOptions)
    app.add_directive("error-tree", ErrorTree)
    app.add_directive("magic-traits", MagicTraits)
    app.add_directive("metrics-table", Metrics)
    return {"parallel_read_safe": True}
