"""`sandplay ablate` as a user runs it, against the stub: equal turns, nothing asked twice, going on after a kill."""

import json
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors.processes import ProcessTable, describe_tree
from engine.commands.ablating import Ablation, clear_place, make_place, plan_arms
from engine.corpus import Corpus
from engine.errors import InputError
from engine.planning import freeze
from engine.protocols.mental_arena.arms import ARMS
from engine.protocols.mental_arena.rules import ArenaRules
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from engine.transcript import turns
from tests.running import CONFIG, run, run_json, start
from tests.stub import Call, answer_by_purpose, embed_orthogonal, serve

SMALL = "[cases]\nlimit = 2\n"
RULES = ["protocol.exchanges=1", "protocol.max_decoder_rounds=2", "protocol.max_tries=1"]
CALLS = sum(ArenaRules(exchanges=1).num_calls(rounds=2, feedback=4, treatments=1, medicines=1))
"""Of one episode in the arms `full` and `undelivered`."""


def write(directory: Path, url: str) -> Path:
    path = directory / "config.toml"
    path.write_text(CONFIG.format(url=url) + SMALL, "utf-8")
    return path


def records(path: Path) -> list[EpisodeRecord]:
    return list(Corpus.open(RunDirectory.open(path)))


def test_all_arms_have_equal_turns_and_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serve(embed=embed_orthogonal()) as stub:
        command: tuple[str | Path, ...] = ("ablate", write(tmp_path, stub.base_url), *RULES, "--out", out)
        found = run_json(*command)
        asked = len(stub.chats)
        assert run_json(*command) == found and len(stub.chats) == asked
        said = run("ablate", command[1], *RULES, "protocol.max_tokens=99", "--out", out, expect=2)
        assert len(stub.chats) == asked
    for arm in ("full", "undelivered"):
        assert [record.num_calls for record in records(out / arm)] == [CALLS, CALLS]
    for arm in ARMS:
        assert f"{arm}: protocol.max_tokens is part of the run's identity: it was 256, got 99" in said
        assert (out / arm).stat().st_mode & 0o777 == 0o700
        for record in records(out / arm):
            assert [turn.role for turn in turns(record, ("opening", "patient_turn", "therapist_turn"))] == [
                "patient",
                *("therapist", "patient") * 3,
            ]
    assert found["exchanges"] == 3 and list(found["arms"]) == list(ARMS)
    assert json.loads((out / "ablation.json").read_bytes()) == found
    assert (out / "disclosure.svg").is_file() and out.stat().st_mode & 0o777 == 0o700
    told = found["dialogues"]
    assert {tuple(one["turns"]) for one in told["runs"]} == {(4, 4)}
    assert [(one["exchanges"], one["guided"]) for one in told["runs"]] == [(3, 2), (3, 2), (3, 2), (3, 0), (3, 0)]
    assert [(one["first"], one["second"]) for one in told["comparisons"]] == [("full", arm) for arm in [*ARMS][1:]]
    assert told["comparisons"][0]["fields"] == ["principles"]
    assert "principles" not in told["comparisons"][1]["fields"] and len(told["comparisons"][2]["fields"]) == 5
    assert any("counts words" not in note and "3 exchanges" in note for note in told["notes"])
    keys = {arm: {(record.key, record.seed, record.case) for record in records(out / arm)} for arm in ARMS}
    assert len(keys["full"]) == 2 and all(found == keys["full"] for found in keys.values())


def leave_over(directory: Path) -> "subprocess.Popen[bytes]":
    """Leave a process running that a killed driver has recorded."""
    process = subprocess.Popen(["sleep", "600"])
    ProcessTable(directory / "processes.json").put("base-0", describe_tree("base-0", process.pid))
    return process


