"""A Hugging Face hub on loopback: a few repositories, each readable, gated, closed or missing."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT, OLDER = "a" * 40, "b" * 40
REVISIONS = {"main": COMMIT, "v1": OLDER, COMMIT: COMMIT, OLDER: OLDER}
FILES = {
    "config.json": b'{"max_position_embeddings": 2048}',
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
    "model.safetensors": b"weights" * 1000,
    "pytorch_model.bin": b"a pickle",
    "modeling_tiny.py": b"raise SystemExit('code from the hub ran')",
    "original/params.json": b"{}",
    "consolidated.safetensors": b"the same weights again",
}
GATED_FILES = "org/gated"
"""Listed for everybody, as gated repositories are; its files are not."""
ANSWERS = {
    "org/hidden-gate": (403, "GatedRepo"),
    "org/private": (401, ""),
    "org/missing": (404, "RepoNotFound"),
    "org/forbidden": (403, ""),
    "org/broken": (500, ""),
}


class Hub:
    """What is served: its address, and the requests that came, as (method, path)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, str]] = []

    def downloads(self) -> list[str]:
        """The files that were downloaded, with their paths in the repository."""
        return [
            path.split("/resolve/")[1].partition("/")[2]
            for how, path in self.requests
            if how == "GET" and "/resolve/" in path
        ]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve until the end of the block."""
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve("GET")

        def do_HEAD(self) -> None:
            self._serve("HEAD")

        def log_message(self, *_parts: Any) -> None:
            pass

        def _serve(self, method: str) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((method, path))
            repository = "/".join(path.removeprefix("/api/models").split("/")[1:3])
            if repository in ANSWERS:
                return self._refuse(*ANSWERS[repository])
            if "/resolve/" in path:
                return self._file(repository, path)
            revision = path.rsplit("/", 1)[-1]
            if revision not in REVISIONS:
                return self._refuse(404, "RevisionNotFound")
            info = {"id": repository, "sha": REVISIONS[revision], "siblings": []}
            return self._send(json.dumps(_tree() if "/tree/" in path else info).encode())

        def _file(self, repository: str, path: str) -> None:
            if repository == GATED_FILES:
                return self._refuse(403, "GatedRepo")
            revision, _, name = path.split("/resolve/")[1].partition("/")
            headers = {"ETag": f'"{_blob(FILES[name])}"', "X-Repo-Commit": REVISIONS[revision]}
            return self._send(FILES[name], headers)

        def _refuse(self, status: int, code: str) -> None:
            self._send(b"{}", {"X-Error-Code": code} if code else {}, status)

        def _send(self, data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _tree() -> list[dict[str, Any]]:
    return [{"type": "file", "path": name, "size": len(data), "oid": _blob(data)} for name, data in FILES.items()]


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
