"""A real browser, headless, driven by the W3C WebDriver protocol of the distribution's chromedriver."""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
_SECONDS = 30.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Root cannot use the sandbox, and neither can accounts without user namespaces. The tests open loopback pages only.
    "--no-sandbox",
)
_MARK = """
document.querySelectorAll('[data-clicked]').forEach(each => each.removeAttribute('data-clicked'));
const found = [...document.querySelectorAll(arguments[0])]
  .find(each => each.innerText.trim() === arguments[1] && each.getClientRects().length);
found?.setAttribute('data-clicked', '');
return Boolean(found);
"""


# What a page that is still being drawn answers: a person would try again.
_TOO_EARLY = frozenset(
    {
        "element click intercepted",
        "element not interactable",
        "invalid element state",
        "no such element",
        "stale element reference",
    }
)


class RefusedError(AssertionError):
    """The driver has refused a command."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Browser:
    """One window. An element is named by a CSS selector."""

    def __init__(self, port: int, profile: Path) -> None:
        self._port = port
        self._refused = ""
        options = {"args": [*_FLAGS, f"--user-data-dir={profile}"], "binary": CHROMIUM}
        matching = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        wanted = {"capabilities": {"alwaysMatch": matching}}
        self._session = ""
        self._session = f"/session/{self._send('POST', '/session', wanted)['sessionId']}"

    def go(self, url: str) -> None:
        self._send("POST", "/url", {"url": url})

    def size(self, width: int, height: int) -> None:
        """Give the page this size, also one narrower than a window may be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self._send("POST", "/goog/cdp/execute", command)

    def prefer(self, scheme: str) -> None:
        """Prefer a colour scheme, `light` or `dark`, as the system's settings do."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        command = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self._send("POST", "/goog/cdp/execute", command)

    @property
    def url(self) -> str:
        return str(self._send("GET", "/url"))

    def run(self, script: str, *arguments: object) -> Any:
        """Evaluate a function body in the page."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        found = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return str(found)

    def click(self, selector: str) -> None:
        """Click the element as soon as it can be clicked."""
        self.until(lambda: self._use(selector, ("click", {})))

    def click_on(self, text: str, tag: str = "button") -> None:
        """Click the first element of this kind that shows this text, and is not hidden."""
        self.until(lambda: self.run(_MARK, tag, text) and self._use("[data-clicked]", ("click", {})))

    def newest_window(self) -> None:
        """Continue in the window that was opened last, once there is more than one."""
        handles: list[str] = []

        def another() -> bool:
            handles[:] = self._send("GET", "/window/handles")
            return len(handles) > 1

        self.until(another)
        self._send("POST", "/window", {"handle": handles[-1]})

    def first_window(self) -> None:
        """Close this window, and continue in the first one."""
        self._send("DELETE", "/window")
        self._send("POST", "/window", {"handle": self._send("GET", "/window/handles")[0]})

    def frame(self, selector: str | None) -> None:
        """Continue inside a frame of the page, or in the page itself."""
        named = None if selector is None else {_ELEMENT: self._find(selector)}
        self._send("POST", "/frame", {"id": named})

    def console(self) -> list[str]:
        """Return what the pages have written into the console since the last call, or the browser because of them."""
        return [str(entry["message"]) for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def write(self, selector: str, text: str) -> None:
        """Replace the element's text as soon as it can be written to."""
        self.until(lambda: self._use(selector, ("clear", {}), ("value", {"text": text})))

    def press(self, keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def until(self, condition: Callable[[], object]) -> None:
        """Poll until the page has changed."""
        try:
            until(condition, every=0.02)
        except AssertionError:
            raise AssertionError(f"{self.text('body')}\n{self._refused}") from None

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    def close(self) -> None:
        self._send("DELETE", "")

    def _use(self, selector: str, *commands: tuple[str, dict[str, str]]) -> bool:
        """Send commands to an element, and say whether it was ready for them."""
        self._refused = ""
        try:
            element = self._find(selector)
            for path, body in commands:
                self._send("POST", f"/element/{element}/{path}", body)
        except RefusedError as refused:
            if refused.code not in _TOO_EARLY:
                raise
            self._refused = f"{selector}: {refused}"
            return False
        return True

    def _find(self, selector: str) -> str:
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _send(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, self._session + path, content, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise RefusedError(answer["error"], answer["message"])
        return answer


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Open a browser with an empty profile; the block's end closes it and the driver."""
    assert CHROMEDRIVER is not None
    with subprocess.Popen(
        [CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            started = next(found for line in driver.stdout if (found := re.search(r"on port (\d+)\.", line)))
            window = Browser(int(started[1]), profile)
            try:
                yield window
            finally:
                window.close()
        finally:
            driver.terminate()
            assert driver.stdout is not None
            driver.stdout.close()
            driver.wait(_SECONDS)
