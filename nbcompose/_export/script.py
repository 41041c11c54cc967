"""Text of the exported script: imports, fixed parts, layout.

A notebook imports anywhere; a script at the top, sorted (by ruff) and only what it uses.

What is needed is slice.py's to say. Here statements get their places, services their options; ruff has the last word.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from nbcompose._export import lookup
from nbcompose._export.effects import last
from nbcompose._export.formatting import formatted
from nbcompose._export.freeze import Frozen, with_names
from nbcompose._export.naming import ScriptNames, bindings
from nbcompose._export.requirements import Import, LookUp, Requirements, imports_of, requirements
from nbcompose._export.service_options import decorated
from nbcompose._export.slice import Slice
from nbcompose._export.statements import Statement
from nbcompose.errors import ExportRefused


class Head:
    """The top of a script with these statements: `body` are those that go below, `names` what the script calls things.

    `taken`: names that something else binds. Raises `ExportRefused` where imports would give one name two meanings.
    """

    def __init__(self, statements: Sequence[Statement], taken: Collection[str]) -> None:
        rest = [s for s in statements if not _is_import(s)]
        self._imports = [s for s in statements if _is_import(s)]
        _check(self._imports)
        self.names = ScriptNames((s.node for s in self._imports), {*taken}.union(*(s.defines for s in rest)))
        self._settings = [s for s in rest if self._goes_above(s)]
        self.body = [s for s in rest if not self._goes_above(s)]

    def text(self) -> str:
        """All that `names` was asked for by now is imported too."""
        first = frozenset[str]().union(*(s.reads for s in self._settings))
        used = self.names.used.union(*(s.reads | s.later | s.deletes for s in self.body))
        above = [s.text if _is_future(s) else _import(s, first) for s in self._imports]
        said = [s for s, text in zip(self._imports, above, strict=True) if text]
        below = ["" if _is_future(s) else _import(s, used - first, commented=s not in said) for s in self._imports]
        settings = blocks(self._settings, [s.text for s in self._settings])
        return "\n".join([*filter(None, above), *settings, *self.names.added, *filter(None, below), ""])

    def notes(self) -> list[str]:
        return [
            f"{s.cell.label}, line {s.line}: the script sets this after its imports: if a library reads it when it is "
            "imported, set it where the script is started"
            for s in self.body
            if self._is_setting(s.node)
        ]

    def _goes_above(self, statement: Statement) -> bool:
        """Libraries read the environment when they are imported: what sets it and needs no more than imports."""
        known = {*dir(builtins)}.union(*(s.defines for s in self._imports))
        return self._is_setting(statement.node) and statement.reads <= known

    def _is_setting(self, node: ast.stmt) -> bool:
        """Whether all that it does is to set environment variables."""
        sets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            sets = [t.value if isinstance(t, ast.Subscript) else t for t in node.targets]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            sets = [called.value] if isinstance(called, ast.Attribute) and called.attr in _SETTERS else []
        return bool(sets) and all(self.names.origin(s) == "os.environ" for s in sets)


_SETTERS = ("update", "setdefault")


def _is_import(statement: Statement) -> bool:
    return isinstance(statement.node, ast.Import | ast.ImportFrom)


def _is_future(statement: Statement) -> bool:
    return isinstance(statement.node, ast.ImportFrom) and statement.node.module == "__future__"


def _check(imports: Sequence[Statement]) -> None:
    """At the top of a script an import is there for all; in a notebook the one that ran before is meant."""
    seen: dict[str, tuple[str, Statement]] = {}
    reasons = []
    for statement in imports:
        for name, origin in bindings(statement.node):
            before, first = seen.setdefault(name, (origin, statement))
            if before != origin:
                reasons.append(
                    f"{statement.cell.label}, line {statement.line}: {name} is {origin} here, and {before} in "
                    f"{first.cell.label}, line {first.line}: give one of them another name, `import ... as ...`"
                )
    if reasons:
        raise ExportRefused("the services cannot be exported:", reasons)


def _import(statement: Statement, wanted: Collection[str], *, commented: bool = True) -> str:
    """An import without the names that are not wanted; "" where none is left."""
    node = statement.node
    assert isinstance(node, ast.Import | ast.ImportFrom)
    kept = [a for a in node.names if a.name == "*" or (a.asname or a.name.partition(".")[0]) in wanted]
    if len(kept) in (0, len(node.names)):
        return statement.text if kept else ""
    above = statement.text.split("\n")[: comments(statement.text)] if commented else []
    shorter = ast.Import(kept) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, kept, node.level)
    return "\n".join([*above, ast.unparse(shorter)])


TEMPLATE = Path(__file__).with_name("template.py")
_NOTEBOOK = "NOTEBOOK"
_ENTRY = "Entry"
_FILE = "file"


def _template() -> ast.Module:
    """Parsed anew each time, so that it may be changed.

    `copy.deepcopy` of a tree can take seconds: there is one `ast.Load()` for all trees, and once IPython has printed a
    traceback its parent is a node of another tree, and is copied with everything around it.
    """
    return ast.parse(TEMPLATE.read_text(encoding="utf-8"))


def _docstring() -> str:
    return ast.get_docstring(_template()) or ""


def docstring(notebook: str) -> str:
    """The docstring of a script, as a statement. `notebook` is a file's name."""
    text = _docstring().replace(_NOTEBOOK, " ".join(notebook.split()))
    return ast.unparse(ast.Module([ast.Expr(ast.Constant(text))], []))


