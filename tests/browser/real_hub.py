"""A real JupyterHub behind its proxy, from the environment that `make hub` makes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

from lab_server import SETTINGS

from tests.patience import PATIENCE

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-hub"
PROGRAMS = ("jupyterhub", "jupyterhub-singleuser", "configurable-http-proxy")
PASSWORD = "a password of all users"
STOPPING = 30.0  # seconds that it has to end its users' servers and its proxy

CONFIG = """
import os

c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}/"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///{home}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{home}/cookie_secret"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"  # users need no account here
c.SimpleLocalProcessSpawner.home_dir_template = "{home}/users/{{username}}"
c.Spawner.cmd = ["{environment}/bin/jupyterhub-singleuser"]
c.Spawner.args = ["--allow-root"] if os.getuid() == 0 else []
c.Spawner.default_url = "/lab"
c.Spawner.environment = {{
    "JUPYTER_CONFIG_DIR": "{home}/config", "JUPYTER_PREFER_ENV_PATH": "1", "NBCOMPOSE_PRELOAD": "",
}}
c.ConfigurableHTTPProxy.command = ["{environment}/bin/configurable-http-proxy"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
"""


def missing() -> str:
    """Why there is no hub here; "" where there is one."""
    absent = [name for name in PROGRAMS if not (ENVIRONMENT / "bin" / name).exists()]
    return f"no {', no '.join(absent)} in {ENVIRONMENT.name}: make hub installs them" if absent else ""


class Hub:
    """`base`: where its proxy answers."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._write_settings()
        port, hub_port, api_port = _free_ports(3)
        self.base = f"http://127.0.0.1:{port}"
        config = home / "jupyterhub_config.py"
        config.write_text(
            CONFIG.format(
                port=port, hub_port=hub_port, api_port=api_port, home=home, password=PASSWORD, environment=ENVIRONMENT
            )
        )
        self._process = subprocess.Popen(
            [ENVIRONMENT / "bin" / "jupyterhub", "-f", config],
            cwd=home,
            env={**os.environ, "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._wait()

    def home(self, user: str) -> Path:
        """The folder of a user, which JupyterLab shows."""
        return self._home / "users" / user

    def stop(self) -> None:
        self._process.terminate()  # it ends its users' servers, and its proxy
        try:
            self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._keeper.join(PATIENCE)

    def _write_settings(self) -> None:
        config = self._home / "config"
        for plugin, settings in SETTINGS.items():
            path = config / "lab" / "user-settings" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings), encoding="utf-8")
        shown = {"LabApp": {"expose_app_in_browser": True}}  # so that a test can wait until a kernel is connected
        (config / "jupyter_config.json").write_text(json.dumps(shown), encoding="utf-8")

    def _wait(self) -> None:
        """Read what it says until it answers; what it says later is kept for who looks for a fault."""
        assert self._process.stdout is not None
        said: list[str] = []
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        for line in self._process.stdout:
            said.append(line)
            if re.search(r"JupyterHub is now running", line):
                watch.cancel()
                self._keeper.start()
                return
        watch.cancel()
        raise RuntimeError("JupyterHub did not start:\n" + "".join(said))

    def _keep(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said, (self._home / "hub.log").open("w", encoding="utf-8") as log:
            log.writelines(said)


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
