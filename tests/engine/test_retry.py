"""Which failures are tried again, and when."""

import pytest

from engine.backend import Failure, FailureKind
from engine.record import AttemptRecord
from engine.retry import RetryPolicy

POLICY = RetryPolicy(max_attempts=3, max_wait_s=10.0, base_s=1.0, cap_s=4.0)


def past(*kinds: str) -> list[AttemptRecord]:
    return [AttemptRecord(number, kind, "") for number, kind in enumerate(kinds)]


@pytest.mark.parametrize("kind", ["context_overflow", "rejected", "unauthorized"])
def test_what_another_attempt_cannot_mend_is_not_tried_again(kind: FailureKind) -> None:
    assert POLICY.delay(Failure(kind, ""), past(kind), 0.0, 1.0) is None


@pytest.mark.parametrize(
    ("kind", "num_past", "expected"),
    [
        ("replica_lost", 1, 0.0),
        ("timeout", 2, 0.0),
        ("server_error", 1, 1.0),
        ("server_error", 2, 2.0),
        ("server_error", 3, None),
        ("replica_lost", 3, None),
    ],
)
def test_delays_grow_until_the_budget_is_spent(kind: FailureKind, num_past: int, expected: float | None) -> None:
    assert POLICY.delay(Failure(kind, ""), past(*[kind] * num_past), 0.0, 1.0) == expected


def test_rate_limits_are_bounded_by_time_not_by_count() -> None:
    limited = Failure("rate_limited", "", retry_after_s=4.0)
    assert POLICY.delay(limited, past(*["rate_limited"] * 20), 4.0, 0.0) == 4.0
    assert POLICY.delay(limited, past("rate_limited"), 7.0, 0.0) is None


def test_waits_do_not_spend_the_budget_of_other_failures() -> None:
    kinds = ["rate_limited"] * 5 + ["server_error"]
    assert POLICY.delay(Failure("server_error", ""), past(*kinds), 0.0, 0.0) == 0.5


def test_backoff_is_capped() -> None:
    patient = RetryPolicy(max_attempts=100, base_s=1.0, cap_s=4.0)
    assert patient.delay(Failure("connection", ""), past(*["connection"] * 50), 0.0, 1.0) == 4.0
