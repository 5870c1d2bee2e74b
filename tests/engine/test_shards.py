from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.limits import Reached, Spent
from engine.metrics import Snapshot
from engine.planning import freeze, make_plan
from engine.record import EpisodeKey
from engine.run import Result
from engine.rundir import RunDirectory
from engine.shards import ShardTask, share_of, slice_roster, sum_results, sum_snapshots, thaw_task
from engine.totals import CallTotals, Totals

TABLE = {
    "protocol": {"name": "counseling"},
    "models": {"base": {"kind": "openai", "model": "m"}},
    "roles": {"patient": "base", "therapist": "base"},
}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 4))
def test_every_key_belongs_to_one_shard_and_a_case_to_one(num_shards: int, num_cases: int, repeats: int) -> None:
    cases_played = {"source": "sampled", "limit": num_cases, "repeats": repeats}
    plan = make_plan({**TABLE, "cases": cases_played}, Path())
    names = [case.id for case in plan.cases]
    keys = [EpisodeKey(name, repeat) for repeat in range(repeats) for name in names]
    extra = [EpisodeKey(name, 0, 1) for name in names]
    slices = [list(slice_roster(plan, extra, index, num_shards)) for index in range(num_shards)]
    assert sorted(key for part in slices for key in part) == sorted(keys + extra)
    cases = [{key.case for key in part} for part in slices]
    assert sum(map(len, cases)) == num_cases
    assert max(map(len, cases)) - min(map(len, cases)) <= 1


def test_snapshots_add_up_and_the_slowest_shard_says_when_it_ends() -> None:
    one = Snapshot(elapsed_s=3, total=10, ended={"completed": 4}, prompt_tokens=100, cached_tokens=50, eta_s=5)
    two = Snapshot(elapsed_s=4, total=20, ended={"completed": 1, "failed": 2}, prompt_tokens=300, eta_s=9)
    both = sum_snapshots([one, two])
    assert (both.total, both.ended, both.num_ended) == (30, {"completed": 5, "failed": 2}, 7)
    assert (both.elapsed_s, both.eta_s, both.cached_share) == (4, 9, 0.125)
    assert sum_snapshots([one, Snapshot()]).eta_s is None


def test_results_add_up_with_the_longest_times() -> None:
    def result(completed: int, elapsed_s: float) -> Result:
        episodes = {"completed": completed, "failed": 0, "cancelled": 0}
        after = Totals(completed=completed, calls=26 * completed)
        return Result(before=Totals(), after=after, episodes=episodes, startup_s=1, elapsed_s=elapsed_s, num_unplayed=1)

    both = sum_results([result(2, 3.0), result(5, 2.0)], 130)
    assert both.after.calls == 26 * 7 and both.episodes["completed"] == 7
    assert (both.elapsed_s, both.num_unplayed, both.interrupted) == (3.0, 2, 130)


def test_what_shards_spent_adds_up_and_every_limit_reached_is_told() -> None:
    parts = [
        Result(
            before=Totals(),
            after=Totals(calls=calls, roles={"patient": CallTotals(calls)}),
            episodes={},
            startup_s=0.0,
            elapsed_s=1.0,
            num_unplayed=1,
            spent=Spent(calls=calls, tokens=10, cost=None, hours=calls / 10),
            reached=reached,
        )
        for calls, reached in ((25, (Reached("max_calls", 25, 25),)), (20, ()))
    ]
    sent = [msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=Result) for part in parts]
    both = sum_results(sent, None)
    assert both.spent == Spent(calls=45, tokens=20, cost=None, hours=2.5)
    assert both.reached == (Reached("max_calls", 25, 25),)
    assert both.after.roles == {"patient": CallTotals(45)}
    assert sum_results([], None).spent is None


@given(st.integers(0, 200), st.integers(1, 70))
def test_shares_follow_each_other_and_differ_by_one_at_most(total: int, num_shards: int) -> None:
    shares = [share_of(total, index, num_shards) for index in range(num_shards)]
    taken = [number for first, count in shares for number in range(first, first + count)]
    assert taken == list(range(total))
    counts = [count for _, count in shares]
    assert max(counts) - min(counts) <= 1


def test_a_shard_has_its_drivers_plan_with_the_forecast(tmp_path: Path) -> None:
    table = {
        "protocol": {"name": "counseling"},
        "cases": {"source": "sampled", "limit": 3},
        "models": {"base": {"kind": "openai", "model": "m"}},
        "roles": {"patient": "base", "therapist": "base"},
    }
    plan = make_plan(table, tmp_path)
    plan.expected_context = 777
    rundir = RunDirectory.create(tmp_path / "run", freeze(plan))
    sent = msgspec.msgpack.encode(
        ShardTask(
            directory=str(rundir.path),
            table=msgspec.msgpack.encode(plan.table),
            paths={},
            index=1,
            num_shards=2,
            expected_context=plan.expected_context,
        )
    )
    found = thaw_task(msgspec.msgpack.decode(sent, type=ShardTask), rundir)
    assert found.expected_context == 777
    assert [case.id for case in found.cases] == [case.id for case in plan.cases]
