"""Swaps asked for through the control socket: which pool, one at a time, and the run's record of each."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.backend import Backend
from engine.checkpoints import CheckpointError
from engine.control import ask
from engine.errors import InputError, RunError
from engine.run_control import RunControl
from engine.rundir import RunDirectory
from engine.scripted import ScriptedBackend
from engine.serving import read_serving
from engine.swap import SwapFailure, SwapPolicy, SwapReport, Target


class SwapScript(ScriptedBackend):
    """A scripted pool that can be swapped; `gate` holds a swap back."""

    failure: SwapFailure | None = None
    refusal: CheckpointError | None = None
    gate: asyncio.Event | None = None
    begun: asyncio.Event | None = None

    async def swap(self, checkpoint: Path | None, policy: SwapPolicy, say: Callable[[str], None]) -> SwapReport:
        say(f"to {checkpoint} by {policy}")
        if self.begun is not None and self.gate is not None:
            self.begun.set()
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        after = "old" if self.failure is not None else "new"
        return SwapReport(
            policy=policy,
            target=Target(str(checkpoint)),
            before="old",
            after=after,
            elapsed_s=1.0,
            failure=self.failure,
        )


class Driven:
    """As much of a run as its control looks at."""

    def __init__(self, rundir: RunDirectory, **pools: Backend) -> None:
        self.rundir = rundir
        self.pools = pools
        self.num_live: int | None = 3


@pytest.fixture
def run(tmp_path: Path) -> Driven:
    return Driven(RunDirectory.create(tmp_path / "run"), base=SwapScript("hi"))


async def command(run: Driven, **asked: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, run.rundir.control, asked, lambda _: None)


async def opened(run: Driven) -> tuple[RunControl, list[str]]:
    said: list[str] = []
    control = RunControl(run, said.append)
    await control.open()
    return control, said


async def test_a_swap_is_done_recorded_and_said(run: Driven) -> None:
    control, said = await opened(run)
    report = await command(run, command="swap", checkpoint="/r1", policy="mix")
    assert (report["before"], report["after"], report["policy"]) == ("old", "new", "mix")
    assert said == ["to /r1 by mix"] and read_serving(run.rundir) == {"base": Path("/r1")}
    assert (await command(run, command="swap"))["target"]["weights"] == "None"
    assert read_serving(run.rundir) == {}
    await control.close()


async def test_status_tells_what_every_replica_serves(run: Driven) -> None:
    control, _ = await opened(run)
    found = await command(run, command="status")
    assert found["live"] == 3 and found["swapping"] == ""
    assert found["models"]["base"][0]["weights"] == "scripted-0"
    await control.close()


async def test_a_swap_that_went_back_is_an_error_with_its_reason(run: Driven) -> None:
    pool = run.pools["base"]
    assert isinstance(pool, SwapScript)
    pool.failure = SwapFailure("canary", "makes no token", "base/0")
    control, _ = await opened(run)
    with pytest.raises(RunError, match="base/0: canary: makes no token; version old is served on"):
        await command(run, command="swap", checkpoint="/r1")
    assert read_serving(run.rundir) == {}
    await control.close()


async def test_a_refused_checkpoint_is_bad_input_and_no_swap_stays_open(run: Driven) -> None:
    pool = run.pools["base"]
    assert isinstance(pool, SwapScript)
    pool.refusal = CheckpointError(["files are missing", "and changed"])
    control, _ = await opened(run)
    with pytest.raises(InputError) as refused:
        await command(run, command="swap", checkpoint="/r1")
    assert refused.value.problems == ("files are missing", "and changed")
    await control.close()
    again, said = await opened(run)
    assert said == []
    await again.close()


async def test_one_swap_at_a_time_and_none_while_starting(run: Driven) -> None:
    pool = run.pools["base"]
    assert isinstance(pool, SwapScript)
    pool.gate, pool.begun = asyncio.Event(), asyncio.Event()
    control, _ = await opened(run)
    first = asyncio.ensure_future(command(run, command="swap", checkpoint="/r1"))
    await pool.begun.wait()
    with pytest.raises(InputError, match="one swap at a time may go on, got a second while base is swapped"):
        await command(run, command="swap", checkpoint="/r2")
    pool.gate.set()
    assert (await first)["after"] == "new"
    run.num_live = None
    with pytest.raises(InputError, match="got a run that is starting"):
        await command(run, command="swap", checkpoint="/r2")
    await control.close()


async def test_a_swap_that_the_runs_end_cuts_short_is_given_up_in_the_record(run: Driven) -> None:
    pool = run.pools["base"]
    assert isinstance(pool, SwapScript)
    pool.gate, pool.begun = asyncio.Event(), asyncio.Event()
    control, _ = await opened(run)
    asking = asyncio.ensure_future(command(run, command="swap", checkpoint="/r1"))
    await pool.begun.wait()
    await control.close()
    with pytest.raises(RunError, match="the run has ended"):
        await asking
    assert read_serving(run.rundir) == {}
    again, said = await opened(run)
    assert said == []
    await again.close()


async def test_the_model_must_be_named_where_several_are_served(run: Driven) -> None:
    run.pools = {"a": SwapScript("x"), "b": SwapScript("x"), "remote": ScriptedBackend("x")}
    control, _ = await opened(run)
    for model, found in (("", "no name"), ("remote", "'remote'"), ("c", "'c'")):
        with pytest.raises(InputError, match=rf"--model must name one that can be swapped \(a, b\), got {found}"):
            await command(run, command="swap", model=model)
    assert (await command(run, command="swap", model="b"))["after"] == "new"
    await control.close()


async def test_a_swap_must_be_asked_for_properly(run: Driven) -> None:
    control, _ = await opened(run)
    with pytest.raises(InputError, match="a swap must have a checkpoint, policy and model, got"):
        await command(run, command="swap", policy="at once")
    await control.close()
