"""HuggingFaceModel and the hub: against a real cache on disk and a real HTTP server."""

from __future__ import annotations

import errno
import hashlib
import json
import pickle
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import huggingface_hub
import pytest
from hub_server import Hub

from nbcompose import _hub as hub_module
from nbcompose import models
from nbcompose._hub import ModelProgress
from nbcompose.errors import ModelError
from nbcompose.models import HuggingFaceModel, models_of, prefetch

FILES = {"config.json": b'{"x": 1}', "sub/weights.bin": b"w" * 100_000, "notes.md": b"hello"}
MODEL = "acme/tiny"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a hub library that may use the network."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setattr(models, "_paths", {})
    huggingface_hub.utils.close_session()
    yield tmp_path / "home" / "hub"
    huggingface_hub.utils.close_session()


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        server.models[MODEL] = dict(FILES)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def lay_out(cache: Path, model: str = MODEL, listed: bool = True, files: dict[str, bytes] = FILES) -> Path:
    """A snapshot as the hub library leaves it: blobs, links to them, a ref, and the list of the files."""
    folder = cache / f"models--{model.replace('/', '--')}"
    commit = Hub.commit(model)
    for name, data in files.items():
        digest = hashlib.sha1(data).hexdigest()
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / digest).write_bytes(data)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder / "blobs" / digest)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    if listed:
        listing = {f: {"size": len(d), "blob_id": hashlib.sha1(d).hexdigest()} for f, d in FILES.items()}
        (folder / "trees").mkdir()
        (folder / f"trees/{commit}.json").write_text(json.dumps({"format_version": 1, "files": listing}))
    return folder / "snapshots" / commit


def contents(path: str) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}


# --- the descriptor


def test_it_reads_as_a_path_on_the_class_and_on_the_instance(cache: Path) -> None:
    snapshot = lay_out(cache)

    class Service:
        path = HuggingFaceModel(MODEL)

    assert Service.path == Service().path == str(snapshot)
    assert isinstance(Service.__dict__["path"], HuggingFaceModel)
    assert HuggingFaceModel(MODEL).model_path == str(snapshot)
    assert Path(HuggingFaceModel(MODEL)) == snapshot


def test_naming_a_model_touches_neither_disk_nor_network(hub: Hub) -> None:
    class Service:
        path = HuggingFaceModel("acme/nothing", revision="nowhere")

    assert models_of(Service)["path"].model_id == "acme/nothing"
    assert hub.requests == []


def test_a_directory_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert HuggingFaceModel(str(tmp_path / "mine")).model_path == str(tmp_path / "mine")
    assert HuggingFaceModel("mine").model_path == str(tmp_path / "mine")
    assert HuggingFaceModel("~/mine").model_path == str(tmp_path / "mine")
    with pytest.raises(ModelError, match=r"there is no directory '\./yours' here"):
        HuggingFaceModel("./yours").model_path


def test_equality_hash_and_pickle() -> None:
    model = HuggingFaceModel("acme/tiny", include=["*.json"], endpoint="http://hub")
    same = HuggingFaceModel("acme/tiny", "main", "http://hub", ("*.json",))
    assert model == same
    assert hash(model) == hash(same)
    assert model != HuggingFaceModel("acme/tiny")
    assert HuggingFaceModel("a/b", exclude="*.bin") == HuggingFaceModel("a/b", exclude=["*.bin"])
    assert pickle.loads(pickle.dumps(model)) == model

    class Service:
        path = model

    assert models_of(pickle.loads(cloudpickle.dumps(Service))) == {"path": model}
    assert repr(HuggingFaceModel("a/b", revision="v1")) == "HuggingFaceModel('a/b', revision='v1')"


@pytest.mark.parametrize("wrong", [None, "", 3, ["acme/tiny"]])
def test_an_id_is_text(wrong: str) -> None:
    with pytest.raises(TypeError, match="takes a model's id"):
        HuggingFaceModel(wrong)


def test_models_of_a_class_and_its_bases() -> None:
    class Base:
        a = HuggingFaceModel("x/a")
        b = HuggingFaceModel("x/b")
        c = HuggingFaceModel("x/c")

    class Service(Base):
        b = HuggingFaceModel("x/other")
        c = "a plain path"

    assert models_of(Service) == {"a": HuggingFaceModel("x/a"), "b": HuggingFaceModel("x/other")}


