"""Swapping a real pool: one vLLM replica that takes adapters and whole weights, under load, failing, and started anew.

What several replicas do, and what takes long, is in test_swap_faults.py and, simulated, in tests/engine/simulation.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.fleet import Fleet
from actors.processes import ProcessTable
from actors.spec import ModelSpec, RaySpec
from actors.swap import prepare_target, read_rank
from engine.backend import Completion
from engine.checkpoints import CheckpointError
from engine.errors import InputError
from engine.swap import ReplicaFailed, SwapFailure, Target
from engine.views import View
from tests.actors.checkpoints import make_adapter, make_full
from tests.actors.conftest import make_request, make_spec, play
from tests.small_checkpoints import make_adapter as make_small_adapter
from tests.small_checkpoints import make_base
from tests.small_checkpoints import make_full as make_small_full

NAME = "swap/0"
VIEW = View.of("You are a patient called Sam. You feel sad and tired, and sleep badly. " * 4)
QUESTIONS = ("How do you sleep?", "Tell me about your week.")
real = [pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]


# ---------------------------------------------------------------- what a pool can serve


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def test_targets_of_whole_models_adapters_and_the_model_itself(base: Path, tmp_path: Path) -> None:
    full, lora = tmp_path / "r1", tmp_path / "r2"
    make_small_full(base, full)
    make_small_adapter(base, lora)
    spec = ModelSpec(name="base", path=str(base), max_lora_rank=8)
    assert prepare_target(spec, full) == Target(str(full))
    assert prepare_target(spec, lora) == Target(str(base), str(lora))
    assert prepare_target(spec, None) == Target(str(base)) == spec.target
    served = spec.serving(Target(str(full)))
    assert (served.path, served.home, served.target) == (str(full), base, Target(str(full)))
    assert prepare_target(served, lora) == Target(str(base), str(lora))
    assert served.serving(Target(str(base))).target == spec.target


@pytest.mark.parametrize(("rank", "needed"), [(0, 8), (1, 8)])
def test_an_adapter_that_the_pool_has_no_room_for_is_refused_with_the_setting(
    base: Path, tmp_path: Path, rank: int, needed: int
) -> None:
    make_small_adapter(base, tmp_path / "r2")
    with pytest.raises(
        CheckpointError, match=rf"rank 2 needs max_lora_rank >= 2, got {rank}: .*max_lora_rank={needed}"
    ):
        prepare_target(ModelSpec(name="base", path=str(base), max_lora_rank=rank), tmp_path / "r2")


def test_the_largest_rank_of_an_adapter_counts(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "rank_pattern": {"q_proj": 32}}')
    assert read_rank(tmp_path) == 32
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="must be PEFT's"):
        read_rank(tmp_path)


@pytest.mark.parametrize(("rank", "adapter", "problem"), [(7, "", "one of 0, 1, 8"), (0, "/r1", "to serve an adapter")])
def test_a_rank_must_be_one_that_engines_know(rank: int, adapter: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ModelSpec(name="base", path="/m", max_lora_rank=rank, adapter=adapter)


async def test_a_pool_that_is_not_up_is_not_swapped(tmp_path: Path) -> None:
    idle = Fleet(ModelSpec(name="idle", path="/m"), RaySpec(), ProcessTable(tmp_path / "p.json"), lambda _text: None)
    with pytest.raises(InputError, match="must be up to be swapped, got idle"):
        await idle.swap(None, "mix", lambda _text: None)


# ---------------------------------------------------------------- one real replica


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    processes = ProcessTable(tmp_path_factory.mktemp("swap") / "processes.json")
    made = Fleet(make_spec(model_path, "swap", max_lora_rank=8), RaySpec(), processes, lambda _text: None)
    await made.start()
    yield made
    await made.close()
    assert processes.records == ()


@pytest.fixture(scope="module")
def adapter(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(model_path, tmp_path_factory.mktemp("adapters") / "r1")


@pytest.fixture(scope="module")
def full(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_full(model_path, tmp_path_factory.mktemp("checkpoints") / "r2")


async def greedy(fleet: Fleet, episode: str, weights: str = "") -> tuple[list[bytes], set[str]]:
    """Return what is sampled greedily for every question, and under which versions.

    One at a time, and with the whole prompt in the cache: sums in bf16, and with them near ties, depend on what else is
    in a batch and on how much of a prompt is computed.
    """
    replies = []
    for number, text in enumerate(QUESTIONS):
        for max_tokens in (1, 16):
            path = f"{episode}/{number}/{max_tokens}"
            asked = make_request(VIEW.hear(text), path, max_tokens=max_tokens, temperature=0.0, weights=weights)
            (done,) = await play(fleet, asked)
            assert done.reply is not None, done
        replies.append(done.reply)
    await fleet.forget("episode")
    return [reply.token_ids for reply in replies], {reply.weights for reply in replies}


async def greedy_beside(fleet: Fleet, *versions: str) -> list[bytes]:
    """Return what is sampled greedily for every question under each version, all in one batch."""
    requests = [
        make_request(VIEW.hear(text), f"beside/{n}/{v}", max_tokens=16, temperature=0.0, weights=version)
        for v, version in enumerate(versions)
        for n, text in enumerate(QUESTIONS)
    ]
    done = await play(fleet, *requests)
    await fleet.forget("episode")
    assert [one.reply.weights for one in done if one.reply] == [v for v in versions for _ in QUESTIONS]
    return [one.reply.token_ids for one in done if one.reply]


def told_apart(one: bytes, other: bytes) -> int:
    """Return the bytes of token ids up to and including the first that differs, 0 where none does.

    A near tie further on may fall otherwise in a batch of another size: bf16 sums depend on it.
    """
    ends = range(4, min(len(one), len(other)) + 1, 4)
    return next((end for end in ends if one[:end] != other[:end]), 0)


async def start_long(fleet: Fleet, path: str, weights: str = "", max_tokens: int = 48) -> "asyncio.Future[Completion]":
    """Begin a request that samples for some seconds; return its end."""
    before = fleet.replicas()[0].completion_tokens
    await fleet.submit([make_request(VIEW.hear("Tell a long story."), path, max_tokens=max_tokens, weights=weights)])
    launch = fleet._slots[NAME].launch
    assert launch is not None
    async with asyncio.timeout(60):
        while fleet.replicas()[0].completion_tokens == before:
            await launch.actor.status.remote()

    async def end() -> Completion:
        async with asyncio.timeout(120):
            while not (done := await fleet.collect()):
                pass
        return done[0]

    return asyncio.ensure_future(end())


async def start_anew(fleet: Fleet) -> None:
    """Kill the replica and wait until the next one is up."""
    launch = fleet._slots[NAME].launch
    assert launch is not None
    await launch.kill()
    async with asyncio.timeout(300):
        while fleet._slots[NAME].launch in (launch, None) or fleet.replicas()[0].state != "ready":
            await fleet.collect()


def quiet(_text: str) -> None:
    pass


class TestOnOneReplica:
    pytestmark = real

    async def test_an_adapter_comes_beside_the_base_without_a_pause_and_a_fresh_engine_agrees(
        self, fleet: Fleet, adapter: Path
    ) -> None:
        plain, [base] = await greedy(fleet, "base")
        running = await start_long(fleet, "old", weights=base)
        report = await fleet.swap(adapter, "finish_on_old", quiet)
        assert report.is_done and report.before == base and report.stalled_s == 0 and report.paused_s == 0
        assert set(fleet.replicas()[0].versions) == {base, report.after}
        ended = await running
        assert ended.reply is not None and ended.reply.weights == base
        await fleet.forget("episode")
        async with asyncio.timeout(30):
            while fleet.replicas()[0].versions != (report.after,):
                await fleet.collect()
        adapted, versions = await greedy(fleet, "adapted")
        assert versions == {report.after} and adapted != plain
        beside = await greedy_beside(fleet, base, report.after)
        told = [told_apart(*texts) for texts in zip(plain, adapted, strict=True)]
        assert any(told)
        wanted = [text[:size] for texts in (plain, adapted) for text, size in zip(texts, told, strict=True)]
        assert [text[:size] for text, size in zip(beside, told * 2, strict=True)] == wanted
        await start_anew(fleet)
        assert await greedy(fleet, "fresh adapted") == (adapted, {report.after})
        back = await fleet.swap(None, "finish_on_old", quiet)
        assert back.is_done and back.after == base
        assert await greedy(fleet, "base again") == (plain, {base})

    async def test_whole_weights_come_in_place_under_running_requests_and_a_fresh_engine_agrees(
        self, fleet: Fleet, full: Path, adapter: Path
    ) -> None:
        plain, [base] = await greedy(fleet, "before full")
        running = await start_long(fleet, "mixed")
        report = await fleet.swap(full, "mix", quiet)
        assert report.is_done, report.failure
        [row] = report.replicas
        assert 0 < row.stalled_s - row.loaded_s <= 1.0
        ended = await running
        assert ended.reply is not None and ended.reply.weights == f"{base}+{report.after}"
        changed, versions = await greedy(fleet, "full")
        assert versions == {report.after} and changed != plain
        await start_anew(fleet)
        assert await greedy(fleet, "fresh full") == (changed, {report.after})
        # From other whole weights to an adapter upon the base: both are replaced.
        onto = await fleet.swap(adapter, "finish_on_old", quiet)
        assert onto.is_done and onto.stalled_s > 0
        assert (await greedy(fleet, "adapter upon base"))[0] not in (plain, changed)
        back = await fleet.swap(None, "drain", quiet)
        assert back.is_done and back.after == base
        assert await greedy(fleet, "base at last") == (plain, {base})

    async def test_an_episode_is_waited_for_before_whole_weights_are_replaced(self, fleet: Fleet, full: Path) -> None:
        (first,) = await play(fleet, make_request(VIEW.hear("Hello"), "turn/1", max_tokens=2))
        assert first.reply is not None
        swapping = asyncio.ensure_future(fleet.swap(full, "finish_on_old", quiet))
        async with asyncio.timeout(60):
            while fleet.replicas()[0].state != "cordoned":
                await fleet.collect()
        with pytest.raises(InputError, match="one swap at a time may go on, got a second for swap"):
            await fleet.swap(None, "mix", quiet)
        (second,) = await play(fleet, make_request(VIEW.hear("Go on"), "turn/2", max_tokens=2, replica=NAME))
        assert second.reply is not None and second.reply.weights == first.reply.weights
        assert not swapping.done()
        await fleet.forget("episode")
        report = await swapping
        assert report.is_done and report.paused_s >= report.replicas[0].waited_s > 0
        assert (await fleet.swap(None, "finish_on_old", quiet)).is_done

    @pytest.mark.parametrize("step", ["canary", "load"])
    async def test_a_failure_leaves_the_old_weights_and_says_why(
        self, fleet: Fleet, full: Path, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = await greedy(fleet, f"before {step}")
        restarts = fleet.replicas()[0].restarts
        fail_once(monkeypatch, fleet, step)
        report = await fleet.swap(full, "finish_on_old", quiet)
        assert report.failure == SwapFailure("mismatch", f"{step} was told to fail", NAME)
        assert report.after == report.before
        assert fleet.replicas()[0].restarts == restarts and fleet.replicas()[0].state == "ready"
        assert await greedy(fleet, f"after {step}") == plain

    async def test_an_adapter_that_fails_its_canary_is_removed_again(
        self, fleet: Fleet, adapter: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain, versions = await greedy(fleet, "before adapter")
        fail_once(monkeypatch, fleet, "canary")
        report = await fleet.swap(adapter, "finish_on_old", quiet)
        assert report.failure is not None and report.failure.message == "canary was told to fail"
        async with asyncio.timeout(30):
            while set(fleet.replicas()[0].versions) != versions:
                await fleet.collect()
        assert await greedy(fleet, "after adapter") == (plain, versions)

    async def test_a_bad_checkpoint_is_refused_before_anything_is_touched(
        self, fleet: Fleet, full: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "checkpoint.json").write_text("{}")
        before = fleet.replicas()[0].weights
        with pytest.raises(CheckpointError, match="must describe a checkpoint"):
            await fleet.swap(tmp_path, "mix", quiet)
        assert (fleet.replicas()[0].weights, fleet.replicas()[0].state) == (before, "ready")


def fail_once(monkeypatch: pytest.MonkeyPatch, fleet: Fleet, step: str) -> None:
    """Let the next such step be done and then fail, as if what was loaded were not what it should be."""
    done: Callable[..., Any] = getattr(fleet._swapping, step)

    async def fail(name: str, *arguments: Any) -> Any:
        monkeypatch.undo()
        await done(name, *arguments)
        raise ReplicaFailed(SwapFailure("mismatch", f"{step} was told to fail", name))

    monkeypatch.setattr(fleet._swapping, step, fail)
