from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from nbcompose._host import memory
from nbcompose._spec import Resources, ServiceSpec
from nbcompose.errors import MemoryShortage

GIB = 1024**3


class Thing:
    pass


def service(asked: int | None, strict: bool = False) -> ServiceSpec:
    return ServiceSpec("Writer", Thing, (), resources=Resources(memory=asked), strict=strict)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GiB", 4 * GIB),
        ("4Gi", 4 * GIB),
        ("512MB", 512_000_000),
        ("2G", 2_000_000_000),
        ("2g", 2_000_000_000),
        ("1.5 GiB", 3 * GIB // 2),
        (" 10 kb ", 10_000),
        ("1TiB", 1024**4),
        ("4096", 4096),
        ("4096B", 4096),
        (4096, 4096),
    ],
)
def test_parse(text: str | int, count: int) -> None:
    assert memory.parse(text) == count


@pytest.mark.parametrize("text", ["", "lots", "4 GiBs", "-1GiB", "1e9", "GiB", "512m2", 0, -5, True, "0MB", None, 1.5])
def test_parse_refuses(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"is not an amount of memory.*GiB.*4GiB") as caught:
        memory.parse(text)
    assert repr(text) in str(caught.value)


def test_available_is_within_the_machine() -> None:
    assert 0 < memory.available() <= psutil.virtual_memory().total


def test_the_groups_limit_counts_and_not_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 1000)
    assert memory.available() == 1000
    monkeypatch.setattr(memory, "memory_left", lambda: -1)
    assert memory.available() == 0


def test_check_warns_and_strict_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: int(5.1 * GIB))
    assert memory.check(service(None)) is None
    assert memory.check(service(5 * GIB, strict=True)) is None
    shortage = memory.check(service(8 * GIB))
    assert shortage is not None
    assert str(shortage) == "asks for 8 GiB, 5.1 GiB is free"
    assert shortage.lasting == "asks for 8 GiB of memory, more than is free"
    with pytest.raises(MemoryShortage, match=r"Writer asks for 8 GiB, 5.1 GiB is free.*--strict"):
        memory.check(service(8 * GIB, strict=True))


@pytest.mark.system
def test_usage_grows_with_what_a_process_holds() -> None:
    code = "import sys; x = bytearray(b'x') * (64 << 20); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        held = memory.usage(child.pid)
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    assert 64 << 20 < held < 512 << 20
    assert memory.usage(child.pid) == 0
    assert memory.usage(os.getpid()) > 0
