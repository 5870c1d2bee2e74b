"""One training worker as a Ray actor: it joins the others, trains, and says how far it is.

Torch and everything above it are imported once the environment names its rank, in `train`. How its part ended is data
(`training.job.Ended`); only a process that dies is an exception. The group's store listens on the node's own address as
Ray knows it, loopback on a Ray of our own, never on all addresses.
"""

import os
import socket
import traceback
from datetime import timedelta
from typing import Any, Final

import msgspec

from engine.errors import SandplayError
from training.job import Diverged, Ended, LoadRenderer, Progress, TrainJob

_COLLECTIVE_WITHIN: Final = timedelta(minutes=30)
_ON_CPU: Final = {
    # Nothing is compiled: not by DeepSpeed, not by torch.
    "DS_ACCELERATOR": "cpu",
    "TORCHDYNAMO_DISABLE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    # Freed memory is kept: tensors that are mapped anew each time cost a quarter of a step in page faults.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


def worker_environment(rank: int, world: int, threads: int, *, is_cpu: bool) -> dict[str, str]:
    """Return what a worker's process finds in its environment."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": "0",  # a worker sees its own device alone
        "LOCAL_SIZE": "1",
        "ACCELERATE_USE_DEEPSPEED": "true",
        **(_ON_CPU if is_cpu else {}),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


class Worker:
    """One worker. `train` runs in a thread of its own, so that `status` answers meanwhile."""

    def __init__(self, rank: int, world: int) -> None:
        self._rank = rank
        self._world = world
        self._progress = Progress(pid=os.getpid())
        self._listener: socket.socket | None = None

    def listen(self) -> tuple[str, int]:
        """Open the port at which the workers meet and return its address; the first worker's part."""
        import ray

        host = ray.util.get_node_ip_address()
        self._listener = socket.create_server((host, 0), backlog=self._world)
        return host, self._listener.getsockname()[1]

    def status(self) -> Progress:
        """Return how far this worker is."""
        return self._progress

    def train(self, job: TrainJob, load_renderer: LoadRenderer, host: str, port: int) -> Ended:
        """Train with the others, who meet at that address; return how it ended."""
        try:
            self._join(host, port)
            from training.sft import train_worker

            return Ended(kind="done", result=train_worker(job, self._rank, self._world, load_renderer, self._note))
        except Diverged as error:
            return Ended(kind="diverged", text=str(error))
        except SandplayError as error:
            return Ended(kind="refused", text=str(error))
        except Exception as error:  # noqa: BLE001  whatever fails in here is for the driver to judge
            traceback.print_exc()
            return Ended(kind="peer" if _is_of_peer(error) else "error", text=f"{type(error).__name__}: {error}")

    def _note(self, progress: Progress) -> None:
        self._progress = msgspec.structs.replace(progress, pid=os.getpid())

    def _join(self, host: str, port: int) -> None:
        self._note(Progress(phase="importing torch"))
        os.environ.update(MASTER_ADDR=host, MASTER_PORT=str(port))
        if host.startswith("127."):
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        import torch
        from torch.distributed import TCPStore, init_process_group

        backend = "nccl" if torch.cuda.is_available() else "gloo"
        self._note(Progress(phase="waiting for the other workers"))
        listening = self._listener.detach() if self._listener is not None else None
        store = TCPStore(
            host,
            port,
            self._world,
            is_master=self._rank == 0,
            timeout=_COLLECTIVE_WITHIN,
            master_listen_fd=listening,
        )
        init_process_group(backend, store=store, rank=self._rank, world_size=self._world, timeout=_COLLECTIVE_WITHIN)
        _configure_deepspeed(backend, self._rank, self._world)


def _configure_deepspeed(backend: str, rank: int, world: int) -> None:
    """Let DeepSpeed and accelerate use the group that is there, on this worker's device."""
    import deepspeed
    import torch
    from accelerate import DistributedType, PartialState

    deepspeed.ops.__compatible_ops__ = {}  # it would compile those that it finds here
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
    state: Any = PartialState()
    if backend == "gloo":
        # Accelerate takes a CPU for no distribution at all, or for plain data parallelism without DeepSpeed.
        state.distributed_type = DistributedType.DEEPSPEED
        state.backend = backend
        state.device = torch.device("cpu")
        state.num_processes, state.process_index, state.local_process_index = world, rank, 0


def _is_of_peer(error: Exception) -> bool:
    """Whether a collective failed, because another worker is gone or cannot be reached."""
    import torch

    text = str(error)
    return isinstance(error, torch.distributed.DistError) or "gloo" in text or "Connection" in text
