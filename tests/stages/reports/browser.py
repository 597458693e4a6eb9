"""A real browser for tests: Debian's chromium, driven through its DevTools protocol."""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """A tab. `problems` has what the browser complained of: exceptions, console errors, refused content."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._socket, self._number = socket, 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, 60)

    async def open(self, url: str, width: int = 1280, dark: bool = False) -> None:
        """Load a page at a width, and wait until its script says that it is ready."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.send("Emulation.setEmulatedMedia", features=scheme)
        await self.send("Page.navigate", url=url)
        await self.until("document.documentElement?.dataset.ready === 'yes'")

    async def cpu_seconds(self) -> float:
        """Return the CPU time of the page's main thread. It may include the pages that were shown before."""
        found = await self.send("Performance.getMetrics")
        return next(m["value"] for m in found["metrics"] if m["name"] == "TaskDuration")

    async def run(self, script: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        found = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, condition: str, seconds: float = 20) -> None:
        """Wait for a condition in the page."""
        for _ in range(int(seconds / 0.05)):
            if await self.run(f"!!({condition})"):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not in {seconds} s: {condition}; {self.problems}")

    async def picture(self, path: Path, whole: bool = True) -> None:
        """Write what the page looks like as a PNG."""
        found = await self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if answer := self._waiting.pop(event.get("id", 0), None):
                if "error" in event:
                    answer.set_exception(AssertionError(str(event["error"])))
                else:
                    answer.set_result(event["result"])
            elif event.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(event["params"]["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                self.problems.append(event["params"]["entry"]["text"])
            elif event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
                self.problems.append(str(event["params"]["args"]))
            elif event.get("method") == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """Start chromium with a profile in `folder`, and yield its tab."""
    assert CHROMIUM
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        "--hide-scrollbars",
    ]
    command += [f"--user-data-dir={folder}", "--disable-dev-shm-usage", "--no-first-run", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = folder / "DevToolsActivePort"
        for _ in range(400):
            if port_file.exists() and len(port_file.read_text().split()) == 2:
                break
            await asyncio.sleep(0.05)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                tab = next(t for t in await answer.json() if t["type"] == "page")
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.send(f"{domain}.enable")
                await page.send("Performance.enable", timeDomain="threadTicks")
                yield page
    finally:
        process.terminate()
        process.wait(20)
