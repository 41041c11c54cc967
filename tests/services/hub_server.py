"""A hub of models on loopback, for what downloads from one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlsplit


class Hub:
    """A small hub on loopback, over real HTTP: the endpoints that a snapshot download calls.

    Holds one commit of each model. `hold`: file names whose second half is sent when `release` is set.
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main"}
        self.gated: set[str] = set()
        self.refuses_tokens = False
        self.failing = False
        self.hold: set[str] = set()
        self.held = threading.Event()
        self.release = threading.Event()
        self.requests: list[str] = []
        self.tokens: set[str | None] = set()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @staticmethod
    def commit(model: str) -> str:
        return hashlib.sha1(model.encode()).hexdigest()

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub = self.hub
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        hub.tokens.add(self.headers.get("authorization"))
        if hub.failing:
            self._refuse(500, "")
        elif hub.refuses_tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/").split("/"))
        else:
            org, name, _, _, *file = path.strip("/").split("/")
            model = f"{org}/{name}"
            if model in hub.gated:
                self._refuse(403 if self.headers.get("authorization") else 401, "GatedRepo")
            else:
                self._send_file(model, "/".join(file), body)

    def _describe(self, parts: list[str]) -> None:
        model, what, revision = "/".join(parts[:2]), parts[2], parts[3]
        files = self.hub.models.get(model)
        if files is None:
            self._refuse(404, "RepoNotFound")
        elif revision not in self.hub.revisions | {Hub.commit(model)}:
            self._refuse(404, "RevisionNotFound")
        elif what == "revision":
            self._send_json({"id": model, "sha": Hub.commit(model), "siblings": [{"rfilename": f} for f in files]})
        else:
            oids = {f: hashlib.sha1(data).hexdigest() for f, data in files.items()}
            self._send_json([{"type": "file", "path": f, "size": len(files[f]), "oid": oid} for f, oid in oids.items()])

    def _send_json(self, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_file(self, model: str, file: str, body: bool) -> None:
        data = self.hub.models[model][file]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", Hub.commit(model))
        self.end_headers()
        if not body:
            return
        half = len(data) // 2 if file in self.hub.hold else len(data)
        self.wfile.write(data[:half])
        if half < len(data):
            self.hub.held.set()
            self.hub.release.wait()
            with contextlib.suppress(ConnectionError):  # the one who asked has gone
                self.wfile.write(data[half:])

    def _refuse(self, status: int, code: str, message: str = "no") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()
