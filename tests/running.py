"""Running the `sandplay` command as a user does, against the stub as a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).parents[1]
SANDPLAY = [sys.executable, "-m", "engine"]

CONFIG = """
name = "stub"
[protocol]
name = "mental_arena"
similarity = 0.9
[models.base]
kind = "openai"
model = "stub"
base_url = "{url}"
max_inflight = 256
[roles]
patient = "base"
therapist = "base"
judge = "base"
[embedder]
kind = "openai"
model = "stub"
base_url = "{url}"
"""


@dataclass
class StubProcess:
    """A stub in a process of its own; `calls` reads its log as it stands."""

    url: str
    log: Path

    @property
    def num_lines(self) -> int:
        """Chat and embedding calls so far, without reading them."""
        return self.log.read_bytes().count(b"\n")

    def calls(self) -> list[dict[str, Any]]:
        whole, _, _ = self.log.read_text("utf-8").rpartition("\n")
        lines = whole.splitlines()
        return [call for call in map(json.loads, lines) if call["path"].endswith("/chat/completions")]


@contextmanager
def stub_process(directory: Path, score: int = 9, embedding: str = "equal") -> Iterator[StubProcess]:
    port, log = free_port(), directory / "calls.jsonl"
    log.touch()
    command = [sys.executable, "-m", "tests.stub", "--port", str(port), "--log", str(log)]
    process = subprocess.Popen([*command, "--score", str(score), "--embedding", embedding], cwd=ROOT)
    try:
        wait_for_port(port)
        yield StubProcess(f"http://127.0.0.1:{port}/v1", log)
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def write_config(directory: Path, url: str, extra: str = "") -> Path:
    path = directory / "config.toml"
    path.write_text(CONFIG.format(url=url) + extra, "utf-8")
    return path


def runs(pid: int) -> bool:
    """Whether that process is there and not just waiting to be reaped."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def start(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SANDPLAY, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str | Path, expect: int = 0, timeout_s: float = 300, env: dict[str, str] | None = None) -> str:
    """Run the command; return its stdout, or its stderr when another exit code than 0 is expected."""
    process = start(*arguments, env=env)
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == expect, f"exit {process.returncode}, not {expect}\n{out}\n{err}"
    return out if expect == 0 else err


def run_json(*arguments: str | Path, timeout_s: float = 300) -> dict[str, Any]:
    """Run the command with --json and return the object on its last line."""
    last: dict[str, Any] = json.loads(run(*arguments, "--json", timeout_s=timeout_s).splitlines()[-1])
    return last


def header(call: dict[str, Any], name: str) -> str:
    return unquote(call["headers"][f"x-sandplay-{name}"])


def calls_by_purpose(calls: list[dict[str, Any]]) -> Counter[str]:
    return Counter(header(call, "purpose") for call in calls)


JUDGE = ("principle_choice", "feedback", "score", "extract")
