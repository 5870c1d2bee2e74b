"""Composed traces: every reply parses, renders as it was asked, and is the same each time."""

import asyncio
from typing import Any

import msgspec

from actors.rendering import PromptRenderer
from benchmarks.real.composing import Composer
from benchmarks.real.product import Player
from benchmarks.real.workload import EPISODES
from benchmarks.trace import depths, hash_calls


def test_a_standard_episode_is_composed_whole_and_always_the_same(tokenizer: Any, renderer: PromptRenderer) -> None:
    workload = msgspec.structs.replace(EPISODES, num_dialogues=1)

    def compose() -> list[Any]:
        player = Player(workload, renderer)
        return asyncio.run(player.record(Composer(workload.answers(), renderer, tokenizer)))

    calls = compose()
    assert hash_calls(calls) == hash_calls(compose())
    # Five rounds of five probes and two feedbacks, and all tries of both plans.
    purposes = [call.purpose for call in calls]
    assert purposes.count("probe") == 30 and purposes.count("plan") == 6
    assert max(depths(calls).values()) < 0.8 * len(calls), "probes, feedback and plans run side by side"
    assert all(call.completion_ids[-1] in renderer.end_of_turn_ids for call in calls)
