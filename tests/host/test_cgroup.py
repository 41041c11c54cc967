from __future__ import annotations

from pathlib import Path

import pytest

from nbcompose._host import memory

GIB = 1024**3


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc_self_cgroup"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    return tmp_path / "mount"


def test_version_2_limit_less_what_is_used_but_not_droppable(proc: Path, mount: Path) -> None:
    proc.write_text("0::/jobs/one\n")
    write(mount / "jobs/one", memory__max=str(8 * GIB), memory__current=str(5 * GIB))
    write(mount / "jobs/one", memory__stat=f"anon {3 * GIB}\ninactive_file {2 * GIB}")
    assert memory.memory_left(proc, mount) == 5 * GIB


def test_the_tightest_level_counts(proc: Path, mount: Path) -> None:
    proc.write_text("0::/jobs/one\n")
    write(mount / "jobs/one", memory__max="max", memory__current="10", cpu__max="max 100000")
    write(mount / "jobs", memory__max=str(2 * GIB), memory__current=str(GIB), cpu__max="150000 100000")
    write(mount, memory__max=str(64 * GIB), memory__current=str(GIB), cpu__max="800000 100000")
    assert memory.memory_left(proc, mount) == GIB
    assert memory.cpu_quota(proc, mount) == 1.5


def test_version_1(proc: Path, mount: Path) -> None:
    proc.write_text("4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n")
    write(
        mount / "memory/docker/abc",
        memory__limit_in_bytes=str(4 * GIB),
        memory__usage_in_bytes=str(3 * GIB),
        memory__stat=f"inactive_file 7\ntotal_inactive_file {GIB}",
    )
    write(mount / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="1")
    cpu = mount / "cpu/docker/abc"
    write(cpu, cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    write(mount / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert memory.memory_left(proc, mount) == 2 * GIB
    assert memory.cpu_quota(proc, mount) == 0.5


def test_a_path_outside_the_container_falls_back_to_the_mount(proc: Path, mount: Path) -> None:
    proc.write_text("0::/../../host/one\n")
    write(mount, memory__max=str(GIB), memory__current="0")
    write(mount.parent / "host/one", memory__max="1", memory__current="0")
    assert memory.memory_left(proc, mount) == GIB


def test_no_limits_and_no_control_groups(proc: Path, mount: Path) -> None:
    assert memory.memory_left(proc, mount) is None
    assert memory.cpu_quota(proc, mount) is None
    proc.write_text("0::/\n")
    write(mount, memory__max="max", memory__current="1", cpu__max="max 100000")
    assert memory.memory_left(proc, mount) is None
    assert memory.cpu_quota(proc, mount) is None


def test_a_used_up_group_has_less_than_nothing_left(proc: Path, mount: Path) -> None:
    proc.write_text("0::/\n")
    write(mount, memory__max="100", memory__current="160")
    assert memory.memory_left(proc, mount) == -60


def test_processes_killed_for_want_of_memory(proc: Path, mount: Path, tmp_path: Path) -> None:
    proc.write_text("0::/jobs/one\n")
    vmstat = tmp_path / "vmstat"
    assert memory.oom_kills(proc, mount, vmstat) is None
    vmstat.write_text("allocstall_normal 4\noom_kill 9\ndrop_pagecache 0\n")
    assert memory.oom_kills(proc, mount, vmstat) == 9
    write(mount / "jobs", memory__events="low 0\noom 5\noom_kill 5\noom_group_kill 0")
    write(mount / "jobs/one", memory__events="low 0\noom 3\noom_kill 2\noom_group_kill 1")
    assert memory.oom_kills(proc, mount, vmstat) == 2
    proc.write_text("4:memory:/docker/abc\n0::/\n")
    write(mount / "memory/docker/abc", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 4")
    assert memory.oom_kills(proc, mount, vmstat) == 4
