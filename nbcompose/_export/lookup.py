"""Which distributions modules belong to, in this interpreter. Needs the standard library only: requirements.py also
sends this text to other interpreters, as a program that reads names and writes what is found, both as JSON.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import sysconfig
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname


def look_up(names: list[str], distributions: list[str]) -> dict[str, Any]:
    """What is installed of these modules (dotted) and distributions.

    {"python": [3, 11], "modules": {name: {"distributions": [...], "file": path of a module that has none}},
    "distributions": {name: {"version", "url"}}}; `url` is where one was installed from, if not by version, and modules
    of the standard library are left out.
    """
    owners = importlib.metadata.packages_distributions()
    modules = {}
    wanted = set(distributions)
    for name in names:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            continue
        found = _owners(name, sorted(set(owners.get(top, ()))))
        file = "" if found else _file(top)
        project = _project(file) if file else ""
        modules[name] = {"distributions": [project] if project else found, "file": "" if project else file}
        wanted.update([project] if project else found)
    about = {d: a for d in sorted(wanted) if (a := _about(d)) is not None}
    return {"python": list(sys.version_info[:2]), "modules": modules, "distributions": about}


def _owners(name: str, candidates: list[str]) -> list[str]:
    """Those that have the module's file, where several have its first part in common (`google.protobuf`)."""
    parts = name.split(".")
    while len(candidates) > 1 and parts:
        owners = [c for c in candidates if _has(c, "/".join(parts))]
        if owners:
            return owners
        parts.pop()
    return candidates


def _has(distribution: str, path: str) -> bool:
    """Whether a distribution has this module's own file: a directory may belong to many."""
    files = importlib.metadata.files(distribution) or ()
    return any(str(f).startswith((f"{path}.", f"{path}/__init__.")) for f in files)


def _file(top: str) -> str:
    """A module's file, or the folder of a package; "" where there is none, and for what lies with installed ones."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    places = list(spec.submodule_search_locations or ())
    place = places[0] if places else spec.origin or ""
    installed = [sysconfig.get_path(kind) for kind in ("purelib", "platlib", "stdlib")]
    inside = any(place.startswith(folder + os.sep) for folder in installed)
    return "" if inside or not os.path.exists(place) else place


def _project(file: str) -> str:
    """The distribution whose folder, installed as editable, the file lies in."""
    for distribution in importlib.metadata.distributions():
        direct = _direct_url(distribution)
        folder = _folder(str(direct.get("url", "")))
        if folder and "dir_info" in direct and os.path.realpath(file).startswith(os.path.realpath(folder) + os.sep):
            return str(distribution.metadata["Name"])
    return ""


def _folder(url: str) -> str:
    return url2pathname(urlparse(url).path) if url.startswith("file:") else ""


def _about(name: str) -> dict[str, str] | None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return {"version": distribution.version, "url": _source(_direct_url(distribution))}


def _direct_url(distribution: importlib.metadata.Distribution) -> dict[str, Any]:
    try:
        found = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _source(direct: dict[str, Any]) -> str:
    """Where a distribution was installed from, as a requirement names it (PEP 610 to PEP 508)."""
    url = str(direct.get("url", ""))
    vcs = direct.get("vcs_info")
    if isinstance(vcs, dict):
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    return f"{url}#subdirectory={direct['subdirectory']}" if direct.get("subdirectory") else url


if __name__ == "__main__":
    print(json.dumps(look_up(*json.load(sys.stdin))))
