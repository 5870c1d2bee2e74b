"""A key planted in the environment of a command, in a place of its own where every file can be searched for it."""

import base64
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet

from tests.running import start

VARIABLE = "PLANTED_FOR_THE_TEST"
"""Not called like a key, so that only the configuration tells that it is one."""
PART = 12
"""So many first characters of the key, in any form, are a leak."""

CONFIG = """
name = "planted"
[protocol]
name = "{protocol}"
[cases]
limit = 2
[models.base]
kind = "openai"
model = "stub"
base_url = "{url}"
api_key_env = "{variable}"
[roles]
{roles}
[embedder]
kind = "openai"
model = "stub"
base_url = "{embed_url}"
api_key_env = "{variable}"
[scheduler]
max_attempts = 2
max_wait_s = 0.1
request_timeout_s = 20
metrics_interval_s = 0.1
"""
ARENA = 'patient = "base"\ntherapist = "base"\njudge = "base"'
QUICK = ["protocol.similarity=0.9", "protocol.behaviour=false"]


def make_key() -> str:
    """Return a key as no other: long, random, and with characters that must be encoded in a URL."""
    return f"Planted+/{base64.b64encode(secrets.token_bytes(36)).decode()}"


class Place:
    """A directory with home, cache and temporary files of its own, and the key in its environment.

    `outside` is for what a test itself writes the key into; it is not searched.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.outside, self.key = root / "searched", root / "outside", key
        for name in ("home", "tmp", "cache"):
            (self.root / name).mkdir(parents=True)
        self.outside.mkdir()
        self.run = self.root / "run"
        self.said: list[str] = []
        self.env = {
            VARIABLE: key,
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "OPENAI_LOG": "debug",
        }

    def sandplay(self, *arguments: str | Path, expect: int | None = 0, timeout_s: float = 60) -> str:
        """Run the command in this place to its end; return what it printed on both streams, which is searched."""
        process = start(*arguments, env=self.env)
        out, err = process.communicate(timeout=timeout_s)
        self.said += [out, err]
        shown = (out + err).replace(self.key, "THE KEY")
        assert expect is None or process.returncode == expect, f"exit {process.returncode}, not {expect}\n{shown}"
        return err + out

    def leaks(self) -> list[str]:
        """Return where the key was found: a file's name, or "output"."""
        needles = parts_of(self.key)
        found = ["output" for text in self.said if holds(text.encode(), needles)]
        files = (path for path in sorted(self.root.rglob("*")) if path.is_file())
        held = (path for path in files if any(holds(data, needles) for data in (bytes(path), *contents(path))))
        return found + [str(path.relative_to(self.root)) for path in held]


def parts_of(key: str) -> list[bytes]:
    """Return what betrays a key: its first characters, those of its encodings, and what follows its first few bytes."""
    data = key.encode()
    forms = [key, quote(key, safe=""), data.hex(), key.replace("/", "\\/")]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # In base64 a key begins at one of three places in a group; what it shares with its neighbours is left out.
        forms += [encode(b"\0" * shift + data).decode()[4:] for shift in range(3)]
    return [form[:PART].encode() for form in forms] + [data[PART:]]


def holds(data: bytes, needles: list[bytes]) -> bool:
    return any(needle in data for needle in needles)


def contents(path: Path) -> Iterator[bytes]:
    """Yield a file as it lies there, and what is packed in it: rows of Parquet and of SQLite."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield repr(pyarrow.parquet.read_table(path).to_pylist()).encode()
    if path.suffix == ".db":
        yield _rows(path)


def _rows(path: Path) -> bytes:
    # Read in memory and without the WAL's shared memory: a look must not change what it looks at.
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for table in tables for row in database.execute(f'SELECT * FROM "{table}"')]
    return b"\n".join(field if isinstance(field, bytes) else str(field).encode() for row in rows for field in row)


def write(place: Place, url: str, **chosen: str) -> Path:
    """Write a configuration where it is not searched, and return it."""
    values = {"protocol": "mental_arena", "roles": ARENA, "variable": VARIABLE, "embed_url": url} | chosen
    path = place.outside / "config.toml"
    path.write_text(CONFIG.format(url=url, **values), "utf-8")
    return path


def generate(place: Place, config: Path, *overrides: str, expect: int | None = 0) -> str:
    return place.sandplay("generate", config, *overrides, "--out", place.run, expect=expect)
