"""`sandplay calibrate`: the similarity cut of an embedder, or with `--speed` how fast a model runs on this machine.

A speed is measured on one real engine that plays nothing: batches of prompts of random tokens, every step recorded.
What is kept holds for the model, its precision and this machine; `generate --dry-run` reckons hours with it.
"""

import json
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from actors.fleet import Fleet
    from engine.backend import Request
    from engine.config import Config
    from engine.config_sections import VllmConfig
    from engine.planning import Plan
    from engine.speed import Speed

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Requests at once; each size is measured twice, with short prompts and with longer ones."""
PROMPTS: Final = (32, 192)
LONGEST: Final = 1024
"""Prompt of the largest sizes that are measured alone, in tokens: what context costs is seen there."""
NUM_TOKENS: Final = 24
WITHIN_S: Final = 150.0
"""No further batch begins after so long."""
NOISY: Final = 0.25
"""Share of a step's time by which the fit may be off on average."""
MAX_TOKEN: Final = 1000
"""Token ids below it exist in every vocabulary."""


async def fit_cut(table: dict[str, Any], as_json: bool) -> None:
    """Fit the similarity cut to the embedder of a configuration table and print it. Raises ConfigError."""
    import msgspec

    from actors.crew import open_embedder
    from engine.config_decode import decode
    from engine.config_sections import EmbedderConfig, PrivacyConfig
    from engine.egress import embedder_outlet, refusals
    from engine.errors import ConfigError
    from engine.protocol import Sight
    from engine.protocols.mental_arena.calibration import calibrate, calibration_lines
    from engine.tables import write, write_json

    chosen, problems = decode(EmbedderConfig, table.get("embedder", {}), "embedder.")
    privacy, more = decode(PrivacyConfig, table.get("privacy", {}), "privacy.")
    if chosen is not None and privacy is not None:
        told = Sight(hidden=False, transcript=False, note="bundled sentences, none of yours")
        more = refusals([embedder_outlet(chosen, told)], privacy.egress)
    if chosen is None or problems or more:
        raise ConfigError([*problems, *more])
    async with open_embedder(chosen) as embedder:
        figures = await calibrate(embedder)
    if as_json:
        write_json(msgspec.json.encode(figures))
    else:
        write("\n".join(calibration_lines(figures)))


def measure_speeds(config: Path, overrides: list[str], as_json: bool) -> None:
    """Measure each local model of a configuration here, one after the other, and keep what was found.

    Raises InputError for a configuration without local models or on a cluster, RunError when an engine does not start.
    """
    import uvloop

    from engine import config as configuration
    from engine.caches import cache_directory
    from engine.commands.preparing import engine_problems, prepare_one
    from engine.config_sections import VllmConfig
    from engine.errors import InputError
    from engine.planning import absolute_paths
    from engine.speed import keep_speed, speed_path
    from engine.tables import say

    table = configuration.apply_overrides(configuration.read_table(config), overrides)
    chosen = configuration.load(absolute_paths(table, config.parent.absolute()))
    local = {name: model for name, model in chosen.models.items() if isinstance(model, VllmConfig)}
    problems = engine_problems(chosen)
    if not local:
        problems.append(f"--speed needs a model of kind vllm, got none in {config}: endpoints are not measured")
    if chosen.ray.address is not None:
        problems.append("--speed measures this machine, got ray.address: run it on a node, without the address")
    if problems:
        raise InputError(problems)
    for name, model in local.items():
        path = prepare_one(name, model)
        speed = uvloop.run(_measure(chosen, name, model, path))
        place = speed_path(cache_directory(), model, speed.machine)
        keep_speed(place, speed)
        if speed.coefficients.mean_error > NOISY:
            say(f"warning: steps of models.{name} vary too much to be foretold: measure again while nothing else runs")
        _print(name, speed, place, as_json)


def speeds_of(plan: "Plan") -> "tuple[dict[str, tuple[Speed, Path]], list[str]]":
    """Return the kept speeds of the pools of a plan with their files, and a sentence for each pool without one."""
    from engine.caches import cache_directory
    from engine.config_sections import VllmConfig
    from engine.hardware import computes_with
    from engine.speed import find_speed

    found: dict[str, tuple[Speed, Path]] = {}
    missing: list[str] = []
    for name in dict.fromkeys(plan.config.roles.values()):
        model = plan.config.models[name]
        if not isinstance(model, VllmConfig):
            missing.append(
                f"how fast the endpoint of models.{name} answers only a run at the same pace says: --like RUN"
            )
        elif plan.config.ray.address is not None:
            missing.append("the nodes of a cluster are not measured: name a run that was played there with --like RUN")
        elif kept := find_speed(cache_directory(), model, computes_with(is_cpu=_is_cpu(plan.config, name))):
            found[name] = kept
        else:
            missing.append(
                f"sandplay calibrate CONFIG --speed measures and keeps how fast models.{name} is here;"
                " or name a run with --like RUN"
            )
    return found, list(dict.fromkeys(missing))


