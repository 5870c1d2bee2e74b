"""Ray nodes on this machine as people start them, with `ray start`: each a process tree of its own that can be lost.

Every node has its own loopback address and, where the system lets it, its own host name. `ray stop` is never used: it
would end every Ray of the user, so a node is ended by the process that started it.
"""

import functools
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.running import ROOT, free_port

START_WITHIN_S = 90
_RAY = [sys.executable, "-W", "ignore", "-m", "ray.scripts.scripts", "start"]
_COMMON = (
    "--block --object-store-memory 100000000 --min-worker-port 0 --max-worker-port 0 --dashboard-agent-listen-port 0"
    " --include-log-monitor false --disable-usage-stats"
)


@dataclass
class StartedNode:
    """One node: the process that started it, its address and what it calls its host."""

    process: subprocess.Popen[bytes]
    ip: str
    host: str

    def lose(self) -> None:
        """End everything that runs on it at once, as if the machine had gone."""
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        for how in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees the others die
            for member in family:
                if member.is_running():
                    member.send_signal(how)
        self.process.wait()
        psutil.wait_procs(family, timeout=10)

    def end(self) -> None:
        """End it in good order, and what is left of it."""
        if self.process.poll() is not None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        self.process.wait(60)
        for left in psutil.wait_procs(family, timeout=10)[1]:
            left.kill()


@dataclass
class StartedCluster:
    """A cluster: `env` is what a process needs to join it, `directory` holds Ray's own files and the token."""

    directory: Path
    port: int
    env: dict[str, str]
    nodes: list[StartedNode] = field(default_factory=list)

    @property
    def address(self) -> str:
        """HOST:PORT of its head."""
        return f"{self.nodes[0].ip}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a process that may join it."""
        return {**os.environ, **self.env}

    @property
    def token(self) -> str:
        """The secret that all of its nodes share."""
        return Path(self.env["RAY_AUTH_TOKEN_PATH"]).read_text("utf-8")

    def add(self, num_cpus: int = 1, instead: Mapping[Path, Path] | None = None) -> StartedNode:
        """Start one more node and wait until it is up; the first one is the head.

        `instead` maps directories to what lies there in the eyes of this node alone; it needs `separates_nodes`.
        """
        number = len(self.nodes) + 1
        ip, host = f"127.0.0.{number + 1}", f"node-{number}"
        role = (
            ["--head", "--port", str(self.port), "--temp-dir", str(self.directory / "ray"), "--include-dashboard=false"]
            if not self.nodes
            else ["--address", self.address]
        )
        prefix: list[str] = []
        if separates_nodes():
            mounts = [
                f"mount --bind {shlex.quote(f'{source}')} {shlex.quote(f'{target}')}"
                for target, source in (instead or {}).items()
            ]
            script = " && ".join([f"hostname {host}", *mounts, 'exec "$@"'])
            prefix = ["unshare", "--uts", "--mount", "sh", "-c", script, "-"]
        log = self.directory / f"{host}.log"
        command = [*prefix, *_RAY, *role, "--node-ip-address", ip, "--num-cpus", str(num_cpus), *_COMMON.split()]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        node = StartedNode(process, ip, host if prefix else os.uname().nodename)
        self.nodes.append(node)
        deadline = time.monotonic() + START_WITHIN_S
        while b"Ray runtime started" not in log.read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text("utf-8", "replace")
            time.sleep(0.1)
        return node


@functools.cache
def separates_nodes() -> bool:
    """Whether a process may be given a host name and mounts of its own here."""
    unshare = shutil.which("unshare")
    command = [unshare or "", "--uts", "--mount", "sh", "-c", "hostname elsewhere && mount --bind /tmp /tmp"]
    return unshare is not None and subprocess.run(command, capture_output=True).returncode == 0


@contextmanager
def started_cluster(cpus: Sequence[int]) -> Iterator[StartedCluster]:
    """Give a cluster of nodes with so many CPUs each, all behind one token; the first is the head."""
    # Short, since sockets lie in it: their paths must stay under 108 bytes.
    directory = Path(tempfile.mkdtemp(prefix="rn-"))
    token = directory / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32), "utf-8")
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # a process that has had a Ray on loopback has switched it off
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_worker_niceness": "0",
        "PYTHONPATH": str(ROOT),
    }
    cluster = StartedCluster(directory, free_port(), env)
    try:
        for count in cpus:
            cluster.add(num_cpus=count)
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            node.end()
        shutil.rmtree(directory, ignore_errors=True)
