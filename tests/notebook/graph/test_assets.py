"""The front end's modules, joined into one as a browser gets it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nbcompose._notebook.graph import assets
from nbcompose._replica.http import docs

OWN = sorted((assets.STATIC / "src").glob("*.js"))
SHARED = Path(docs.__file__).parent / "static"
CARDS = assets.STATIC / "src" / "cards.js"  # of another widget
SOURCES = [*OWN, *(p for p in SHARED.glob("*.js") if p.stem not in ("docs", "requests"))]


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.js").write_text(text)
    return tmp_path


@pytest.mark.parametrize("entry", ["index.js", "cards.js"])
def test_every_module_is_there_once_after_those_that_it_imports(entry: str) -> None:
    order = re.findall(r"^// (\w+\.js)$", assets.module(entry), re.MULTILINE)
    assert len(order) == len(set(order))
    assert order[-1] == entry
    if entry == "index.js":
        assert sorted(order) == sorted(s.name for s in SOURCES if s.name != "cards.js")  # a widget of its own
    for source in SOURCES:
        if source.name not in order:
            continue
        for imported in re.findall(r'from "[\w./]*/(\w+\.js)"', source.read_text()):
            assert order.index(imported) < order.index(source.name)


def test_no_import_is_left_and_one_export() -> None:
    text = assets.module()
    assert re.findall(r"^(?:import|export).*", text, re.MULTILINE) == ["export default { initialize, render };"]


def test_modules_are_small() -> None:
    assert [s.name for s in SOURCES if len(s.read_text().splitlines()) > 300] == []


@pytest.mark.system
@pytest.mark.skipif(shutil.which("node") is None, reason="no node, which knows what a valid module is")
def test_the_modules_and_what_is_joined_are_valid(tmp_path: Path) -> None:
    joined = tmp_path / "joined.mjs"
    joined.write_text(assets.module())
    for module in (
        joined,
        assets.STATIC / "src" / assets.ENTRY,
        assets.STATIC / "src" / "cards.js",
    ):  # which links all that it imports
        code = f"import({str(module)!r})"
        done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_it_is_joined_once() -> None:
    assert assets.module() is assets.module()


def test_the_style_of_forms_comes_first() -> None:
    forms, graph = (p.read_text() for p in (SHARED / "form.css", assets.STATIC / "graph.css"))
    assert assets.style() == forms + graph


def test_joining(tmp_path: Path) -> None:
    source = folder(
        tmp_path,
        index='// Entry.\n\nimport {\n  one,\n  two,\n} from "./numbers.js";\n\nexport default { sum: one + two() };\n',
        numbers="/**\n * One.\n *\n * @type {number}\n */\nexport const one = 1;\nexport async function two() {}\n"
        "const own = /** @type {any} */ (3);\n",
    )
    assert assets.joined(source) == (
        "// numbers.js\nconst one = 1;\nasync function two() {}\nconst own = /** @type {any} */ (3);\n\n"
        "// index.js\n// Entry.\n\n\nexport default { sum: one + two() };\n"
    )


def test_modules_of_another_folder(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    folder(tmp_path, shared='import { a } from "./deep.js";\nexport const b = a;\n', deep="export const a = 1;\n")
    source = folder(tmp_path / "own", index='import { b } from "../shared.js";\nexport default { b };\n')
    assert assets.joined(source) == (
        "// deep.js\nconst a = 1;\n\n// shared.js\nconst b = a;\n\n// index.js\nexport default { b };\n"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"index": 'import { a } from "./x.js";\nconst b = 1;\n', "x": "export const a = 1;\nfunction b() {}\n"},
            r"index.js: b is declared in x.js too",
        ),
        ({"index": 'import { a } from "./x.js";\n', "x": "const a = 1;\n"}, r"index.js: x.js exports no a"),
        (
            {"index": 'import { a } from "./x.js";\n', "x": 'import { c } from "./index.js";\nexport const a = c;\n'},
            r"modules import each other: index.js → x.js → index.js",
        ),
        ({"index": 'import { a as b } from "./x.js";\n', "x": "export const a = 1;\n"}, r"x.js exports no a as b"),
        ({"index": 'import x from "./x.js";\n'}, r'index.js: this cannot be joined: import x from "./x.js";'),
        ({"index": "const { a } = window;\n"}, r"index.js: this cannot be joined: const \{ a \}"),
        (
            {"index": 'import { a } from "./x.js";\n', "x": "export const a = 1;\n\nexport default a;\n"},
            r"x.js: this cannot be joined: export default",
        ),
    ],
)
def test_what_cannot_be_joined_says_so(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assets.joined(folder(tmp_path, **files))
