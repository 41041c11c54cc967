"""Requirements of a script: its imports → distributions with the installed versions, as a PEP 723 block.

`_export/lookup.py` finds what is installed, here or in the interpreter of another environment.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from nbcompose import __version__
from nbcompose._export import lookup
from nbcompose.errors import NbcomposeError

# `lookup.look_up`, or one like it: names of modules and of distributions → what is installed.
LookUp = Callable[[list[str], list[str]], dict[str, Any]]

OURSELVES = "nbcompose"
_OUTSIDE = (OURSELVES, "__main__")  # always required, and the script itself
# What a module needs at run time without importing it by itself, and why.
COMPANIONS = {"transformers": ("torch", "transformers runs its models with it")}
# The same for functions of pandas.
_ENGINES = {
    **dict.fromkeys(("read_parquet", "to_parquet", "read_feather", "to_feather"), "pyarrow"),
    **dict.fromkeys(("read_excel", "to_excel"), "openpyxl"),
}
# The same for names of ours: a script that uses them needs what they import.
_OURS = {"OpenAIModel": "openai", "TextGenerator": "transformers"}
WAIT = 30.0  # seconds for another interpreter to answer


@dataclass(frozen=True, slots=True)
class Import:
    """An imported module, dotted; `optional` where the script works without it."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a script's dependencies."""

    requirement: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a script needs: a Python version, distributions, and the user's own modules beside it (files)."""

    python: str
    dependencies: tuple[Requirement, ...]
    own: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    comment: str = ""

    @property
    def block(self) -> str:
        """The inline script metadata (PEP 723)."""
        lines = ["/// script", f'requires-python = ">={self.python}"']
        lines += [f"# {self.comment}"] if self.comment else []
        lines += ["dependencies = ["]
        for d in self.dependencies:
            lines.append(f"    {json.dumps(d.requirement)}," + (f"  # {d.why}" if d.why else ""))
        return "".join(f"# {line}\n" for line in [*lines, "]", "///"])


