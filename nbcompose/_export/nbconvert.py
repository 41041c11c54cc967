"""Exporter for `jupyter nbconvert --to nbcompose`, and *Save and Export Notebook As* in JupyterLab.

It runs in the environment of the Jupyter server, which may differ from the notebook's: versions are those of the
environment of the notebook's kernel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbconvert.exporters import Exporter

from nbcompose._export import lookup
from nbcompose._export.cells import cells_of
from nbcompose._export.exporter import NotebookSource, Request, export
from nbcompose._export.requirements import LookUp, hidden_by, of_interpreter, unpinned
from nbcompose.errors import NbcomposeError


class NbcomposeExporter(Exporter):  # type: ignore[misc]  # nbconvert's imports are not followed
    """Exports a notebook's services as a script. Raises `ExportRefused`, whose text Jupyter shows."""

    export_from_notebook = "nbcompose script"
    output_mimetype = "text/x-python"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("file_extension", ".py")
        super().__init__(**kwargs)

    def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> tuple[str, Any]:
        nb, resources = super().from_notebook_node(nb, resources, **kw)
        name = str(resources["metadata"].get("name") or "notebook")
        folder = Path(str(resources["metadata"].get("path") or ""))
        source = NotebookSource(cells_of(nb, f"{name}.ipynb"), f"{name}.ipynb", folder=folder)
        exported = export(source, Request(), script=f"{name}.py", look_up=_look_up(nb))
        if hidden_by(f"{name}.py", exported.text):
            resources["output_extension"] = "_app.py"  # appended to the notebook's name
        for note in exported.notes:
            self.log.warning("nbcompose: %s", note)
        return exported.text, resources


def _look_up(nb: Any) -> LookUp:
    """Return a look-up of what is installed where the notebook's kernel runs."""
    kernel = nb.metadata.get("kernelspec", {}).get("name", "")
    try:
        python = _interpreter(str(kernel))
    except NbcomposeError as error:
        return unpinned(str(error))
    if os.path.realpath(python) == os.path.realpath(sys.executable) and _same_environment(python):
        return lookup.look_up
    found = of_interpreter(python)
    try:
        found([], [])
    except NbcomposeError as error:
        return unpinned(f"versions are not known: {error}")
    return found


def _interpreter(kernel: str) -> str:
    """Return the Python that a kernel runs. Raises `NbcomposeError` where it is unknown."""
    if not kernel:
        raise NbcomposeError("versions are not known: the notebook does not say which kernel it runs in")
    try:
        spec = KernelSpecManager().get_kernel_spec(kernel)
    except NoSuchKernel:
        raise NbcomposeError(f"versions are not known: the server has no kernel {kernel}") from None
    if spec.language.lower() != "python" or not spec.argv:
        raise NbcomposeError(f"versions are not known: {kernel} is not a Python kernel")
    python = str(spec.argv[0])
    return sys.executable if python in ("python", "python3") else python


def _same_environment(python: str) -> bool:
    """Whether an interpreter is in this environment: that of a virtual environment may be a link to the one it was made
    from.
    """
    return os.path.dirname(os.path.abspath(python)) == os.path.dirname(os.path.abspath(sys.executable))
