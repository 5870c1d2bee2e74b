"""An object store on loopback with as much of S3's protocol as pyarrow speaks; signatures are not looked at."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}
KEYS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_EC2_METADATA_DISABLED": "true"}
"""What a client needs in its environment; any values do."""


class Store:
    """What is served: objects by "bucket/key", and the requests that came, as (method, "bucket/key").

    `fault` may answer a request with a status instead, before anything is done, 0 for no answer at all; it runs on the
    server's threads.
    """

    def __init__(self) -> None:
        self.port = 0
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], int | None] = lambda _method, _key: None
        self.uploads: dict[str, dict[int, bytes]] = {}

    @property
    def options(self) -> str:
        """What a URI says behind "?"."""
        return f"region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def uri(self, place: str) -> str:
        """Return the URI of a place, "bucket/prefix"."""
        return f"s3://{place}?{self.options}"

    def puts(self) -> list[str]:
        """Keys in the order in which they were put."""
        return [key for method, key in self.requests if method == "PUT"]


@contextmanager
def serve_store(port: int = 0, store: Store | None = None) -> Iterator[Store]:
    """Serve until the end of the block; `store` goes on with what an earlier server had."""
    kept = store or Store()

    class Handler(_Handler):
        store = kept

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_parts: Any) -> None:
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self._key, self._query = unquote(parts.path)[1:], parse_qs(parts.query, keep_blank_values=True)
        data = self._body()
        self.store.requests.append((self.command, self._key))
        status = self.store.fault(self.command, self._key)
        if status == 0:
            self.close_connection = True
            return None
        if status is not None:
            text = f"<Error><Code>{CODES[status]}</Code><Message>no</Message></Error>"
            return self._send(status, text.encode())
        getattr(self, f"_{self.command.lower()}")(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            source = self.rfile
            data = b"".join(_chunks(source))
            while source.readline().strip():
                pass
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_framed = "aws-chunked" in (self.headers.get("Content-Encoding") or "")
        return b"".join(_chunks(io.BytesIO(data))) if is_framed else data

    def _head(self, _data: bytes) -> None:
        if self._key in self.store.objects:
            return self._send(200, self.store.objects[self._key])
        is_bucket = "/" not in self._key.rstrip("/")
        return self._send(200 if is_bucket else 404, b"")

    def _get(self, _data: bytes) -> None:
        if "list-type" in self._query or "/" not in self._key.rstrip("/"):
            return self._list()
        if self._key not in self.store.objects:
            return self._send(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
        data = self.store.objects[self._key]
        asked = self.headers.get("Range")
        if asked is None:
            return self._send(200, data)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last or len(data)), len(data) - 1)
        return self._send(206, data[int(first) : end + 1], {"Content-Range": f"bytes {first}-{end}/{len(data)}"})

    def _list(self) -> None:
        bucket, prefix = self._key.split("/")[0], self._query.get("prefix", [""])[0]
        delimiter = self._query.get("delimiter", [""])[0]
        rows, folders = "", {}
        for name, data in sorted(self.store.objects.items()):
            key = name.removeprefix(f"{bucket}/")
            if not name.startswith(f"{bucket}/{prefix}"):
                continue
            rest = key.removeprefix(prefix)
            if delimiter and delimiter in rest:
                folders[prefix + rest.split(delimiter)[0] + delimiter] = None
                continue
            rows += (
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{_tag(data)}&quot;</ETag><Size>{len(data)}</Size></Contents>"
            )
        rows += "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
        number = rows.count("<Key>") + len(folders)
        self._xml(
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{number}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        )

    def _put(self, data: bytes) -> None:
        if "partNumber" in self._query:
            upload = self.store.uploads[self._query["uploadId"][0]]
            upload[int(self._query["partNumber"][0])] = data
        elif self._key:
            self.store.objects[self._key] = data
        self._send(200, b"", {"ETag": f'"{_tag(data)}"'})

    def _post(self, _data: bytes) -> None:
        if "uploads" in self._query:
            name = f"u{len(self.store.uploads)}"
            self.store.uploads[name] = {}
            text = f"<UploadId>{name}</UploadId>"
            return self._xml(f"<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>")
        upload = self.store.uploads.pop(self._query["uploadId"][0])
        whole = b"".join(upload[number] for number in sorted(upload))
        self.store.objects[self._key] = whole
        return self._xml(
            f"<CompleteMultipartUploadResult><ETag>&quot;{_tag(whole)}&quot;</ETag></CompleteMultipartUploadResult>"
        )

    def _delete(self, _data: bytes) -> None:
        self.store.uploads.pop(self._query.get("uploadId", [""])[0], None)
        self.store.objects.pop(self._key, None)
        self._send(204, b"")

    def _xml(self, text: str) -> None:
        self._send(200, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), {"Content-Type": "application/xml"})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fields = {"Content-Length": str(len(data)), "ETag": f'"{_tag(data)}"', **(headers or {})}
        fields.setdefault("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the chunks of HTTP, or of the store's own framing, which is the same but for its trailer."""
    while size := int(source.readline().split(b";")[0], 16):
        yield source.read(size)
        source.readline()


def _tag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()