def test_the_cache_is_where_the_environment_says_now(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert hub_module.cache_dir() == cache
    monkeypatch.setenv("HF_HUB_CACHE", "$HF_HOME/elsewhere")
    assert hub_module.cache_dir() == cache.parent / "elsewhere"
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert hub_module.cache_dir() == Path.home() / ".cache/huggingface/hub"


# --- what is in the cache


def test_a_complete_snapshot_needs_no_network(hub: Hub, cache: Path) -> None:
    snapshot = lay_out(cache)
    assert HuggingFaceModel(MODEL).model_path == str(snapshot)
    assert hub.requests == []


def test_a_folder_of_unknown_completeness_is_completed(hub: Hub, cache: Path) -> None:
    lay_out(cache, listed=False, files={"config.json": FILES["config.json"]})
    assert contents(HuggingFaceModel(MODEL).model_path) == FILES


def test_a_folder_of_unknown_completeness_is_all_there_is_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = lay_out(cache, listed=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert HuggingFaceModel(MODEL).model_path == str(snapshot)


def test_a_folder_of_unknown_completeness_serves_when_the_hub_cannot_be_reached(
    cache: Path, monkeypatch: pytest.MonkeyPatch, unused_url: str
) -> None:
    snapshot = lay_out(cache, listed=False)
    monkeypatch.setenv("HF_ENDPOINT", unused_url)
    assert HuggingFaceModel(MODEL).model_path == str(snapshot)


# --- downloads


def test_a_download_and_the_second_read(hub: Hub) -> None:
    path = HuggingFaceModel(MODEL).model_path
    assert contents(path) == FILES
    before = len(hub.requests)
    assert HuggingFaceModel(MODEL).model_path == path
    models._paths.clear()
    assert HuggingFaceModel(MODEL).model_path == path
    assert len(hub.requests) == before


def test_a_snapshot_that_was_deleted_is_downloaded_again(hub: Hub, cache: Path) -> None:
    model = HuggingFaceModel(MODEL)
    path = Path(model.model_path)
    path.rename(path.with_name("gone"))
    assert contents(model.model_path) == FILES


def test_include_exclude_revision_and_endpoint(cache: Path) -> None:
    with Hub() as server:
        server.models[MODEL] = dict(FILES)
        server.revisions.add("v1")
        model = HuggingFaceModel(MODEL, "v1", server.url, include=["*.json", "*.md"], exclude=["notes*"])
        assert contents(model.model_path) == {"config.json": FILES["config.json"]}
        assert any(r.endswith("/revision/v1") for r in server.requests)


def test_prefetch_resolves_all_models_and_reports_downloads_only(hub: Hub, cache: Path) -> None:
    hub.models["acme/other"] = {"config.json": b"{}"}
    lay_out(cache)

    class Base:
        cached = HuggingFaceModel(MODEL)

    class Service(Base):
        fresh = HuggingFaceModel("acme/other")
        again = HuggingFaceModel("acme/other")

    reports: list[ModelProgress] = []
    paths = prefetch(Service, reports.append)
    assert list(paths) == ["cached", "fresh", "again"]
    assert contents(paths["cached"]) == FILES
    assert paths["fresh"] == paths["again"] == Service.fresh
    assert {r.model for r in reports} == {"acme/other"}
    assert reports[-1] == ModelProgress("acme/other", files_done=1, files_total=1, bytes_done=2, bytes_total=2)


class OneModel:
    path = HuggingFaceModel(MODEL)


def test_progress_counts_files_and_bytes(hub: Hub) -> None:
    hub.hold = {"sub/weights.bin"}
    reports: list[ModelProgress] = []
    small = len(FILES["config.json"]) + len(FILES["notes.md"])

    def progress(report: ModelProgress) -> None:
        reports.append(report)
        if report.files_done == 2 and hub.held.is_set():
            hub.release.set()

    prefetch(OneModel, progress)
    total = sum(map(len, FILES.values()))
    held = next(r for r in reports if r.files_done == 2)
    assert (held.files_total, held.bytes_done) == (3, small)
    assert reports[0] == ModelProgress(MODEL)
    assert reports[-1] == ModelProgress(MODEL, 3, 3, total, total)


def test_bytes_count_when_received_and_are_never_more_than_there_are() -> None:
    download = hub_module.Download(hub_module.Snapshot(MODEL))
    bar = download._bars.cls  # as the hub uses it for content that comes in deduplicated parts
    written = bar(unit="B", total=100, name="huggingface_hub.snapshot_download")
    received = bar(unit="B", total=0, name="huggingface_hub.snapshot_download.transfer")
    received.update(60)
    written.update(20)
    assert download._progress() == ModelProgress(MODEL, bytes_done=60, bytes_total=100)
    received.update(50)
    assert download._progress() == ModelProgress(MODEL, bytes_done=100, bytes_total=100)


def test_a_download_stops_while_the_hub_sends_nothing(hub: Hub, cache: Path) -> None:
    hub.models[MODEL] = FILES | {f"{i:03}.bin": b"xx" for i in range(30)}
    hub.hold = set(hub.models[MODEL])
    with pytest.raises(ModelError, match=f"the download of {MODEL} was stopped"):
        prefetch(OneModel, cancelled=hub.held.is_set)
    assert not hub.release.is_set()
    hub.release.set()
    for thread in threading.enumerate():
        if thread.name == f"download {MODEL}":
            thread.join()
    assert not list(cache.rglob("*.bin"))  # nothing was finished behind our back
    assert contents(prefetch(OneModel)["path"]) == hub.models[MODEL]


# --- what can go wrong


def failure(model: HuggingFaceModel) -> str:
    with pytest.raises(ModelError) as caught:
        model.model_path
    return str(caught.value)


def test_a_gated_model_says_where_to_accept_and_how_to_log_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add(MODEL)
    advice = f"{MODEL} is gated: accept the licence at {hub.url}/{MODEL}, then set HF_TOKEN or run `hf auth login`."
    assert failure(HuggingFaceModel(MODEL)) == advice
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    assert failure(HuggingFaceModel(MODEL)) == f"{advice} The token that is set belongs to an account without access."
    assert hub.tokens == {None, "Bearer hf_secretsecret"}


def test_a_missing_model_and_a_missing_revision(hub: Hub) -> None:
    assert failure(HuggingFaceModel("acme/tinny")) == (
        f"there is no model 'acme/tinny' at {hub.url}: check it for a typo; "
        "if it is private, set HF_TOKEN or run `hf auth login`"
    )
    assert failure(HuggingFaceModel(MODEL, revision="v9")) == (
        f"{MODEL} has no revision 'v9': check it for a typo; {hub.url}/{MODEL}/tree/main lists them"
    )


def test_a_token_that_the_hub_refuses_is_not_repeated(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refuses_tokens = True
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    message = failure(HuggingFaceModel(MODEL))
    assert message.startswith(f"{hub.url} refuses {MODEL}: the token is wrong, has expired or may not read it")
    assert "secret" not in message


def test_neither_tokens_nor_passwords_get_into_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    snapshot = hub_module.Snapshot(MODEL, endpoint="https://me:secret@hub.example")
    message = str(hub_module.explain(RuntimeError("sent hf_secretsecret"), snapshot))
    assert message == f"{MODEL} could not be had from https://hub.example: RuntimeError: sent <token>"


def test_a_hub_that_is_down_is_named(hub: Hub) -> None:
    hub.failing = True
    assert failure(HuggingFaceModel(MODEL)) == f"{hub.url} answered 500 for {MODEL}: try again later"


@pytest.fixture
def unused_url() -> Iterator[str]:
    """An address where nobody answers, kept by a socket that does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_hub_out_of_reach_names_the_cache_that_was_looked_in(
    cache: Path, monkeypatch: pytest.MonkeyPatch, unused_url: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", unused_url)
    message = failure(HuggingFaceModel(MODEL))
    assert message.startswith(f"{MODEL}: cannot reach {unused_url} (ConnectError: ")
    assert f"it is not in the cache {cache} " in message


def test_offline_and_not_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert failure(HuggingFaceModel(MODEL)) == (
        f"{MODEL}: it is not in the cache {cache} (HF_HOME sets another), and HF_HUB_OFFLINE is set: "
        "unset it to download, or download it elsewhere"
    )
    lay_out(cache, files={"config.json": FILES["config.json"]})
    assert f"{MODEL}: only a part of it is in the cache {cache}" in failure(HuggingFaceModel(MODEL))


def test_what_cannot_be_an_id(cache: Path) -> None:
    assert failure(HuggingFaceModel("a/b/c")) == (
        "'a/b/c' is neither a model of the hub ('organization/name') nor a directory here"
    )


def test_a_full_disk_names_the_cache(cache: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    message = str(hub_module.explain(error, hub_module.Snapshot(MODEL)))
    assert message == f"no space for {MODEL} in {cache}: make some, or set HF_HOME to a folder on a larger disk"
