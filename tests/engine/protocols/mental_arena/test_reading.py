from typing import Any

import msgspec
import pytest

from engine.protocols.mental_arena import PROTOCOL
from engine.protocols.mental_arena.outcome import RECORD_FIELDS
from engine.protocols.mental_arena.reading import embedder_warning
from engine.protocols.mental_arena.rules import ArenaRules
from engine.record import EpisodeKey, EpisodeRecord
from engine.recording import Identity, build_record
from engine.steps import Generate
from tests.engine.protocols.driving import make_case, make_script, play, run, start


def make_record(dialogue: Any) -> EpisodeRecord:
    identity = Identity(
        key=EpisodeKey("c1"), seed=1, protocol="mental_arena", case="{}", models={"patient": "m"}, started_at=0.0
    )
    return build_record(identity, dialogue, {})


def make_outcome(**rules: Any) -> dict[str, Any]:
    """Return a finished outcome as a reader of the corpus meets it."""
    script = rules.pop("script", None) or make_script()
    outcome = play(ArenaRules(**{"similarity": 0.9, **rules}), script=script).outcome
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(outcome))
    return decoded


def test_records_have_the_six_published_fields() -> None:
    assert PROTOCOL.records is not None
    (row,) = PROTOCOL.records(make_record(play()))
    assert tuple(row) == RECORD_FIELDS
    assert row["illness"] == "Illness 1" and row["treatment"] == "a treatment"
    assert "harbor town" in row["symptom"] and "Emotions: sad; ashamed" in row["symptom"]
    assert "words of" not in row["symptom"]


def test_missing_fields_are_empty_and_failed_episodes_have_no_record() -> None:
    assert PROTOCOL.records is not None and PROTOCOL.sections is not None
    unclear = make_record(play(script=make_script(values={"verdict": "?", "score": "?"})))
    (row,) = PROTOCOL.records(unclear)
    assert [row[name] for name in RECORD_FIELDS[1:]] == [""] * 5
    failed = make_record(run(start(), make_script(texts=lambda leaf: "")))
    assert failed.status == "failed"
    assert PROTOCOL.records(failed) == [] and PROTOCOL.sections(failed) == []


def test_the_symptom_leaves_out_empty_gold_and_what_is_switched_off() -> None:
    assert PROTOCOL.records is not None
    (row,) = PROTOCOL.records(make_record(play(case=make_case(intermediate_belief_depression=""))))
    assert "during depression" not in row["symptom"]
    (bare,) = PROTOCOL.records(make_record(play(ArenaRules(cognition=False))))
    assert bare["symptom"] == f"Patient history: {make_case().history}"


def test_sections_show_rounds_feedback_diagnoses_plans_and_principles() -> None:
    assert PROTOCOL.sections is not None
    dialogue = play(ArenaRules(similarity=0.9, max_decoder_rounds=1), script=make_script(similarity=0.25, score="4"))
    shown = {section.title: section for section in PROTOCOL.sections(make_record(dialogue))}
    assert list(shown) == ["Symptom decoder", "Feedback", "Diagnoses", "Plans", "Principles"]
    assert shown["Symptom decoder"].rows[0] == ("1", *["0.250 below"] * 5, "guided exchange")
    assert shown["Symptom decoder"].rows[1][-1] == "last round"
    assert "cut is 0.900" in shown["Symptom decoder"].note
    assert [row[3] for row in shown["Feedback"].rows] == ["therapist, for one turn"] * 2
    assert shown["Diagnoses"].rows[0][:3] == ("1", "Illness 1", "preferred")
    assert shown["Plans"].rows[0][:3] == ("treatment", "1", "4 best") and len(shown["Plans"].rows) == 14
    for section in shown.values():
        assert all(len(row) == len(section.columns) for row in section.rows)


def test_sections_mark_what_is_missing_or_was_not_compared() -> None:
    assert PROTOCOL.sections is not None
    case = make_case(intermediate_belief_depression="")
    script = make_script(values={"score": "?", "principle_choice": "?"})
    shown = {section.title: section for section in PROTOCOL.sections(make_record(play(case=case, script=script)))}
    assert shown["Symptom decoder"].rows[0][2] == "not compared"
    assert shown["Principles"].note
    assert ("score", "14") in shown["Missing values"].rows
    off = PROTOCOL.sections(make_record(play(ArenaRules(decoder=False, behaviour=False))))
    assert [section.title for section in off] == ["Diagnoses", "Plans"]


