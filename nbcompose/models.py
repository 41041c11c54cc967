"""Models that a service names as class attributes. How their files are had is left to `_hub.py`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nbcompose._hub import Download, ModelProgress, Snapshot, cache_dir
from nbcompose.errors import ModelError

__all__ = ["HuggingFaceModel", "ModelProgress", "models_of", "prefetch"]

# What this process has resolved: an attribute is read more often than a model changes.
_paths: dict[tuple[HuggingFaceModel, Path], str] = {}
_lock = threading.Lock()


class HuggingFaceModel:
    """A model of the Hugging Face hub; as a class attribute it reads as the path of a local directory.

        class Embedder:
            path = HuggingFaceModel("sentence-transformers/all-MiniLM-L6-v2")

    `model_id` is the id on the hub, or a directory, which is used as it is. `revision` is a branch, tag or commit;
    what is cached of a branch is used without asking the hub for a newer commit. `endpoint` is another hub's URL;
    `include` and `exclude` are patterns of file names.

    A replica downloads before it makes the instance. Reading the attribute elsewhere downloads too, if nothing is
    cached, and raises ModelError when that fails; naming a model never does either.
    """

    __slots__ = ("_snapshot",)

    def __init__(
        self,
        model_id: str,
        revision: str = "main",
        endpoint: str | None = None,
        include: Iterable[str] | str | None = None,
        exclude: Iterable[str] | str | None = None,
    ) -> None:
        if not isinstance(model_id, str) or not model_id:
            raise TypeError(f"HuggingFaceModel takes a model's id, such as 'organization/name', not {model_id!r}")
        self._snapshot = Snapshot(model_id, revision, endpoint, _patterns(include), _patterns(exclude))

    @property
    def model_id(self) -> str:
        return self._snapshot.repo_id

    @property
    def revision(self) -> str:
        return self._snapshot.revision

    @property
    def model_path(self) -> str:
        """The local directory with the model's files. Downloads what is missing; raises ModelError."""
        return _resolve(self, lambda download: download.run())

    def __get__(self, instance: object, owner: type[Any] | None = None) -> str:
        return self.model_path

    def __fspath__(self) -> str:
        return self.model_path

    def __eq__(self, other: object) -> bool:
        return self._snapshot == other._snapshot if isinstance(other, HuggingFaceModel) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._snapshot)

    def __repr__(self) -> str:
        revision = "" if self.revision == "main" else f", revision={self.revision!r}"
        return f"HuggingFaceModel({self.model_id!r}{revision})"


def models_of(cls: type[Any]) -> dict[str, HuggingFaceModel]:
    """The models that a class names, inherited ones included, by attribute. Resolves nothing."""
    attributes: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        attributes.update(vars(base))
    return {name: value for name, value in attributes.items() if isinstance(value, HuggingFaceModel)}


def prefetch(
    cls: type[Any],
    progress: Callable[[ModelProgress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """Have every model of `cls` on disk, one after another; returns the path of each attribute. Blocks.

    `progress` is called on this thread, at most five times a second, for downloads only. `cancelled` is asked as
    often; once it is true the download stops. Raises ModelError, then and when a model could not be loaded.
    """
    return {
        name: _resolve(model, lambda download: download.run(progress, cancelled))
        for name, model in models_of(cls).items()
    }


def _resolve(model: HuggingFaceModel, download: Callable[[Download], str]) -> str:
    snapshot = model._snapshot
    local = os.path.expanduser(snapshot.repo_id)
    if os.path.isdir(local):
        return os.path.abspath(local)
    if snapshot.repo_id.startswith(("/", "~", "./", "../")):
        raise ModelError(f"there is no directory {snapshot.repo_id!r} here (looked from {os.getcwd()})")
    key = (model, cache_dir())
    with _lock:
        known = _paths.get(key)
    if known is not None and os.path.isdir(known):
        return known
    path = snapshot.find() or download(Download(snapshot))
    with _lock:
        _paths[key] = path
    return path


def _patterns(patterns: Iterable[str] | str | None) -> tuple[str, ...] | None:
    if patterns is None:
        return None
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)
