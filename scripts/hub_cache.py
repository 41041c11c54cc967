"""One repository in a Hugging Face cache folder: writes it whole or not at all. What is in it is the caller's matter.

The layout is the one that `huggingface_hub` reads: `models--org--name/refs/main` names a revision, and
`models--org--name/snapshots/<revision>` holds its files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def revision_of(*parts: str | bytes) -> str:
    """A revision id (40 hex digits, as git's) that changes when any of the parts does."""
    digest = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


class CachedRepository:
    """The folder of one model, `repo_id` being its id on the hub, in the cache at `hub`."""

    def __init__(self, hub: Path, repo_id: str) -> None:
        self.repo_id = repo_id
        self.folder = hub / f"models--{repo_id.replace('/', '--')}"

    def snapshot(self, revision: str) -> Path:
        return self.folder / "snapshots" / revision

    def holds(self, revision: str) -> bool:
        """Whether `main` is that revision, completely written."""
        ref = self.folder / "refs" / "main"
        return ref.is_file() and ref.read_text() == revision and self.snapshot(revision).is_dir()

    def publish(self, revision: str, build: Callable[[Path], None]) -> Path:
        """Let `build` fill an empty folder, make that the snapshot `revision`, and drop older ones."""
        snapshots = self.folder / "snapshots"
        snapshots.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self.folder))
        try:
            build(unfinished)
            unfinished.chmod(0o755)  # mkdtemp's 0700 would shut out other users of a shared cache
            target = self.snapshot(revision)
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self._point_main_at(revision)
        self._drop_all_but(target)
        return target

    def _point_main_at(self, revision: str) -> None:
        refs = self.folder / "refs"
        refs.mkdir(exist_ok=True)
        unfinished = refs / ".main"
        unfinished.write_text(revision)
        os.replace(unfinished, refs / "main")

    def _drop_all_but(self, current: Path) -> None:
        """Remove older snapshots, and what a killed run has left."""
        for old in (*current.parent.iterdir(), *self.folder.glob(".unfinished-*")):
            if old != current:
                shutil.rmtree(old, ignore_errors=True)
