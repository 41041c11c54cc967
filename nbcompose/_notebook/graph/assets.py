"""Front-end assets: joins the ES modules of static/src into the single module that the widget sends to the browser.

Forms and results are modules of the page at /docs (`_replica/http/static`), which are imported by their relative path.

No build step is needed: browsers, editors and checkers read the modules as they are. Joining removes imports and the
word `export`. That is correct for modules that import only by `import { name, … } from "./file.js";` (or "../…"),
export only declarations, and have no cycle; anything else raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
ENTRY = "index.js"
STYLES = ("../../../_replica/http/static/form.css", "graph.css")  # the later one has the last word

_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.\.?/[\w./-]+\.js)";\n', re.MULTILINE)
_DECLARED = re.compile(r"^(export )?(?:async )?(?:function\*?|const|let|class) ([\w$]+)", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)
_DOC = re.compile(r"^ */\*\*(?:(?!\*/).)*\*/\n", re.MULTILINE | re.DOTALL)  # types, for checkers
_LEFT = re.compile(r"^(?:import\b.*|export\b(?! default\b).*|(?:const|let|var) [\[{].*|var .*)", re.MULTILINE)


@cache
def module(entry: str = ENTRY) -> str:
    """Return the ES module of a widget; by default, that of the live graph."""
    return joined(STATIC / "src", entry)


@cache
def style() -> str:
    """Return the style sheet of forms and results, and that of the live graph."""
    return "".join((STATIC / name).resolve().read_text(encoding="utf-8") for name in STYLES)


def joined(folder: Path, entry: str = ENTRY) -> str:
    """Return `entry` and all that it imports, as one module with the default export of `entry`.

    Raises `ValueError`, with the name of the file, for modules that cannot be joined.
    """
    texts = _collected((folder / entry).resolve(), {}, ())
    owners: dict[str, str] = {}
    for file, text in texts.items():
        for _, name in _declared(text):
            if name in owners:
                raise ValueError(
                    f"{file.name}: {name} is declared in {owners[name]} too; the two would be one when joined"
                )
            owners[name] = file.name
    for file, text in texts.items():
        _check_imports(file, text, texts)
    return "\n".join(_bare(file.name, text, is_entry=file.name == entry) for file, text in texts.items())


def _collected(file: Path, found: dict[Path, str], above: tuple[Path, ...]) -> dict[Path, str]:
    """Return modules by file, each after those that it imports."""
    if file in above:
        raise ValueError(f"modules import each other: {' → '.join(each.name for each in (*above, file))}")
    if file not in found:
        text = file.read_text(encoding="utf-8")
        for _, imported in _IMPORT.findall(text):
            _collected((file.parent / imported).resolve(), found, (*above, file))
        found[file] = text
    return found


def _declared(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the declarations at the beginning of lines: whether exported, and the name."""
    return ((bool(export), name) for export, name in _DECLARED.findall(text))


def _check_imports(file: Path, text: str, texts: dict[Path, str]) -> None:
    for names, source in _IMPORT.findall(text):
        exported = {name for export, name in _declared(texts[(file.parent / source).resolve()]) if export}
        wanted = {name.strip() for name in names.split(",") if name.strip()}
        if wanted - exported:
            raise ValueError(f"{file.name}: {Path(source).name} exports no {', '.join(sorted(wanted - exported))}")


def _bare(file: str, text: str, is_entry: bool) -> str:
    bare = _EXPORT.sub("", _IMPORT.sub("", _DOC.sub("", text)))
    left = _LEFT.search(bare)
    if left is not None or (not is_entry and "\nexport default" in bare):
        raise ValueError(f"{file}: this cannot be joined: {left[0] if left else 'export default'}")
    return f"// {file}\n{bare}"
