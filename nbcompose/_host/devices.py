"""Discover the devices of this machine and choose those of a replica.

Runs in the owner process, which applies the choice when it starts the replica: GPUs are counted with NVML, so no CUDA
context is opened and torch is not imported. `apply_threads` and `device` are for the replica.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import psutil
import pynvml
import threadpoolctl

from nbcompose._host import memory
from nbcompose._spec import ServiceSpec
from nbcompose.errors import DeviceError

# Tells `device()` in a replica which device to use.
DEVICE_VARIABLE = "NBCOMPOSE_DEVICE"

# Read by libraries at import; `apply_threads` sets the limits of those that are loaded already.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or one MIG device of it. `free` and `total` are bytes of its memory.

    `index` is the number that `nvidia-smi` shows, in PCI bus order; a MIG device has its parent's.
    """

    index: int
    uuid: str
    name: str
    free: int
    total: int

    @property
    def selector(self) -> str:
        """Its name in CUDA_VISIBLE_DEVICES: the index, since some libraries read only numbers; the uuid for a MIG
        device.
        """
        return self.uuid if self.uuid.startswith("MIG-") else str(self.index)


@dataclass(frozen=True, slots=True)
class Placement:
    """The devices and threads of one replica.

    `device` is for display: "cpu", "mps", "cuda:1", "cuda:0,1". `env` must be in the replica's environment before
    anything uses CUDA. `gpus` are the selectors of the GPUs that it may use. `torch_threads`: for `apply_threads`;
    None: keep the libraries' defaults. `note`: a remark for the card, or "".
    """

    device: str
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    torch_threads: int | None = None
    note: str = ""


def discover() -> tuple[Device, ...]:
    """Return the GPUs that this process may use, in PCI bus order. Never raises: without a driver there are none.

    An inherited CUDA_VISIBLE_DEVICES is respected; its numbers are taken as PCI bus order.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        everything = [d for i in range(pynvml.nvmlDeviceGetCount()) for d in _cards(i)]
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()
    return visible(everything, os.environ.get("CUDA_VISIBLE_DEVICES"))


def memory_by_process() -> dict[int, int]:
    """Return the bytes of the GPUs' memory that each process has, by its pid. Never raises.

    Empty without a driver, and where it does not tell or knows other pids than this process does, as in some
    containers.
    """
    used: dict[int, int] = {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return used
    try:
        for i in range(pynvml.nvmlDeviceGetCount()):
            for process in _processes(i):
                used[process.pid] = used.get(process.pid, 0) + (process.usedGpuMemory or 0)
    except pynvml.NVMLError:
        pass
    finally:
        pynvml.nvmlShutdown()
    return {pid: count for pid, count in used.items() if count}


def _processes(index: int) -> list[Any]:
    try:
        return list(pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(index)))
    except pynvml.NVMLError:
        return []


def _cards(index: int) -> list[Device]:
    """Return GPU `index`, or its MIG devices if it has any; empty if it does not respond (it fell off the bus)."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        slices = _slices(handle)
        return [_read(index, h) for h in slices or [handle]]
    except pynvml.NVMLError:
        return []


def _slices(handle: object) -> list[object]:
    """Return the MIG devices of a GPU. Once it has any, CUDA cannot use it as a whole."""
    found: list[object] = []
    try:
        if pynvml.nvmlDeviceGetMigMode(handle)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return found
        for i in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i))
    except pynvml.NVMLError:
        pass  # no MIG on this model, or no MIG device at this index
    return found


def _read(index: int, handle: object) -> Device:
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(handle)
        free, total = int(info.free), int(info.total)
    except pynvml.NVMLError_NotSupported:
        # A GPU without dedicated memory uses the host's.
        host = psutil.virtual_memory()
        free, total = int(host.available), int(host.total)
    return Device(index, str(pynvml.nvmlDeviceGetUUID(handle)), str(pynvml.nvmlDeviceGetName(handle)), free, total)


