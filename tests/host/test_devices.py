from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from nbcompose._host import devices, memory
from nbcompose._host.devices import Device, Placement, place, visible
from nbcompose._spec import Resources, ServiceSpec
from nbcompose.errors import DeviceError

GIB = 1024**3
SMALL = Device(0, "GPU-aaaa1111", "T4", 10 * GIB, 16 * GIB)
LARGE = Device(1, "GPU-bbbb2222", "H100", 70 * GIB, 80 * GIB)
OTHER = Device(2, "GPU-bbcc3333", "H100", 60 * GIB, 80 * GIB)
SLICE = Device(3, "MIG-dddd4444", "H100 MIG 1g.10gb", 9 * GIB, 10 * GIB)
ALL = (SMALL, LARGE, OTHER)


class Thing:
    pass


def service(device: str | None = None, gpu: int = 0, cpu: float | None = None) -> ServiceSpec:
    return ServiceSpec("Writer", Thing, (), device=device, resources=Resources(cpu=cpu, gpu=gpu))


def on(placement: Placement) -> tuple[str, str, str]:
    return placement.device, placement.env["CUDA_VISIBLE_DEVICES"], placement.env["NBCOMPOSE_DEVICE"]


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests say themselves which variables, quotas and kinds of GPU there are."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("NBCOMPOSE_DEVICE", raising=False)
    monkeypatch.setattr(memory, "cpu_quota", lambda: None)
    monkeypatch.setattr(devices, "_has_mps", lambda: False)


class Driver:
    """Stands in for NVIDIA's driver, which cannot be had without its hardware: what `pynvml` gives, for these cards."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cards: list[Device | None]) -> None:
        self.open = 0
        self.cards = cards
        monkeypatch.setattr(devices, "pynvml", self)

    def __getattr__(self, name: str) -> Any:
        """Errors and constants are the library's own."""
        assert not name.startswith("nvml"), f"{name} would ask the real driver"
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Device:
        card = self.cards[index]
        if card is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return card

    def nvmlDeviceGetMigMode(self, card: Device) -> list[int]:
        if card.name == "T4":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(card is SLICE), 0]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Device, place: int) -> Device:
        if place > 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return card

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Device) -> int:
        return 7

    def nvmlDeviceGetUUID(self, card: Device) -> str:
        return card.uuid

    def nvmlDeviceGetName(self, card: Device) -> str:
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Device) -> SimpleNamespace:
        if card.total == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(free=card.free, total=card.total)


def test_discover_without_a_driver_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(Driver):
        def nvmlInit(self) -> None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    Absent(monkeypatch, [SMALL])
    assert devices.discover() == ()


def test_discover_on_this_machine_never_raises() -> None:
    assert all(isinstance(d, Device) for d in devices.discover())


@pytest.mark.gpu
def test_discover_finds_what_nvidia_smi_lists() -> None:
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    rows = [line.split(", ") for line in subprocess.check_output(query, text=True).splitlines()]
    found = devices.discover()
    whole = [device for device in found if not device.uuid.startswith("MIG-")]
    cut = {device.index for device in found} - {device.index for device in whole}
    listed = {uuid: (int(index), name, int(total)) for index, uuid, name, total in rows if int(index) not in cut}
    assert {d.uuid: (d.index, d.name) for d in whole} == {uuid: row[:2] for uuid, row in listed.items()}
    assert {d.uuid: d.total / 2**20 for d in whole} == pytest.approx({u: row[2] for u, row in listed.items()}, rel=0.05)
    assert all(0 < device.free <= device.total for device in found)


@pytest.mark.gpu
def test_a_placement_shows_a_process_its_gpu_alone() -> None:
    """As CUDA sees it: the driver's own library counts what the variables leave."""
    placement = place(service(gpu=1), devices.discover())
    code = (
        "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); count = ctypes.c_int();"
        "assert cuda.cuInit(0) == 0; cuda.cuDeviceGetCount(ctypes.byref(count)); print(count.value)"
    )
    environment = {**os.environ, **placement.env}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment) == "1\n"
    assert devices.device() == "cuda:0"


def test_discover_reads_every_card_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, [SMALL, None, OTHER, SLICE])
    assert devices.discover() == (SMALL, OTHER, SLICE)
    assert driver.open == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert devices.discover() == (OTHER,)


def test_a_gpu_without_its_own_memory_has_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, [Device(0, "GPU-e", "GB10", 0, 0)])
    (found,) = devices.discover()
    assert 0 < found.free <= found.total


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        (None, ALL),
        ("", ()),
        ("-1", ()),
        ("1", (LARGE,)),
        ("2, 0", (SMALL, OTHER)),
        ("0,7,1", (SMALL,)),
        ("GPU-aaaa1111", (SMALL,)),
        ("GPU-bbbb", (LARGE,)),
        ("GPU-bb", ()),
        ("NoDevFiles", ()),
        ("1,1", (LARGE,)),
    ],
)
def test_visible_reads_the_variable_as_cuda_does(variable: str | None, left: tuple[Device, ...]) -> None:
    assert visible(ALL, variable) == left


def test_a_service_that_asks_for_nothing_runs_on_the_cpu_with_gpus_hidden() -> None:
    placement = place(service(), ALL)
    assert on(placement) == ("cpu", "", "cpu")
    assert placement.note == ""
    assert on(place(service("cpu", gpu=1), ALL)) == ("cpu", "", "cpu")


