"""Who plays, and how each ended: the compact ledger says what a plain dict says."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from engine.record import EpisodeKey
from engine.roster import Ledger, Roster, latest_counts, latest_tries, retry_keys

CASES = ("a", "b", "c")
KEYS = st.builds(EpisodeKey, st.sampled_from([*CASES, "stranger"]), st.integers(0, 3), st.integers(0, 2))
ENDS = st.lists(st.tuples(KEYS, st.sampled_from(["completed", "failed", "cancelled"])))


def test_every_case_comes_once_then_the_next_repeat_then_the_extra_tries() -> None:
    extra = [EpisodeKey("b", 0, 1), EpisodeKey("a", 1), EpisodeKey("b", 0, 1)]
    roster = Roster(("a", "b"), 2, extra)
    first = [EpisodeKey("a"), EpisodeKey("b"), EpisodeKey("a", 1), EpisodeKey("b", 1)]
    assert list(roster) == [*first, EpisodeKey("b", 0, 1)] and len(roster) == 5
    assert all(key in roster for key in roster)
    assert EpisodeKey("a", 2) not in roster and EpisodeKey("c") not in roster and "a.0" not in roster
    assert EpisodeKey("a", -1) not in roster


@given(ENDS)
def test_a_ledger_says_what_a_dict_says(ends: list[tuple[EpisodeKey, str]]) -> None:
    ledger, plain = Ledger(Roster(CASES, 3)), dict[EpisodeKey, str]()
    for key, status in ends:
        ledger.put(key, status)  # type: ignore[arg-type]
        plain[key] = status
    assert ledger == plain and len(ledger) == len(plain) and set(ledger) == set(plain)
    assert all((key in ledger) == (key in plain) for key, _ in ends)
    assert all(ledger.get(EpisodeKey(case, 3)) == plain.get(EpisodeKey(case, 3)) for case in CASES)


@given(ENDS)
def test_the_latest_try_counts(ends: list[tuple[EpisodeKey, str]]) -> None:
    ledger = Ledger(Roster(CASES, 3))
    for key, status in ends:
        ledger.put(key, status)  # type: ignore[arg-type]
    latest: dict[tuple[str, int], EpisodeKey] = {}
    for key in sorted(ledger, key=lambda key: key.attempt):
        latest[key.case, key.repeat] = key
    assert dict(latest_tries(ledger)) == {key: ledger[key] for key in latest.values()}
    assert sum(latest_counts(ledger).values()) == len(latest)
    failed = sorted(key for key in latest.values() if ledger[key] == "failed")
    assert retry_keys(ledger) == [EpisodeKey(key.case, key.repeat, key.attempt + 1) for key in failed]


def test_a_ledger_does_not_grow_while_a_run_is_played() -> None:
    roster = Roster([f"case-{number}" for number in range(100)], 1000)
    ledger = Ledger(roster)
    before = sys.getsizeof(ledger._codes)
    for key in roster:
        ledger.put(key, "completed")
    assert sys.getsizeof(ledger._codes) == before < 1.1 * len(roster) and not ledger._others
    assert latest_counts(ledger) == {"completed": 100_000, "failed": 0, "cancelled": 0}
