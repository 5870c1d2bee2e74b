"""`sandplay serve`: a model or a checkpoint as an OpenAI-compatible endpoint on this machine.

What belongs to a server (process table, logs of its engines) lies in the cache, one directory per address; what a
killed one left alive is ended when the next one starts.
"""

import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

if TYPE_CHECKING:
    import socket

    import msgspec

    from actors.crew import LocalCrew
    from engine.backend import Backend
    from engine.config import Config
    from engine.config_sections import SchedulerConfig, VllmConfig
    from engine.endpoint.desk import Desk
    from engine.rundir import RunDirectory

TABLES: Final = ("models", "ray", "scheduler")
"""What serving reads of a configuration; a file may have more."""
ROLE: Final = "assistant"
CLOSING_S: Final = 30.0
"""Seconds that replicas and Ray get to end by themselves: nothing is lost while they do, unlike in a run."""


def serve(
    source: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml|CHECKPOINT", help="A configuration's \\[models], or a checkpoint.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings that replace the file's.")
    ] = None,
    model: Annotated[str, typer.Option(help="Which of \\[models] is served (default: the only local one).")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is reached from this machine only.")] = (
        "127.0.0.1"
    ),
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the key (default: one is made).")] = "",
    max_inflight: Annotated[int, typer.Option(min=1, help="Replies under way; beyond it clients get 429.")] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is served as JSON, one line.")] = False,
) -> None:
    """Serve a model to any OpenAI client: chats, completions, log probabilities; until interrupted."""
    import uvloop

    from engine.commands.preparing import engine_problems, kept_commits, prepare_one
    from engine.endpoint.server import bind
    from engine.errors import InputError
    from engine.hosts import is_loopback_host

    plan = plan_serving(source, overrides or [], model)
    key, where = read_key(key_env)
    if problems := engine_problems(plan.config):
        raise InputError(problems)
    kept = kept_commits(plan.checkpoint.parent.parent) if plan.checkpoint is not None else {}
    path = prepare_one(plan.pool, plan.model, kept.get(plan.pool))
    with bind(host, port) as bound:
        if not is_loopback_host(host):
            say(f"{host} may be reached from other machines: the connection is not encrypted, the key is all there is")
        uvloop.run(_serve(plan, path, Door(bound, key, where, max_inflight, as_json)))


class Door(NamedTuple):
    """Where clients come in: the bound socket, the key and the variable it is from, and how many are let in."""

    bound: "socket.socket"
    key: str
    key_env: str
    max_inflight: int
    as_json: bool


class Serving:
    """What is served: one pool of a configuration, and the checkpoint in its place or upon it, if any.

    `names` are what clients may call it, the proper one first.
    """

    def __init__(self, config: "Config", pool: str, checkpoint: Path | None) -> None:
        from engine.config_sections import VllmConfig

        model = config.models[pool]
        assert isinstance(model, VllmConfig)
        self.config, self.pool, self.checkpoint = config, pool, checkpoint
        self.model: VllmConfig = model
        self.scheduler: SchedulerConfig = config.scheduler
        own = checkpoint.name if checkpoint is not None else model.model
        self.names = tuple(dict.fromkeys((Path(own).name if Path(own).is_absolute() else own, pool)))


def plan_serving(source: Path, overrides: list[str], wanted: str) -> Serving:
    """Return what is to be served. Raises InputError with what is wrong with the file, the choice or the checkpoint."""
    import msgspec

    from engine import config as configuration

    checkpoint = source.absolute() if source.is_dir() else None
    table = _table_of(checkpoint) if checkpoint is not None else configuration.read_table(source)
    base = source.absolute().parent
    table = configuration.apply_overrides(table, overrides)
    wanted = wanted or (str(table.get("rounds", {}).get("model", "")) if checkpoint is not None else "")
    config = configuration.load({name: table[name] for name in TABLES if name in table})
    pool = _chosen(config, wanted)
    model = _local(config.models[pool], base, checkpoint)
    return Serving(msgspec.structs.replace(config, models={pool: model}, roles={ROLE: pool}), pool, checkpoint)


def _table_of(checkpoint: Path) -> dict[str, Any]:
    """Return the tables that go with a checkpoint: those of its run of rounds, else the default model."""
    from engine.checkpoints import CheckpointError, read_checkpoint
    from engine.config import read_table
    from training.round_planning import CONFIG

    if (found := read_checkpoint(checkpoint)).kind == "hosted":
        rule = f"checkpoint {found.version}: must have weights to be served, got a hosted model"
        raise CheckpointError(f"{rule}: ask its own endpoint")
    rounds = checkpoint.parent.parent / CONFIG
    return read_table(rounds) if rounds.is_file() else {"models": {"base": {"kind": "vllm"}}}


def _chosen(config: "Config", wanted: str) -> str:
    from engine.config_sections import VllmConfig
    from engine.errors import InputError

    local = [name for name, model in config.models.items() if isinstance(model, VllmConfig)]
    known = ", ".join(local) or "none"
    if wanted and wanted not in local:
        raise InputError(f"--model must name a model of kind vllm, got {wanted!r}: there are {known}")
    if not wanted and len(local) != 1:
        raise InputError(f"one model of kind vllm must be served, got {known}: give --model NAME")
    return wanted or local[0]


