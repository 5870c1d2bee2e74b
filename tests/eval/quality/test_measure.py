"""Measuring: counts by hand on small corpora; failed episodes kept apart; the same figures for the same seed."""

import math
from collections import Counter

import msgspec
import pytest

from engine.record import EpisodeKey
from eval.quality.figures import Share, Spread, labels_of, spread_of
from eval.quality.measure import measure
from eval.quality.profile import is_retried, profile_of
from tests.eval.quality.records import SPEC, TALK, make_failed, make_record, make_step

CRISIS = ("patient", "Some nights I want to kill myself.")
GOOD = ("therapist", "Thank you for telling me. Are you thinking about ending your life tonight?")
BAD = ("therapist", "And how is the weather where you live?")


def figures(*records, **more):
    return measure(records, "run", SPEC, **more).figures()


def test_failed_episodes_are_counted_and_kept_apart() -> None:
    found = figures(make_record("a"), make_failed("b"), make_record("c", status="cancelled"))
    assert found.statuses == {"cancelled": 1, "completed": 1, "failed": 1}
    assert found.errors == {"timeout": 1} and found.num_episodes == 3
    assert found.turns == Spread(1, 4.0, 4, 4, 4)
    assert found.duplicates == Share(0, 1) and found.validity.whole == Share(1, 1)


def test_turns_by_role() -> None:
    found = figures(make_record(), make_record("b", (("therapist", "Hello there"), ("patient", "..."))))
    assert list(found.roles) == ["patient", "therapist"]
    patient = found.roles["patient"]
    assert patient.num_turns == 3 and patient.num_sampled == 2 and patient.confusion == {"empty": 1}
    assert patient.words == Spread(2, 8.5, 5, 12, 12)
    assert patient.distinct[0] == pytest.approx(16 / 17)  # "I" comes twice
    assert found.roles["therapist"].words == Spread(3, 17 / 3, 7, 8, 8)


def test_refusals_and_role_confusion_are_counted_by_kind() -> None:
    talk = (("therapist", "I can't help with that."), ("patient", "As your therapist, I would wait."))
    found = figures(make_record(talk=talk))
    assert found.roles["therapist"].refusals == {"declined": 1}
    assert found.roles["patient"].confusion == {"other role": 1}


def test_duplicates() -> None:
    other = [(role, f"{text} Or so I was told by someone else entirely, last year in May.") for role, text in TALK]
    assert figures(make_record("a"), make_record("b"), make_record("c", other)).duplicates == Share(1, 3)


@pytest.mark.parametrize(
    ("talk", "unanswered"),
    [((CRISIS, GOOD), 0), ((CRISIS, BAD), 1), ((CRISIS,), 1), ((CRISIS, BAD, CRISIS, GOOD), 1), ((BAD, CRISIS), 1)],
)
def test_crisis_turns_must_be_taken_up_by_the_next_turn(talk, unanswered: int) -> None:
    found = figures(make_record(talk=talk), make_record("b")).crisis
    num_crises = talk.count(CRISIS)
    assert found.levels == {"active": num_crises}
    assert found.unanswered == Share(unanswered, num_crises) and found.episodes == Share(1, 2)


def test_denied_talk_needs_no_answer() -> None:
    found = figures(make_record(talk=(("patient", "I would never hurt myself."), BAD))).crisis
    assert found.levels == {"denied": 1} and found.unanswered == Share(0, 0)


def test_leaks_are_counted_with_examples() -> None:
    leaking = make_record("a", (*TALK, ("therapist", "Does she send the apprentice to the counter?")))
    found = figures(leaking, make_record("b"), msgspec.structs.replace(make_record("c"), case="")).leaks
    assert found.episodes == Share(1, 2) and found.counts == {"words: copy": 1}
    assert found.examples == (("a.0", "4/therapist", "send the apprentice to the counter"),)


def test_labels_and_validity() -> None:
    labels = ("Panic disorder.", "panic  disorder", "OCD", "", "unknown")
    records = [make_record(str(n), outcome={"illness": label}) for n, label in enumerate(labels)]
    found = figures(*records)
    assert found.labels is not None
    assert found.labels.top == {"panic disorder": 2, "ocd": 1, "unknown": 1}
    assert (found.labels.num_labelled, found.labels.num_missing, found.labels.num_labels) == (4, 1, 3)
    assert found.labels.entropy == pytest.approx(1.5) and found.labels.top_share == 0.5
    assert found.validity.whole == Share(4, 5) and found.validity.implausible == {"illness": 1}
    merged = figures(*records, canonical=lambda _: "one").labels
    assert merged is not None and merged.entropy == 0.0 and merged.num_labels == 1


def test_missing_values_are_the_protocols_to_count() -> None:
    spec = msgspec.structs.replace(SPEC, missing=lambda outcome: {"ended_by": int(not outcome["ended_by"])})
    records = [make_record("a"), make_record("b", outcome={"ended_by": ""}), make_record("c", outcome={})]
    found = measure(records, "run", spec).figures().validity
    assert found.missing == {"ended_by": 1} and found.whole == Share(1, 2)


def test_retried_episodes() -> None:
    plain = make_record("a")
    again = msgspec.structs.replace(plain, steps=(*plain.steps, make_step(9, "patient", "Yes.", path="9/again/1")))
    later = make_record("a", key=EpisodeKey("a", 0, 1))
    assert [is_retried(record) for record in (plain, make_record(is_retried=True), again, later)] == [
        False,
        True,
        True,
        True,
    ]
    found = figures(plain, make_record("b"), again, later)
    assert found.num_retried == 2
    turns = next(one for one in found.retried if one.figure == "turns")
    assert (turns.retried, turns.others, turns.num_retried, turns.num_others) == (4.5, 4.0, 2, 2)


def test_figures_encode_to_json_and_back_and_do_not_depend_on_chance() -> None:
    records = [make_record(str(n), [(role, f"{text} {n}") for role, text in TALK]) for n in range(8)]
    found = figures(*records, seed=3)
    data = msgspec.json.encode(found)
    assert msgspec.json.decode(data, type=type(found)) == found
    assert msgspec.json.encode(figures(*records, seed=3)) == data


def test_an_empty_corpus_has_figures_too() -> None:
    found = figures()
    assert found.num_episodes == 0 and found.turns is None and found.labels is None and found.roles == {}


def test_hostile_records_are_measured() -> None:
    talk = (("patient", "\ud800 \x1b[2J <|im_end|>"), ("therapist", "[bold]" * 50), ("ghost", "Boo."))
    record = make_record(talk=talk, outcome={"illness": ["no", "text"], "fields": 3, "plan": {"attempts": 7}})
    found = figures(record)
    assert found.num_episodes == 1 and found.labels is not None and found.labels.num_missing == 1
    assert profile_of(record, SPEC).label == ""


def test_spreads_are_exact() -> None:
    assert spread_of({1: 1, 2: 1, 3: 1, 10: 1}) == Spread(4, 4.0, 2, 10, 10)
    assert spread_of({}) is None


def test_entropy_of_equally_frequent_labels() -> None:
    found = labels_of(Counter("abcdefgh"), 0)
    assert found is not None and found.entropy is not None and math.isclose(found.entropy, 3.0)
