"""Text of the exported script: imports, fixed parts, layout.

Imports go to the top, sorted (by ruff) and reduced to the used names. Statements are put in order, services get their
options, and ruff formats the result. See `_export/slice.py` for what is needed.
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
from nbcompose._export.statements import Statement, first_line
from nbcompose.errors import ExportRefused


class Head:
    """The top of a script with these statements. `body`: the statements below it; `names`: the names that the script
    uses.

    `taken`: names bound by something else. Raises `ExportRefused` where imports would give one name two meanings.
    """

    def __init__(self, statements: Sequence[Statement], taken: Collection[str]) -> None:
        rest = [s for s in statements if not s.is_import]
        self._imports = [s for s in statements if s.is_import]
        _check(self._imports)
        self.names = ScriptNames((s.node for s in self._imports), {*taken}.union(*(s.names.defines for s in rest)))
        self._settings = [s for s in rest if self._goes_above(s)]
        self.body = [s for s in rest if not self._goes_above(s)]

    def text(self) -> str:
        """Return the text, including imports for all that `names` was asked for so far."""
        first = frozenset[str]().union(*(s.names.reads for s in self._settings))
        used = self.names.used.union(*(n.reads | n.later | n.soft | n.deletes for n in (s.names for s in self.body)))
        above = [s.text if s.is_future else _import(s, first) for s in self._imports]
        said = [s for s, text in zip(self._imports, above, strict=True) if text]
        below = ["" if s.is_future else _import(s, used - first, commented=s not in said) for s in self._imports]
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
        """Whether a statement goes above the imports: it sets environment variables, which libraries read when they are
        imported, and needs only imports.
        """
        known = {*dir(builtins)}.union(*(s.names.defines for s in self._imports))
        return self._is_setting(statement.node) and statement.names.reads <= known

    def _is_setting(self, node: ast.stmt) -> bool:
        """Whether a statement does nothing else than set environment variables."""
        sets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            sets = [t.value if isinstance(t, ast.Subscript) else t for t in node.targets]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            sets = [called.value] if isinstance(called, ast.Attribute) and called.attr in _SETTERS else []
        return bool(sets) and all(self.names.origin(s) == "os.environ" for s in sets)


_SETTERS = ("update", "setdefault")


def _check(imports: Sequence[Statement]) -> None:
    """Check that names are unambiguous: at the top of a script an import applies to all, in a notebook the last one
    that ran.
    """
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
    """Return an import without unwanted names; "" where none is left."""
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
    """Return a new tree of the template each time, so that it may be modified.

    `copy.deepcopy` of a tree can take seconds: all trees share one `ast.Load()`, and once IPython has printed a
    traceback, the parent of that node is a node of another tree, which is copied with everything around it.
    """
    return ast.parse(TEMPLATE.read_text(encoding="utf-8"))


def _docstring() -> str:
    return ast.get_docstring(_template()) or ""


def docstring(notebook: str) -> str:
    """Return the docstring of a script, as a statement. `notebook` is a file name."""
    text = _docstring().replace(_NOTEBOOK, " ".join(notebook.split()))
    return ast.unparse(ast.Module([ast.Expr(ast.Constant(text))], []))


def exported_from(script: str) -> str | None:
    """Return the notebook that a script was exported from, by its docstring; None where nbcompose
    has not written it.
    """
    try:
        found = ast.get_docstring(ast.parse(script))
    except (SyntaxError, ValueError):
        return None
    before, _, after = _docstring().partition(_NOTEBOOK)
    match = re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", found or "")
    return match[1] if match else None


def guard(entries: Sequence[str], names: ScriptNames) -> str:
    """Return the last statement of a script: serve these entries, where the script is the main program."""
    statement = _template().body[-1]
    served = [ast.Name(entry) for entry in entries]
    for call in (n for n in ast.walk(statement) if isinstance(n, ast.Call)):
        call.args = [new for arg in call.args for new in (served if _is(arg, _ENTRY) else [arg])]
    return ast.unparse(_Fill(_template_origins(), {}, names).visit(statement))


def loading(name: str, loader: str, place: Sequence[str], names: ScriptNames) -> str:
    """Return the statement that binds `name` to what a loader of the template reads from the file `place` beside the
    script.
    """
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
    """Return the imports in a block by the names that they bind."""
    return {name: node for node in body for name, _ in bindings(node)}


class _Fill(ast.NodeTransformer):
    """Replaces some names by values, and names of the template's imports by the script's names for the same objects."""

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
    """Return texts in order; those that were on neighbouring lines, or on one line, still are."""
    found: list[str] = []
    above: Statement | None = None
    for statement, text in zip(statements, texts, strict=True):
        if above is None or not _neighbours(above, statement):
            found.append("")
        found.append(text)
        above = statement
    return [*_closed(found), ""]


def _closed(texts: Sequence[str]) -> Iterator[str]:
    """Yield texts, with `# fmt: on` after unformatted ones: the notebook's own comment may have been left out."""
    for index, text in enumerate(texts):
        yield text
        following = next(filter(None, texts[index + 1 :]), "")
        if text.rfind(_OFF) > text.rfind(_ON) and not following.startswith(_ON):
            yield _ON


_OFF, _ON = "# fmt: off", "# fmt: on"


def _neighbours(above: Statement, below: Statement) -> bool:
    begin, end = (first_line(s.node) - comments(s.text) for s in (above, below))
    return above.cell is below.cell and end <= begin + len(above.text.split("\n"))


def comments(text: str) -> int:
    """Return the number of comment lines at the beginning of a statement."""
    lines = text.split("\n")
    return next((i for i, line in enumerate(lines) if line and not line.startswith("#")), len(lines))


@dataclass(frozen=True, slots=True)
class ExportedScript:
    """An exported script, as text. `notes`: what the user should know about it."""

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
    """Return the script of what is needed. `notebook`: the name of its file; `frozen`: values that are stored.

    `look_up` finds what is installed; by default, in this environment. `folder`: the notebook's; None: the current one.
    Raises `ExportRefused` where a name would have two meanings, and `NbcomposeError`.
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
    """Return the names and arguments to which the code assigns a string literal."""
    match node:
        case ast.keyword(arg=str(name), value=ast.Constant(value=str(text))) if text:
            return [name]
        case ast.Assign(targets=targets, value=ast.Constant(value=str(text))) if text:
            return [last(t) for t in targets if isinstance(t, ast.Name | ast.Attribute)]
    return []


def _written_out(node: ast.stmt) -> Iterable[str]:
    """Return the environment variables that a statement sets to a literal."""
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
    """Yield notes on files that the notebook finds by a relative path."""
    constants = (n for s in needed.statements for n in ast.walk(s.node) if isinstance(n, ast.Constant))
    texts = dict.fromkeys(c.value for c in constants if isinstance(c.value, str) and _may_be_file(c.value))
    for text in texts:
        if (folder / text).is_file():
            yield f"{text} is looked for where the script is started: start it in a folder that has it"


def _may_be_file(text: str) -> bool:
    return 0 < len(text) < _LONGEST and text.isprintable() and not PurePath(text).is_absolute()
