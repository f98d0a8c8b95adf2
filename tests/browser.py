"""A small client of a headless Chromium over the DevTools protocol's pipe: opens local pages, clicks, reads, takes pictures, and keeps what went wrong."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

TIMEOUT_S = 60.0


def find_chromium() -> str | None:
    """The browser's program, None when there is none."""
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


class Page:
    """One page. `messages`: console errors, warnings and exceptions; `requests`: every URL asked for."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.loaded_s: float | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def goto(self, url: str) -> None:
        start = time.monotonic()
        self.loaded_s = None
        self.call("Page.navigate", url=url)
        self._browser.wait(lambda: self.loaded_s is not None)
        self.loaded_s = time.monotonic() - start

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def text(self, selector: str) -> str:
        value = self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
        return " ".join(str(value).split())

    def click(self, selector: str) -> None:
        """A real click, in the middle of the element as it lies in the window."""
        find = f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}}); "
        x, y = self.evaluate(find + "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, selector: str | None = None) -> None:
        options: dict[str, Any] = {}
        if selector:
            box = self.evaluate(f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                                " return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })()")  # fmt: skip
            options["clip"] = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, **options)["data"]
        path.write_bytes(base64.b64decode(data))

    def event(self, method: str, body: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self.loaded_s = 0.0
        elif method == "Network.requestWillBeSent":
            self.requests.append(body["request"]["url"])
        elif method == "Runtime.consoleAPICalled" and body["type"] in ("error", "warning", "assert"):
            self.messages.append(str([a.get("value", a.get("description")) for a in body["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(str(body["exceptionDetails"]))
        elif method == "Log.entryAdded" and body["entry"]["level"] in ("error", "warning"):
            self.messages.append(body["entry"]["text"])


class Browser:
    """A headless browser with a profile of its own; use as a context manager."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="fpga-squeeze-browser-", ignore_cleanup_errors=True)
        to_browser, from_browser = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_browser[0], from_browser[1])]

        def as_3_and_4() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(3, 4), preexec_fn=as_3_and_4
        )
        for fd in (to_browser[0], from_browser[1], *theirs):
            os.close(fd)
        self._write, self._read = to_browser[1], from_browser[0]
        self._buffer = b""
        self._last = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def page(self, width: int = 1280, height: int = 900, dark: bool = False, phone: bool = False) -> Page:
        """A new page of this size, in CSS pixels."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        self.wait(lambda: number in self._answers)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not done():
            assert time.monotonic() < deadline, "the browser did not answer in time"
            if not select.select([self._read], [], [], 1.0)[0]:
                continue
            data = os.read(self._read, 1 << 20)
            assert data, "the browser closed its pipe"
            *whole, self._buffer = (self._buffer + data).split(b"\0")
            for part in whole:
                self._take(json.loads(part))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
        elif message.get("sessionId") in self._pages:
            self._pages[message["sessionId"]].event(message["method"], message["params"])
