"""Runs notebooks and saves them with their outputs, as readers and `make notebooks` want them.

    python scripts/save_notebooks.py [NOTEBOOK ...]

Without arguments: every notebook in notebooks/. What changes from run to run without meaning is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def run(notebook: Path) -> Any:
    """The notebook as it is after running every cell."""
    content: Any = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(notebook.parent)}}
    quiet = ["--log-level=ERROR"]  # what the kernel says of its sockets is no news here
    NotebookClient(
        content, timeout=600, kernel_name="python3", resources=resources, extra_arguments=quiet, record_timing=False
    ).execute()
    return content


def tidy(content: Any) -> None:
    """Drop what the kernel says of itself, and join what a cell printed in pieces."""
    content.metadata.language_info = {"name": "python"}
    content.metadata.pop("widgets", None)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = list(joined(cell.outputs))


def joined(outputs: list[Any]) -> list[Any]:
    """The outputs, with those of one stream that follow one another made one: how they were cut is chance."""
    result: list[Any] = []
    for output in outputs:
        last = result[-1] if result else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            result.append(output)
    return result


def main(arguments: list[str]) -> int:
    for notebook in [Path(a).resolve() for a in arguments] or sorted(FOLDER.glob("*.ipynb")):
        print(f"running {notebook.name} ...", flush=True)
        content = run(notebook)
        tidy(content)
        nbformat.write(content, notebook)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
