"""A Dockerfile for a script, and what of its folder is left out of the image. Text only: nothing is built here."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from nbcompose.export.writing.versions import OURSELVES, Requirements

PORT = 3000
CACHE = "/home/app/.cache/huggingface"

IGNORED = (
    "# What the services do not need. Written by nbcompose.",
    ".dockerignore",
    ".env*",
    ".git",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "**/*.ipynb",
    "**/*.py[co]",
    "**/__pycache__",
    "Dockerfile",
)


def dockerignore() -> str:
    return "\n".join([*IGNORED, ""])


def dockerfile(script: str, entries: Sequence[str], requirements: Requirements, wheel: str = "") -> str:
    """The Dockerfile of a script, which lies in the folder that is built from. `entries` are variables in it.

    `wheel`: the file beside it that nbcompose is installed from, where no index has that.
    """
    image = re.sub("[^a-z0-9]+", "-", PurePath(script).stem.lower()).strip("-") or "services"
    ports = [PORT + i for i in range(len(entries))]  # as serve() gives them
    published = " ".join(f"-p {port}:{port}" for port in ports)
    return "\n".join([
        f"# The services of {script}. Written by nbcompose.",
        f"#   docker build -t {image} .",
        f"#   docker run -e NBCOMPOSE_TOKEN {published} -v models:{CACHE} {image}",
        "# NBCOMPOSE_TOKEN, which callers send as a bearer token, is required: without it the server does not start.",
        f"FROM python:{requirements.python}-slim",
        "",
        *_install(requirements, wheel),
        "",
        f"RUN useradd --uid 1000 --create-home app && mkdir --parents {CACHE} && chown --recursive app:app /home/app",
        f"ENV HF_HOME={CACHE} PYTHONUNBUFFERED=1",
        f"VOLUME {CACHE}",
        "",
        "WORKDIR /app",
        "COPY --chown=app:app . .",
        "USER 1000",
        "",
        f"EXPOSE {' '.join(str(port) for port in ports)}",
        "# Until the first start-up is over (models may have to be downloaded) a failure does not count.",
        "HEALTHCHECK --interval=30s --timeout=10s --start-period=15m \\",
        f"    CMD {json.dumps(['python', '-c', _check(ports)])}",
        f"CMD {json.dumps(_command(script, entries))}",
        "",
    ])  # fmt: skip


def _install(requirements: Requirements, wheel: str) -> list[str]:
    ours = re.compile(rf"{OURSELVES}($|[^\w.-])")
    here = f"/tmp/{wheel}"
    asked = [here if wheel and ours.match(d.requirement) else d.requirement for d in requirements.dependencies]
    wanted = [shlex.quote(requirement) for requirement in asked]
    copied = [f"COPY {json.dumps([wheel, here])}"] if wheel else []
    lines = [
        *copied,
        "RUN pip install --no-cache-dir \\",
        *(f"    {line} \\" for line in wanted[:-1]),
        f"    {wanted[-1]}",
    ]
    if any(" @ git+" in d.requirement for d in requirements.dependencies):
        git = "RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*"
        return [git, *lines]
    return lines


def _check(ports: Sequence[int]) -> str:
    """Any answer but 200 raises: Docker goes by the exit status."""
    asked = "; ".join(f"opener.open('http://127.0.0.1:{port}/readyz', timeout=5)" for port in ports)
    return f"from urllib.request import *; opener = build_opener(ProxyHandler({{}})); {asked}"


def _command(script: str, entries: Sequence[str]) -> list[str]:
    if len(entries) == 1:
        return ["nbcompose", "serve", f"{script}:{entries[0]}", "--host", "0.0.0.0", "--port", str(PORT)]
    # As `python script` does, but open to the network.
    module = PurePath(script).stem
    served = ", ".join(f"script.{entry}" for entry in entries)
    program = f"script = importlib.import_module({module!r}); nbcompose.serve({served}, host='0.0.0.0', port={PORT})"
    return ["python", "-c", f"import importlib, nbcompose; {program}"]
