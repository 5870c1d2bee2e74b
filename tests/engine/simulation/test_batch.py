from hypothesis import given, settings
from hypothesis import strategies as st

from engine.simulation.batch import DecodeBatch
from engine.simulation.jobs import Job
from engine.simulation.latency import FEW, StepTimes
from tests.engine.simulation.making import FixedTokens

TIMES = StepTimes(5_300, 32, 7, 11, 1, 900)
SIZES = st.sampled_from([1, 2, 4, 16])
ROWS = st.lists(st.tuples(st.integers(1, 70), st.integers(2, 40)), min_size=1, max_size=12)


class NaiveRow:
    """One sequence step by step: tokens computed, tokens made, blocks held."""

    def __init__(self, prompt: int, length: int, size: int) -> None:
        self.computed, self.made, self.length = prompt, 1, length
        self.blocks = -(-prompt // size)

    def step(self, size: int) -> tuple[int, int]:
        """Return (tokens attended, blocks taken)."""
        taken = -(-(self.computed + 1) // size) - self.blocks
        self.blocks += taken
        self.computed += 1
        self.made += 1
        return self.computed, taken


@settings(max_examples=200, deadline=None)
@given(SIZES, ROWS, st.integers(0, 50))
def test_closed_form_equals_step_by_step(size: int, rows: list[tuple[int, int]], offset: int) -> None:
    batch = DecodeBatch(size)
    batch.step = offset
    naive = [NaiveRow(prompt, length, size) for prompt, length in rows]
    for number, (prompt, length) in enumerate(rows):
        job = Job(("", str(number), 0), FixedTokens(prompt, size), length)
        job.made = 1
        batch.add(job)
    run = batch.steps_to_end()
    assert run == min(length for _, length in rows) - 1
    time = blocks = 0
    for number in range(1, run + 1):
        steps = [row.step(size) for row in naive]
        time += (
            TIMES.base
            + (TIMES.batched if len(rows) > FEW else 0)
            + TIMES.decode_seq * len(rows)
            + TIMES.context * sum(attended for attended, _ in steps)
        )
        blocks += sum(taken for _, taken in steps)
        assert batch.run_time(TIMES, number) == time
        assert batch.blocks_for(number) == blocks
        assert batch.steps_until(TIMES, run, time) == number
        assert batch.steps_until(TIMES, run, time + 1) == min(number + 1, run)
    done = batch.advance(run)
    assert [int(job.key[1]) for job in done] == [n for n, row in enumerate(naive) if row.made == row.length]
    assert batch.count == len(rows) - len(done)


@settings(deadline=None)
@given(SIZES, ROWS, st.integers(0, 60))
def test_steps_within_is_the_most_that_fits(size: int, rows: list[tuple[int, int]], num_blocks: int) -> None:
    batch = DecodeBatch(size)
    for number, (prompt, length) in enumerate(rows):
        job = Job(("", str(number), 0), FixedTokens(prompt, size), length)
        job.made = 1
        batch.add(job)
    found = batch.steps_within(100, num_blocks)
    assert batch.blocks_for(found) <= num_blocks
    assert found == 100 or batch.blocks_for(found + 1) > num_blocks


def test_a_member_taken_out_early_leaves_no_trace() -> None:
    batch = DecodeBatch(4)
    first, second = (Job(("", name, 0), FixedTokens(9, 4), 20) for name in "ab")
    first.made = second.made = 1
    batch.add(first)
    batch.add(second)
    alone = DecodeBatch(4)
    third = Job(("", "c", 0), FixedTokens(9, 4), 20)
    third.made = 1
    alone.add(third)
    batch.advance(3)
    alone.advance(3)
    batch.remove(second)
    assert second.made == 4
    assert [batch.blocks_for(n) for n in range(9)] == [alone.blocks_for(n) for n in range(9)]
    assert batch.run_time(TIMES, 5) == alone.run_time(TIMES, 5)