def test_a_gpu_is_picked_by_free_memory_less_what_is_promised() -> None:
    assert on(place(service(gpu=1), ALL)) == ("cuda:1", "1", "cuda:0")
    assert on(place(service("cuda"), ALL)) == ("cuda:1", "1", "cuda:0")
    assert on(place(service(gpu=1), ALL, {"1": 20 * GIB})) == ("cuda:2", "2", "cuda:0")
    assert place(service(gpu=1), ALL).env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_equal_gpus_are_taken_in_turn() -> None:
    twins = (Device(0, "GPU-1", "A", GIB, GIB), Device(1, "GPU-2", "A", GIB, GIB))
    assert place(service(gpu=1), twins).device == "cuda:0"
    assert place(service(gpu=1), twins, {"0": 1}).device == "cuda:1"


def test_slices_of_one_gpu_are_taken_in_turn() -> None:
    slices = (Device(0, "MIG-1a", "A", GIB, GIB), Device(0, "MIG-2b", "A", GIB, GIB))
    first = place(service(gpu=1), slices)
    assert first.gpus == ("MIG-1a",)
    assert place(service(gpu=1), slices, dict.fromkeys(first.gpus, 1)).gpus == ("MIG-2b",)


def test_two_gpus_are_both_visible() -> None:
    assert on(place(service(gpu=2), ALL)) == ("cuda:1,2", "1,2", "cuda:0")


def test_fewer_gpus_than_asked_for_are_taken_and_said() -> None:
    placement = place(service(gpu=2), [SMALL])
    assert on(placement) == ("cuda:0", "0", "cuda:0")
    assert placement.note == "asks for 2 GPUs and gets 1: there are no more"


def test_no_gpu_means_the_cpu_and_a_note() -> None:
    placement = place(service(gpu=1), [])
    assert on(placement) == ("cpu", "", "cpu")
    assert placement.note == "no GPU here: runs on the CPU"


def test_a_slice_is_named_by_its_id() -> None:
    assert on(place(service("cuda:3"), [SLICE])) == ("cuda:3", "MIG-dddd4444", "cuda:0")


def test_an_explicit_device_is_obeyed() -> None:
    assert on(place(service("cuda:0"), ALL)) == ("cuda:0", "0", "cuda:0")
    assert on(place(service("cuda:2"), [OTHER])) == ("cuda:2", "2", "cuda:0")


@pytest.mark.parametrize("wanted", ["cuda:9", "mps", "tpu:0"])
def test_an_explicit_device_that_is_not_there_lists_those_that_are(wanted: str) -> None:
    with pytest.raises(DeviceError) as caught:
        place(service(wanted), ALL)
    assert str(caught.value) == (
        f"Writer: there is no device '{wanted}' here. Available: cpu, cuda:0 (T4), cuda:1 (H100), cuda:2 (H100). "
        'resources={"gpu": 1} takes a GPU where there is one and the CPU elsewhere'
    )


def test_the_error_says_when_devices_may_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match=r"Available: cpu \(CUDA_VISIBLE_DEVICES='' may hide others\)"):
        place(service("cuda"), [])


def test_mps_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_mps", lambda: True)
    assert on(place(service("mps"), [])) == ("mps", "", "mps")
    assert on(place(service(gpu=1), [])) == ("mps", "", "mps")
    assert place(service(), []).device == "cpu"


def test_cpu_sets_threads_at_most_what_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: 4)
    counts = {cpu: place(service(cpu=cpu), []).torch_threads for cpu in (None, 0.5, 2, 2.5, 64)}
    assert counts == {None: None, 0.5: 1, 2: 2, 2.5: 3, 64: 4}
    assert place(service("cuda:0", cpu=3), ALL).torch_threads == 3


def test_a_quota_limits_threads_that_nobody_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "cpu_quota", lambda: 0.5)
    assert devices.usable_cores() == 1
    assert place(service(), []).torch_threads == 1


@pytest.mark.system
def test_usable_cores_is_the_affinity() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from nbcompose._host import devices, memory; memory.cpu_quota = lambda: None\n"
    code += "print(devices.usable_cores())"
    if sys.platform != "linux":
        pytest.skip("affinity is Linux's")
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "1\n"


def test_device_inside_and_outside_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "discover", lambda: ())
    assert devices.device() == "cpu"
    monkeypatch.setattr(devices, "_has_mps", lambda: True)
    assert devices.device() == "mps"
    monkeypatch.setattr(devices, "discover", lambda: ALL)
    assert devices.device() == "cuda:0"
    monkeypatch.setenv("NBCOMPOSE_DEVICE", "cpu")
    assert devices.device() == "cpu"


@pytest.mark.system
def test_apply_threads_reaches_loaded_libraries_and_later_ones() -> None:
    code = """
import os, sys
import numpy
from threadpoolctl import threadpool_info
from nbcompose._host import devices
devices.apply_threads(1)
assert threadpool_info() and all(lib["num_threads"] == 1 for lib in threadpool_info()), threadpool_info()
assert os.environ["OMP_NUM_THREADS"] == "1"
assert "torch" not in sys.modules
"""
    plain = {k: v for k, v in os.environ.items() if not k.endswith("_THREADS")}
    subprocess.run([sys.executable, "-c", code], check=True, env=plain)


@pytest.mark.system
def test_apply_threads_reaches_torch() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    code = "import torch; from nbcompose._host.devices import apply_threads\nfor n in ({}, 1): "
    code += "apply_threads(n); print(torch.get_num_threads())"
    assert subprocess.check_output([sys.executable, "-c", code.format(before + 1)], text=True) == f"{before + 1}\n1\n"
