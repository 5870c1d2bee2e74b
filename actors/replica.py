"""The actor that hosts one vLLM engine: batches of requests in, long-polled batches of completions out.

It keeps no dialogue state: every request brings its whole view. Prompts are rendered and replies decoded in one helper
thread, never on the loop the engine's output is read on. Each accepted request ends in exactly one completion unless it
was cancelled. It knows nothing of retries, routing or health; a dead engine is reported and left to the fleet.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from actors import wire
from actors.choices import option_probabilities, token_ids_of_options
from actors.engine import Engine, EngineLost, EngineRefused, Generated, max_tokens_of, read_end_ids, sampling_parameters
from actors.options import details_of, fit_sampling, trimmed
from actors.processes import describe_tree
from actors.rendering import PromptRenderer, Rendered
from actors.spec import ModelSpec
from actors.versions import read_here
from engine.api_keys import hide
from engine.backend import Completion, Failure, FailureKind, ReplicaGauges, Request, RequestKey
from engine.steps import Choice, Reply, Sampling, Usage, ValueSchema
from engine.token_ids import pack_ids

T = TypeVar("T")

HEARTBEAT_S = 1.0
MAX_WORDS = 800
"""Characters of what an exception says."""
_CANARY_PRIORITY = -(1 << 30)


class StartupError(Exception):
    """The tokenizer or the engine did not start; the text says why, on one line."""


class Refused(Exception):
    """A step of a swap failed; the text says why, on one line."""


class Ended(Exception):
    """A request that came to nothing inside this replica; carries the failure."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.failure = Failure(kind, message)
        super().__init__(f"{kind}: {message}")


