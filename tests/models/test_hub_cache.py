"""scripts/hub_cache.py: a repository is in the cache whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_cache import CachedRepository, revision_of
from huggingface_hub import snapshot_download


def write_config(text: str):
    return lambda folder: (folder / "config.json").write_text(text)


@pytest.fixture
def repository(tmp_path: Path) -> CachedRepository:
    return CachedRepository(tmp_path, "org/name")


def test_the_hub_library_finds_what_was_published(repository: CachedRepository, tmp_path: Path) -> None:
    revision = revision_of("one")
    repository.publish(revision, write_config("{}"))
    found = Path(snapshot_download("org/name", cache_dir=tmp_path, local_files_only=True))
    assert found.name == revision
    assert (found / "config.json").read_text() == "{}"


def test_it_holds_only_the_revision_that_was_published(repository: CachedRepository) -> None:
    assert not repository.holds(revision_of("one"))
    repository.publish(revision_of("one"), write_config("{}"))
    assert repository.holds(revision_of("one"))
    assert not repository.holds(revision_of("two"))


def test_a_failed_build_changes_nothing(repository: CachedRepository) -> None:
    repository.publish(revision_of("one"), write_config("old"))

    def fail(folder: Path) -> None:
        write_config("half")(folder)
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        repository.publish(revision_of("two"), fail)
    assert repository.holds(revision_of("one"))
    assert [f.name for f in repository.folder.iterdir() if f.name.startswith(".")] == []


def test_a_new_revision_replaces_the_old_one_and_what_a_killed_run_left(repository: CachedRepository) -> None:
    repository.publish(revision_of("one"), write_config("old"))
    (repository.folder / ".unfinished-killed").mkdir()
    new = repository.publish(revision_of("two"), write_config("new"))
    assert list(new.parent.iterdir()) == [new]
    assert not (repository.folder / ".unfinished-killed").exists()


def test_a_snapshot_without_its_ref_is_written_again(repository: CachedRepository) -> None:
    """What a run leaves that was killed between the two."""
    repository.publish(revision_of("one"), write_config("{}"))
    (repository.folder / "refs" / "main").unlink()
    assert not repository.holds(revision_of("one"))
    repository.publish(revision_of("one"), write_config("{}"))
    assert repository.holds(revision_of("one"))


def test_revisions_are_git_like_and_tell_parts_apart() -> None:
    assert len(revision_of("a")) == 40
    assert revision_of("ab", "c") != revision_of("a", "bc")
    assert revision_of("a", b"c") == revision_of("a", "c")
