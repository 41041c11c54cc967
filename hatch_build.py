"""Puts the extension of JupyterLab into the wheel, and builds it where there is none yet.

The sdist carries what was built: whoever makes a wheel of it needs no Node. An editable installation has no copy, which
would be old with the next change: scripts/build_labextension.sh links the folder.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = "nbcompose/_jupyter/labextension"
SHARED = "share/jupyter/labextensions/nbcompose"


class LabExtension(BuildHookInterface[Any]):
    """The hook `custom` of pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Have a built extension, and say where in the environment it goes."""
        if version == "editable":
            return
        built = Path(self.root, BUILT)
        if not (built / "package.json").exists():
            self._build()
        if self.target_name == "wheel":
            build_data["shared_data"][str(built)] = SHARED
            build_data["shared_data"][str(Path(self.root, "labextension/install.json"))] = f"{SHARED}/install.json"

    def _build(self) -> None:
        script = Path(self.root, "scripts/build_labextension.sh")
        if shutil.which("sh") is None or subprocess.run(["sh", str(script)], check=False).returncode:
            raise RuntimeError(
                f"{BUILT} could not be built, which scripts/build_labextension.sh does: it needs Node 20.19 or newer "
                "and npm on PATH. The sdist of a release has it: pip install --no-binary nbcompose nbcompose"
            )
