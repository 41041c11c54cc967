"""Modes that a library keeps for each thread apart, such as whether torch records gradients: what `__init__` has set in
its thread is to hold wherever the instance's code runs.

Not here: what the process has once (a locale, torch's default dtype), and what is in contextvars (a decimal context,
numpy's errstate), which travel with the context.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Modes = dict[str, Any]


def read() -> Modes:
    """The modes of this thread, of libraries that are loaded."""
    torch = sys.modules.get("torch")
    return {} if torch is None else {name: get(torch) for name, (get, _) in _TORCH.items()}


def changed(before: Modes, after: Modes) -> Modes:
    """What a thread has set between two readings."""
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def take(modes: Modes) -> list[Any]:
    """Have these modes in this thread. Keep what is returned for as long as they are to hold."""
    torch = sys.modules.get("torch")
    return [
        put(torch, modes[name]) for name, (get, put) in _TORCH.items() if name in modes and get(torch) != modes[name]
    ]


def _enter_inference(torch: Any, wanted: bool) -> Any:
    mode = torch.inference_mode(wanted)
    mode.__enter__()
    return mode


def _autocast(torch: Any) -> dict[str, Any]:
    return {device: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")}


def _set_autocast(torch: Any, wanted: dict[str, Any]) -> None:
    for device, (enabled, dtype) in wanted.items():
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


# Name: how it is read, and set. Inference mode sets that of gradients, too: it comes first.
_TORCH: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "inference": (lambda torch: torch.is_inference_mode_enabled(), _enter_inference),
    "gradients": (lambda torch: torch.is_grad_enabled(), lambda torch, on: torch.set_grad_enabled(on)),
    "threads": (lambda torch: torch.get_num_threads(), lambda torch, n: torch.set_num_threads(n)),
    "device": (lambda torch: torch.get_default_device(), lambda torch, device: torch.set_default_device(device)),
    "autocast": (_autocast, _set_autocast),
}
