"""A hub of models that serves HTTP on this machine, for the real client."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "c0ffee" + "0" * 34


class Hub:
    """What the tests' hub serves: files of a repository, or the error code of one."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, ...]] = {}
        self.errors: dict[str, str] = {}
        self.downloaded: list[str] = []

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers for a request."""
        repository = next((r for r in (*self.files, *self.errors) if f"/{r}/" in f"{path}/"), None)
        if repository is None or repository in self.errors:
            code = self.errors.get(repository or "", "RepoNotFound")
            return (403 if code == "GatedRepo" else 404), b"{}", {"X-Error-Code": code}
        if path.startswith("/api/models/"):
            return 200, self._listing(repository, path), {}
        revision, name = path.split("/resolve/")[1].split("/", 1)
        etag = hashlib.sha1(name.encode()).hexdigest()
        return 200, name.encode(), {"ETag": f'"{etag}"', "X-Repo-Commit": self._commit(revision)}

    def _listing(self, repository: str, path: str) -> bytes:
        files = self.files[repository]
        if "/tree/" in path:
            entries = [{"type": "file", "oid": "0" * 40, "size": len(f), "path": f} for f in files]
            return json.dumps(entries).encode()
        siblings = [{"rfilename": name, "size": len(name)} for name in files]
        commit = self._commit(path.rsplit("/", 1)[1])
        return json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()

    @staticmethod
    def _commit(revision: str) -> str:
        return revision if re.fullmatch("[0-9a-f]{40}", revision) else COMMIT


@contextmanager
def serve(hub: Hub) -> Iterator[tuple[Hub, str]]:
    """Serve `hub` while the context lasts; gives it back with its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = hub.answer(unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
                if "ETag" in headers:
                    hub.downloaded.append(body.decode())

        do_HEAD = do_GET  # noqa: N815, the name that http.server asks for

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
