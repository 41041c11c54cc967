"""Plugin of coverage.py that measures nothing: it makes a lock of coverage.py safe from what is thrown into threads.

A tracer takes the lock by a method in Python, `Collector.lock_data`. What arrives there right after it has been taken
(Ctrl-C in the main thread, what `--interrupt-after` raises in a worker) leaves it taken, and then every thread waits
for ever. The lock's own methods are in C, where nothing arrives.
"""

from __future__ import annotations

from typing import Any

from coverage.collector import Collector


def coverage_init(_registry: Any, _options: Any) -> None:
    """Called by coverage.py in each process that is measured, before it begins."""
    vars_of_class: Any = Collector
    vars_of_class.lock_data = property(lambda collector: collector.data_lock.acquire)
    vars_of_class.unlock_data = property(lambda collector: collector.data_lock.release)
