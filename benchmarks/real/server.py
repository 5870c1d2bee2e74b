"""vLLM's own API server and the `openai` client with plain asyncio: what users run today.

Prompts go as token ids to `/v1/completions`, so that the work is the trace's to the token; that spares the server the
chat template, in its favor. Each run has a cache salt of its own, which empties the prefix cache as far as it can see.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.engine import engine_arguments
from actors.launch import engine_environment
from actors.spec import ModelSpec
from benchmarks.real.bare import Order
from benchmarks.real.outcome import Finish, Outcome, finish_of
from benchmarks.real.workload import TEMPERATURE
from benchmarks.trace import Call

START_WITHIN_S = 180.0
MODEL = "bench"
_ROOT = str(Path(__file__).resolve().parents[2])


class Server:
    """One API server process, its own process group, ended by `close`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, end_ids: Sequence[int]) -> None:
        import openai

        self._process = process
        self._end_ids = list(end_ids)
        self._client = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=600
        )
        self._run = 0
        self._begun = 0.0

    @classmethod
    async def start(cls, spec: ModelSpec, end_ids: Sequence[int], log: Path, *, is_cpu: bool) -> "Server":
        """Start a server with the specification's engine settings. Raises RuntimeError with the end of its log."""
        port = _free_port()
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--served-model-name", MODEL, "--disable-uvicorn-access-log"]
        command += arguments(engine_arguments(spec, is_cpu=is_cpu, seed=0))
        environment = os.environ | engine_environment(spec, is_cpu=is_cpu) | {"PYTHONPATH": _ROOT}
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220  starting it does not block
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        server = cls(process, port, end_ids)
        try:
            await server._until_ready(log)
        except BaseException:
            server.close()
            raise
        return server

    async def _until_ready(self, log: Path) -> None:
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                await self._client.models.list(timeout=2)
                return
            except Exception:  # noqa: BLE001  not listening yet: the client raises several kinds
                await asyncio.sleep(0.5)
        tail = (await asyncio.to_thread(log.read_text, errors="replace"))[-2000:]
        raise RuntimeError(f"the API server must be up within {START_WITHIN_S:g} s, got:\n{tail}")

    async def ask(self, call: Call, priority: int) -> Finish:
        """Make one call."""
        ids = list(call.completion_ids)
        answer: Any = await self._client.completions.create(
            model=MODEL,
            prompt=list(call.prompt_ids),
            max_tokens=len(ids),
            temperature=TEMPERATURE,
            extra_body={
                "vllm_xargs": {"forced_ids": ids},
                "stop_token_ids": self._end_ids,
                "cache_salt": f"run-{self._run}",
                "return_token_ids": True,
                "priority": priority,
            },
        )
        at_s = time.perf_counter() - self._begun
        details = answer.usage.prompt_tokens_details
        cached = details.cached_tokens if details is not None else 0
        return finish_of(call, at_s, answer.choices[0].token_ids, cached or 0)

    async def measure(self, order: Order, calls: Sequence[Call]) -> Outcome:
        """Play under a fresh cache salt and time it."""
        self._run += 1
        self._begun = time.perf_counter()
        finishes = await order(self.ask, calls)
        return Outcome(time.perf_counter() - self._begun, tuple(finishes))

    def close(self) -> None:
        """End the server and its engine processes."""
        import psutil

        try:
            tree = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        except psutil.NoSuchProcess:
            return
        self._process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=15)
        for process in alive:
            process.kill()
        self._process.wait()


def arguments(engine: dict[str, Any]) -> list[str]:
    """Return engine arguments as command line options of the API server."""
    options: list[str] = ["--enable-prompt-tokens-details"]
    for name, value in engine.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            options += [flag] if value else []
        elif isinstance(value, dict):
            options += [flag, json.dumps(value)]
        elif isinstance(value, list):
            options += [flag, *map(str, value)]
        elif value is not None:
            options += [flag, str(value)]
    if engine.get("enable_prefix_caching") is False:
        options.append("--no-enable-prefix-caching")
    return options


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
