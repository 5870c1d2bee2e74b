"""The engines of one benchmark process, started when first asked for and kept alive: all of one specification.

One replica in this process (whose engine is also the bare engine), one in a Ray actor, one behind vLLM's own API
server; each with an ample or a tight KV cache. Idle engines cost nothing, so contenders are interleaved, repeat by
repeat, in one process.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from actors import wire
from actors.engine import read_end_ids
from actors.fleet import Fleet
from actors.launch import engine_environment
from actors.models import prepare_model
from actors.processes import ProcessTable
from actors.rendering import PromptRenderer
from actors.replica import Replica
from actors.spec import ModelSpec, RaySpec
from actors.step_log import STEP_LOG
from benchmarks.real.bare import Bare
from benchmarks.real.composing import Composer
from benchmarks.real.product import Adapted, InProcess, Player, limiting
from benchmarks.real.server import Server
from benchmarks.real.workload import POOL, Workload
from benchmarks.trace import Call, Trace, load_trace, make_trace, num_blocks, save_trace
from engine.caches import cache_directory

Cache = Literal["ample", "tight"]
NEVER_S = 1e6


class RealBench:
    """Engines, workload and trace of one benchmark process. Use it as an async context manager.

    `trace_file` is where the recorded trace is kept; None means the user's cache, by what determines it. `step_log` is
    a file that gets one line per step of the ample bare engine.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        trace_file: Path | None = None,
        step_log: Path | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.workload = workload
        self.say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._trace_file = trace_file
        self.step_log = step_log
        self._scratch = tempfile.TemporaryDirectory(prefix="sandplay-bench-")
        self._local: dict[Cache, tuple[Replica, InProcess, Bare]] = {}
        self._fleets: dict[Cache, Fleet] = {}
        self._servers: dict[Cache, Server] = {}
        self.trace: Trace
        self.player: Player

    async def __aenter__(self) -> "RealBench":
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open(self) -> None:
        self.path = prepare_model(self.workload.model, self.workload.max_model_len)
        os.environ |= engine_environment(self._spec("ample", 0), is_cpu=is_cpu_only()) | _QUIET
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        self.renderer = PromptRenderer(self.tokenizer)
        self.end_ids = read_end_ids(self.path, self.tokenizer, self.renderer.end_of_turn_ids)
        self.player = Player(self.workload, self.renderer)
        self.trace = await self._load_or_record()

    async def _load_or_record(self) -> Trace:
        name = f"trace-{self.workload.name}-{self.renderer.fingerprint}.jsonl"
        path = self._trace_file or cache_directory() / name
        if path.is_file():
            return load_trace(path)
        calls = await self._record()
        plan = self.workload.plan()
        protocol: dict[str, Any] = {key: plan.table[key] for key in ("protocol", "cases", "seed")}
        trace = make_trace(
            calls,
            model=self.workload.model,
            tokenizer=self.renderer.fingerprint,
            block_size=self.workload.block_size,
            protocol=protocol,
        )
        save_trace(path, trace)
        return trace

    async def _record(self) -> list[Call]:
        if self.workload.is_arena:
            return await self.player.record(Composer(self.workload.answers(), self.renderer, self.tokenizer))
        self.say("recording the trace")
        limited = Adapted(await self.product(), limiting(self.workload))
        return await self.player.record(limited)

    async def close(self) -> None:
        """End everything."""
        for server in self._servers.values():
            server.close()
        for replica, _, _ in self._local.values():
            await replica.stop()
        for fleet in self._fleets.values():
            await fleet.close()
        self._servers, self._local, self._fleets = {}, {}, {}
        gc.collect()  # engines that are only dropped at the interpreter's end complain on the terminal
        self._scratch.cleanup()

    # ------------------------------------------------------------ engines

    async def bare(self, cache: Cache = "ample") -> Bare:
        """Return the bare engine in this process."""
        return (await self._in_process(cache))[2]

    async def in_process(self, cache: Cache = "ample") -> InProcess:
        """Return the replica object in this process, around that same engine."""
        return (await self._in_process(cache))[1]

    async def product(self, cache: Cache = "ample") -> Fleet:
        """Return the fleet: one replica in a Ray actor."""
        if cache not in self._fleets:
            processes = ProcessTable(Path(self._scratch.name) / f"{cache}.json")
            fleet = Fleet(self._spec(cache, self._num_blocks(cache)), RaySpec(), processes, self.say)
            await fleet.start()
            self._fleets[cache] = fleet
        return self._fleets[cache]

    async def server(self, cache: Cache = "ample") -> Server:
        """Return vLLM's API server."""
        if cache not in self._servers:
            spec = self._spec(cache, self._num_blocks(cache))
            log = Path(self._scratch.name) / f"server-{cache}.log"
            self._servers[cache] = await Server.start(spec, self.end_ids, log, is_cpu=is_cpu_only())
        return self._servers[cache]

    async def warm_up(self, backend: Any) -> None:
        """Play a few dialogues through the product, so that nothing is done for the first time when it is measured."""
        await self.player.measure(backend, self.trace.calls, self.workload.slots, num_episodes=2)

    async def _in_process(self, cache: Cache) -> tuple[Replica, InProcess, Bare]:
        if cache not in self._local:
            replica = Replica(self._spec(cache, self._num_blocks(cache)), f"{POOL}/local", 0)
            with _logging_steps(self.step_log if cache == "ample" else None):
                info = wire.decode_info(await replica.start())
            bare = Bare(replica.engine, self.end_ids, self.workload.temperature)
            self._local[cache] = (replica, InProcess(replica, info), bare)
        return self._local[cache]

    def _spec(self, cache: Cache, num_blocks: int) -> ModelSpec:
        workload = self.workload
        spec = ModelSpec(
            name=POOL,
            path=str(self.path),
            max_model_len=workload.max_model_len,
            max_num_seqs=workload.slots,
            block_size=workload.block_size,
            kv_cache_gib=workload.kv_cache_gib,
            canary_s=NEVER_S,
            takes_forced_ids=True,
        )
        return msgspec.structs.replace(spec, num_gpu_blocks_override=num_blocks) if cache == "tight" else spec

    def _num_blocks(self, cache: Cache) -> int:
        """Return how many blocks the tight cache has: a share of the working set, room for one longest context."""
        if cache == "ample":
            return 0
        least = self.workload.max_model_len // self.workload.block_size + 1
        return max(least, round(self.workload.tight_share * self.working_set))

    @property
    def working_set(self) -> int:
        """KV blocks that hold all dialogues of the trace at once."""
        return num_blocks(self.trace.calls, self.workload.block_size)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """Return what a figure says it was measured with."""
        return self.workload.configuration() | {"working_set_blocks": self.working_set} | more


_QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


@contextmanager
def _logging_steps(path: Path | None) -> Iterator[None]:
    # The engine process takes its environment when it is started; other engines must not write to the same file.
    if path is not None:
        os.environ[STEP_LOG] = str(path)
    try:
        yield
    finally:
        os.environ.pop(STEP_LOG, None)


def is_cpu_only() -> bool:
    """Whether engines run on the CPU here: no GPU that torch could use."""
    import torch

    return not torch.cuda.is_available()
