"""What breaks replicas, done to real ones: killed and stopped processes, bad checkpoints, a killed driver."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from actors.fleet import Fleet
from actors.processes import ProcessTable, describe_tree, find_process
from actors.spec import RaySpec
from engine.backend import ReplicaGauges
from engine.errors import BackendDown
from engine.views import View
from tests.actors.checkpoints import perturb
from tests.actors.conftest import make_request, make_spec, play

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]
ROOT = Path(__file__).parents[2]
VIEW = View.of("You are a patient called Sam. You feel sad. " * 4).hear("Tell a long story about your week.")
STALL_S = 30.0
TITLES = {"actor": "ray::", "engine core": "EngineCore", "worker": "Worker"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    processes = ProcessTable(tmp_path_factory.mktemp("pair") / "processes.json")
    spec = make_spec(model_path, "pair", replicas=2, stall_timeout_s=STALL_S, canary_s=5.0)
    fleet = Fleet(spec, RaySpec(), processes, lambda _text: None)
    await fleet.start()
    yield fleet
    await fleet.close()
    assert processes.records == ()


def state_of(fleet: Fleet, name: str) -> ReplicaGauges:
    return next(gauges for gauges in fleet.replicas() if gauges.replica == name)


def process_of(fleet: Fleet, name: str, kind: str) -> psutil.Process:
    for record in fleet.infos[name].processes:
        process = find_process(record)
        if process is not None and TITLES[kind] in " ".join((process.name(), *process.cmdline())):
            return process
    raise AssertionError(f"{name} has no {kind}")


async def until_ready(fleet: Fleet, name: str, restarts: int) -> None:
    async with asyncio.timeout(400):
        while (state_of(fleet, name).state, state_of(fleet, name).restarts) != ("ready", restarts):
            await fleet.collect()


async def lose_and_recover(fleet: Fleet, name: str, other: str) -> None:
    """Expect of `name`, just harmed, that its request comes back, that `other` serves it, and that `name` returns."""
    restarts = state_of(fleet, name).restarts
    async with asyncio.timeout(4 * STALL_S):
        (lost,) = await fleet.collect() or await fleet.collect()
    assert lost.failure is not None and lost.failure.kind == "replica_lost"
    assert state_of(fleet, name).state in ("lost", "starting")
    (again,) = await play(fleet, make_request(VIEW, lost.path, attempt=1, replica=other, max_tokens=8))
    assert again.reply is not None and again.reply.replica == other
    await until_ready(fleet, name, restarts + 1)
    (back,) = await play(fleet, make_request(VIEW, "back", attempt=restarts, replica=name, max_tokens=4))
    assert back.reply is not None and back.reply.replica == name
    assert back.reply.weights == again.reply.weights


@pytest.mark.parametrize("kind", ["actor", "engine core", "worker"])
async def test_a_killed_process_costs_one_attempt(pair: Fleet, kind: str) -> None:
    name, other = "pair/0", "pair/1"
    before = list(pair.infos[name].processes)
    await pair.submit([make_request(VIEW, f"killed {kind}", max_tokens=1500, replica=name)])
    process_of(pair, name, kind).kill()
    await lose_and_recover(pair, name, other)
    assert [record for record in before if find_process(record)] == []


async def test_a_stopped_tree_is_found_hanging_and_replaced(pair: Fleet) -> None:
    name, other = "pair/1", "pair/0"
    before = list(pair.infos[name].processes)
    await pair.submit([make_request(VIEW, "stopped", max_tokens=1500, replica=name)])
    for record in before:
        os.kill(record.pid, signal.SIGSTOP)
    await lose_and_recover(pair, name, other)
    assert [record for record in before if find_process(record)] == []


async def test_an_idle_engine_that_stopped_is_found_by_the_canary(pair: Fleet) -> None:
    restarts = state_of(pair, "pair/1").restarts
    process_of(pair, "pair/1", "engine core").suspend()
    await until_ready(pair, "pair/1", restarts + 1)


async def test_equal_checkpoints_have_equal_weights_and_others_differ(
    pair: Fleet, model_path: Path, tmp_path: Path
) -> None:
    other = perturb(model_path, tmp_path / "other")
    fleet = Fleet(make_spec(other, "other"), RaySpec(), ProcessTable(tmp_path / "p.json"), lambda _text: None)
    await fleet.start()
    (version,) = {info.weights for info in pair.infos.values()}
    assert fleet.infos["other/0"].weights != version
    assert fleet.infos["other/0"].tokenizer == pair.infos["pair/0"].tokenizer
    await fleet.close()


async def test_a_pool_without_restarts_is_down_with_its_last_replica(
    pair: Fleet, model_path: Path, tmp_path: Path
) -> None:
    spec = make_spec(model_path, "once", max_restarts=0)
    processes = ProcessTable(tmp_path / "processes.json")
    fleet = Fleet(spec, RaySpec(), processes, lambda _text: None)
    await fleet.start()
    await fleet.submit([make_request(VIEW, "once", max_tokens=1500)])
    process_of(fleet, "once/0", "actor").kill()
    (lost,) = await fleet.collect() or await fleet.collect()
    assert lost.failure is not None and lost.failure.kind == "replica_lost"
    with pytest.raises(BackendDown, match="no replica left"):
        while True:
            await fleet.collect()
    assert processes.records == ()
    await fleet.close()


@pytest.mark.parametrize(("max_model_len", "reason"), [(2048, "[Ss]afetensor"), (9000, "max_model_len")])
async def test_a_start_that_fails_says_the_engines_reason(
    model_path: Path, tmp_path: Path, max_model_len: int, reason: str
) -> None:
    broken = Path(shutil.copytree(model_path, tmp_path / "broken"))
    if max_model_len == 2048:
        content = (broken / "model.safetensors").read_bytes()
        (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    processes = ProcessTable(tmp_path / "processes.json")
    spec = make_spec(broken, "broken", max_model_len=max_model_len)
    fleet = Fleet(spec, RaySpec(), processes, lambda _text: None)
    with pytest.raises(BackendDown, match=reason):
        await fleet.start()
    assert processes.records == ()


async def test_a_killed_driver_leaves_nothing_that_the_table_does_not_end(model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "processes.json"
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DRIVER, str(model_path), str(path), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert driver.stdout is not None
    assert (await driver.stdout.readline()).strip() == b"ready"
    family = describe_tree("driver", driver.pid)[1:]
    driver.kill()
    await driver.wait()
    await asyncio.to_thread(ProcessTable(path).end_left_overs)
    assert [record for record in family if find_process(record)] == []


DRIVER = """
import asyncio, sys
from pathlib import Path
from actors.fleet import Fleet
from actors.processes import ProcessTable
from actors.spec import RaySpec
from tests.actors.conftest import make_spec

async def main():
    fleet = Fleet(make_spec(Path(sys.argv[1]), "killed"), RaySpec(), ProcessTable(Path(sys.argv[2])), lambda text: None)
    await fleet.start()
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
