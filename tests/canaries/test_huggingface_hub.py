"""What nbcompose/_hub.py relies on. One that fails means: look there before anything else."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path

import huggingface_hub
import huggingface_hub.utils as hub_utils
import pytest

from nbcompose._hub import is_whole

MAJOR = int(version("huggingface_hub").partition(".")[0])
since_2 = pytest.mark.skipif(MAJOR < 2, reason="from 2.0 on")


def test_a_download_takes_a_class_of_progress_bars() -> None:
    assert "tqdm_class" in inspect.signature(huggingface_hub.snapshot_download).parameters
    bar = hub_utils.tqdm(total=3, unit="B", name="any", disable=True)
    assert (bar.total, bar.n) == (3, 0)


@since_2
def test_a_download_has_a_bar_for_bytes_that_are_received() -> None:
    from huggingface_hub import _snapshot_download

    source = inspect.getsource(_snapshot_download)
    assert 'name="huggingface_hub.snapshot_download.transfer"' in source, "the bar for received bytes has another name"
    assert 'unit="B"' in source


@since_2
def test_the_list_of_files_is_beside_the_snapshots(tmp_path: Path) -> None:
    from huggingface_hub import _tree_cache

    commit = "c" * 40
    _tree_cache.write_tree_cache(str(tmp_path), commit, {})
    snapshot = tmp_path / "snapshots" / commit
    assert is_whole(snapshot), "the list of a repository's files is kept elsewhere"
    assert not is_whole(tmp_path / "snapshots" / ("d" * 40))
