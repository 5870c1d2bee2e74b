from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.simulation.faults import Fault, draw_faults
from engine.simulation.jobs import Done, Shape
from engine.simulation.latency import PICOSECONDS
from engine.simulation.replica import Replica
from tests.engine.simulation.making import SHAPE, STEADY, make_job, make_replica, run_out

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 400),  # milliseconds since the event before
        st.integers(1, 300),  # prompt tokens
        st.integers(1, 60),  # completion tokens
        st.integers(-3, 0),  # priority
        st.integers(0, 3),  # whose prompt it shares
        st.booleans(),  # cancel an earlier request
    ),
    max_size=25,
)
FAULTS = st.lists(
    st.builds(
        Fault,
        at_s=st.floats(0, 5),
        replica=st.just(0),
        kind=st.sampled_from(["death", "swap", "slow"]),
        duration_s=st.floats(0.01, 1),
        factor=st.floats(0.5, 3),
    ),
    max_size=3,
)
TIGHT = Shape(slots=4, num_blocks=26, block_size=16, step_tokens=128)


def play(replica: Replica, events: list[tuple[int, int, int, int, int, bool]]) -> tuple[list[Done], set[Any]]:
    now, ended, cancelled = 0, list[Done](), set[Any]()
    for number, (wait, prompt, length, priority, name, is_cancel) in enumerate(events):
        now += wait * PICOSECONDS // 1000 + 7
        ended += replica.advance(now)
        if is_cancel and number:
            key = ("episode", str(number // 2), 0)
            if key not in {done.job.key for done in ended}:
                cancelled.add(key)
            replica.cancel(now, {key})
        replica.submit(now, [make_job(number, prompt, length, priority=priority, name=name)])
    return ended + run_out(replica), cancelled


def told(ended: list[Done]) -> list[tuple[Any, int, bool, int | None]]:
    return sorted((done.job.key, done.at_ps, done.is_lost, done.job.cached) for done in ended)


@settings(max_examples=150, deadline=None)
@given(EVENTS, FAULTS, st.sampled_from([SHAPE, TIGHT]))
def test_runs_in_closed_form_equal_step_by_step(events: Any, faults: list[Fault], shape: Shape) -> None:
    fast, slow = make_replica(shape, faults=faults), make_replica(shape, faults=faults)
    slow.max_run = 1
    assert told(play(fast, events)[0]) == told(play(slow, events)[0])
    fast.tally.block_ps = slow.tally.block_ps  # held blocks are taken as at the start of a run
    assert fast.tally == slow.tally


@settings(max_examples=150, deadline=None)
@given(EVENTS, FAULTS, st.sampled_from([SHAPE, TIGHT]))
def test_every_job_ends_exactly_once_and_every_block_comes_back(events: Any, faults: Any, shape: Shape) -> None:
    replica = make_replica(shape, faults=faults)
    ended, cancelled = play(replica, events)
    counts = Counter(done.job.key for done in ended)
    assert set(counts.values()) <= {1}
    # A request may end and be cancelled while the news is on its way.
    assert {("episode", str(number), 0) for number in range(len(events))} - cancelled <= counts.keys()
    assert replica.pool.num_free == replica.pool.size
    assert (replica.num_running, replica.num_waiting) == (0, 0)


def test_one_request_takes_its_prefill_and_its_decode_steps() -> None:
    replica = make_replica()
    replica.submit(0, [make_job(0, prompt=100, length=4)])
    (done,) = run_out(replica)
    pairs = 100 * 101 // 2
    prefill = STEADY.base + STEADY.prefill_token * 100 + STEADY.prefill_pair * pairs
    decode = 3 * (STEADY.base + STEADY.decode_seq) + STEADY.context * (101 + 102 + 103)
    assert done.at_ps == pytest.approx((prefill + decode) * PICOSECONDS, rel=1e-9)


def test_a_step_of_more_than_a_few_tokens_takes_longer() -> None:
    plain, batched = (make_replica(coefficients=replace(STEADY, batched=seconds)) for seconds in (0.0, 0.5))
    for replica in (plain, batched):
        replica.submit(0, [make_job(number, prompt=16, length=length) for number, length in enumerate((9, 5, 5))])
    ends = [[done.at_ps for done in run_out(replica)] for replica in (plain, batched)]
    # One step of prefill and four that three decode; from then on there is one left.
    more = [later - sooner for sooner, later in zip(*ends, strict=True)]
    assert more == [round(5 * 0.5 * PICOSECONDS)] * 3


def test_an_arrival_in_a_run_starts_at_the_next_step_boundary() -> None:
    replica = make_replica()
    replica.submit(0, [make_job(0, prompt=16, length=1000)])
    replica.advance(5 * PICOSECONDS)
    replica.submit(5 * PICOSECONDS, [make_job(1, prompt=16, length=1)])
    due = replica.next_event()
    assert due is not None
    assert 0 <= due - 5 * PICOSECONDS < 0.02 * PICOSECONDS
    replica.advance(due)
    assert replica.num_running == 2


def test_an_arrival_that_finds_no_slot_does_not_cut_the_run() -> None:
    replica = make_replica()
    replica.submit(0, [make_job(number, prompt=16, length=200) for number in range(4)])
    replica.advance(replica.next_event() or 0)
    end = replica.next_event()
    replica.submit(replica._start + 1, [make_job(9)])
    assert replica.next_event() == end
    assert replica.num_waiting == 1


def test_the_second_ask_of_a_prompt_hits_all_but_its_last_block() -> None:
    replica = make_replica()
    replica.submit(0, [make_job(0, prompt=96, length=2, name="same")])
    (first,) = run_out(replica)
    replica.submit(first.at_ps, [make_job(1, prompt=96, length=2, name="same")])
    (second,) = run_out(replica)
    assert (first.job.cached, second.job.cached) == (0, 80)


def test_requests_admitted_together_share_a_prefix() -> None:
    replica = make_replica()
    replica.submit(0, [make_job(number, prompt=100, name="same") for number in range(3)])
    assert [done.job.cached for done in run_out(replica)] == [0, 96, 96]


def test_the_lowest_priority_goes_first_when_slots_are_short() -> None:
    replica = make_replica(Shape(slots=1, num_blocks=65, block_size=16, step_tokens=256))
    replica.submit(0, [make_job(number, priority=-number) for number in range(3)])
    assert [done.job.key[1] for done in run_out(replica)] == ["2", "1", "0"]


def test_a_long_prompt_is_prefilled_in_chunks_beside_decoding() -> None:
    replica = make_replica(Shape(slots=2, num_blocks=200, block_size=16, step_tokens=64))
    replica.submit(0, [make_job(0, prompt=32, length=50)])
    replica.advance(replica.next_event() or 0)
    replica.submit(replica._start + 1, [make_job(1, prompt=630, length=1)])
    ended = run_out(replica)
    assert ended[0].job.key[1] == "1"
    steps_beside = -(-630 // 63)
    assert replica.tally.num_steps == 50
    assert ended[0].job.made == 1
    assert steps_beside < 50


def test_without_blocks_the_last_served_is_preempted_and_still_ends() -> None:
    replica = make_replica(TIGHT)
    replica.submit(0, [make_job(number, prompt=90, length=80, priority=-number) for number in range(4)])
    ended = run_out(replica)
    assert replica.tally.preemptions > 0
    assert [done.job.num_preempted > 0 for done in sorted(ended, key=lambda done: done.job.key)][-1] is False
    assert len(ended) == 4


def test_a_death_loses_what_is_open_and_the_replica_comes_back() -> None:
    fault = Fault(at_s=0.2, replica=0, kind="death", duration_s=1.0)
    replica = make_replica(faults=[fault])
    replica.submit(0, [make_job(0, length=500)])
    lost = replica.advance(round(0.3 * PICOSECONDS))
    assert [(done.is_lost, done.at_ps) for done in lost] == [(True, round(0.2 * PICOSECONDS))]
    assert replica.state == "lost"
    replica.submit(round(0.4 * PICOSECONDS), [make_job(1)])
    assert [done.is_lost for done in replica.advance(round(0.4 * PICOSECONDS))] == [True]
    replica.advance(round(1.2 * PICOSECONDS))
    assert (replica.state, replica.tally.restarts) == ("ready", 1)


def test_a_swap_delays_and_forgets_prefixes() -> None:
    plain, swapped = make_replica(), make_replica(faults=[Fault(at_s=0.1, replica=0, kind="swap", duration_s=2.0)])
    for replica in (plain, swapped):
        replica.submit(0, [make_job(0, length=50, name="same")])
    late = run_out(swapped)[0].at_ps - run_out(plain)[0].at_ps
    assert 1.9 * PICOSECONDS < late <= 2.0 * PICOSECONDS
    assert swapped.num_swaps == 1


def test_a_slow_replica_takes_its_factor_longer() -> None:
    slow = make_replica(faults=[Fault(at_s=0.0, replica=0, kind="slow", duration_s=100.0, factor=2.0)])
    plain = make_replica()
    for replica in (plain, slow):
        replica.advance(0)
        replica.submit(0, [make_job(0, length=50)])
    assert run_out(slow)[0].at_ps == pytest.approx(2 * run_out(plain)[0].at_ps, rel=1e-6)


def test_start_up_takes_its_time() -> None:
    replica = make_replica(starts_at_ps=7 * PICOSECONDS)
    assert (replica.state, replica.next_event()) == ("starting", 7 * PICOSECONDS)
    replica.advance(7 * PICOSECONDS)
    assert replica.state == "ready"


def test_what_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="must fit the replica's 25 blocks"):
        make_replica(TIGHT).submit(0, [make_job(0, prompt=500)])


def test_faults_are_the_same_for_the_same_seed_and_never_overlap() -> None:
    faults = draw_faults(3, 4, 10_000.0)
    assert faults == draw_faults(3, 4, 10_000.0)
    assert faults != draw_faults(4, 4, 10_000.0)
    for number in range(4):
        mine = [fault for fault in faults if fault.replica == number]
        assert all(one.at_s + one.duration_s <= two.at_s for one, two in zip(mine, mine[1:], strict=False))
    assert {fault.kind for fault in faults} == {"death", "swap", "slow"}