def _is_cpu(config: "Config", name: str) -> bool:
    from actors.nodes import this_machine
    from engine.commands.placing import wanted_by

    (wanted,) = wanted_by(config, (name,), this_machine())
    return not wanted.share.gpus


async def _measure(config: "Config", name: str, model: "VllmConfig", path: Path) -> "Speed":
    import msgspec

    from actors.crew import ray_spec, spec_of
    from actors.fleet import Fleet
    from actors.processes import ProcessTable
    from actors.step_log import STEP_LOG
    from engine.hardware import computes_with
    from engine.simulation.latency import fit, read_steps
    from engine.speed import Speed, settings_of
    from engine.tables import say

    is_cpu = _is_cpu(config, name)
    machine = computes_with(is_cpu=is_cpu)
    with TemporaryDirectory(prefix="sandplay-speed-") as scratch:
        log = Path(scratch) / "steps.jsonl"
        spec = spec_of(name, model, path, 0, 1)
        spec = msgspec.structs.replace(spec, env={**spec.env, STEP_LOG: str(log)})
        fleet = Fleet(spec, ray_spec(config.ray), ProcessTable(Path(scratch) / "processes.json"), say)
        try:
            await fleet.start()
            await _play(fleet, 0, [(2, 64)])
            num_warm = len(read_steps(log))
            await _play(fleet, 1, batches_of(model.max_num_seqs, model.max_model_len))
            kv_tokens = fleet.replicas()[0].kv_tokens
        finally:
            await fleet.close()
        steps = read_steps(log)[num_warm:]
    return Speed(
        machine=machine,
        settings=settings_of(model),
        coefficients=fit(steps, f"{model.model} on {machine}"),
        is_cpu=is_cpu,
        kv_tokens=kv_tokens,
        measured_at=time.time(),
    )


def batches_of(max_seqs: int, window: int) -> list[tuple[int, int]]:
    """Return what is measured: how many requests at once, and their prompts' tokens; small batches first."""
    sizes = [size for size in BATCHES if size <= max_seqs]
    room = window - NUM_TOKENS
    found = [(size, min(tokens, room)) for tokens in PROMPTS for size in sizes]
    return found + [(size, min(LONGEST, room)) for size in sizes[:4]]


async def _play(fleet: "Fleet", number: int, batches: list[tuple[int, int]]) -> None:
    """Ask each batch and wait for all of it, as long as there is time. Raises RunError when a request fails."""
    from engine.errors import RunError
    from engine.tables import say

    begun = time.monotonic()
    for place, (size, tokens) in enumerate(batches):
        if time.monotonic() - begun > WITHIN_S:
            return
        say(f"measuring {size} at once, prompts of {tokens} tokens")
        asked = _requests(f"speed-{number}-{place}", size, tokens)
        left = {request.key for request in asked}
        await fleet.submit(asked)
        while left:
            for done in await fleet.collect():
                left.discard(done.key)
                if done.failure is not None:
                    raise RunError(f"the engine must answer to be measured, got: {done.failure.message}")
        for request in asked:
            await fleet.forget(request.episode)


def _requests(name: str, size: int, tokens: int) -> "list[Request]":
    """Return requests of random tokens, no two with a prefix in common."""
    from engine.backend import Request, RequestOptions
    from engine.steps import Sampling

    rng = random.Random(name)
    return [
        Request(
            *(f"{name}-{number}", "speed", 0, "patient", "speed", (), Sampling(NUM_TOKENS, 1.0)),
            options=RequestOptions(prompt=tuple(rng.randrange(100, MAX_TOKEN) for _ in range(tokens))),
        )
        for number in range(size)
    ]


def _print(name: str, speed: "Speed", place: Path, as_json: bool) -> None:
    import msgspec

    from engine.tables import write

    fitted = speed.coefficients
    if as_json:
        print(json.dumps({"model": name, "file": str(place), **msgspec.to_builtins(speed)}))
        return
    step = fitted.base + fitted.decode_seq
    write(f"models.{name}: {speed.settings['model']} on {speed.machine}")
    write(
        f"  a step of one dialogue takes {1000 * step:.3g} ms, each further one {1000 * fitted.decode_seq:.3g} ms,"
        f" 1,000 prompt tokens {1e6 * fitted.prefill_token:.3g} ms"
    )
    write(
        f"  fitted to {fitted.num_steps} steps, {fitted.mean_error:.1%} of a step's time off on average;"
        f" kept in {place}"
    )
