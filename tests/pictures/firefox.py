"""Firefox without a driver: WebDriver BiDi, which it speaks itself, over a websocket."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp

_SECONDS = 60


class Firefox:
    """A headless Firefox with one page, and what scripts complained of there; close it.

    Args:
        path: of the program.
        profile: an empty folder for its profile.
    """

    def __init__(self, path: str, profile: Path) -> None:
        self.complaints: list[str] = []
        self._number = 0
        self._loop = asyncio.new_event_loop()  # Playwright's runs in the tests' own thread
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            address = next(filter(None, (re.search(r"ws://\S+", line) for line in self._process.stderr)))[0]
            self._done(self._connect(f"{address}/session"))
            self.call("session.new", capabilities={})
            self.call("session.subscribe", events=["log.entryAdded"])
            self._context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self.close()
            raise

    def _done(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _connect(self, address: str) -> None:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(address, max_msg_size=0)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of WebDriver BiDi; events that come before it are kept."""
        return self._done(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json()).get("id") != self._number:
            if answer.get("method") == "log.entryAdded":
                self.complaints.append(answer["params"]["text"])
        if answer["type"] == "error":
            raise RuntimeError(f"{answer['error']}: {answer['message']}")
        return answer["result"]

    def open(self, page: Path, width: int = 1280, height: int = 800) -> None:
        """Load a file into a window of this size."""
        self.call("browsingContext.setViewport", context=self._context, viewport={"width": width, "height": height})
        self.call("browsingContext.navigate", context=self._context, url=page.as_uri(), wait="complete")

    def evaluate(self, expression: str) -> Any:
        """What JavaScript makes of an expression, once a promise is kept and what changed is drawn."""
        drawn = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        script = (
            f"(async () => {{ const value = await ({expression}); await {drawn}; return JSON.stringify(value); }})()"
        )
        target = {"context": self._context}
        answer = self.call("script.evaluate", expression=script, target=target, awaitPromise=True)
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"].get("value", "null"))

    def act(self, kind: str, *actions: dict[str, Any]) -> None:
        """What a ``key``, ``pointer`` or ``wheel`` does, as the WebDriver standard names it."""
        source = {"type": kind, "id": kind, "actions": list(actions)}
        self.call("input.performActions", context=self._context, actions=[source])

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        self.act("key", {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})

    def screenshot(self, path: Path) -> None:
        """Write the window as PNG."""
        path.write_bytes(
            base64.b64decode(self.call("browsingContext.captureScreenshot", context=self._context)["data"])
        )

    def close(self) -> None:
        """End the program that was started here."""
        if hasattr(self, "_socket"):
            self._done(self._socket.close())
        if hasattr(self, "_session"):
            self._done(self._session.close())
        self._process.terminate()
        self._process.wait(_SECONDS)
        self._process.stderr.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()
