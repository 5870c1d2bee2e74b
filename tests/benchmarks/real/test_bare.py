"""Orders of play, on a way to ask that answers at once and notes what is open at the same time."""

import asyncio

import pytest

from benchmarks.real.bare import Order, at_once, gather, in_waves, one_by_one
from benchmarks.real.outcome import Finish, finish_of
from benchmarks.real.workload import SMALL
from benchmarks.trace import Call, hash_calls

DIALOGUES, TURNS = 4, 3


class Asked:
    """Notes starts and the most calls open at once."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, str]] = []
        self.ended: list[tuple[str, str]] = []
        self.most = 0
        self._open = 0

    async def ask(self, call: Call, priority: int) -> Finish:
        assert all((call.episode, parent) in self.ended for parent in call.parents) or self.is_free
        self.keys.append(call.key)
        self._open += 1
        self.most = max(self.most, self._open)
        for _ in range(1 + int(call.episode)):
            await asyncio.sleep(0)
        self._open -= 1
        self.ended.append(call.key)
        return finish_of(call, 0.0, call.completion_ids, 0)

    is_free = False


def make_calls() -> list[Call]:
    return [
        Call(
            episode=str(episode),
            path=str(turn),
            role="r",
            purpose="p",
            prompt_ids=(episode, turn),
            completion_ids=(1,),
            parents=(str(turn - 1),) if turn else (),
        )
        for turn in range(TURNS)
        for episode in range(DIALOGUES)
    ]


@pytest.mark.parametrize(
    ("order", "most"),
    [(one_by_one, 1), (in_waves(2), 2), (in_waves(DIALOGUES), DIALOGUES), (gather, DIALOGUES)],
)
async def test_orders_respect_dependencies_and_do_all_the_work(order: Order, most: int) -> None:
    calls, asked = make_calls(), Asked()
    finishes = await order(asked.ask, calls)
    assert sorted(finish.work for finish in finishes) == sorted(
        finish_of(call, 0.0, call.completion_ids, 0).work for call in calls
    )
    assert sorted(asked.keys) == sorted(call.key for call in calls)
    assert asked.most == most


async def test_everything_at_once_ignores_dependencies() -> None:
    calls, asked = make_calls(), Asked()
    asked.is_free = True
    await at_once(asked.ask, calls)
    assert asked.most == len(calls)
    assert asked.keys == [call.key for call in calls]
    assert hash_calls(calls)


async def test_a_wave_waits_for_its_slowest_dialogue() -> None:
    asked = Asked()
    await in_waves(2)(asked.ask, make_calls())
    first_wave = asked.ended[: 2 * TURNS]
    assert {episode for episode, _ in first_wave} == {"0", "1"}
    assert [turn for _, turn in first_wave] == sorted(turn for _, turn in first_wave)


def test_drawn_lengths_stay_in_range_and_never_change() -> None:
    drawn = [SMALL.length(f"e{i}", "1/patient") for i in range(200)]
    assert set(drawn) == set(range(SMALL.tokens[0], SMALL.tokens[1] + 1))
    assert drawn == [SMALL.length(f"e{i}", "1/patient") for i in range(200)]
