"""The page for stores that are too large for a file: a case is read when it is looked at, by this machine alone."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from featlift.errors import FeatliftError, OptionError
from featlift.pictures.viewer.scene import Scene
from featlift.pictures.viewer.writing import page

_ADDRESS = "127.0.0.1"
_HELD = 4  # cases that are kept in memory to be shown again


class Server(ThreadingHTTPServer):
    """Serves a scene to browsers of this machine, until it is closed.

    Args:
        scene: what to show.
        port: 0 takes any that is free.

    Raises:
        OptionError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, scene: Scene, port: int = 0) -> None:
        self.page = page(scene.manifest()).encode()
        self.scene = scene
        self.case = lru_cache(_HELD)(lambda number: _json(scene.case(scene.cases[number])))
        try:
            super().__init__((_ADDRESS, port), _Handler)
        except OSError as error:
            raise OptionError(f"--port {port}: {error.strerror}; give another, or 0 for any that is free") from error

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that leaves before it has everything is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{_ADDRESS}:{self.server_port}/"


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


class _Handler(BaseHTTPRequestHandler):
    """Answers for the page and for cases by their number; everything else is not there."""

    server: Server

    def do_GET(self) -> None:
        """Answer."""
        # a name that someone else lets point here is not ours, and a page of theirs could read what we say to it
        if self.headers.get("Host", "").rpartition(":")[0] not in (_ADDRESS, "localhost"):
            return self._send(403, "text/plain", b"this server is for its own machine: use 127.0.0.1 or localhost\n")
        if self.path == "/":
            return self._send(200, "text/html; charset=utf-8", self.server.page)
        number = self.path.removeprefix("/case/")
        if number.isdecimal() and int(number) < len(self.server.scene.cases):
            try:
                return self._send(200, "application/json", self.server.case(int(number)))
            except FeatliftError as error:  # of this case, and perhaps only now
                return self._send(500, "application/json", _json({"error": str(error)}))
        return self._send(404, "text/plain", b"not found\n")

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
