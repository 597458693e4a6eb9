"""A stand-in of the Hub: the part of its API that huggingface_hub and datasets use to push and to load."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_stand_in"
Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories by (type, id), each with its revisions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[tuple[str, str], dict[str, Files]] = {}
        self.private: dict[tuple[str, str], bool] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body, path = (
            self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            unquote(urlsplit(self.path).path),
        )
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid credentials in Authorization header"}, 401)
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        type_, repo, what, revision = self.parse(path)
        revisions = self.server.repos[type_, repo]
        if what == "branch":
            revisions[revision] = dict(revisions["main"])
            return self.answer({})
        if what == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if what == "commit":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    revisions[revision][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del revisions[revision][value["path"]]
            sha = self.sha(revisions[revision])
            return self.answer({"commitOid": sha, "commitUrl": f"{self.server.url}/{repo}/commit/{sha}"})
        if what == "paths-info":
            wanted = json.loads(body)["paths"]
            return self.answer([e for e in self.entries(revisions["main"]) if e["path"] in wanted])
        self.answer({"error": path}, 404)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if m := re.match(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            files = self.files("dataset" if m[1] else "model", m[2], m[3])
            if m[4] not in files:
                return self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            headers = {"ETag": hashlib.sha1(files[m[4]]).hexdigest(), "X-Repo-Commit": self.sha(files)}
            return self.answer(files[m[4]], 200, headers)
        type_, repo, what, revision = self.parse(path)
        if (type_, repo) not in self.server.repos:
            return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = self.files(type_, repo, revision)
        if what == "tree":
            return self.answer(self.entries(files))
        siblings = [{"rfilename": name} for name in files]
        self.answer({"id": repo, "sha": self.sha(files), "siblings": siblings, "private": True, "tags": []})

    do_HEAD = do_GET

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        key, known = (wanted.get("type") or "model", name), self.server.repos
        prefix = "datasets/" if key[0] == "dataset" else ""
        status = 409 if key in known else 200
        known.setdefault(key, {"main": {}})
        self.server.private.setdefault(
            key, bool(wanted.get("private") or wanted.get("visibility") == "private")
        )
        self.answer({"url": f"{self.server.url}/{prefix}{name}", "name": name}, status)

    def parse(self, path: str) -> tuple[str, str, str, str]:
        m = re.match(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/([^/]+)/([^/]+))?", path)
        assert m, path
        return m[1], m[2], m[3] or "revision", m[4] or "main"

    def files(self, type_: str, repo: str, revision: str) -> Files:
        revisions = self.server.repos[type_, repo]
        by_sha = {self.sha(files): files for files in revisions.values()}
        return revisions.get(revision) or by_sha.get(revision) or {}

    def sha(self, files: Files) -> str:
        return hashlib.sha1(json.dumps({k: v.hex() for k, v in files.items()}).encode()).hexdigest()

    def entries(self, files: Files) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in files.items()
        ]
        folders = {"/".join(p.split("/")[:i]) for p in files for i in range(1, p.count("/") + 1)}
        return found + [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a Hub of this process on a free port."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
