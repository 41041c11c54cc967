"""`nbcompose export notebook.ipynb`: exports a script from a notebook's file, without a kernel."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nbcompose.errors import NbcomposeError

STDOUT = "-"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("export", help="write the services of a notebook as a script")
    add = parser.add_argument
    add("notebook", metavar="NOTEBOOK", type=Path, help="a notebook (.ipynb), or a script (.py)")
    add("-o", "--output", metavar="FILE", default=STDOUT, help="the script, e.g. app.py (standard output)")
    add("--entry", metavar="NAME", action="append", default=[], help="a service to be served over HTTP (repeatable); "
        "by default all that no other depends on")  # fmt: skip
    add("--freeze", metavar="NAME", action="append", default=[], help="only in a live notebook: %%export --freeze NAME")
    add("--recompute", metavar="NAME", action="append", default=[], help="have the script work out a name that takes "
        "long (repeatable)")  # fmt: skip
    add("--docker", action="store_true", help="also write a Dockerfile and a .dockerignore")
    add("--force", action="store_true", help="overwrite files that nbcompose has not written")
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    try:
        from nbcompose._export import exporter
        from nbcompose._export.cells import read_cells
    except ImportError as error:
        raise NbcomposeError(
            f"a notebook is exported with packages that are not installed here ({error.name}): "
            "pip install 'nbcompose[notebook]'"
        ) from error
    try:
        source = exporter.NotebookSource(
            read_cells(options.notebook), exporter.name_of(options.notebook), folder=options.notebook.parent
        )
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise NbcomposeError(f"{options.notebook} cannot be read: {why}") from error
    request = exporter.Request(
        entries=tuple(options.entry),
        freeze=tuple(options.freeze),
        recompute=tuple(options.recompute),
        docker=options.docker,
        force=options.force,
    )
    if options.output == STDOUT:
        if options.docker:
            raise NbcomposeError("--docker writes files beside the script: say where that is to be, with -o app.py")
        exported = exporter.export(source, request, script="app.py")
        print(exported.text, end="")
    else:
        path = Path(options.output)
        exported = exporter.export_to(path, source, request)
        print(exported.summary(path))
    for note in exported.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0