@pytest.mark.parametrize("mode", ["corrected", "reference"])
def test_facts_and_missing_read_plain_mappings(mode: str) -> None:
    assert PROTOCOL.facts is not None and PROTOCOL.missing is not None
    outcome = make_outcome(mode=mode, script=make_script(similarity=0.0, score="5"))
    facts = PROTOCOL.facts(outcome)
    assert facts["decoder rounds"] == 5 and facts["treatment tries"] == 7 and facts["medicine score"] == 5
    assert facts["dropped feedback"] == 0
    assert PROTOCOL.missing(outcome) == {}
    assert "treatment score" not in PROTOCOL.facts(make_outcome(script=make_script(score="?")))


def test_histograms_hold_similarities_and_scores() -> None:
    assert PROTOCOL.histograms is not None
    script = make_script(similarity=0.25, score="4")
    found = PROTOCOL.histograms(make_outcome(max_decoder_rounds=1, max_tries=3, script=script))
    assert {name: list(values) for name, values in found.items()} == {
        "cosine of decoded fields, first round": [0.25] * 5,
        "cosine of decoded fields, last round": [0.25] * 5,
        "scores of treatment plans, every try": [4.0] * 3,
        "scores of medicine plans, every try": [4.0] * 3,
    }
    missing = PROTOCOL.histograms(make_outcome(decoder=False, script=make_script(score="?")))
    assert not any(missing.values())


def warned(outcomes: list[dict[str, Any]]) -> list[str]:
    assert PROTOCOL.warnings is not None
    return PROTOCOL.warnings(outcomes)


def test_a_run_without_spread_is_warned_of() -> None:
    found = warned([make_outcome()] * 9)
    assert [warning.split(":")[0] for warning in found] == [
        "nearly all episodes took the same number of decoder rounds",
        "scores have no spread",
        "the principle choice is always the same",
        "the verdict is always the same",
    ]
    assert warned([make_outcome()] * 7)[0].startswith("scores")  # 14 scores, but too few episodes


def test_a_varied_run_has_no_warnings() -> None:
    low = make_script(similarity=0.0, score="5", values={"principle_choice": "3", "verdict": "2"})
    assert warned([make_outcome(), make_outcome(script=low)] * 5) == []


def test_rounds_that_cannot_vary_are_not_warned_of() -> None:
    for rules in ({"max_decoder_rounds": 0}, {"decoder": False}, {"similarity": 1.0}):
        assert not any("rounds" in warning for warning in warned([make_outcome(**rules)] * 9))


def test_an_unfitted_cut_and_equal_diagnoses_are_warned_of() -> None:
    def texts(leaf: Generate) -> str:
        return "Diagnosis: the same"

    found = warned([make_outcome(similarity="auto", script=make_script(texts=texts))] * 8)
    assert any("no similarity cut was fitted for 8 episodes" in warning for warning in found)
    assert any("both diagnoses name the same illness in 8 of 8" in warning for warning in found)


@pytest.mark.parametrize(
    ("rules", "identity", "is_warned"),
    [
        (ArenaRules(mode="reference"), "all-MiniLM-L6-v2 1234", True),
        (ArenaRules(mode="reference"), "bert-base-uncased mean 1234", False),
        (ArenaRules(mode="reference", similarity=0.4), "all-MiniLM-L6-v2 1234", False),
        (ArenaRules(similarity=0.9), "all-MiniLM-L6-v2 1234", True),
        (ArenaRules(similarity=1.0), "all-MiniLM-L6-v2 1234", False),
        (ArenaRules(), "all-MiniLM-L6-v2 1234", False),
        (ArenaRules(mode="reference", decoder=False), "", False),
    ],
)
def test_the_published_cut_with_another_embedder_is_warned_of(
    rules: ArenaRules, identity: str, is_warned: bool
) -> None:
    warning = embedder_warning(rules, identity)
    assert bool(warning) == is_warned
    assert PROTOCOL.cautions is not None and PROTOCOL.cautions(rules, identity) == ([warning] if warning else [])
