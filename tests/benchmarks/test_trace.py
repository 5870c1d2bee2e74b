"""The trace: round trip, a hash that ignores order, orders of replay, what an infinite cache would hold."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.trace import (
    Call,
    Trace,
    by_dialogue,
    by_turn,
    depths,
    hash_calls,
    load_trace,
    longest_episode,
    make_trace,
    num_blocks,
    possible_hits,
    save_trace,
    select,
)
from engine.errors import InputError


def make_call(episode: str = "a", path: str = "1", **changes: Any) -> Call:
    fields: dict[str, Any] = {"role": "patient", "purpose": "turn", "prompt_ids": (1, 2, 3), "completion_ids": (4, 5)}
    return Call(episode=episode, path=path, **(fields | changes))


def make_dialogues(num: int = 2) -> Trace:
    calls = []
    for turn in range(3):
        for episode in map(str, range(num)):
            parents = (str(turn - 1),) if turn else ()
            calls.append(
                make_call(episode, str(turn), parents=parents, completion_ids=(7,) * (turn + 1 + int(episode)))
            )
    return trace_of(*calls)


def trace_of(*calls: Call) -> Trace:
    return make_trace(calls, model="m", tokenizer="t", block_size=4, protocol={"max_turns": 2})


def test_a_trace_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    trace = make_dialogues()
    save_trace(tmp_path / "new" / "trace.jsonl", trace)
    assert load_trace(tmp_path / "new" / "trace.jsonl") == trace
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["trace.jsonl"]


@pytest.mark.parametrize("damage", ["drop a call", "change a token", "cut off", "not a trace", "empty"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "trace.jsonl"
    save_trace(path, make_dialogues())
    lines = path.read_text().splitlines()
    if damage == "drop a call":
        lines.pop()
    elif damage == "change a token":
        lines[-1] = lines[-1].replace("[1,2,3]", "[1,2,4]")
    elif damage == "cut off":
        lines[-1] = lines[-1][:-5]
    else:
        lines = [] if damage == "empty" else ["{}"]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"trace\.jsonl must"):
        load_trace(path)


@given(st.permutations(range(6)))
def test_the_hash_ignores_order(order: list[int]) -> None:
    calls = make_dialogues().calls
    assert hash_calls(calls[i] for i in order) == hash_calls(calls)


@pytest.mark.parametrize(
    "change", [{"episode": "b"}, {"path": "2"}, {"prompt_ids": (1, 2)}, {"completion_ids": (4, 5, 6)}]
)
def test_the_hash_knows_what_was_asked_and_said(change: dict[str, Any]) -> None:
    call = make_call()
    assert hash_calls([call]) != hash_calls([msgspec.structs.replace(call, **change)])


def test_a_call_stands_once_in_a_trace() -> None:
    with pytest.raises(ValueError, match="unique"):
        trace_of(make_call(), make_call())


def test_orders_keep_parents_before_children() -> None:
    trace = make_dialogues(3)
    assert [call.path for call in by_turn(trace)] == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert [call.episode for call in by_dialogue(trace)] == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    for calls in (by_turn(trace), by_dialogue(trace)):
        assert hash_calls(calls) == trace.hash
        assert depths(calls) == {call.key: int(call.path) for call in calls}


def test_the_longest_chain_counts_tokens_along_dependencies_alone() -> None:
    wide = [make_call("wide", str(i), completion_ids=(1,) * 10) for i in range(5)]
    deep = [make_call("deep", str(i), completion_ids=(1,) * 4, parents=(str(i - 1),) if i else ()) for i in range(3)]
    assert longest_episode(trace_of(*wide, *deep)) == "deep"


def test_a_selection_is_a_trace_of_its_own() -> None:
    part = select(make_dialogues(), ["1"])
    assert {call.episode for call in part.calls} == {"1"}
    assert (part.header.num_calls, part.hash) == (3, hash_calls(part.calls))


def test_possible_hits_count_whole_blocks_that_were_computed_before() -> None:
    first = make_call("a", "1", prompt_ids=tuple(range(6)), completion_ids=(6, 7, 8))  # 8 of 9 tokens are computed
    second = make_call("a", "2", prompt_ids=tuple(range(10)), parents=("1",))
    assert possible_hits([first, second], 4) == 8
    assert possible_hits([first, msgspec.structs.replace(second, prompt_ids=(9, *range(9)))], 4) == 0


def test_the_last_prompt_token_is_always_computed() -> None:
    again = [make_call(str(i), prompt_ids=tuple(range(8))) for i in range(2)]
    assert possible_hits(again, 4) == 4


def test_the_working_set_counts_shared_blocks_once() -> None:
    shared = tuple(range(8))
    calls = [make_call(str(i), prompt_ids=(*shared, 100 + i, *range(3))) for i in range(3)]
    assert num_blocks(calls, 4) == 2 + 3
