"""Runs the quickstart notebook from top to bottom, without a browser, and prints what it asks and what it is answered.

The executed notebook is saved in build/, also as a page. What the notebook does is the notebook's matter: this prints
the text that the cells tagged `demo` print.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

CHECKOUT = Path(__file__).resolve().parents[1]
CELL_LIMIT = 600  # seconds: a first start reads a model from a cold disk


def heading_of(source: str) -> str:
    """What to call a code cell while it runs: its service, or its first line."""
    lines = [line for line in source.splitlines() if line.strip()] or [""]
    if lines[0].startswith("%%service"):
        return "starting " + ", ".join(re.findall(r"^class (\w+)", source, re.MULTILINE))
    return lines[0] if len(lines[0]) <= 80 else f"{lines[0][:77]}..."


def printed_by(cell: Any) -> str:
    """Everything that a cell printed."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


class Demo:
    """One run of a notebook."""

    def __init__(self, notebook: Path) -> None:
        self.notebook = notebook
        self.content: Any = nbformat.read(notebook, as_version=4)
        self._started = time.monotonic()

    def run(self) -> None:
        """Execute every cell. Raises CellExecutionError for the first one that fails."""
        client = NotebookClient(
            self.content,
            timeout=CELL_LIMIT,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],  # what it says of its sockets is no news here
            resources={"metadata": {"path": str(self.notebook.parent)}},
            on_cell_execute=self._before,
            on_cell_executed=self._after,
        )
        client.execute()

    def _before(self, cell: Any, cell_index: int) -> None:
        if cell.cell_type == "code":
            print(f"[{time.monotonic() - self._started:5.1f} s] {heading_of(cell.source)}", flush=True)

    def _after(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        if "demo" in cell.metadata.get("tags", ()):
            print(f"\n{printed_by(cell)}", flush=True)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """The paths of the executed notebook and of the page made from it."""
        folder.mkdir(parents=True, exist_ok=True)
        saved = folder / self.notebook.name
        nbformat.write(self.content, saved)
        page = saved.with_suffix(".html")
        page.write_text(HTMLExporter().from_notebook_node(self.content)[0], encoding="utf-8")
        return saved, page


def main() -> int:
    demo = Demo(CHECKOUT / "notebooks" / "quickstart.ipynb")
    print(f"==> running {demo.notebook.relative_to(CHECKOUT)}", flush=True)
    try:
        demo.run()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        saved, page = demo.save(CHECKOUT / "build")
        print(f"==> the executed notebook: {saved}\n    the same as a page:    {page.as_uri()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
