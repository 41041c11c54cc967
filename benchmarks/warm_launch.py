"""Launches the inference graph from a process whose zygote is warm, as a kernel's is, and asks for one answer.

python -m benchmarks.warm_launch      prints "first answer after SECONDS", then serves until SIGTERM
"""

from __future__ import annotations

import importlib
import signal
import threading
import time

from benchmarks.graph import FIRST_ANSWER, QUESTION
from nbcompose._code.packing import Deployment
from nbcompose._control.registry import Registry
from nbcompose._replica.bootstrap import ByImport
from nbcompose._service.handle import Service

MODULE = "benchmarks.inference_graph"
ENTRY = "InferenceGraph"


def main() -> None:
    registry = Registry()
    registry.start()
    module = importlib.import_module(MODULE)  # as the kernel has: the cell that declares the services ran
    while registry.warming():
        time.sleep(0.05)
    begin = time.perf_counter()
    for service in vars(module).values():
        if isinstance(service, Service):
            registry.deploy(Deployment(service.spec, ByImport(MODULE, service.name)))
    status = registry.wait(ENTRY)
    if status.state != "ready":
        raise SystemExit(f"{ENTRY} is {status.state}: {status.reason}")
    if cold := {r.cold for s in registry.statuses() for r in s.replicas if r.cold}:
        raise SystemExit(f"the zygote did not make every replica: {'; '.join(cold)}")
    registry.proxy(ENTRY).generate_score(**QUESTION)
    print(f"{FIRST_ANSWER}{time.perf_counter() - begin}", flush=True)
    _wait_for_the_end()
    registry.stop()


def _wait_for_the_end() -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    main()
