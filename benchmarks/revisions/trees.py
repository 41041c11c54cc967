"""The two that are compared: `nbcompose` of a revision and of the working tree, each a copy in a folder of its own.

Beside each copy lies a copy of this package, the working tree's: what is measured, and how, is the same for both. They
run in this environment, with their folder before everything else on the path. The working tree is copied as well, so
that it may be edited meanwhile, and so that both are compiled afresh.
"""

from __future__ import annotations

import compileall
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.servers import OURS, ROOT, Framework

PACKAGE = "nbcompose"


class UnknownRevision(Exception):
    """There is no such commit, or the package is not in it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two of them; `about` says which commits they are."""

    base: Framework
    new: Framework
    about: str


@contextmanager
def pair(revision: str) -> Iterator[Pair]:
    """Both, in a private folder that is gone after the block. Raises `UnknownRevision`."""
    commit = _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    with tempfile.TemporaryDirectory(prefix="nbcompose-revisions-") as folder:
        base, new = (Path(folder).resolve() / name for name in ("base", "new"))
        _copy_revision(commit, base)
        _copy_working_tree(new)
        for tree in (base, new):
            shutil.copytree(ROOT / "benchmarks", tree / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(tree, quiet=2)
        yield Pair(replace(OURS, label="base", root=base), replace(OURS, label="new", root=new), _about(commit))


def check_package(framework: Framework, *files: str) -> None:
    """Raises `RuntimeError` where a process imported the package from elsewhere: it would measure something else."""
    for file in files:
        if not Path(file).is_relative_to(framework.root / PACKAGE):
            raise RuntimeError(f"a process of {framework.label} runs {file}, which is not in {framework.root}")


def _copy_revision(commit: str, tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, PACKAGE))) as archive:
        archive.extractall(tree, filter="data")


def _copy_working_tree(tree: Path) -> None:
    """As it is: with what is not committed, without what git ignores."""
    for name in _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", PACKAGE).decode().split("\0"):
        source, target = ROOT / name, tree / name
        if name and source.is_file():  # one that is deleted, but not yet in a commit, is listed too
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _about(commit: str) -> str:
    base, head = (_git("log", "-1", "--format=%h (%s)", revision).decode().strip() for revision in (commit, "HEAD"))
    changed = _git("status", "--porcelain", "--", PACKAGE).decode().splitlines()
    return f"base: {base}\nnew: {head}" + (f", and {len(changed)} files that are not committed" if changed else "")


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise UnknownRevision(f"no such revision of {PACKAGE} here: 'git {' '.join(arguments)}' says: {said}")
    return done.stdout
