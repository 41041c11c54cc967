"""Models that a service names as class attributes; `_hub.py` finds and downloads their files."""

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

    A replica downloads the model before it creates the instance. Reading the attribute elsewhere downloads it too if it
    is not cached, and raises `ModelError` when that fails. Creating this object downloads nothing.

    Args:
        model_id: The id on the hub, e.g. `organization/name`, or a local directory, which is used as it is.
        revision: A branch, tag or commit. A cached branch is used without asking the hub for a newer commit.
        endpoint: The URL of another hub.
        include: Patterns of the file names to download; by default all.
        exclude: Patterns of file names to leave out.

    Raises:
        TypeError: `model_id` is not a text, or is empty.
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
        """The local directory with the model's files.

        Downloads what is missing.

        Raises:
            ModelError: The model could not be loaded.
        """
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
    """Return the models of a class without downloading them.

    Args:
        cls: The class of a service.

    Returns:
        Its models, inherited ones included, by attribute.
    """
    attributes: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        attributes.update(vars(base))
    return {name: value for name, value in attributes.items() if isinstance(value, HuggingFaceModel)}


def prefetch(
    cls: type[Any],
    progress: Callable[[ModelProgress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """Download the models of a class that are not cached, one after another. Blocks.

    Args:
        cls: The class of a service.
        progress: Called on this thread during downloads, at most five times a second.
        cancelled: Called as often; once it returns True the download stops.

    Returns:
        The local directory of each model, by attribute.

    Raises:
        ModelError: A model could not be loaded, or the download was cancelled.
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
