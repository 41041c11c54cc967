"""Installs the torch of locks/torch.txt into the environment that runs this, as a build for the CPU, or not at all.

    TORCH=auto  (the default)  a CPU build from the package index that pip is configured with; where that has only a
                               CUDA build, one from PyTorch's own index of CPU builds; where that fails, none
    TORCH=index                whatever the configured index has, several gigabytes of CUDA libraries included
    TORCH=none                 none: tests that need torch are skipped, and say so

Only one of these asks an index other than the configured one, and only for torch. What torch itself needs, apart from
CUDA, is in the lock already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PINNED = Path(__file__).resolve().parents[1] / "locks" / "torch.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch publishes its CPU builds for Linux: https://pytorch.org/get-started/locally/."""


def pip(*arguments: str) -> bool:
    """Whether `pip install …` succeeded."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]
    return subprocess.run(command, check=False).returncode == 0


def needs_cuda(requirement: str) -> bool | None:
    """Whether the build that the configured index has for this machine brings CUDA along; None where it has no build.

    Nothing is installed, and with an index that serves metadata (PEP 658) only that is downloaded.
    """
    from packaging.requirements import Requirement

    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        if not pip("--dry-run", "--ignore-installed", "--no-deps", "--report", str(report), requirement):
            return None
        [found] = json.loads(report.read_text(encoding="utf-8"))["install"]
    needs = [Requirement(each) for each in found["metadata"].get("requires_dist", [])]
    applying = [r for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return any(r.name.startswith(("nvidia-", "cuda-", "triton")) for r in applying)


def install(requirement: str, choice: str) -> str:
    """Install torch as `choice` says; the line that says what was done."""
    if choice == "none":
        return "no torch (TORCH=none): the tests that need it are skipped"
    if choice == "index":
        return f"{requirement}, as the package index has it" if pip(requirement) else ""
    cuda = needs_cuda(requirement)
    if cuda is False and pip("--no-deps", requirement):
        return f"{requirement}, built for the CPU"
    # By the build's own name: whatever else pip is configured to look at has no such thing, or the right one.
    once = ("--retries", "0", "--timeout", "20")
    if cuda and pip("--no-deps", *once, "--index-url", CPU_INDEX, f"{requirement}+cpu"):
        return f"{requirement}+cpu, from {CPU_INDEX}"
    return (
        "no torch: no CPU build of it could be found for this Python, and the tests that need it are skipped. "
        "`make TORCH=index …` takes a CUDA build (several gigabytes)."
    )


def main() -> int:
    choice = os.environ.get("TORCH") or "auto"
    if choice not in ("auto", "index", "none"):
        print(f"TORCH={choice} is unknown; known are: auto, index, none", file=sys.stderr)
        return 2
    [requirement] = [line for line in PINNED.read_text(encoding="utf-8").splitlines() if line.startswith("torch==")]
    try:
        installed = version("torch").split("+")[0]
    except PackageNotFoundError:
        installed = ""
    if choice != "none" and f"torch=={installed}" == requirement:
        return 0
    done = install(requirement, choice)
    if not done:
        return 1
    print(f"==> {done}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
