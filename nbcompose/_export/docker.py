"""Dockerfile of a script, and a wheel of nbcompose itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath

import nbcompose
from nbcompose._export.requirements import OURSELVES, Requirements

NAME = "nbcompose"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same input gives the same bytes
_KEPT = ("METADATA", "entry_points.txt", "licenses", "LICENSE")  # of an installed distribution's metadata
_WHEEL = "Wheel-Version: 1.0\nGenerator: nbcompose\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel: its file name and content."""

    name: str
    content: bytes


def wheel_of_ours() -> Wheel | None:
    """Return a wheel of the nbcompose that runs; None where it was installed from a package index or another URL.

    Installers record local sources (PEP 610); a nbcompose that is not installed at all runs from a folder.
    """
    try:
        found = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        return _wheel(nbcompose.__version__, dict(_metadata_of_a_folder()))
    return _wheel(found.version, dict(_noted(found))) if is_local(found) else None


def is_local(distribution: metadata.Distribution) -> bool:
    """Whether a distribution was installed from a folder or a file of this machine."""
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return isinstance(direct, dict) and str(direct.get("url", "")).startswith("file:")


def _noted(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files of its `dist-info` that describe the distribution, and not its installation."""
    for file in distribution.files or ():
        folder, _, rest = file.as_posix().partition("/")
        if folder.endswith(".dist-info") and rest.partition("/")[0] in _KEPT:
            yield rest, Path(str(file.locate())).read_bytes()


def _metadata_of_a_folder() -> Iterator[tuple[str, bytes]]:
    text = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {nbcompose.__version__}\n"
    yield "METADATA", text.encode()
    yield "entry_points.txt", f"[console_scripts]\n{NAME} = {NAME}.cli:main\n".encode()


def _wheel(version: str, noted: dict[str, bytes]) -> Wheel:
    info = f"{NAME}-{version}.dist-info"
    package = Path(nbcompose.__file__).parent
    files = {
        f"{NAME}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {f"{info}/{name}": content for name, content in sorted(noted.items())}
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return Wheel(f"{NAME}-{version}-py3-none-any.whl", target.getvalue())


def _digest(content: bytes) -> str:
    """Return the digest in the form of a wheel's RECORD."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


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
    """Return the Dockerfile of a script in the build folder. `entries` are variables in the script.

    `wheel`: the file beside it from which nbcompose is installed, where no package index has this nbcompose.
    """
    image = re.sub("[^a-z0-9]+", "-", PurePath(script).stem.lower()).strip("-") or "services"
    ports = [PORT + i for i in range(len(entries))]  # as serve() assigns them
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
    """Return the code of the health check. An error status raises: Docker uses the exit status."""
    asked = "; ".join(f"opener.open('http://127.0.0.1:{port}/readyz', timeout=5)" for port in ports)
    return f"from urllib.request import *; opener = build_opener(ProxyHandler({{}})); {asked}"


def _command(script: str, entries: Sequence[str]) -> list[str]:
    if len(entries) == 1:
        return ["nbcompose", "serve", f"{script}:{entries[0]}", "--host", "0.0.0.0", "--port", str(PORT)]
    # Like `python script`, but reachable from the network.
    module = PurePath(script).stem
    served = ", ".join(f"script.{entry}" for entry in entries)
    program = f"script = importlib.import_module({module!r}); nbcompose.serve({served}, host='0.0.0.0', port={PORT})"
    return ["python", "-c", f"import importlib, nbcompose; {program}"]