@pytest.mark.asyncio
async def test_a_killed_ablation_goes_on_and_asks_no_finished_arm_again(tmp_path: Path) -> None:
    plain = answer_by_purpose()

    def answer(call: Call) -> str:
        if len(stub.chats) == 2 * CALLS + 6:
            stub.hold()
        return plain(call)

    with serve(answer, embed=embed_orthogonal()) as stub:
        config, out = write(tmp_path, stub.base_url), tmp_path / "out"
        command: tuple[str | Path, ...] = ("ablate", config, *RULES, "--arms", "undelivered", "--out", out)
        process = start(*command)
        await stub.arrived(2 * CALLS + 6 + 4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (out / "ablation.json").exists()
        left_over = leave_over(out)
        stub.release()
        before = len(stub.chats)
        found = run_json(*command)
        assert 0 < len(stub.chats) - before <= 2 * CALLS
    assert left_over.wait(20) != 0
    assert list(found["arms"]) == ["full", "undelivered"]
    assert [one["num_episodes"] for one in found["dialogues"]["runs"]] == [2, 2]


@pytest.mark.asyncio
async def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    with serve(embed=embed_orthogonal()) as stub:
        config, out = write(tmp_path, stub.base_url), tmp_path / "out"
        stub.hold()
        process = start("ablate", config, *RULES, "--arms", "no_decoder", "--out", out)
        await stub.arrived(2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        stub.release()
        assert process.returncode == 130
        said = err.strip().splitlines()[-1]
        assert said.startswith("stopped; go on with: sandplay ablate ")
        words = shlex.split(said.partition("sandplay ")[2])
        assert words == ["ablate", str(config), *RULES, "--arms", "no_decoder", "--out", str(out)]
        shown = run(*words)
    assert "full against no_decoder" in shown and str(out / "no_decoder") in shown


ROLES = ("patient", "therapist", "judge")


def table(**protocol: Any) -> dict[str, Any]:
    model = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}
    return {"protocol": protocol, "models": {"base": model}, "roles": dict.fromkeys(ROLES, "base")}


def test_arms_differ_in_their_rules_and_their_name_alone(tmp_path: Path) -> None:
    whole = table(name="mental_arena", exchanges=2, similarity=0.3)
    plans = plan_arms({**whole, "name": "mine"}, tmp_path, ["no_decoder"])
    full, other = plans["full"].table, plans["no_decoder"].table
    assert (full.pop("name"), other.pop("name")) == ("mine-full", "mine-no_decoder")
    rules, others = full.pop("protocol"), other.pop("protocol")
    assert full == other and plans["full"].cases == plans["no_decoder"].cases
    assert {key: (rules[key], others[key]) for key in rules if rules[key] != others[key]} == {
        "exchanges": (2, 7),
        "max_decoder_rounds": (5, 0),
    }
    assert rules["similarity"] == 1.0


def test_other_protocols_and_shards_are_refused(tmp_path: Path) -> None:
    other = {
        **table(name="counseling"),
        "roles": dict.fromkeys(ROLES[:2], "base"),
        "shards": 2,
        "limits": {"max_calls": 9},
    }
    with pytest.raises(InputError) as refused:
        plan_arms(other, tmp_path, [])
    assert [problem.split(" must")[0] for problem in refused.value.problems] == [
        "shards", "limits.max_calls holds for a single run, got 9 for an ablation, which is several: leave it out",
        "protocol.name",
    ]  # fmt: skip
    with pytest.raises(InputError) as refused:
        plan_arms({**table(name="mental_arena", mode="reference"), "shards": 2}, tmp_path, ["nothing"])
    starts = ["shards", "an arm", "protocol.mode"]
    assert [problem.split(" must")[0] for problem in refused.value.problems] == starts


def test_a_place_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"needs a directory of its own, got .*mine with notes.txt in it"):
        make_place(tmp_path / "mine")
    with pytest.raises(InputError, match="needs a writable directory"):
        make_place(tmp_path / "mine" / "notes.txt")
    clear_place(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").exists()
    make_place(tmp_path / "new")
    clear_place(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_arm_that_is_another_run_or_was_swapped_is_refused(tmp_path: Path) -> None:
    plans = plan_arms(table(name="mental_arena"), tmp_path, [])
    for arm in ("full", "no_decoder"):
        RunDirectory.create(tmp_path / arm, freeze(plans[arm]))
    (tmp_path / "no_decoder" / "serving.json").write_text('{"base": {"checkpoint": "/there", "version": "1"}}')
    (tmp_path / "undelivered").mkdir()
    (tmp_path / "undelivered" / "notes.txt").touch()
    (tmp_path / "full" / "inputs" / "cases.jsonl").write_text("{}")
    with pytest.raises(InputError) as refused:
        Ablation(plans, tmp_path)
    full, decoder, undelivered = refused.value.problems
    assert full.startswith("full: inputs/cases.jsonl changed since the run began")
    assert decoder.startswith("no_decoder: an arm must keep the models of its configuration, got a swap in")
    assert undelivered.startswith("undelivered: an arm needs a directory of its own, got")
    assert (tmp_path / "undelivered" / "notes.txt").exists()
