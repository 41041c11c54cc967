"""nbcompose itself as a wheel, for a container, where no package index has it. Made from what is installed: no build
backend is called, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import nbcompose

NAME = "nbcompose"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes
_KEPT = ("METADATA", "entry_points.txt", "licenses", "LICENSE")  # of what an installer has noted down
_WHEEL = "Wheel-Version: 1.0\nGenerator: nbcompose\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel: the name of its file, and what is in it."""

    name: str
    content: bytes


def wheel_of_ours() -> Wheel | None:
    """The wheel of the nbcompose that runs; None where it was installed from an index, or a place that pip can reach.

    An installer notes down where else a distribution is from (PEP 610); what is not installed at all is from a folder.
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
    """The files of its `dist-info` that say what it is, and not where it was installed."""
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
    """As a wheel's RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
