"""The extension itself: its settings, its handlers, and what it does when the server starts and stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_events import EventLogger
from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, List, Unicode

from nbcompose import __version__
from nbcompose._jupyter.api import ServicesHandler
from nbcompose._jupyter.finding import Change, Runtime, Runtimes
from nbcompose._jupyter.mcp_handler import McpHandler, Tools
from nbcompose._jupyter.proxy import PATHS, ProxyHandler
from nbcompose._jupyter.reaching import Services
from nbcompose._jupyter.watching import WatchHandler

EVENTS = Path(__file__).with_name("events.yaml")
EVENT = "https://github.com/nbcompose/nbcompose/events/runtimes/v1"
KERNEL_EVENT = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
START_HOOK = "_start_jupyter_server_extension"  # which jupyter_server calls from 2.16 on


class NbcomposeExtension(ExtensionApp):
    """Services in kernels and programs of this user, in the browser."""

    name = "nbcompose"
    version = __version__
    load_other_extensions = True
    runtimes: Runtimes

    tools = List(
        Unicode(),
        help="""Apis that are tools of the Model Context Protocol at nbcompose/mcp: names of services, all of whose apis
        are meant, or of single ones, as in "Answer.ask". The package mcp is needed: pip install 'nbcompose[mcp]'.""",
    ).tag(config=True)

    calls_are_activity = Bool(
        True,
        help="""Whether a request that is passed on to a service counts as activity of the user, so that a hub does not
        end the server meanwhile.""",
    ).tag(config=True)

    def initialize_handlers(self) -> None:
        server, events = self.serverapp, self._event_bus
        assert server is not None
        self.runtimes = Runtimes(server.session_manager, server.web_app.settings["base_url"], self.log)
        self._tools = Tools(self.runtimes, self.tools)
        self._services = Services(self.runtimes)
        events.register_event_schema(EVENTS)
        self.runtimes.subscribe(self._emit)
        events.add_listener(schema_id=KERNEL_EVENT, listener=self._on_kernel_action)
        given = {"runtimes": self.runtimes}
        if not hasattr(ExtensionApp, START_HOOK):
            server.io_loop.add_callback(self.runtimes.start)
        self.handlers.extend(
            [
                (r"/nbcompose/api/services", ServicesHandler, given),
                (r"/nbcompose/api/watch", WatchHandler, given),
                (r"/nbcompose/mcp", McpHandler, {"tools": self._tools}),
                (PATHS, ProxyHandler, {"services": self._services, "counts": self.calls_are_activity}),
            ]
        )

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        await self.runtimes.start()

    async def stop_extension(self) -> None:
        self._services.close()
        await self._tools.stop()
        await self.runtimes.stop()

    @property
    def _event_bus(self) -> EventLogger:
        assert self.serverapp is not None
        assert self.serverapp.event_logger is not None
        return self.serverapp.event_logger

    def _emit(self, change: Change, runtime: Runtime) -> None:
        if change != "numbers":
            self._event_bus.emit(schema_id=EVENT, data={"action": change, "runtime": runtime.id})

    async def _on_kernel_action(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        self.runtimes.look_soon()


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """What Jupyter's server asks a package for: the extensions in it."""
    return [{"module": "nbcompose._jupyter", "app": NbcomposeExtension}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """What JupyterLab asks a package for: where the extension was built, from the package's folder."""
    return [{"src": "_jupyter/labextension", "dest": "nbcompose"}]
