"""The documentation site: it builds without a warning, what it quotes exists, and its examples run."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "nbcompose"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [DOCS / "index.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
# Set by nbcompose for its own processes.
INTERNAL = {"NBCOMPOSE_OWNER_PID"}


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module; `…` stands for what an f-string fills in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)


@pytest.fixture(scope="module")
def strings() -> list[str]:
    modules = (path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return [text for module in modules for text in texts(ast.parse(module))]


MESSAGES = re.findall(r"^### ``(.+?)``$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_at_least_twenty_messages_are_explained() -> None:
    assert len(set(MESSAGES)) == len(MESSAGES) >= 20


@pytest.mark.parametrize("message", MESSAGES)
def test_each_quoted_message_is_in_the_package(message: str, strings: list[str]) -> None:
    wanted = ".+?".join(map(re.escape, re.split("…+", message.strip()))).replace(r"\ ", " ")
    assert any(re.search(wanted, text) for text in strings if "…" in text or "…" not in message)


def test_the_environment_variables_are_documented() -> None:
    known = {
        name for path in PACKAGE.rglob("*.py") for name in re.findall(r"NBCOMPOSE_[A-Z_]+", path.read_text("utf-8"))
    }
    page = (DOCS / "reference" / "environment.md").read_text(encoding="utf-8")
    assert set(re.findall(r"NBCOMPOSE_[A-Z_]+", page)) == known - INTERNAL


def test_every_public_name_is_in_the_reference() -> None:
    import nbcompose

    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"auto\w+:: nbcompose\.(\w+)$", page, re.MULTILINE))
    errors = {name for name in nbcompose.__all__ if name in vars(nbcompose.errors)}
    modules = {name for name in nbcompose.__all__ if inspect.ismodule(getattr(nbcompose, name))}
    assert documented == set(nbcompose.__all__) - errors - modules - {"__version__"}


@pytest.mark.slow
@pytest.mark.system
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "trees"),
         str(DOCS), str(tmp_path / "html")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (built.returncode, built.stdout) == (0, "")
    api = (tmp_path / "html" / "reference" / "api.html").read_text(encoding="utf-8")
    magics = (tmp_path / "html" / "reference" / "magics.html").read_text(encoding="utf-8")
    assert 'id="nbcompose.depends"' in api
    assert "--max-concurrency" in magics


@pytest.mark.slow
@pytest.mark.system
def test_the_examples_run(tmp_path: Path) -> None:
    """All pages in one kernel, one after another, each without the services of the page before."""
    pytest.importorskip("transformers", reason="one page uses a model")
    cells = [
        nbformat.v4.new_code_cell(source)
        for page in PAGES
        if (blocks := BLOCK.findall(page.read_text(encoding="utf-8")))
        for source in [*blocks, "%services stop --all"]
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=int(PATIENCE), kernel_name="python3", resources=where).execute()
    shown = {cell.source: _output(cell) for cell in notebook.cells}
    for start, text in SHOWN.items():
        [source] = [source for source in shown if source.startswith(start)]
        assert text in shown[source], source
    assert "different" not in "".join(text for source, text in shown.items() if source.startswith("%export"))


# What examples print, by how they begin.
SHOWN = {
    "Writer.write(": "Once upon a time",
    "import httpx\nfrom greetings import Greeter": "hello you\n",
    "Embedder.embed(": "[[0, 1, 0, 1, 0], [0, 0, 0, 1, 0]]",
    'print(Answer.find("where did': "the cat sat on the mat\n",
    "%export app.py --check": "and its services are ready",
    "Scaler.where()": "cpu",
    "list(Loud.shout(": "['ONE', 'TWO', 'THREE']",
    'import httpx\n\nheaders = {"Authorization": f"Bearer {Loud.token}"': 'data: "ONE"',
    "answers = await asyncio.gather(*(Lengths.": "[[0], [1], [2], [3], [4], [5], [6], [7]]",
    "Model.predict(": "5.0",
    'print(http.post("/price"': "less than or equal to 9",
    'http.post("/order"': "2 x pear",
    'http.post("/size"': "'tags': ['2024', 'b']",
    "!printf": '{"bytes":4,"tags":["2024","b"]}',
    "body = io.BytesIO()": "[ 6.,  8., 10.]",
    "import sys\n\n!{sys.executable} program.py": "HELLO",
    "import sys\n\n!{sys.executable} -m pytest": "4 passed",
    "start = time.perf_counter()": "True",
    "Front.ask(1)": "3",
    "nbcompose.trace()\n": "Front.ask",
    'Search.find("where"': "Search.find(question='where', api_key=•••)\n  → ['where?', 'no']",
    'print(httpx.post(f"{Vault.url}/open"': "opened",
    "Embedder.tokens(": "['a', 'service', 'in', 'a', 'cell']",
}


def _output(cell: nbformat.NotebookNode) -> str:
    text = "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)
    return re.sub(r"\x1b\[[0-9;]*m", "", text)  # colours
