"""Samples of a real record of the MentalArena protocol: rows, turns, pairs; and of a case."""

import msgspec
import pytest

from engine.cases.loaders import load_cases
from engine.example_episode import example_episode
from engine.protocols.mental_arena.outcome import Attempt, Outcome
from training import wording
from training.samples import best_and_worst, samples_of, warmup_samples
from training.settings import ANSWERS, SampleSettings

RECORD, SPEC = example_episode()
OUTCOME = msgspec.json.decode(RECORD.outcome, type=Outcome)


def make_settings(*kinds: str, **more: object) -> SampleSettings:
    return SampleSettings(kinds=kinds, **more)  # type: ignore[arg-type]


def test_the_three_answers_of_an_episode() -> None:
    samples = list(samples_of(RECORD, SPEC, make_settings(*ANSWERS)))
    assert [sample.kind for sample in samples] == list(ANSWERS)
    diagnosis, treatment, medication = samples
    assert [message["role"] for message in diagnosis.messages] == ["system", "user", "assistant"]
    assert diagnosis.prompt[1]["content"] == f"{OUTCOME.symptom.strip()}\n\n{wording.DIAGNOSIS}"
    assert (diagnosis.raw_label, diagnosis.score) == (OUTCOME.illness, None)
    assert diagnosis.completion == diagnosis.label != ""
    assert treatment.completion == f"{OUTCOME.fields['treatment']}. {OUTCOME.fields['explain_t']}"
    assert treatment.prompt[1]["content"].endswith(f"\n\n{wording.TREATMENT}")
    assert (treatment.score, medication.score) == (8, 8)
    assert medication.parts == (OUTCOME.fields["medicine"], OUTCOME.fields["explain_m"])
    assert {sample.source.episode for sample in samples} == {RECORD.episode}


@pytest.mark.parametrize("role", ["patient", "therapist"])
def test_a_role_is_taught_all_its_turns(role: str) -> None:
    (sample,) = samples_of(RECORD, SPEC, make_settings(role))
    own = [step.reply.text for step in RECORD.steps if step.role == role and step.purpose in SPEC.turns and step.reply]
    assert sample.parts == tuple(own) and len(own) > 1
    assert sample.messages[0]["role"] == "system" and sample.messages[-1]["content"] == own[-1]
    assert not list(samples_of(RECORD, SPEC, make_settings("nobody")))


def test_pairs_are_the_best_and_the_worst_plan_for_one_prompt() -> None:
    treatment, medicine = samples_of(RECORD, SPEC, make_settings("plan"))
    for sample, plan in ((treatment, OUTCOME.treatment), (medicine, OUTCOME.medicine)):
        assert (sample.completion, sample.rejected) == (plan.attempts[1].plan, plan.attempts[0].plan)
        assert not any(plan.attempts[0].plan in message["content"] for message in sample.prompt)
        assert sample.prompt[-1]["role"] == "user" and sample.score == 8
    assert [sample.completion for sample in samples_of(RECORD, SPEC, make_settings("plan", min_margin=3))] == [
        OUTCOME.treatment.attempts[1].plan
    ]


def attempts(*scores: int | None) -> list[Attempt]:
    return [Attempt(number, f"plan {number}", "", score) for number, score in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "pair"),
    [
        ((5, 9, 9, 3, 3), (2, 4)),
        ((5, 6), None),
        ((None, 9), None),
        ((), None),
        ((None, 2, None, 4), (4, 2)),
        ((7, 7), None),
    ],
)
def test_best_and_worst(scores: tuple[int | None, ...], pair: tuple[int, int] | None) -> None:
    found = best_and_worst(attempts(*scores), 2)
    assert (None if found is None else (found[0].number, found[1].number)) == pair


def test_control_tokens_of_a_model_are_broken_up() -> None:
    fields = {**OUTCOME.fields, "treatment": "CBT<|im_end|>"}
    outcome = msgspec.json.encode(msgspec.structs.replace(OUTCOME, fields=fields)).decode()
    record = msgspec.structs.replace(RECORD, outcome=outcome)
    (sample,) = samples_of(record, SPEC, make_settings("treatment"))
    assert "<|im_end|>" not in sample.completion and sample.completion.startswith("CBT< |im_end|>. ")


def test_an_episode_without_an_outcome_teaches_its_turns_alone() -> None:
    record = msgspec.structs.replace(RECORD, outcome="", status="failed")
    kinds = [sample.kind for sample in samples_of(record, SPEC, make_settings(*ANSWERS, "plan", "patient"))]
    assert kinds == ["patient"]


def test_a_case_gives_two_rows_that_do_not_tell_their_answers() -> None:
    (case, *_) = load_cases("bundled", seed=0, limit=1)
    beliefs, reaction = warmup_samples(case)
    assert case.history in beliefs.prompt[1]["content"] and case.coping_strategies in beliefs.completion
    assert case.coping_strategies not in beliefs.prompt[1]["content"]
    assert case.situation in reaction.prompt[1]["content"] and beliefs.completion in reaction.prompt[1]["content"]
    assert case.auto_thought in reaction.completion and case.auto_thought not in reaction.prompt[1]["content"]
    assert case.behavior in reaction.completion and case.emotion_text in reaction.completion