class Replica:
    """One replica of one model. Runs as a Ray async actor; works in any event loop.

    `log` is the file that the engine's output goes to ("" leaves it where it is).
    """

    def __init__(self, spec: ModelSpec, name: str, seed: int, log: str = "") -> None:
        _redirect_output(log)
        self._spec = spec
        self._name = name
        self._seed = seed
        self._phase = "importing vLLM"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="text")
        self._tasks: dict[RequestKey, asyncio.Task[None]] = {}
        self._accepted: set[RequestKey] = set()
        self._finished: list[tuple[Request, Rendered, Generated, float]] = []
        self._completions: list[Completion] = []
        self._has_news = asyncio.Event()
        # Closed while weights are loaded: a request must not begin under a version that is about to go.
        self._gate = asyncio.Event()
        self._gate.set()
        self._probing = asyncio.Lock()
        self._problem = ""
        self._watched: dict[tuple[str, ...], list[int]] = {}
        self._ids_by_text: dict[str, int] = {}

    # ------------------------------------------------------------ life

    async def start(self) -> bytes:
        """Load tokenizer and engine; return `ReplicaInfo`. Raises `StartupError`."""
        try:
            self._engine = await asyncio.to_thread(self._open)
            self._phase = "checking weights"
            await self._engine.weights.open(self._spec.adapter)
            self._phase = "first token"
            await self.canary()
        except Exception as error:  # noqa: BLE001  in words: not every exception of vLLM survives the way out
            raise StartupError(_in_words(error)) from None
        self._phase = "ready"
        return await self.info()

    def _open(self) -> Engine:
        from transformers import AutoTokenizer

        self._phase = "loading the tokenizer"
        home = self._spec.home
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(home), local_files_only=True, trust_remote_code=False)
        self._renderer = PromptRenderer(self._tokenizer)
        self._end_ids = read_end_ids(home, self._tokenizer, self._renderer.end_of_turn_ids)
        self._phase = "loading weights"
        return Engine.open(self._spec, self._seed)

    async def status(self) -> bytes:
        """Return `ReplicaStatus`, also while `start` runs."""
        return wire.encode(wire.ReplicaStatus(self._phase, describe_tree(self._name)))

    async def info(self) -> bytes:
        """Return `ReplicaInfo`."""
        return wire.encode(
            wire.ReplicaInfo(
                replica=self._name,
                processes=describe_tree(self._name),
                kv_tokens=self._engine.kv_tokens,
                max_context=self._engine.max_context,
                slots=self._spec.max_num_seqs,
                weights=self._engine.weights.newest,
                tokenizer=self._renderer.fingerprint,
                merges_system=self._renderer.merges_system,
                is_exact=self._renderer.is_exact,
                versions=read_here(),
            )
        )

    async def canary(self, weights: str = "") -> None:
        """Make one token under a weight version, to show that the engine works. Raises `EngineLost`."""
        end = self._end_ids[0] if self._end_ids else 0
        parameters = sampling_parameters(Sampling(max_tokens=1, temperature=0.0), None, self._end_ids)
        name = f"canary-{time.monotonic_ns()}"
        # Not while paused: it would wait for the resume, and whoever asked would take the engine for hung.
        async with self._probing:
            await self._engine.generate([end, end], parameters, name, _CANARY_PRIORITY, weights)

    async def forget_prefixes(self) -> bool:
        """Empty the prefix cache; return whether it is empty."""
        return await self._engine.forget_prefixes()

    @property
    def engine(self) -> Engine:
        """The engine of a started replica, for callers in its own process."""
        return self._engine

    async def stop(self) -> None:
        """Drop all requests and end the engine."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.to_thread(self._engine.close)

    # ------------------------------------------------------------ swaps

    async def pause(self) -> None:
        """Stop generating, and let no request begin. Raises `Refused`, as the other steps."""
        self._gate.clear()
        async with self._probing:
            await _step(self._engine.pause())

    async def load(self, path: str, adapter: str) -> str:
        """Put whole weights and an adapter ("" for none) in place of all that is held; return the version."""
        return await _step(self._engine.weights.reload(path, adapter))

    async def resume(self) -> None:
        """Go on, and let requests begin."""
        await _step(self._engine.resume())
        self._gate.set()

    async def add(self, adapter: str) -> str:
        """Put an adapter beside what is held; return the version."""
        return await _step(self._engine.weights.add(adapter))

    async def serve(self, version: str) -> None:
        """Sample under this version where none is wanted."""
        self._engine.weights.serve(version)

    async def remove(self, version: str) -> None:
        """Drop a version once no request is sampled under it."""
        await _step(self._engine.weights.remove(version))

    # ------------------------------------------------------------ requests

    async def submit(self, batch: bytes) -> None:
        """Accept a batch of requests; returns once all are queued in the engine's front end."""
        requests = wire.decode_requests(batch)
        self._accepted.update(request.key for request in requests)
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._thread, self._prepare, requests)
        for request, outcome in zip(requests, prepared, strict=True):
            if request.key not in self._accepted:
                continue
            if isinstance(outcome, Failure):
                self._fail(request, outcome)
            else:
                self._tasks[request.key] = asyncio.create_task(self._serve(request, *outcome))

    async def collect(self) -> bytes:
        """Wait for completions, at most a heartbeat; return `Collected` with all there are and the gauges."""
        if not self._has_news.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._has_news.wait()
            except TimeoutError:
                pass
        self._has_news.clear()
        finished, self._finished = self._finished, []
        if finished:
            loop = asyncio.get_running_loop()
            self._completions += await loop.run_in_executor(self._thread, self._complete_all, finished)
        completions, self._completions = self._completions, []
        if self._engine.is_lost:
            self._problem = self._problem or "the engine process died"
        steps = self._engine.counters.num_steps
        return wire.encode(wire.Collected(completions, self._gauges(), steps, self._problem))

    async def cancel(self, keys: bytes) -> None:
        """Stop working on requests; unknown keys are ignored."""
        for key in wire.decode_keys(keys):
            self._accepted.discard(key)
            task = self._tasks.pop(key, None)
            if task is not None:
                task.cancel()

    async def _serve(self, request: Request, prompt: Rendered, parameters: Any) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(request.timeout_s):
                await self._gate.wait()
                made = await self._engine.generate(
                    prompt.token_ids, parameters, "|".join(map(str, request.key)), request.priority, request.weights
                )
        except TimeoutError:
            self._fail(request, Failure("timeout", f"no completion within {request.timeout_s:g} s"))
        except EngineLost as error:
            self._problem = self._problem or f"the engine died: {error}"
            self._fail(request, Failure("replica_lost", f"{self._name}: {error}"))
        except EngineRefused as error:
            self._fail(request, Failure("rejected", str(error)))
        except Exception as error:  # noqa: BLE001  whatever the engine raises on one request must not lose the request
            self._fail(request, Failure("server_error", _in_words(error)))
        else:
            self._finish(request, prompt, made, time.monotonic() - started)

    def _finish(self, request: Request, prompt: Rendered, made: Generated, latency_s: float) -> None:
        self._tasks.pop(request.key, None)
        if request.key in self._accepted:
            self._accepted.discard(request.key)
            self._finished.append((request, prompt, made, latency_s))
            self._has_news.set()

    def _fail(self, request: Request, failure: Failure) -> None:
        self._tasks.pop(request.key, None)
        if request.key in self._accepted:
            self._accepted.discard(request.key)
            self._completions.append(Completion(*request.key, failure=failure))
            self._has_news.set()

    def _gauges(self) -> ReplicaGauges:
        counters = self._engine.counters
        return ReplicaGauges(
            replica=self._name,
            running=counters.running,
            waiting=max(counters.waiting, len(self._tasks) - counters.running, 0),
            slots=self._spec.max_num_seqs,
            kv_tokens=self._engine.kv_tokens,
            kv_usage=counters.kv_usage,
            prefix_queries=counters.prefix_queries,
            prefix_hits=counters.prefix_hits,
            preemptions=counters.preemptions,
            prompt_tokens=counters.prompt_tokens,
            completion_tokens=counters.completion_tokens,
            weights=self._engine.weights.newest,
        )

    # ------------------------------------------------------------ text, in the helper thread

    def _prepare(self, requests: Sequence[Request]) -> list[Failure | tuple[Rendered, Any]]:
        outcomes: list[Failure | tuple[Rendered, Any]] = []
        for request in requests:
            try:
                outcomes.append(self._prepare_one(request))
            except Ended as error:
                outcomes.append(error.failure)
            except Exception as error:  # noqa: BLE001  a template or a grammar fails on one request, not on the batch
                outcomes.append(Failure("rejected", _in_words(error)))
        return outcomes

    def _prepare_one(self, request: Request) -> tuple[Rendered, Any]:
        prompt = self._prompt(request)
        num_prompt, limit = len(prompt.token_ids), self._engine.max_context
        sampling = fit_sampling(request.sampling, request.options, limit - num_prompt)
        max_tokens = max_tokens_of(sampling, request.value)
        if num_prompt + max_tokens > limit:
            message = f"prompt of {num_prompt} tokens + max_tokens {max_tokens} exceed the window of {limit}"
            raise Ended("context_overflow", f"{message}: raise max_model_len or shorten the dialogue")
        if request.forced_ids and not self._spec.takes_forced_ids:
            raise Ended("rejected", f"{self._spec.name} takes no forced ids, got some: set takes_forced_ids")
        watched = self._watch(request.value)
        return prompt, sampling_parameters(
            sampling, request.value, self._end_ids, watched, request.forced_ids, request.options
        )

    def _prompt(self, request: Request) -> Rendered:
        raw = request.options.prompt if request.options is not None else None
        if raw is None:
            return self._renderer.render(request.messages)
        return Rendered(self._renderer.encode_raw(raw) if isinstance(raw, str) else list(raw), 0)

    def _watch(self, value: ValueSchema | None) -> list[int]:
        if not isinstance(value, Choice):
            return []
        if value.options not in self._watched:
            self._watched[value.options] = token_ids_of_options(value.options, self._texts(), self._end_ids)
        return self._watched[value.options]

    def _texts(self) -> dict[str, int]:
        if not self._ids_by_text:
            decode = self._tokenizer.backend_tokenizer.decode
            special = set(self._tokenizer.all_special_ids)
            ids = [i for i in range(len(self._tokenizer)) if i not in special]
            self._ids_by_text = {decode([i], skip_special_tokens=False): i for i in reversed(ids)}
        return self._ids_by_text

    def _complete_all(self, finished: Sequence[tuple[Request, Rendered, Generated, float]]) -> list[Completion]:
        completions: list[Completion] = []
        for each in finished:
            try:
                completions.append(self._complete(*each))
            except Exception as error:  # noqa: BLE001  one reply that cannot be told must not lose the others
                completions.append(Completion(*each[0].key, failure=Failure("server_error", _in_words(error))))
        return completions

    def _complete(self, request: Request, prompt: Rendered, made: Generated, latency_s: float) -> Completion:
        if made.finish not in ("stop", "length"):
            return Completion(*request.key, failure=Failure("server_error", f"the engine ended with {made.finish!r}"))
        made = trimmed(made, request.sampling)
        reply = Reply(
            text=self._renderer.decode(made.token_ids) if made.text is None else made.text,
            finish=made.finish,
            token_ids=pack_ids(made.token_ids),
            tokenizer=self._renderer.fingerprint,
            probabilities=self._probabilities(request.value, made),
            usage=Usage(len(prompt.token_ids), len(made.token_ids), made.cached_tokens),
            model=self._spec.name,
            replica=self._name,
            weights=made.weights,
            attempt=request.attempt,
            latency_s=latency_s,
            num_rendered=prompt.num_rendered,
            details=details_of(request.options, prompt.token_ids, made, self._renderer.spell),
        )
        return Completion(*request.key, reply=reply)

    def _probabilities(self, value: ValueSchema | None, made: Generated) -> dict[str, float] | None:
        if not isinstance(value, Choice) or made.log_probabilities is None:
            return None
        rows, spell = made.log_probabilities, self._renderer.spell
        return option_probabilities(value.options, made.token_ids, rows, lambda i: spell([i]), self._end_ids)


async def _step(doing: Awaitable[T]) -> T:
    try:
        return await doing
    except Exception as error:  # noqa: BLE001  in words: not every exception of vLLM survives the way out
        raise Refused(_in_words(error)) from None


def _in_words(error: Exception) -> str:
    return hide(f"{type(error).__name__}: {' '.join(str(error).split())}")[:MAX_WORDS]


def _redirect_output(log: str) -> None:
    # Engine and worker processes inherit the descriptors: one log per replica, nothing on the terminal.
    if not log:
        return
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    except OSError:
        return  # another node without the run's file system: Ray's own session logs keep the output
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
