"""What the real rows compare, on outcomes made by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.real import GROUPS, PART_NAMES
from benchmarks.real.contest import Contest, contest
from benchmarks.real.outcome import Outcome, finish_of
from benchmarks.real.parts import PARTS
from benchmarks.real.sides import CEILING, NARROW, PRODUCT, Ceiling
from benchmarks.real.workload import SMALL
from benchmarks.rows import ROWS
from benchmarks.trace import Call, Trace, make_trace


class Bench:
    """As much of a bench as figures need."""

    workload = SMALL

    def __init__(self) -> None:
        self.said: list[str] = []

    def configuration(self, **more: Any) -> dict[str, Any]:
        return more

    def say(self, text: str) -> None:
        self.said.append(text)


def make_small_trace() -> Trace:
    calls = [
        Call(episode=str(i), path="1", role="r", purpose="p", prompt_ids=(1,) * 64, completion_ids=(2, 3))
        for i in range(3)
    ]
    return make_trace(calls, model="m", tokenizer="t", block_size=32, protocol={})


def play(trace: Trace, wall_s: float, cached: int = 0, said: Sequence[int] | None = None) -> Outcome:
    """Return an outcome whose calls end evenly over its time."""
    step_s = wall_s / len(trace.calls)
    finishes = [
        finish_of(call, step_s * (i + 1), said or call.completion_ids, cached) for i, call in enumerate(trace.calls)
    ]
    return Outcome(wall_s, tuple(finishes))


def make_contest(**sides: list[Outcome]) -> Contest:
    about = {"critical_path_s": 5.0}
    return Contest(Bench(), make_small_trace(), sides, about)  # type: ignore[arg-type]


def efficiency(ceiling_s: float, product_s: float, **more: Any) -> dict[str, float]:
    trace = make_small_trace()
    done = make_contest(
        **{CEILING: [play(trace, ceiling_s)], PRODUCT: [play(trace, product_s, **more)], NARROW: [play(trace, 40.0)]}
    )
    return {figure.name: figure.median for figure in PARTS["ceiling"].figures(done)}


def test_efficiency_is_the_ceilings_time_over_the_products() -> None:
    found = efficiency(8.0, 10.0)
    assert found["efficiency_whole"] == pytest.approx(0.8)
    assert found["efficiency_steady"] == pytest.approx(0.8)
    assert found["efficiency_whole_live_slots"] == pytest.approx(0.2)


def test_no_run_can_be_shorter_than_its_critical_path() -> None:
    assert efficiency(2.0, 10.0)["efficiency_whole"] == pytest.approx(0.5)


def test_contenders_that_said_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="must replay the recorded trace"):
        efficiency(8.0, 10.0, said=(9, 9))


def test_prefix_hits_are_held_against_what_an_endless_cache_would_give() -> None:
    # Each prompt is the same two blocks, of which the last token is always computed: two calls may hit one block.
    found = efficiency(8.0, 10.0, cached=16)
    assert found["prefix_hit_ratio"] == pytest.approx(3 * 16 / (2 * 32))


def test_an_exams_figures_are_those_of_its_items() -> None:
    trace = make_small_trace()
    done = make_contest(**{CEILING: [play(trace, 8.0)], PRODUCT: [play(trace, 10.0, cached=16)]})
    found = {figure.name: figure for figure in PARTS["real_exam"].figures(done)}
    assert found["exam_efficiency_whole"].median == pytest.approx(0.8)
    assert found["exam_efficiency_whole"].goal == 0.9
    assert found["exam_items_per_s"].median == pytest.approx(3 / 10)
    assert found["exam_prefix_hit_ratio"].median == pytest.approx(3 * 16 / (2 * 32))
    assert found["exam_items_per_s"].configuration["prompt_tokens_per_item"] == 64


class CountingEngine:
    """As much of the bare engine as a ceiling needs; notes the orders that it was given."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.orders: list[Sequence[Call]] = []

    async def measure(self, order: Any, calls: Sequence[Call]) -> Outcome:
        self.orders.append(calls)
        return play(self._trace, float(len(self.orders)))


class FewSides:
    """As much of the sides as a ceiling needs."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.bench = Bench()
        self.about: dict[str, Any] = {}


ONE_TURN = [(0, 0), (1, 0), (2, 0)]
TWO_TURNS = [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 1)]
"""(dialogue, turn) as recorded: the second dialogue went ahead of the first one."""


@pytest.mark.parametrize(("recorded", "num_orders"), [(ONE_TURN, 1), (TWO_TURNS, 3)])
async def test_the_ceiling_tries_each_order_that_differs_once_and_keeps_the_best(
    recorded: list[tuple[int, int]], num_orders: int
) -> None:
    calls = [
        Call(
            episode=str(dialogue),
            path=str(turn),
            role="r",
            purpose="p",
            prompt_ids=(dialogue, turn),
            completion_ids=(2,),
            parents=(str(turn - 1),) if turn else (),
        )
        for dialogue, turn in recorded
    ]
    trace = make_trace(calls, model="m", tokenizer="t", block_size=32, protocol={})
    engine, sides = CountingEngine(trace), FewSides(trace)
    ceiling = Ceiling(sides, engine)  # type: ignore[arg-type]
    await ceiling()
    assert len(engine.orders) == num_orders
    await ceiling()
    assert len(engine.orders) == num_orders + 1
    assert sides.about["order"] == "as recorded" and engine.orders[-1] == trace.calls


async def test_contenders_of_the_first_repeat_alone_play_once() -> None:
    trace, played = make_small_trace(), []

    def contender(name: str) -> Any:
        async def run() -> Outcome:
            played.append(name)
            return play(trace, 1.0)

        return run

    bench = Bench()
    found = await contest(bench, 3, {"a": contender("a"), "b": contender("b")}, once=["b"])  # type: ignore[arg-type]
    assert played == ["a", "b", "a", "a"]
    assert {name: len(outcomes) for name, outcomes in found.items()} == {"a": 3, "b": 1}
    assert len(bench.said) == 4


def test_every_part_is_a_row_and_belongs_to_one_wider_row() -> None:
    assert {*PART_NAMES, "real_episodes", "real_exam"} == set(PARTS)
    assert len(PART_NAMES) == len(set(PART_NAMES))
    assert all(ROWS[name].is_in_all for name in GROUPS)
    assert not any(ROWS[name].is_in_all for name in PART_NAMES)