def visible(devices: Sequence[Device], variable: str | None) -> tuple[Device, ...]:
    """Return those of `devices` that CUDA_VISIBLE_DEVICES=`variable` leaves; all of them if it is None (unset).

    As CUDA does: numbers, or ids that may be abbreviated, up to the first that matches no device.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    if variable is None:
        return tuple(devices)
    kept: set[Device] = set()
    for entry in (e.strip() for e in variable.split(",")):
        if entry.isdigit():
            matches = [d for d in devices if d.index == int(entry)][:1]
        else:
            matches = [d for d in devices if entry.startswith(("GPU-", "MIG-")) and d.uuid.startswith(entry)]
        if len(matches) != 1:
            break
        kept.update(matches)
    return tuple(d for d in devices if d in kept)


def is_for_host(spec: ServiceSpec) -> bool:
    """Whether a service runs on the CPU regardless of the devices, so that `place` needs no list of them."""
    return spec.device == "cpu" or (spec.device is None and spec.resources.gpu == 0)


def place(
    spec: ServiceSpec, available: Sequence[Device] = (), busy: Mapping[str, int] = MappingProxyType({})
) -> Placement:
    """Choose where one replica of `spec` runs, given the devices of `discover()`.

    `busy`: bytes of a device (by its selector) that are reserved for replicas that have not allocated them yet. One
    byte for each starting replica is enough to spread replicas over equal devices.

    `device=` is required: raises DeviceError, which lists the devices, if it cannot be satisfied. `resources={"gpu":
    n}` is a preference: if there are fewer GPUs the replica gets those, if there are none it gets the CPU, and a note
    says so.
    """
    wanted = spec.device
    count = spec.resources.gpu
    if is_for_host(spec):
        return _on_host("cpu", spec)
    if wanted == "mps" or (wanted is None and not available and _has_mps()):
        if not _has_mps():
            raise DeviceError(_no_such_device(spec, available))
        return _on_host("mps", spec)
    if wanted is None and not available:
        return _on_host("cpu", spec, note="no GPU here: runs on the CPU")
    by_room = sorted(available, key=lambda d: (busy.get(d.selector, 0) - d.free, d.index))
    if wanted is None or wanted == "cuda":
        chosen = by_room[: max(count, 1)]
    else:
        chosen = [d for d in by_room if wanted == f"cuda:{d.index}"][:1]
    if not chosen:
        raise DeviceError(_no_such_device(spec, available))
    return _on_gpus(sorted(chosen, key=lambda d: d.index), spec)


def _on_host(device: str, spec: ServiceSpec, note: str = "") -> Placement:
    return Placement(device, {"CUDA_VISIBLE_DEVICES": "", DEVICE_VARIABLE: device}, (), _threads(spec), note)


def _on_gpus(chosen: Sequence[Device], spec: ServiceSpec) -> Placement:
    gpus = tuple(d.selector for d in chosen)
    env = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        DEVICE_VARIABLE: "cuda:0",  # the others are hidden, so CUDA numbers the chosen ones from 0
    }
    asked = spec.resources.gpu
    short = len(chosen) < asked and spec.device in (None, "cuda")
    note = f"asks for {asked} GPUs and gets {len(chosen)}: there are no more" if short else ""
    return Placement("cuda:" + ",".join(str(d.index) for d in chosen), env, gpus, _threads(spec), note)


def _no_such_device(spec: ServiceSpec, available: Sequence[Device]) -> str:
    there = ["cpu", *(["mps"] if _has_mps() else []), *(f"cuda:{d.index} ({d.name})" for d in available)]
    message = f"{spec.name}: there is no device {spec.device!r} here. Available: {', '.join(there)}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        message += f" (CUDA_VISIBLE_DEVICES={hidden!r} may hide others)"
    return f'{message}. resources={{"gpu": 1}} takes a GPU where there is one and the CPU elsewhere'


def _has_mps() -> bool:
    """Whether this is a Mac whose GPU torch can use."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use: its affinity, within the cgroup's quota. At least 1."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = memory.cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _threads(spec: ServiceSpec) -> int | None:
    if spec.resources.cpu is not None:
        return max(1, min(math.ceil(spec.resources.cpu), usable_cores()))
    # Libraries respect the affinity but not the quota: in a small container on a large host they would start a thread
    # for each core of the host.
    return usable_cores() if memory.cpu_quota() is not None else None


def device() -> str:
    """Return the device for a model: "cuda:0", "mps" or "cpu".

    In a replica, this is the device that the service was given. Elsewhere it is a guess: the first GPU that this
    process may use, if there is one. Does not import torch.

    Returns:
        The device, as `torch.device` takes it.
    """
    given = os.environ.get(DEVICE_VARIABLE)
    if given:
        return given
    if discover():
        return "cuda:0"
    return "mps" if _has_mps() else "cpu"


def apply_threads(n: int) -> None:
    """In a replica: limit computations to `n` threads, for libraries that are loaded already and those loaded later.

    OpenMP keeps its limit per calling thread, so each worker thread calls this again.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(n)
    # OMP_NUM_THREADS is read at import: too late for libraries that the zygote has imported.
    threadpoolctl.threadpool_limits(limits=n)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(n)
