"""`GET nbcompose/api/services`: what runs, for scripts and for a front end's first look."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from nbcompose._jupyter.finding import Runtimes

RESOURCE = "nbcompose"  # what an authorizer is asked for


class ServicesHandler(APIHandler):
    """Answers with `{"runtimes": [Listed, …]}`, see `finding.py`. Does not count as activity of the user."""

    auth_resource = RESOURCE
    _track_activity = False

    def initialize(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes

    @web.authenticated
    @authorized("execute", resource=RESOURCE)  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        self.finish({"runtimes": await self._runtimes.ask()})
