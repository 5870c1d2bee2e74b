import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.rubric import NOT_APPLICABLE, Dimension
from eval.verdicts import (
    JudgingOutcome,
    Verdict,
    Vote,
    count_missing,
    decide,
    make_verdict,
    means,
    rate,
    read_outcome,
)

NA = NOT_APPLICABLE
SCALE = Dimension(name="tone", question="?", anchors={str(point): f"a{point}" for point in range(1, 6)})
BINARY = Dimension(name="safe", question="?", anchors={"yes": "a", "no": "b"})
OPTIONS = st.sampled_from(["1", "2", "3", "4", "5", NA, None])


def make_votes(*options: str | None) -> list[Vote]:
    return [Vote(judge="judge", option=option) for option in options]


@pytest.mark.parametrize(
    ("options", "status", "score"),
    [
        (["4"], "scored", 4),
        (["1", "5", "5"], "scored", 5),
        (["2", "3"], "scored", 2.5),
        (["1", None, None], "scored", 1),
        ([None, None], "missing", None),
        ([], "missing", None),
        ([NA, NA, "5"], "not_applicable", None),
        ([NA, "5", "3"], "scored", 4),
        ([NA, "5"], "missing", None),
        ([NA, None, None], "not_applicable", None),
    ],
)
def test_scales_take_the_median(options: list[str | None], status: str, score: float | None) -> None:
    assert decide(make_votes(*options), is_binary=False) == (status, score)


@pytest.mark.parametrize(
    ("options", "status", "score"),
    [
        (["yes"], "scored", 1),
        (["no", "no", "yes"], "scored", 0),
        (["yes", "no"], "missing", None),
        (["yes", "no", None], "missing", None),
        (["yes", "no", NA], "missing", None),
        (["yes", None], "scored", 1),
        ([NA, NA, "no"], "not_applicable", None),
    ],
)
def test_yes_and_no_take_the_majority(options: list[str | None], status: str, score: float | None) -> None:
    assert decide(make_votes(*options), is_binary=True) == (status, score)


def test_a_vote_that_was_corrected_does_not_count() -> None:
    first, second = make_votes("1", "5")
    votes = [msgspec.structs.replace(first, is_counted=False), second]
    assert make_verdict("tone", SCALE, votes).score == 5


@given(st.lists(OPTIONS, max_size=9), st.randoms())
def test_a_verdict_never_invents_a_score(options: list[str | None], draw: object) -> None:
    status, score = decide(make_votes(*options), is_binary=False)
    points = [int(option) for option in options if option not in (None, NA)]
    assert (score is not None) == (status == "scored")
    if score is not None:
        assert min(points) <= score <= max(points) and score == statistics.median(points)
    # Neither order nor missing votes matter.
    assert decide(make_votes(*reversed(options), None, None), is_binary=False) == (status, score)


def make_outcome(*verdicts: Verdict) -> JudgingOutcome:
    return JudgingOutcome(rubric="r", fingerprint="f", pipeline="single", verdicts=verdicts)


def test_rates_leave_out_what_is_missing_and_say_how_much() -> None:
    answers = ["yes"] * 81 + ["no"] * 182 + ["?"] * 3 + [NA] * 2
    votes = [make_votes(answer if answer != "?" else None) for answer in answers]
    found = rate([make_verdict("safe", BINARY, one) for one in votes], "safe")
    assert (found.num_yes, found.num_no, found.num_missing, found.num_not_applicable) == (81, 182, 3, 2)
    assert found.share == pytest.approx(81 / 263)
    assert (round(found.low or 0, 4), round(found.high or 0, 4)) == (0.2553, 0.3662)  # a textbook's example


def test_a_rate_of_nothing_is_none() -> None:
    found = rate([make_verdict("tone", SCALE, make_votes("3"))], "safe")
    assert (found.share, found.low, found.high, found.num_yes) == (None, None, None, 0)


def test_an_outcome_is_read_back_and_summed_up() -> None:
    outcome = make_outcome(
        make_verdict("tone/turn/1", SCALE, make_votes("2"), turn=1),
        make_verdict("tone/turn/3", SCALE, make_votes("5"), turn=3),
        make_verdict("tone/turn/5", SCALE, make_votes(None), turn=5),
        make_verdict("safe", BINARY, make_votes("yes", "no")),
    )
    assert read_outcome(msgspec.json.decode(msgspec.json.encode(outcome))) == outcome
    assert means(outcome) == {"tone": 3.5} and count_missing(outcome) == {"tone": 1, "safe": 1}
