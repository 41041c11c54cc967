"""Models from the Hugging Face hub: one snapshot, found in the cache or downloaded, and failures explained.

Seen to hold from 2.0.0 to 2.4.0; 1.x has the first only, so that a model which is in the cache is asked for once more,
and fewer bytes are counted. tests/canaries/test_huggingface_hub.py fails first where a release changes one of these.

- `snapshot_download` counts with what it is given as `tqdm_class`: it gives `unit`, `name` and `total` to the
  constructor, changes `total`, and calls `update`; what that raises ends the download.
- It makes a bar of files and, from 2.0 on, two of bytes: those received, whose `name` ends with `transfer`, and those
  written.
- From 2.0 on the list of a repository's files is kept in `trees/<commit>.json` beside the folder of its snapshots, once
  it was asked for: a snapshot without one may be a part of what the repository has.

`models.py` says which snapshots a service needs. Used in replicas, on any thread.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import huggingface_hub
import huggingface_hub.utils as hub_utils

from nbcompose.errors import ModelError

Role = Literal["files", "received", "written"]


class Counts(NamedTuple):
    done: int = 0
    total: int = 0


class Bars:
    """Counts what `snapshot_download(tqdm_class=bars.cls)` does; `check` may raise to end it, in the hub's threads."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._bars: dict[Role, Any] = {}
        self.cls = self._class(check)

    def counts(self, role: Role) -> Counts:
        with self._lock:
            bar = self._bars.get(role)
            return Counts() if bar is None else Counts(int(bar.n), int(bar.total or 0))

    def _class(self, check: Callable[[], None]) -> type[Any]:
        """A progress bar that shows nothing: the hub counts with it."""
        lock, bars = self._lock, self._bars

        class Bar(hub_utils.tqdm):  # type: ignore[misc]  # the hub is not typed here
            monitor_interval = 0  # else tqdm starts a thread

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "disable": True})
                with lock:
                    bars[_role(options)] = self

            def update(self, n: float | None = 1) -> None:
                check()
                with lock:
                    self.n += n or 0

        return Bar


def _role(options: dict[str, Any]) -> Role:
    if options.get("unit") != "B":
        return "files"
    return "received" if str(options.get("name") or "").endswith("transfer") else "written"


def is_whole(snapshot: Path) -> bool:
    """Whether it is known that a snapshot in the cache has all that was asked for, and not only what others fetched."""
    return (snapshot.parents[1] / "trees" / f"{snapshot.name}.json").is_file()


# How often a download is reported, and how long giving up may take, in seconds.
_INTERVAL = 0.2

