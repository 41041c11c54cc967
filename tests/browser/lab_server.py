"""A real Jupyter server of its own, which serves JupyterLab and Notebook 7."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat

from tests.patience import PATIENCE

ENDING = 30.0  # seconds; a thread of AnyIO's may keep a server whose last page is open still, and for ever
LAB = tuple(map(int, importlib.metadata.version("jupyterlab").split(".")[:2]))
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    # JupyterLab 4.3 takes cells out of the page that are not in sight, and tests look at them.
    **({"@jupyterlab/notebook-extension/tracker": {"windowingMode": "defer"}} if LAB < (4, 4) else {}),
}
# It is not asked at each page, by Node, whether extensions have to be built.
PAGE = {"buildAvailable": False, "buildCheck": False}
# jsonschema takes rfc3987_syntax where it is there, for a format of addresses: its import takes 2 s.
START = "import sys; sys.modules['rfc3987_syntax'] = None; from jupyterlab.labapp import main; main()"


class Server:
    """`folder`: what it shows. Nothing of this user's configuration is read or written.

    `preload`: what services find imported; by default nothing, since those of these tests need no heavy library.
    `config`: more of the configuration.
    """

    def __init__(self, home: Path, preload: str | None = "", config: dict[str, Any] | None = None) -> None:
        self.folder = home / "notebooks"
        self.folder.mkdir()
        self.token = secrets.token_urlsafe(16)
        self._home = home
        self._preload = preload
        self._config = config or {}
        self._write_settings()
        self._process = subprocess.Popen(
            [
                sys.executable, "-c", START, "--no-browser", "--ip=127.0.0.1",
                f"--ServerApp.port={_free_port()}", f"--ServerApp.root_dir={self.folder}",
                f"--LabApp.user_settings_dir={home / 'settings'}",
                f"--LabApp.workspaces_dir={home / 'workspaces'}", *(["--allow-root"] if os.getuid() == 0 else []),
            ],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )  # fmt: skip
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.base = self._address()

    def write(self, name: str, cells: list[str]) -> Path:
        """A notebook of code cells."""
        path = self.folder / name
        write(path, cells)
        return path

    def url(self, front_end: str, name: str) -> str:
        where = {"lab": "lab/tree", "notebook": "notebooks"}[front_end]
        return f"{self.base}/{where}/{name}?token={self.token}{'&reset' if front_end == 'lab' else ''}"

    def stop(self) -> None:
        self._process.terminate()  # it ends its kernels
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._keeper.join(PATIENCE)

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        for kind in ("CONFIG", "DATA", "RUNTIME"):
            environment[f"JUPYTER_{kind}_DIR"] = str(self._home / kind.lower())
        environment |= {
            "IPYTHONDIR": str(self._home / "ipython"),
            "HOME": str(self._home),  # of the files for callers outside
            "JUPYTER_TOKEN": self.token,
        }
        if self._preload is not None:
            environment["NBCOMPOSE_PRELOAD"] = self._preload
        return environment

    def _write_settings(self) -> None:
        for plugin, settings in SETTINGS.items():
            path = self._home / "settings" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings), encoding="utf-8")
        shown = {"expose_app_in_browser": True}  # so that a test can wait until a kernel is connected
        (self._home / "config" / "labconfig").mkdir(parents=True)
        (self._home / "config" / "labconfig" / "page_config.json").write_text(json.dumps(PAGE), encoding="utf-8")
        config = json.dumps({"LabApp": shown, "JupyterNotebookApp": shown, **self._config})
        (self._home / "config" / "jupyter_config.json").write_text(config, encoding="utf-8")

    def _address(self) -> str:
        """Read what it says until it names its address; what it says later is kept for who looks for a fault."""
        assert self._process.stdout is not None
        said: list[str] = []
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        for line in self._process.stdout:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                watch.cancel()
                self._keeper.start()
                return found[0]
        raise RuntimeError("JupyterLab did not start:\n" + "".join(said))

    def _keep(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said, (self._home / "server.log").open("w", encoding="utf-8") as log:
            log.writelines(said)


def write(path: Path, cells: list[str]) -> None:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, path)


def _free_port() -> int:
    """Not 0, which jupyter_server 2.15 says that it answers at. Where it is taken meanwhile, Jupyter takes another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
