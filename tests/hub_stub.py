"""A Hugging Face hub on loopback: a few repositories, each readable, gated, closed or missing."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
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
CASE = {
    "id": "ada",
    "name": "Ada",
    "history": "Ada has felt low for a year.",
    "intermediate_belief": "If I rest, I am lazy.",
    "coping_strategies": "She avoids her friends.",
    "situation": "A friend called.",
    "auto_thought": "They only pity me.",
    "emotion": ["sad"],
    "behavior": "She did not answer.",
}
GROUPS = {f"expert-{number}": [f"Hesitate {number} times."] for number in range(5)}
_CASES = (json.dumps(CASE) + "\n").encode()
DATASETS = {
    "org/cases": {"README.md": b"# Cases", "data/train.jsonl": _CASES, "cases.py": b"raise SystemExit", "a.pkl": b"p"},
    "org/both": {"cases.jsonl": _CASES, "experts.csv": b"", "more.jsonl": _CASES},
    "org/experts": {"experts.json": json.dumps(GROUPS).encode(), "dataset_infos.json": b"{}"},
    "org/gated": {"data/train.jsonl": _CASES},
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
            is_data = path.startswith(("/datasets/", "/api/datasets/"))
            plain = path.removeprefix("/api").removeprefix("/datasets" if is_data else "/models")
            repository = "/".join(plain.split("/")[1:3])
            if repository in ANSWERS:
                return self._refuse(*ANSWERS[repository])
            if is_data and repository not in DATASETS:
                return self._refuse(404, "RepoNotFound")
            self._files = DATASETS[repository] if is_data else FILES
            if "/resolve/" in path:
                return self._file(repository, path)
            revision = "main" if plain == f"/{repository}" else path.rsplit("/", 1)[-1]
            if revision not in REVISIONS:
                return self._refuse(404, "RevisionNotFound")
            info = {"id": repository, "sha": REVISIONS[revision], "siblings": []}
            if "/tree/" in path:
                return self._send(json.dumps(_tree(self._files)).encode())
            return self._send(json.dumps(info).encode())

        def _file(self, repository: str, path: str) -> None:
            if repository == GATED_FILES:
                return self._refuse(403, "GatedRepo")
            revision, _, name = path.split("/resolve/")[1].partition("/")
            if revision not in REVISIONS:
                return self._refuse(404, "RevisionNotFound")
            if name not in self._files:
                return self._refuse(404, "EntryNotFound")
            headers = {"ETag": f'"{_blob(self._files[name])}"', "X-Repo-Commit": REVISIONS[revision]}
            return self._send(self._files[name], headers)

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


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [{"type": "file", "path": name, "size": len(data), "oid": _blob(data)} for name, data in files.items()]


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