_LOG_IN = "set HF_TOKEN or run `hf auth login`"


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """How far the download of one model is. `bytes_total` grows until every file has been begun."""

    model: str
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a repository at a revision. `include` and `exclude` are patterns such as "*.safetensors"."""

    repo_id: str
    revision: str = "main"
    endpoint: str | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def find(self) -> str | None:
        """The local directory, without any network; None when it must be downloaded.

        What is cached of a branch is used as it is, even if the hub has a newer commit by now. Raises ModelError when
        it may not be downloaded (HF_HUB_OFFLINE) or cannot be a repository.
        """
        try:
            path = Path(self.fetch(local_files_only=True))
        except hub_utils.LocalEntryNotFoundError as error:
            if _offline():
                raise explain(error, self) from error
            return None
        except Exception as error:
            raise explain(error, self) from error
        # It may hold a few of the files only, as left by a tokenizer's download. Offline that is all there is.
        return str(path) if _offline() or is_whole(path) else None

    def fetch(self, **options: Any) -> str:
        """As `huggingface_hub.snapshot_download`, in today's environment rather than that of its import."""
        return str(
            huggingface_hub.snapshot_download(
                self.repo_id,
                revision=self.revision,
                endpoint=self.endpoint or os.environ.get("HF_ENDPOINT") or None,
                cache_dir=cache_dir(),
                allow_patterns=None if self.include is None else list(self.include),
                ignore_patterns=None if self.exclude is None else list(self.exclude),
                **options,
            )
        )

    @property
    def host(self) -> str:
        """Where it comes from, for messages."""
        return (self.endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


class _Stopped(Exception):
    """Ends the threads of a download that nobody waits for any more."""


class Download:
    """A snapshot on its way, in a thread of its own: giving up does not wait for a slow network.

    After giving up, the hub's threads end at their next bytes; a process that wants to be gone before that must not
    wait for them (`os._exit`).
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._finished = threading.Event()
        self._stopped = threading.Event()
        self._bars = Bars(self._check)
        self._path = ""
        self._error: BaseException | None = None

    def run(
        self, progress: Callable[[ModelProgress], None] = lambda _: None, cancelled: Callable[[], bool] = lambda: False
    ) -> str:
        """Block until the snapshot is here; returns its directory. Both callbacks are called on this thread.

        Raises ModelError, which says what to do about it; also when `cancelled()` became true.
        """
        threading.Thread(target=self._work, name=f"download {self._snapshot.repo_id}", daemon=True).start()
        reported = ModelProgress(self._snapshot.repo_id)
        progress(reported)
        try:
            while not self._finished.wait(_INTERVAL):
                if cancelled():
                    raise ModelError(f"the download of {self._snapshot.repo_id} was stopped")
                if (now := self._progress()) != reported:
                    progress(reported := now)
        finally:
            self._stopped.set()
        if self._error is not None:
            raise explain(self._error, self._snapshot) from self._error
        progress(self._progress())
        return self._path

    def _work(self) -> None:
        try:
            self._path = self._snapshot.fetch(tqdm_class=self._bars.cls)
        except BaseException as error:
            self._error = error
        finally:
            self._finished.set()

    def _progress(self) -> ModelProgress:
        counts = self._bars.counts
        files, received, written = counts("files"), counts("received"), counts("written")
        # Bytes are received before they are written; fewer may be received where parts are here already.
        bytes_done = min(written.total, max(received.done, written.done))
        return ModelProgress(self._snapshot.repo_id, files.done, files.total, bytes_done, written.total)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _Stopped


def cache_dir() -> Path:
    """Where the hub keeps its files, by the environment as it is now (huggingface_hub reads it at import)."""
    environ = os.environ
    home = environ.get("HF_HOME") or os.path.join(environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    given = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(given)).expanduser()


def _offline() -> bool:
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def explain(error: BaseException, snapshot: Snapshot) -> ModelError:
    """What went wrong and what to do about it. Tokens never get into the text."""
    text = _advice(error, snapshot)
    token = huggingface_hub.get_token()
    if token:
        text = text.replace(token, "<token>")
    return ModelError(re.sub(r"//[^/\s@]+@", "//", text))


def _advice(error: BaseException, snapshot: Snapshot) -> str:
    repo, host, cause = snapshot.repo_id, snapshot.host, error.__cause__
    if isinstance(error, hub_utils.GatedRepoError):
        known = " The token that is set belongs to an account without access." if huggingface_hub.get_token() else ""
        return f"{repo} is gated: accept the licence at {host}/{repo}, then {_LOG_IN}.{known}"
    if isinstance(error, hub_utils.RevisionNotFoundError):
        return f"{repo} has no revision {snapshot.revision!r}: check it for a typo; {host}/{repo}/tree/main lists them"
    if isinstance(error, hub_utils.RepositoryNotFoundError):
        return f"there is no model {repo!r} at {host}: check it for a typo; if it is private, {_LOG_IN}"
    if isinstance(error, hub_utils.LocalEntryNotFoundError):
        return _advice(cause, snapshot) if isinstance(cause, hub_utils.HfHubHTTPError) else _not_here(error, snapshot)
    if isinstance(error, hub_utils.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return (
                f"{host} refuses {repo}: the token is wrong, has expired or may not read it; {_LOG_IN} with a new one"
            )
        return f"{host} answered {status} for {repo}: try again later"
    if isinstance(error, hub_utils.HFValidationError):
        return f"{repo!r} is neither a model of the hub ('organization/name') nor a directory here"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space for {repo} in {cache_dir()}: make some, or set HF_HOME to a folder on a larger disk"
    return f"{repo} could not be had from {host}: {type(error).__name__}: {error}"


def _not_here(error: BaseException, snapshot: Snapshot) -> str:
    part = "only a part of it is" if getattr(error, "snapshot_path", None) else "it is not"
    here = f"{part} in the cache {cache_dir()} (HF_HOME sets another)"
    cause = error.__cause__
    if _offline() or isinstance(cause, hub_utils.OfflineModeIsEnabled):
        return f"{snapshot.repo_id}: {here}, and HF_HUB_OFFLINE is set: unset it to download, or download it elsewhere"
    reason = f" ({type(cause).__name__}: {cause})" if cause is not None else ""
    return (
        f"{snapshot.repo_id}: cannot reach {snapshot.host}{reason}, and {here}. "
        "Check the network, or set HF_ENDPOINT to a mirror"
    )
