"""A local S3 server (moto's), with the mishaps of a real one: real HTTP, real errors, real closed connections."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

WRITES = ("PUT", "POST", "DELETE")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class _Silent(WSGIRequestHandler):
    def log(self, *arguments: object) -> None:
        pass


class ObjectStore:
    """The server; it listens as soon as `serve` or `start` is called.

    Attributes:
        mishap: given the number of a request, from 1, and its method: "503", "reset" or None.
        kill_file: names a process and the number of its write at which, before it happens, it is killed.
        requests: (method, path) of all requests.
    """

    def __init__(self, kill_file: Path | None = None) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Silent)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.mishap: Callable[[int, str], str | None] = lambda number, method: None
        self.kill_file = kill_file
        self.requests: list[tuple[str, str]] = []
        self._numbers = itertools.count(1)
        self._writer, self._writes = 0, 0

    def serve(self) -> None:
        self._server.serve_forever()

    def start(self) -> None:
        threading.Thread(target=self.serve, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    def client(self) -> Any:
        keys = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
        return boto3.client("s3", "us-east-1", endpoint_url=self.url, aws_access_key_id=keys[0],
                            aws_secret_access_key=keys[1])  # fmt: skip

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        self.requests.append((method, environ["PATH_INFO"]))
        mishap = self.mishap(next(self._numbers), method)
        if method in WRITES and self.kill_file is not None and self._is_last_write():
            mishap = "reset"
        if mishap is None:
            return self._app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if mishap == "reset":
            with suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return [b""]

    def _is_last_write(self) -> bool:
        """Kill the process whose turn it is."""
        try:
            process, last = map(int, self.kill_file.read_text().split())
        except (OSError, ValueError):
            return False
        if process != self._writer:
            self._writer, self._writes = process, 0
        self._writes += 1
        if self._writes != last:
            return False
        os.kill(process, signal.SIGKILL)
        return True


class Bucket:
    """A bucket of the server."""

    def __init__(self, server: ObjectStore, name: str) -> None:
        self.server, self.name, self.url = server, name, f"s3://{name}"
        self.client = server.client()
        self.client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def empty(self) -> None:
        for key in self.contents("features.zarr"):
            self.delete(f"features.zarr/{key}")

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Every object below a prefix, by its path below."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{prefix}/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return {key.removeprefix(f"{prefix}/"): self.get(key) for key in keys}
