"""One Ray per driver process, shared by all fleets and embedders of a run, and counted.

The first user starts or joins it, the last one leaves it; a Ray that the caller had initialized before is left alone.
Ray processes that are ours go into the run's process table, because they outlive a driver that is killed.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from actors.processes import ProcessRecord, ProcessTable, describe_tree
from actors.ray_token import OwnToken, check_token
from engine.errors import BackendDown

RAY_RECORDS = "ray"
_REACH_WITHIN_S = 10.0
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HTTP2_SETTINGS = b"\x04"  # the type of a frame, its fourth byte
_LOOPBACK = ("127.0.0.1:", "localhost:")
_OBJECT_STORE_BYTES = 200_000_000  # batches travel inline or are small: the default, a third of memory, is not needed


class Cluster:
    """The state behind `join_cluster`; one per process. Calls come from helper threads, one at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_users = 0
        self.is_ours = False
        self.token = OwnToken()
        self.warning = ""


_CLUSTER = Cluster()


async def join_cluster(address: str | None, processes: ProcessTable, say: Callable[[str], None]) -> Any:
    """Return the `ray` module, connected. Raises `BackendDown` when Ray cannot be started or reached."""
    # In a thread: there Ray leaves the signal handlers of the driver alone. A thread cannot be cancelled: when this
    # call is, what it joined is left again.
    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
        say("starting Ray on loopback" if address is None else f"joining Ray at {address}")
    joining = asyncio.ensure_future(asyncio.to_thread(_join, address, processes))
    try:
        ray = await asyncio.shield(joining)
        warning, _CLUSTER.warning = _CLUSTER.warning, ""
        if warning:
            say(warning)
        _restore_terminate_handler()
        return ray
    except asyncio.CancelledError:
        with contextlib.suppress(BackendDown):
            await joining
            await leave_cluster(processes)
        raise


async def leave_cluster(processes: ProcessTable) -> None:
    """Leave; the last one of ours shuts Ray down and ends what is left of it."""
    await asyncio.to_thread(_leave, processes)
    _restore_terminate_handler()


def _restore_terminate_handler() -> None:
    # Starting and stopping Ray replaces the process's SIGTERM action below Python: install Python's own again.
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
            signal.siginterrupt(signal.SIGTERM, False)


def import_ray(address: str | None) -> Any:
    """Return the `ray` module, imported so that it suits a cluster at that address, None for one of our own."""
    if address is None or address.startswith(_LOOPBACK):
        # Read when ray is imported: without it every server of a local Ray listens on the machine's outer address, and
        # a loopback address is taken for it.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    return ray


def _join(address: str | None, processes: ProcessTable) -> Any:
    ray = import_ray(address)
    with _CLUSTER.lock:
        if not ray.is_initialized():
            _initialize(ray, address, processes)
            _CLUSTER.is_ours = True
        _CLUSTER.num_users += 1
    return ray


def _leave(processes: ProcessTable) -> None:
    import ray

    with _CLUSTER.lock:
        _CLUSTER.num_users = max(0, _CLUSTER.num_users - 1)
        if _CLUSTER.num_users or not _CLUSTER.is_ours:
            return
        _CLUSTER.is_ours = False
        ray.shutdown()
        processes.end(RAY_RECORDS)
        _CLUSTER.token.take_back()


def _check_address(address: str) -> str:
    """Return a warning, "" for none. Raises `BackendDown` when Ray cannot be reached there, or keeps us out."""
    # Ray keeps trying an address that nobody listens on for minutes, in a way that cannot be interrupted.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return ""
    try:
        is_ray = _answers_grpc(host.strip("[]"), int(port))
    except (OSError, ValueError) as error:  # ValueError: a name that no host can have
        raise BackendDown(
            f"Ray at {address} cannot be reached ({error}): start it, or set ray.address to yours"
        ) from None
    if not is_ray:
        rule = f"the port of a Ray head must answer at {address}, got no word of Ray"
        raise BackendDown(f"{rule}: set ray.address to the --port of its head (6379 by default)")
    if address.startswith("ray://") or check_token(address) or address.startswith(_LOOPBACK):
        return ""
    return f"warning: Ray at {address} asks for no token: whoever reaches its ports runs code as you"


def _answers_grpc(host: str, port: int) -> bool:
    """Whether a server of gRPC, which all of Ray is, answers there. Raises OSError when nothing does."""
    with socket.create_connection((host, port), timeout=_REACH_WITHIN_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return True
        # Such a server sends its settings at once. A web page, and a port that is silent, keep Ray itself for 40 s.
        connection.sendall(_HTTP2_HELLO)
        try:
            answer = connection.recv(9)
        except OSError:
            return False
    return answer[3:4] == _HTTP2_SETTINGS


def _initialize(ray: Any, address: str | None, processes: ProcessTable) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's 15 any other process starves the engines
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no accelerator asked for: leave its variables
    if address is not None:
        _CLUSTER.warning = _check_address(address)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    try:
        if address is None:
            _CLUSTER.token.lend()
            ray.init(
                address="local",  # without it Ray joins whatever cluster was last started on this machine
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=_OBJECT_STORE_BYTES,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises errors of many kinds, all of which mean that it is not there
        _CLUSTER.token.take_back()
        raise BackendDown(f"Ray did not start: {type(error).__name__}: {error}") from error
    processes.put(RAY_RECORDS, _new_children(before))
    _keep_quiet()


def _keep_quiet() -> None:
    # Ray prints the death of an actor on the driver's stdout whatever its log settings; the fleet reports it itself.
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_args, **_options: None


def _new_children(before: set[int]) -> list[ProcessRecord]:
    return [record for record in describe_tree(RAY_RECORDS) if record.pid not in before and record.pid != os.getpid()]


def actor_environment(extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of our actors: quiet, offline for local files, able to import this code."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    return {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        **extra,
    }
