from hypothesis import given
from hypothesis import strategies as st

from engine.corpus_parts import Totals
from engine.metrics import Snapshot
from engine.record import EpisodeKey
from engine.run import Result
from engine.shards import slice_keys, sum_results, sum_snapshots


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 4))
def test_every_key_belongs_to_one_shard_and_a_case_to_one(num_shards: int, num_cases: int, repeats: int) -> None:
    keys = [EpisodeKey(f"case{case}", repeat) for repeat in range(repeats) for case in range(num_cases)]
    places = {f"case{case}": case for case in range(num_cases)}
    slices = [list(slice_keys(keys, places, index, num_shards)) for index in range(num_shards)]
    assert sorted(key for part in slices for key in part) == sorted(keys)
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
