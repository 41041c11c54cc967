"""A service whose model comes from a hub, in a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

pytestmark = pytest.mark.system

Kernel = Any  # of conftest.py

CELL = """
%%service --env HF_HOME={folder} --env HF_TOKEN= --env HF_HUB_OFFLINE=0
from nbcompose.models import HuggingFaceModel

class Model:
    path = HuggingFaceModel("acme/tiny", endpoint="{url}")

    @api
    def files(self) -> list[str]:
        import os
        return sorted(os.listdir(self.path))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that sends the first half of the weights, and then waits."""
    with Hub() as hub:
        hub.models["acme/tiny"] = {"config.json": b"{}", "weights.bin": b"w" * 4 * 2**20}
        hub.hold = {"weights.bin"}
        yield hub


def begin(kernel: Kernel, hub: Hub, folder: Path) -> str:
    """Run the cell, until the download has begun."""
    cell = str(kernel.send(CELL.format(folder=folder, url=hub.url)))
    begun = "downloading acme/tiny: 2 B of 4 MiB, 1 of 2 files"
    message = kernel.until(lambda m: kernel.parent(m) == cell and begun in str(m["content"].get("data")))
    assert "<progress" in message["content"]["data"]["text/html"]
    return cell


def test_a_download_shows_how_far_it_is(kernel: Kernel, hub: Hub, tmp_path: Path) -> None:
    cell = begin(kernel, hub, tmp_path)
    hub.release.set()
    ran = kernel.finished(cell)
    assert ran.displays[-1]["text/plain"].startswith("Model is ready\n")
    assert "<progress" not in ran.displays[-1]["text/html"]
    assert kernel.ok("Model.files()").result == "['config.json', 'weights.bin']"


def test_an_interrupt_stops_a_download(kernel: Kernel, hub: Hub, tmp_path: Path) -> None:
    cell = begin(kernel, hub, tmp_path)
    kernel.manager.interrupt_kernel()
    assert kernel.finished(cell).displays[-1]["text/plain"] == "Model was stopped, because the cell was interrupted"
    hub.release.set()
    assert "No service runs" in kernel.ok("%services").result
    snapshots = list(tmp_path.rglob("snapshots/*/weights.bin"))
    assert snapshots == []


def test_a_missing_model_says_what_to_do(kernel: Kernel, hub: Hub, tmp_path: Path) -> None:
    hub.models.clear()
    ran = kernel.run(CELL.format(folder=tmp_path, url=hub.url))
    assert "LaunchError" in ran.error
    assert "acme/tiny" in ran.error
    assert "hf auth login" in ran.error