def _local(model: "msgspec.Struct", base: Path, checkpoint: Path | None) -> "VllmConfig":
    """Return the model with an absolute path, and with room for the adapter that is served upon it."""
    import msgspec

    from actors.swap import read_rank
    from engine.checkpoints import read_checkpoint
    from engine.config_sections import VllmConfig, enough_lora_rank
    from engine.planning import located

    assert isinstance(model, VllmConfig)
    rank = model.max_lora_rank
    if checkpoint is not None and read_checkpoint(checkpoint).kind == "lora":
        rank = max(rank, enough_lora_rank(read_rank(checkpoint)))
    return msgspec.structs.replace(model, model=located(model.model, base), max_lora_rank=rank)


def read_key(key_env: str) -> tuple[str, str]:
    """Return the key and where it is from: a variable's name, or "" for one made here. Raises InputError."""
    import secrets

    from engine import api_keys

    if not key_env:
        return f"sk-{secrets.token_urlsafe(24)}", ""
    return api_keys.read_key(key_env, "the endpoint", "--key-env"), key_env


async def _serve(plan: Serving, path: Path, door: Door) -> None:
    """Bring the pool up, answer until interrupted, end everything. Raises RunError when the pool is beyond help."""
    host, port = door.bound.getsockname()[:2]
    rundir = scratch_directory(f"{host.replace(':', '_')}-{port}")
    with suppress(Stopped):
        async with open_crew(plan, path, rundir) as crew:
            await _answer(crew, plan, path, door)


class Stopped(Exception):
    """A signal ended the work with a crew; carries the exit code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"stopped with {code}")


@asynccontextmanager
async def open_crew(plan: Serving, path: Path, rundir: "RunDirectory") -> AsyncIterator["LocalCrew"]:
    """Give the crew of what is served, not started; end it behind, or when a signal comes. Raises `Stopped` then."""
    import asyncio

    from actors.crew import LocalCrew
    from engine.commands.placing import settle
    from engine.interrupt import Interrupt

    places = (await settle(plan.config, (plan.pool,), models={plan.pool: path})).node_ids
    serving = {plan.pool: plan.checkpoint} if plan.checkpoint is not None else None
    crew = LocalCrew(plan.config, {plan.pool: path}, needs_embedder=False, serving=serving, places=places)
    task = asyncio.current_task()
    assert task is not None
    is_working = True
    with rundir.lock():
        crew.attach(rundir, say)

        def stop() -> None:
            say("stopping")
            if is_working:
                task.cancel()

        with Interrupt(stop, crew.abort, CLOSING_S) as interrupt:
            try:
                yield crew
            except asyncio.CancelledError:
                if interrupt.code is None:
                    raise
                task.uncancel()
                raise Stopped(interrupt.code) from None
            finally:
                # A signal that comes now must not interrupt the ending of what was started.
                is_working = False
                await crew.close()


async def _answer(crew: "LocalCrew", plan: Serving, path: Path, door: Door) -> None:
    from engine.endpoint.server import Endpoint, listening, url_of

    await crew.start()
    pool = crew.pools[plan.pool]
    desk = desk_of(plan, pool, door.max_inflight)
    async with listening(Endpoint(desk, plan.names, door.key), door.bound):
        figures = {
            "url": url_of(door.bound),
            "model": plan.names[0],
            "key_env": door.key_env,
            "tokenizer": str(path),
            "max_model_len": pool.max_context,
            "weights": pool.replicas()[0].weights,
        }
        if not door.key_env:
            say(f"key, shown this once: {door.key}")
        print(json.dumps(figures) if door.as_json else "\n".join(_lines(figures)), flush=True)
        await desk.run()


def desk_of(plan: Serving, pool: "Backend", max_open: int = 1024) -> "Desk":
    """Return a desk that asks a pool as the configuration says."""
    from engine.endpoint.desk import Desk
    from engine.retry import RetryPolicy

    settings = plan.scheduler
    return Desk(
        pool,
        retry=RetryPolicy(max_attempts=settings.max_attempts, max_wait_s=settings.max_wait_s),
        timeout_s=settings.request_timeout_s,
        max_open=max_open,
    )


def _lines(figures: dict[str, Any]) -> list[str]:
    held = f"in the environment variable {figures['key_env']}" if figures["key_env"] else "made for this server, above"
    return [
        f"serving {figures['model']} at {figures['url']}",
        f"key: {held}",
        f"tokenizer, for clients that count tokens: {figures['tokenizer']}",
    ]


def scratch_directory(name: str) -> "RunDirectory":
    """Return a fresh directory for what is served outside of runs, after clearing up behind what was killed."""
    from actors.processes import ProcessTable
    from engine.caches import cache_directory
    from engine.errors import RunHeld
    from engine.rundir import RunDirectory

    root = cache_directory() / "serve"
    root.mkdir(mode=0o700, exist_ok=True)
    for path in root.iterdir():
        try:
            with RunDirectory(path).lock():
                ProcessTable(RunDirectory(path).processes).end_left_overs()
                shutil.rmtree(path)
        except RunHeld:
            continue
    rundir = RunDirectory(root / name)
    rundir.path.mkdir(mode=0o700, exist_ok=True)
    return rundir


def say(text: str) -> None:
    """Print a line of news on stderr."""
    from engine.transcript import printable

    print(printable(text, markup=False), file=sys.stderr, flush=True)