def exported_from(script: str) -> str | None:
    """The notebook that a script says it was exported from; None where nbcompose has not written it."""
    try:
        found = ast.get_docstring(ast.parse(script))
    except (SyntaxError, ValueError):
        return None
    before, _, after = _docstring().partition(_NOTEBOOK)
    match = re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", found or "")
    return match[1] if match else None


def guard(entries: Sequence[str], names: ScriptNames) -> str:
    """The last statement of a script: serve these, where it is the program."""
    statement = _template().body[-1]
    served = [ast.Name(entry) for entry in entries]
    for call in (n for n in ast.walk(statement) if isinstance(n, ast.Call)):
        call.args = [new for arg in call.args for new in (served if _is(arg, _ENTRY) else [arg])]
    return ast.unparse(_Fill(_template_origins(), {}, names).visit(statement))


def loading(name: str, loader: str, place: Sequence[str], names: ScriptNames) -> str:
    """The statement that gives `name` what a loader of the template reads from a file, at `place` beside the script."""
    function = next(n for n in _template().body if isinstance(n, ast.FunctionDef) and n.name == loader)
    result = function.body[-1]
    assert isinstance(result, ast.Return)
    assert result.value is not None
    path: ast.expr = ast.parse(f"{names.member('pathlib', 'Path')}(__file__).parent", mode="eval").body
    for part in place:
        path = ast.BinOp(path, ast.Div(), ast.Constant(part))
    fill = _Fill(_template_origins() | _origins(function.body), {_FILE: path}, names)
    statement = ast.Assign([ast.Name(name)], fill.visit(result.value), lineno=0)
    why = ast.get_docstring(function)
    return (f"# {why}\n" if why else "") + ast.unparse(statement)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _template_origins() -> dict[str, ast.stmt]:
    return _origins(_template().body)


def _origins(body: Sequence[ast.stmt]) -> dict[str, ast.stmt]:
    """The imports in a block by the names that they bind."""
    return {name: node for node in body for name, _ in bindings(node)}


class _Fill(ast.NodeTransformer):
    """Puts values for some names, and for those of the template's imports what the script calls the same things."""

    def __init__(self, imports: Mapping[str, ast.stmt], values: Mapping[str, ast.expr], names: ScriptNames) -> None:
        self._imports = imports
        self._values = values
        self._names = names

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self._values:
            return self._values[node.id]
        found = self._imports.get(node.id)
        if found is None:
            return node
        origin = dict(bindings(found))[node.id]
        if isinstance(found, ast.Import):
            text = self._names.module(origin, node.id)
        else:
            text = self._names.member(*_split(origin))
        return ast.parse(text, mode="eval").body


def _split(origin: str) -> tuple[str, str]:
    module, _, member = origin.rpartition(".")
    return module, member


def blocks(statements: Sequence[Statement], texts: Sequence[str]) -> list[str]:
    """Texts in order; those that stood on neighbouring lines, or on one, still do."""
    found: list[str] = []
    above: Statement | None = None
    for statement, text in zip(statements, texts, strict=True):
        if above is None or not _neighbours(above, statement):
            found.append("")
        found.append(text)
        above = statement
    return [*_closed(found), ""]


def _closed(texts: Sequence[str]) -> Iterator[str]:
    """What is not to be formatted ends where it ends in the notebook: the comment that says so may be left out."""
    for index, text in enumerate(texts):
        yield text
        following = next(filter(None, texts[index + 1 :]), "")
        if text.rfind(_OFF) > text.rfind(_ON) and not following.startswith(_ON):
            yield _ON


_OFF, _ON = "# fmt: off", "# fmt: on"


def _neighbours(above: Statement, below: Statement) -> bool:
    return above.cell is below.cell and _first_line(below) <= _first_line(above) + len(above.text.split("\n"))


