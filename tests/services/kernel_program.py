"""A process like a kernel: runs services, says what it runs as one line of JSON, and waits to be told to end.

python kernel_program.py [--zygote-warming] [--fork-child]
"""

import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import chain_services
import faulty_services

from nbcompose._code.packing import deployment_of
from nbcompose._control.registry import Registry
from nbcompose._host import forking


def fork_a_child() -> tuple[int, list[str]]:
    """A child that has inherited everything and lives on; and what files it has."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        files = [os.readlink(f"/proc/self/fd/{fd}") for fd in forking.open_files()]
        os.write(writable, json.dumps(files).encode())
        os.close(writable)
        while True:
            time.sleep(3600)
    os.close(writable)
    with open(readable, "rb") as pipe:
        return pid, json.loads(pipe.read())


def main() -> None:
    registry = Registry()
    registry.start()
    engine: Any = registry._engine
    found: dict[str, list[Any]] = {"pids": [engine.zygote_pid], "children": [], "ports": []}
    if "--zygote-warming" not in sys.argv:
        services: tuple[Any, ...] = (chain_services.Leaf, chain_services.Mid, faulty_services.Faulty)
        for service in services:
            registry.deploy(deployment_of(service))
        for name in registry.names():
            assert registry.wait(name).state == "ready", registry.status(name)
            found["pids"] += [r.pid for r in registry.status(name).replicas]
            found["ports"].append(urlsplit(registry.status(name).url).port)
        found["pids"].append(registry.proxy("Faulty").child())
    if "--fork-child" in sys.argv:
        child, found["files"] = fork_a_child()
        found["children"].append(child)
    print(json.dumps(found), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
