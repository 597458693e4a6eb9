"""Serves the page of a run, rebuilt whenever the run has moved on.

It answers GET on 127.0.0.1 alone and changes nothing. A page of another site that gets its name resolved to
this machine (DNS rebinding) sends that name as Host, and is refused.
"""

import hashlib
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.rundir import RunDir
from pipeline.store import files
from stages.reports.page import render

HOST = "127.0.0.1"
WATCHED = ("rounds", "evaluation", "datasets", "tasks")  # folders of a run whose files the page shows
FRESH, BUSY = 1.0, 20  # seconds that a look at the files is good for, at least, and per second that it took
UNWATCHED = ("/requests/", "/checkpoints/", ".tmp")
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",  # beside the page's own, which cannot say this
}


class Server(ThreadingHTTPServer):
    """The server of some runs. Raises OSError for a port in use."""

    daemon_threads = True

    def __init__(self, runs: Sequence[RunDir], port: int, rows: int) -> None:
        self.runs, self.rows = list(runs), rows
        self._lock = threading.Lock()
        self._page: tuple[str, str] = ("", "")  # version, HTML
        self._seen: tuple[float, str] = (0.0, "")  # until when a version counts as known, the version
        super().__init__((HOST, port), _Handler)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self.server_address[1]

    def version(self) -> str:
        """Return what differs whenever a file that the page shows has changed."""
        until, version = self._seen
        if (begun := time.monotonic()) >= until:
            version = _signature(self.runs)
            took = time.monotonic() - begun
            self._seen = (
                begun + max(FRESH, BUSY * took),
                version,
            )  # a large run is not looked at all the time
        return version

    def page(self) -> str:
        """Return the current page, rebuilt if the runs have moved on."""
        with self._lock:
            version = self.version()
            if version != self._page[0]:
                self._page = (version, render(self.runs, rows=self.rows, version=version))
            return self._page[1]


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "selfloop", ""

    def do_GET(self) -> None:
        names = {f"{host}:{self.server.port}" for host in (HOST, "localhost")}
        if self.headers.get("Host") not in names:
            self._send(403, "text/plain", f"This server answers as http://{HOST}:{self.server.port}/ only.")
        elif self.path == "/":
            try:
                self._send(200, "text/html", self.server.page())
            except Exception as e:  # such as a file that the run replaced meanwhile: the browser asks again
                self._send(500, "text/plain", f"{type(e).__name__}: {e}", Refresh="5")
        elif self.path == "/version":
            self._send(200, "text/plain", self.server.version())
        else:
            self._send(404, "text/plain", "There is one page only, at /")

    def _send(self, status: int, kind: str, text: str, **headers: str) -> None:
        body = text.encode(errors="replace")
        self.send_response(status)
        for name, value in {**HEADERS, **headers, "Content-Type": f"{kind}; charset=utf-8"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the terminal shows the address alone."""


def _signature(runs: Sequence[RunDir]) -> str:
    """Return a hash of the sizes and times of all files that the page is made from."""
    seen = hashlib.sha256()
    for run in runs:
        for folder in WATCHED:
            fs, name = files.filesystem(run.path(folder))
            for path, facts in sorted(fs.find(name, detail=True).items()):
                if not any(part in path for part in UNWATCHED):
                    changed = facts.get("mtime") or facts.get("LastModified") or facts.get("ETag")
                    seen.update(f"{path} {facts.get('size')} {changed}\n".encode())
    return seen.hexdigest()[:16]