def _first_line(statement: Statement) -> int:
    """Where its text begins in the cell."""
    nodes = [statement.node, *getattr(statement.node, "decorator_list", ())]
    return min(int(node.lineno) for node in nodes) - comments(statement.text)


def comments(text: str) -> int:
    """How many lines of comments a statement begins with."""
    lines = text.split("\n")
    return next((i for i, line in enumerate(lines) if line and not line.startswith("#")), len(lines))


@dataclass(frozen=True, slots=True)
class ExportedScript:
    """`notes`: what the user should know about it."""

    text: str
    requirements: Requirements
    notes: tuple[str, ...] = ()


def write(
    needed: Slice,
    notebook: str,
    *,
    frozen: Sequence[Frozen] = (),
    look_up: LookUp = lookup.look_up,
    folder: Path | None = None,
) -> ExportedScript:
    """The script of what is needed. `notebook` is the file's name, `frozen` the values that lie in files beside it.

    `look_up` says what is installed: here, by default. `folder` is the notebook's: the present one, by default.
    Raises `ExportRefused` where a name would mean two things, and `NbcomposeError`.
    """
    head = Head(needed.statements, [f.name for f in frozen])
    code = [
        *(_frozen(f, head.names) for f in frozen),
        *blocks(head.body, [decorated(s, needed.services, head.names) for s in head.body]),
        guard(needed.entries, head.names),
    ]
    text = "\n".join([docstring(notebook), "", head.text(), *code])
    loaded = [Import(module) for f in frozen for module in f.modules]
    found = requirements([*imports_of(ast.parse(text)), *loaded], look_up, folder)
    text = formatted(text, python=found.python, own=[name.removesuffix(".py") for name in found.own])
    own = [*_secrets(needed), *_data(needed, folder or Path())]
    notes = [*needed.notes, *head.notes(), *(f.note for f in frozen if f.note), *own, *found.notes]
    return ExportedScript(found.block + text, found, tuple(dict.fromkeys(notes)))


def _frozen(value: Frozen, names: ScriptNames) -> str:
    if value.code:
        return f"{value.name} = {with_names(value.code, names)}"
    return loading(value.name, value.loader, value.place, names)


_LONGEST = 200  # characters of a path
_SECRET_NAME = re.compile(r"(?i)(\w+_)?(api_?key|password|secret|credentials?)|((api|auth|access|hf)_)?token")
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL")


def _secrets(needed: Slice) -> Iterable[str]:
    variables = dict.fromkeys((key, "--env") for s in needed.statements for key in (s.options or {}).get("envs", {}))
    variables |= dict.fromkeys((key, "os.environ") for s in needed.statements for key in _written_out(s.node))
    names = dict.fromkeys(name for s in needed.statements for node in ast.walk(s.node) for name in _named(node))
    for key, where in variables:
        if any(word in key.upper() for word in _SECRET):
            yield f"the value of {key} ({where}) is in the script: set it where the script is started instead"
    for name in names:
        if _SECRET_NAME.fullmatch(name) and (name, "os.environ") not in variables:
            yield f"the value of {name} is in the script: read it from the environment instead, with os.environ"


def _named(node: ast.AST) -> Iterable[str]:
    """The names and arguments that get a text that the code itself says."""
    match node:
        case ast.keyword(arg=str(name), value=ast.Constant(value=str(text))) if text:
            return [name]
        case ast.Assign(targets=targets, value=ast.Constant(value=str(text))) if text:
            return [last(t) for t in targets if isinstance(t, ast.Name | ast.Attribute)]
    return []


def _written_out(node: ast.stmt) -> Iterable[str]:
    """The environment variables that a statement sets to what it says itself."""
    match node:
        case ast.Assign(targets=[ast.Subscript(value=of, slice=ast.Constant(value=str(key)))], value=ast.Constant()):
            keys = [key]
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(value=of, attr="setdefault"), args=[ast.Constant(value=key), _])
        ):
            keys = [str(key)]
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=of, attr="update"), keywords=keywords)):
            keys = [k.arg for k in keywords if k.arg and isinstance(k.value, ast.Constant)]
        case _:
            return []
    return keys if last(of) == "environ" else []


def _data(needed: Slice, folder: Path) -> Iterable[str]:
    """Files that the notebook finds by a relative path."""
    constants = (n for s in needed.statements for n in ast.walk(s.node) if isinstance(n, ast.Constant))
    texts = dict.fromkeys(c.value for c in constants if isinstance(c.value, str) and _may_be_file(c.value))
    for text in texts:
        if (folder / text).is_file():
            yield f"{text} is looked for where the script is started: start it in a folder that has it"


def _may_be_file(text: str) -> bool:
    return 0 < len(text) < _LONGEST and text.isprintable() and not PurePath(text).is_absolute()
