"""One dialogue's figures, from records as a corpus holds them."""

import pytest

from engine.protocols.mental_arena import PROTOCOL
from engine.record import EpisodeKey
from eval.dialogues.episode import measure_episode
from tests.eval.dialogues.making import STORY, arena_record, decode_round
from tests.eval.quality.records import SPEC, make_failed, make_record
from training.labels import canonical_label


def test_the_last_decode_counts_without_fields_that_were_not_compared() -> None:
    rounds = [
        decode_round(True, reaction=0.1, principles=0.2, coping_strategies=None),
        decode_round(False, reaction=0.5, principles=0.7, coping_strategies=None),
        decode_round(False, reaction=0.6, principles=0.9, coping_strategies=None),
    ]
    found = measure_episode(arena_record(rounds=rounds, missing={"score": 2}), PROTOCOL, canonical_label)
    assert found is not None
    assert found.similarities == {"reaction": 0.6, "principles": 0.9}
    assert (found.num_exchanges, found.num_guided, found.missing) == (2, 1, {"score": 2})
    assert found.disclosure == (2 / 5, 2 / 5, 4 / 5)
    assert found.key == EpisodeKey("anna")


@pytest.mark.parametrize(
    ("illness", "condition", "is_named", "is_unlabelled"),
    [
        ("Major Depressive Disorder, moderate", "MDD", True, False),
        ("Generalized anxiety disorder", "MDD", False, False),
        ("", "MDD", False, True),
        ("Doctor 1", "MDD", False, True),
        ("Gambling Disorder", "gambling disorder", True, False),
        ("MDD", "", None, False),
    ],
)
def test_a_diagnosis_names_the_condition_or_is_wrong(
    illness: str, condition: str, is_named: bool | None, is_unlabelled: bool
) -> None:
    record = arena_record(illness, case_json={**STORY, "condition": condition})
    found = measure_episode(record, PROTOCOL, canonical_label)
    assert found is not None and (found.is_named, found.is_unlabelled) == (is_named, is_unlabelled)


def test_what_a_protocol_does_not_have_is_none() -> None:
    found = measure_episode(make_record(), SPEC, canonical_label)
    assert found is not None
    assert (found.is_named, found.is_unlabelled, found.num_guided) == (None, False, None)
    assert (found.similarities, found.missing, found.num_exchanges) == ({}, {}, 2)
    undecoded = measure_episode(arena_record(), PROTOCOL, canonical_label)
    assert undecoded is not None and (undecoded.similarities, undecoded.num_guided) == ({}, 0)


def test_what_did_not_complete_or_has_no_case_has_no_figures() -> None:
    assert measure_episode(make_failed("tilda"), SPEC, canonical_label) is None
    assert measure_episode(make_record(case_json={"id": "x"}), SPEC, canonical_label) is None
