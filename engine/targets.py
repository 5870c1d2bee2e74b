"""Places beside a run directory that keep a run: folders of file systems and object stores that pyarrow reaches by URI.

Invariant: a reader of a file at a target sees all of its old bytes or all of its new ones. Credentials come from the
environment or the profile that pyarrow reads, never from a URI. Knows nothing of what the files mean.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from engine.errors import InputError
from engine.files import TMP_SUFFIX, write_atomic
from engine.signals import STORE_THREAD
from engine.transcript import one_line

T = TypeVar("T")
ATTEMPTS: Final = 3
"""How often a call is tried; the client of a store tries again by itself as well, for some seconds."""
MAX_WAIT_S: Final = 5.0
SCHEMES: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")
FROM_ENVIRONMENT: Final = "leave it out: credentials come from the environment or the profile that pyarrow reads"
_STORES: Final = ("s3", "gcs", "abfs")
"""Object stores, in which an object is there once it is whole; elsewhere a rename makes it so."""
_SECRET: Final = re.compile(r"key|secret|token|passw|credential|signature|^sig$", re.IGNORECASE)
_S3_DEFAULTS: Final = {"allow_delayed_open": "true"}
"""Small files go in one request instead of three."""


def is_uri(text: str) -> bool:
    """Whether a text names a place by URI instead of by path."""
    return "://" in text


def uri_inside(uri: str, folder: str) -> str:
    """Return the URI of a folder in that of another; options stay what they are."""
    parts = urlsplit(uri)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(folder)}").geturl()


def target_problems(where: str, uri: str, options: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a target by its looks, one sentence each; never shows what may be a secret."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return [f"{where} must be a URI such as s3://bucket/prefix, got one that cannot be read: correct it"]
    if "@" in parts.netloc:
        return [f"{where} must name nobody, got a URI with a user before its host: {FROM_ENVIRONMENT}"]
    names = [pair.partition("=")[0] for pair in parts.query.split("&") if pair]
    if found := option_problems(where, (*names, *options)):
        return found
    if not is_uri(uri) or parts.scheme not in SCHEMES:
        return [f"{where} must be a URI of {', '.join(SCHEMES)}, got {one_line(uri, 200)}: such as s3://bucket/prefix"]
    if parts.fragment or (parts.scheme in ("s3", "gs", "gcs") and not parts.netloc):
        return [f"{where} must be a bucket and a folder in it, got {one_line(uri, 200)}: such as s3://bucket/prefix"]
    return []


def option_problems(where: str, names: Iterable[str]) -> list[str]:
    """Return one sentence for each option by whose name a secret would be kept."""
    return [
        f"{where} must hold no credentials, got the option {one_line(name, 40)}: {FROM_ENVIRONMENT}"
        for name in names
        if _SECRET.search(name)
    ]


class Target:
    """One folder. `place` is its URI without options, for people. `open` is the way to get one; blocking."""

    def __init__(self, file_system: Any, path: str, place: str) -> None:
        self.place = place
        self._fs = file_system
        self._path = path.rstrip("/")

    @classmethod
    def open(cls, uri: str, options: Mapping[str, str] | None = None) -> "Target":
        """Return the folder that a URI names; it need not be there. `options` are added to those of the URI.

        Raises InputError for what pyarrow does not take, OSError when a store that must be asked does not answer.
        """
        from pyarrow.fs import FileSystem

        if problems := target_problems("a target", uri, options or {}):
            raise InputError(problems)
        parts = urlsplit(uri)
        added = {**(_S3_DEFAULTS if parts.scheme == "s3" else {}), **(options or {})}
        query = "&".join(filter(None, (parts.query, urlencode(added))))
        place = parts._replace(query="").geturl()
        try:
            with _as_os_errors():
                file_system, path = FileSystem.from_uri(parts._replace(query=query).geturl())
        except (ValueError, NotImplementedError) as refused:
            raise InputError(
                f"{place} must be a target that pyarrow takes, got {one_line(str(refused), 200)}"
            ) from None
        return cls(_patient(file_system) if parts.scheme == "s3" else file_system, path, place)

    def inside(self, name: str) -> "Target":
        """Return a folder in this one."""
        return Target(self._fs, f"{self._path}/{name}", f"{self.place.rstrip('/')}/{quote(name)}")

    def put(self, name: str, data: bytes) -> None:
        """Write a whole file, in place of one that may be there. Raises OSError."""
        path = f"{self._path}/{name}"
        with _as_os_errors():
            if self._fs.type_name == "local":
                Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomic(Path(path), data)
                return
            if self._fs.type_name in _STORES:
                self._write(path, data)
            else:
                self._write_and_rename(path, data)
            size = self._fs.get_file_info(path).size
        if size != len(data):
            raise OSError(f"a file must arrive whole, got {size} of {len(data)} bytes of {name}")

    def _write(self, path: str, data: bytes) -> None:
        with self._fs.open_output_stream(path) as sink:
            sink.write(data)

    def _write_and_rename(self, path: str, data: bytes) -> None:
        from pyarrow.fs import FileType

        self._fs.create_dir(path.rpartition("/")[0], recursive=True)
        self._write(path + TMP_SUFFIX, data)
        if self._fs.get_file_info(path).type != FileType.NotFound:
            self._fs.delete_file(path)
        self._fs.move(path + TMP_SUFFIX, path)

    def get(self, name: str) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError when there is none, OSError."""
        with _as_os_errors(), self._fs.open_input_file(f"{self._path}/{name}") as source:
            data: bytes = source.read()
            return data

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the sizes in bytes of all files in a folder and below, by their names from there; none without it.

        Raises OSError.
        """
        from pyarrow.fs import FileSelector, FileType

        root = f"{self._path}/{folder}".rstrip("/")
        with _as_os_errors():
            found = self._fs.get_file_info(FileSelector(root, allow_not_found=True, recursive=True))
        return {info.path.removeprefix(root).lstrip("/"): info.size for info in found if info.type == FileType.File}


def retried(call: Callable[[], T], go_on: Callable[[], bool] = lambda: True) -> T:
    """Return what a call on targets returns, tried a few times while `go_on` says so.

    Signals reach a main thread meanwhile: the call is then made on another one. Raises its last OSError, and anything
    else at once.
    """
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])  # what fails in the end is said by the caller
    retry = stamina.retry(
        on=lambda error: isinstance(error, OSError) and go_on(),
        attempts=ATTEMPTS,
        timeout=None,
        wait_max=MAX_WAIT_S,
    )
    if threading.current_thread() is not threading.main_thread():
        found: T = retry(call)()
        return found
    answer: Future[T] = Future()
    threading.Thread(target=_answer, args=(answer, retry(call)), name=f"{STORE_THREAD}call", daemon=True).start()
    return answer.result()


def _answer(answer: "Future[T]", call: Callable[[], T]) -> None:
    try:
        answer.set_result(call())
    except Exception as error:  # noqa: BLE001  raised where the answer is waited for
        answer.set_exception(error)


def _patient(file_system: Any) -> Any:
    """Return a store that gives up on a server that does not answer after half a minute; five are the default."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    _, (options,) = file_system.__reduce__()  # as it is pickled: every option by name
    return S3FileSystem(**options, retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS))


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Whatever Arrow says of a file system is an OSError; wrong values stay what they are."""
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, NotImplementedError):
        raise
    except pa.ArrowException as error:
        raise OSError(str(error)) from error