def imports_of(tree: ast.AST, *, optional: bool = False) -> Iterator[Import]:
    """Yield every import in some code, including those in functions. `from a import b` may import a module: it is
    `a.b`.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, optional) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                yield from (Import(f"{node.module}.{alias.name}", optional) for alias in node.names)
                if node.module == f"{OURSELVES}.llms":
                    yield from (Import(_OURS[alias.name], optional) for alias in node.names if alias.name in _OURS)
        elif isinstance(node, ast.Call) and (name := _named(node)):
            yield Import(name, optional)
        elif isinstance(node, ast.Attribute) and node.attr in _ENGINES:
            yield Import(_ENGINES[node.attr], optional=True)
        elif isinstance(node, ast.Attribute) and node.attr in _OURS and ast.unparse(node.value).endswith("llms"):
            yield Import(_OURS[node.attr], optional)
        caught = isinstance(node, ast.Try) and any(_catches(handler) for handler in node.handlers)
        yield from imports_of(node, optional=optional or caught)


def _named(call: ast.Call) -> str:
    """Return the module in `importlib.import_module("name")`."""
    known = ast.unparse(call.func) in ("importlib.import_module", "import_module", "__import__")
    first = call.args[0] if known and call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def _catches(handler: ast.ExceptHandler) -> bool:
    text = ast.unparse(handler.type) if handler.type else "Exception"
    return any(name in text for name in ("ImportError", "ModuleNotFoundError", "Exception"))


def requirements(
    imports: Iterable[Import], look_up: LookUp = lookup.look_up, folder: Path | None = None
) -> Requirements:
    """Return the requirements of a script with these imports; imports of the user's own modules are followed.

    `folder`: the folder of the notebook, where a kernel finds modules; None: the current one.
    """
    wanted: dict[str, bool] = {}
    own: dict[str, str] = {}
    todo = list(imports)
    while True:
        for found in (i for i in todo if i.name.partition(".")[0] not in _OUTSIDE):
            wanted[found.name] = wanted.get(found.name, True) and found.optional
        answer = look_up(sorted(wanted), [OURSELVES, *(name for name, _ in COMPANIONS.values())])
        for name, module in answer["modules"].items():
            if not module["distributions"] and not module["file"]:
                module["file"] = _beside(folder or Path(), name.partition(".")[0])
        files = {n.partition(".")[0]: m["file"] for n, m in answer["modules"].items() if m["file"]}
        todo = [i for top, file in files.items() if top not in own for i in _inside(file) if i.name not in wanted]
        own |= files
        if not todo:
            return _Reading(answer, wanted, own).requirements()


def _beside(folder: Path, top: str) -> str:
    """Return a module or a package in a folder; "" where there is none."""
    places = (folder / f"{top}.py", folder / top / "__init__.py")
    found = next((place for place in places if place.is_file()), None)
    return "" if found is None else str(found if found.stem == top else found.parent)


def _inside(file: str) -> Iterator[Import]:
    """Yield the imports of a module of the user, or of all modules of a package."""
    place = Path(file)
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        yield from (i for i in imports_of(tree) if i.name.partition(".")[0] != place.stem)


class _Reading:
    """The requirements that follow from the answer of a look-up."""

    def __init__(self, answer: dict[str, Any], wanted: dict[str, bool], own: dict[str, str]) -> None:
        self._modules: dict[str, Any] = answer["modules"]
        self._known: dict[str, Any] = answer["distributions"]
        self._python = ".".join(str(part) for part in answer["python"])
        self._comment = str(answer.get("comment", ""))
        self._wanted = wanted
        self._own = own
        self._notes: list[str] = []

    def requirements(self) -> Requirements:
        version = self._known.get(OURSELVES, {}).get("version", __version__)
        url = self._known.get(OURSELVES, {}).get("url", "")
        reachable = url if not url.startswith("file:") else ""
        found = {OURSELVES: Requirement(f"{OURSELVES} @ {url}" if reachable else _pinned(OURSELVES, version))}
        for name, module in self._modules.items():
            distribution = self._choose(name, module)
            if distribution and distribution not in found:
                found[distribution] = self._dependency(distribution)
        for name, (companion, why) in COMPANIONS.items():
            if name in found and companion in self._known and companion not in found:
                found[companion] = replace(self._dependency(companion), why=why)
        own = tuple(sorted({Path(file).name for file in self._own.values()}))
        self._notes += [f"{name} is a module of yours: it must lie beside the script" for name in own]
        lines = sorted(found.values(), key=lambda d: d.requirement.lower())
        return Requirements(self._python, tuple(lines), own, tuple(dict.fromkeys(self._notes)), self._comment)

    def _choose(self, name: str, module: dict[str, Any]) -> str:
        top = name.partition(".")[0]
        candidates: list[str] = module["distributions"]
        if not candidates:
            if not module["file"] and not self._wanted[name]:
                self._notes.append(
                    f"no distribution with a module {top} is installed here: add the one that it comes from to the "
                    "script's dependencies"
                )
            return ""
        if len(candidates) > 1:
            self._notes.append(f"{top} belongs to {' and '.join(candidates)} here: the script asks for {candidates[0]}")
        return candidates[0]

    def _dependency(self, distribution: str) -> Requirement:
        about = self._known[distribution]
        url: str = about["url"]
        if not url:
            return Requirement(_pinned(distribution, about["version"]))
        if not url.startswith("file:"):
            return Requirement(f"{distribution} @ {url}")
        pinned = _pinned(distribution, about["version"])
        self._notes.append(f"{distribution} is installed from {url}: the script asks the package index for {pinned}")
        return Requirement(pinned)


def _pinned(distribution: str, version: str) -> str:
    """Return a pinned requirement, without a local version (`+cpu`), which a package index does not have."""
    return f"{distribution}=={version.partition('+')[0]}" if version else distribution


def hidden_by(script: str, text: str) -> str:
    """Return what is wrong with the file name of a script with this text; "" where nothing is.

    `python concurrent.py` has its own folder first on the path: every import of `concurrent` then gets the script.
    """
    name = PurePath(script).stem
    if name in sys.stdlib_module_names:
        whose = "a module of Python's own"
    elif name in {found.name.partition(".")[0] for found in imports_of(ast.parse(text))}:
        whose = "a module that it imports"
    elif name in _our_imports():
        whose = "a module that nbcompose imports"
    else:
        return ""
    return f"{PurePath(script).name} has the name of {whose}, which it hides: call the script something else"


def _our_imports() -> set[str]:
    """Return the top-level modules of the distributions that nbcompose needs without its extras."""
    wanted = [requirement for requirement in metadata.requires(OURSELVES) or () if "extra ==" not in requirement]
    names = {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    found = metadata.packages_distributions()
    return {name for name, owners in found.items() if names & {owner.lower().replace("_", "-") for owner in owners}}


def unpinned(why: str) -> LookUp:
    """Return a look-up for an unknown environment: distributions have the names that they have here, and no versions.

    `why` becomes a comment.
    """

    def look_up(names: list[str], distributions: list[str]) -> dict[str, Any]:
        found = lookup.look_up(names, distributions)
        nothing = {name: {"version": "", "url": ""} for name in [*found["distributions"], OURSELVES]}
        return found | {"distributions": nothing, "comment": " ".join(why.split())}

    return look_up


def of_interpreter(python: str) -> LookUp:
    """Return a look-up in the environment of another interpreter, which is started for it.

    The look-up raises `NbcomposeError` where that interpreter does not answer.
    """

    @cache
    def ask(question: str) -> str:
        program = Path(lookup.__file__).read_text(encoding="utf-8")
        try:
            done = subprocess.run(
                [python, "-I", "-c", program], input=question, capture_output=True, text=True, timeout=WAIT, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", None) or type(error).__name__).strip().splitlines()
            raise NbcomposeError(f"{python} does not say what is installed there: {said[-1]}") from error
        return done.stdout

    def look_up(names: list[str], distributions: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ask(json.dumps([names, distributions])))
        return found

    return look_up
