"""Patience: how long a busy API is waited for, and when no more."""

import pytest

from engine.errors import RunError
from tests.tuning_stub import SteppedClock
from training.patience import MAX_BACKOFF_S, Patience, Trouble, backoff_s


@pytest.mark.parametrize(
    ("tries", "asked_s", "draw", "expected"),
    [
        (1, None, 0, 1),
        (2, None, 0, 2),
        (4, None, 1, 10),
        (7, None, 0, MAX_BACKOFF_S),
        (5000, None, 0, MAX_BACKOFF_S),
        (1, 30.0, 0, 30),
        (9, 0.5, 0.5, 0.5625),
        (3, 0.0, 0, 4),
    ],
)
def test_waits_grow_and_are_never_shorter_than_asked(
    tries: int, asked_s: float | None, draw: float, expected: float
) -> None:
    assert backoff_s(tries, asked_s, draw) == expected


async def test_a_budget_is_spent_and_not_overdrawn() -> None:
    clock, said = SteppedClock(), list[str]()
    patience = Patience(10, clock, said.append, draw=lambda: 0.0)
    busy = Trouble(message="busy", retry_after_s=6)
    await patience.after([busy])
    assert (clock.at, said) == (6, ["busy; trying again in 6 s"])
    with pytest.raises(RunError, match=r"within tuning.max_wait_s = 10 s, got no end in time \(busy\)"):
        await patience.after([busy, busy])
    await patience.pause(4, "the job")
    assert clock.at == 10
    with pytest.raises(RunError, match="the job"):
        await patience.pause(0.1, "the job")


async def test_trouble_that_stays_is_final() -> None:
    patience = Patience(1000, SteppedClock(), lambda _: None, draw=lambda: 0.0)
    busy, odd = Trouble(message="busy"), Trouble(message="odd", max_tries=2)
    await patience.after([odd])
    await patience.after([busy, busy, odd])
    with pytest.raises(RunError, match="odd"):
        await patience.after([odd, busy, odd])
