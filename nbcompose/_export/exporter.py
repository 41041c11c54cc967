"""Export: from cells and a request to a script, and the files beside it.

Common to `%export`, `nbcompose export` and nbconvert.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbcompose._export import lookup
from nbcompose._export.cells import Cell
from nbcompose._export.diagnostics import of_a_file
from nbcompose._export.docker import Wheel, dockerfile, dockerignore, wheel_of_ours
from nbcompose._export.freeze import Frozen, heavy, store
from nbcompose._export.requirements import LookUp, hidden_by
from nbcompose._export.script import exported_from, write
from nbcompose._export.slice import Slice, needed
from nbcompose._export.statements import statements_of
from nbcompose.errors import ExportRefused, NbcomposeError

DOCKER = ("Dockerfile", ".dockerignore")
_OURS = "Written by nbcompose."  # contained in the files for Docker


@dataclass(frozen=True, slots=True)
class NotebookSource:
    """What is exported: cells, and the name of the notebook's file.

    For a live notebook: `values` by name, and `versions`, by variable: the label of the cell run that made the serving
    version of a service, where that is not the last one. `folder`: the notebook's; None: the current one.
    """

    cells: Sequence[Cell]
    notebook: str
    values: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is requested. `freeze` and `recompute` are names."""

    entries: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    recompute: tuple[str, ...] = ()
    docker: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported script. `files`: texts of files beside it; `frozen`: values in files; `services` and `entries`:
    variables.

    `wheel`: nbcompose, for the container. `unseeded`: reasons why its values may differ from the notebook's.
    """

    text: str
    services: tuple[str, ...]
    entries: tuple[str, ...]
    notes: tuple[str, ...]
    files: Mapping[str, str]
    frozen: tuple[Frozen, ...] = ()
    wheel: Wheel | None = None
    unseeded: tuple[str, ...] = ()

    def summary(self, path: Path) -> str:
        """Return one line on what was written."""
        count = len(self.services)
        what = f"{count} service{'' if count == 1 else 's'}, {len(self.text.splitlines())} lines"
        return f"{path}: {what}; serve it with `python {shlex.quote(str(path))}`"


def export(
    source: NotebookSource, request: Request, *, script: str, data: Path | None = None, look_up: LookUp = lookup.look_up
) -> Exported:
    """Export a script of the file name `script`. Frozen values are written to the folder `data`.

    Raises `ExportRefused`, with all reasons.
    """
    _check_freeze(source, request)
    found = _needed(source, request)
    frozen = []
    if found.frozen:
        assert data is not None
        assert source.values is not None
        frozen = [store(name, source.values[name], data) for name in found.frozen]
    written = write(found, source.notebook, frozen=frozen, look_up=look_up, folder=source.folder)
    notes = [*written.notes, *heavy(found, source.values)]
    files, wheel = {}, wheel_of_ours() if request.docker else None
    if request.docker:
        name = wheel.name if wheel is not None else ""
        text = dockerfile(script, found.entries, written.requirements, name)
        files = {"Dockerfile": text, ".dockerignore": dockerignore()}
    if wheel is not None:
        notes.append(
            f"nbcompose is not from a package index here: it lies beside the script as {wheel.name}, made from what is "
            "installed, and the Dockerfile installs that"
        )
    return Exported(
        written.text, found.services, found.entries, tuple(notes), files, tuple(frozen), wheel, found.unseeded
    )


def _needed(source: NotebookSource, request: Request) -> Slice:
    known: Collection[str] = source.values or ()
    try:
        return needed(
            statements_of(source.cells),
            request.entries or None,
            request.freeze,
            recompute=request.recompute,
            versions=source.versions,
            known=known,
        )
    except ExportRefused as refused:
        if source.values is not None:
            raise
        message = str(refused).partition("\n")[0]
        raise ExportRefused(message, [of_a_file(reason) for reason in refused.reasons]) from None


def export_to(path: Path, source: NotebookSource, request: Request, *, look_up: LookUp = lookup.look_up) -> Exported:
    """Write the script and the files beside it: each file completely, and the script last.

    Raises what `export` raises, and `NbcomposeError` where another file is in the way, the folder cannot be written to,
    or a script of that name would hide a module.
    """
    _check_free(path, request)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".nbcompose-") as staging:
            data = Path(staging, f"{path.stem}_data")
            exported = export(source, request, script=path.name, data=data, look_up=look_up)
            hidden = "" if request.force else hidden_by(path.name, exported.text)
            if hidden:
                raise NbcomposeError(f"{hidden}, or --force")
            for name, text in {path.name: exported.text, **exported.files}.items():
                Path(staging, name).write_text(text, encoding="utf-8")
            if exported.wheel is not None:
                Path(staging, exported.wheel.name).write_bytes(exported.wheel.content)
            _place(Path(staging), path, exported)
    except OSError as error:
        raise NbcomposeError(f"{path} cannot be written: {error.strerror or error}") from error
    return exported


def name_of(path: Path) -> str:
    """Return the notebook's name for the script's header; for an exported script, the name in its own header."""
    return (exported_from(_text(path)) if path.suffix == ".py" else None) or path.name


def _check_freeze(source: NotebookSource, request: Request) -> None:
    if not request.freeze:
        return
    if source.values is None:
        raise NbcomposeError(
            "a value can be frozen only where it is: run the notebook, and there %export FILE --freeze "
            f"{' --freeze '.join(request.freeze)}"
        )
    missing = [name for name in request.freeze if name not in source.values]
    if missing:
        raise NbcomposeError(f"--freeze {missing[0]}: the notebook has no such name")


def _check_free(path: Path, request: Request) -> None:
    """Raise `NbcomposeError` where a file would be overwritten that nbcompose has not written."""
    if path.suffix != ".py":
        raise NbcomposeError(f"{path}: a script's name ends in .py")
    if request.force:
        return
    in_the_way = []
    if path.exists() and not (path.is_file() and exported_from(_text(path)) is not None):
        in_the_way.append(path)
    if request.docker:
        beside = [path.parent / name for name in DOCKER]
        in_the_way += [p for p in beside if p.exists() and not (p.is_file() and _OURS in _text(p))]
    if in_the_way:
        names = " and ".join(str(p) for p in in_the_way)
        were = "was" if len(in_the_way) == 1 else "were"
        raise NbcomposeError(f"{names} {were} not written by nbcompose: give another name, or --force to overwrite")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def _place(staging: Path, path: Path, exported: Exported) -> None:
    """Move the files to their places, the script last: it never exists without them."""
    folder = path.parent / f"{path.stem}_data"
    stored = [frozen for frozen in exported.frozen if not frozen.code]
    if stored:
        folder.mkdir(exist_ok=True)
    for frozen in stored:
        os.replace(frozen.file, folder / frozen.file.name)
    wheel = [] if exported.wheel is None else [exported.wheel.name]
    for name in (*wheel, *exported.files, path.name):
        os.replace(staging / name, path.parent / name)
