"""A process like a kernel: runs services, says what it runs as one line of JSON, and waits to be told to end.

python kernel_program.py [--zygote-warming] [--fork-child]
"""

import json
import os
import sys
import time

import chain_services
import faulty_services

from nbcompose.capture.packing import deployment_of
from nbcompose.registry import Registry


def fork_a_child() -> int:
    """A child that has inherited everything and lives on."""
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(3600)
    return pid


def main() -> None:
    registry = Registry()
    registry.start()
    found = {"pids": [registry._engine.zygote_pid], "children": []}
    if "--zygote-warming" not in sys.argv:
        for service in (chain_services.Leaf, chain_services.Mid, faulty_services.Faulty):
            registry.deploy(deployment_of(service))
        for name in registry.names():
            assert registry.wait(name).state == "ready", registry.status(name)
            found["pids"] += [r.pid for r in registry.status(name).replicas]
        found["pids"].append(registry.proxy("Faulty").child())
    if "--fork-child" in sys.argv:
        found["children"].append(fork_a_child())
    print(json.dumps(found), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
