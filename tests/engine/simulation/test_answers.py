import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocols.mental_arena.diagnosis import illness_label
from engine.record import EpisodeKey, EpisodeRecord, StepRecord
from engine.simulation.answers import RecordedAnswers, SampledAnswers, Similarities
from engine.simulation.embedder import SimulatedEmbedder
from engine.simulation.lengths import CUT, LengthSampler, choice_weights
from engine.simulation.loop import VirtualClock, run_virtual
from engine.steps import Choice, Fields, Reply, Usage
from engine.values import parse
from engine.views import neutralize
from tests.engine.simulation.making import make_request

SCORES = Choice(tuple(str(score) for score in range(1, 11)))


def make_answers(seed: int = 0, lengths: LengthSampler | None = None, **more: object) -> SampledAnswers:
    return SampledAnswers(seed, lengths or LengthSampler.lognormal(), **more)  # type: ignore[arg-type]


def make_record(*steps: StepRecord) -> EpisodeRecord:
    return EpisodeRecord(key=EpisodeKey("case"), seed=0, protocol="p", status="completed", steps=steps)


def make_step(path: str, text: str, tokens: int, *, finish: str = "stop", choice: Choice | None = None) -> StepRecord:
    schema = "" if choice is None else msgspec.json.encode(choice).decode()
    reply = Reply(text, finish, usage=Usage(10, tokens))
    return StepRecord(path=path, kind="generate", hash="", role="therapist", purpose="plan", schema=schema, reply=reply)


def test_answers_depend_on_seed_and_place_alone() -> None:
    requests = [make_request(f"{number}/therapist") for number in range(50)]
    ordered = {request.path: make_answers().answer(request) for request in requests}
    random.Random(1).shuffle(requests)
    shuffled = make_answers()
    assert all(shuffled.answer(request) == ordered[request.path] for request in requests)
    assert make_answers(1).answer(requests[0]) != ordered[requests[0].path]
    assert len({answer.text for answer in ordered.values()}) == 50


def test_another_attempt_says_the_same() -> None:
    assert make_answers().answer(make_request(attempt=2)) == make_answers().answer(make_request())


@given(st.text(max_size=20), st.integers(1, 300))
def test_text_is_as_long_as_its_tokens_and_is_no_control_text(path: str, max_tokens: int) -> None:
    answer = make_answers().answer(make_request(path, max_tokens=max_tokens, purpose="plan"))
    assert 1 <= answer.num_tokens <= max_tokens
    assert answer.num_content == answer.num_tokens - (answer.finish == "stop") or max_tokens == 1
    assert answer.text == answer.text.strip() == neutralize(answer.text) != ""
    if answer.num_content > 20:
        assert len(answer.text) / answer.num_content == pytest.approx(4.4, rel=0.25)


@given(st.text(max_size=20), st.sampled_from([SCORES, Choice(("1", "2")), Fields(("treatment", "explain_t"), 400)]))
def test_values_parse(path: str, schema: Choice | Fields) -> None:
    answer = make_answers().answer(make_request(path, value=schema, max_tokens=160))
    found = parse(schema, Reply(answer.text, answer.finish))
    assert found in schema.options if isinstance(schema, Choice) else set(found or ()) == set(schema.names)
    assert answer.num_tokens <= 160


def test_choices_follow_their_weights() -> None:
    answers = make_answers(weights={"score": {"3": 0.75, "9": 0.25}})
    chosen = [answers.answer(make_request(str(n), purpose="score", value=SCORES)) for n in range(2000)]
    assert {answer.text for answer in chosen} == {"3", "9"}
    assert sum(answer.text == "3" for answer in chosen) / 2000 == pytest.approx(0.75, abs=0.04)
    assert chosen[0].probabilities == {"3": 0.75, "9": 0.25}


def test_diagnoses_name_an_illness_and_sessions_end_where_the_system_text_says_how() -> None:
    diagnosis = make_answers().answer(make_request("diagnose/1", purpose="diagnosis"))
    assert illness_label(diagnosis.text) in {"Depression", "Anxiety disorder", "Insomnia"}
    told = ("End with [end of session].", "Hello.")
    texts = [make_answers().answer(make_request(f"{n}/therapist", texts=told)).text for n in range(2000)]
    assert sum(text.endswith("[end of session]") for text in texts) / 2000 == pytest.approx(0.02, abs=0.012)
    untold = [make_answers().answer(make_request(f"{n}/therapist")).text for n in range(500)]
    assert not any("[end of session]" in text for text in untold)


def test_recorded_lengths_are_drawn_by_place_and_replayed_exactly() -> None:
    record = make_record(make_step("a", "x", 7), make_step("b", "y", 30), make_step("c", "z", 64, finish="length"))
    drawn = LengthSampler.from_records([record])
    assert [drawn.draw(("therapist", "plan"), ("", ""), u, 256) for u in (0.0, 0.5)] == [(7, False), (30, False)]
    assert drawn.draw(("therapist", "plan"), ("", ""), 0.99, 128) == (128, True)
    exact = LengthSampler.from_records([record], is_exact=True)
    assert exact.draw(("therapist", "plan"), ("case.0", "b"), 0.0, 256) == (30, False)
    assert exact.draw(("therapist", "plan"), ("case.0", "c"), 0.0, 256) == (256, True)
    assert CUT > 1 << 20


def test_recorded_choices_give_weights_and_no_lengths() -> None:
    steps = [make_step(str(n), "9" if n else "2", 2, choice=SCORES) for n in range(4)]
    assert choice_weights([make_record(*steps)]) == {"plan": {"2": 0.25, "9": 0.75}}
    with pytest.raises(ValueError, match="give at least one length"):
        LengthSampler.from_records([make_record(*steps)])


def test_the_assumed_lengths_have_their_median() -> None:
    sampler = LengthSampler.lognormal(80)
    drawn = sorted(sampler.draw(("r", "p"), ("", ""), number / 1000, 10_000)[0] for number in range(1000))
    assert drawn[500] == pytest.approx(80, abs=2)


def test_recorded_answers_come_word_for_word_and_others_from_the_fallback() -> None:
    answers = RecordedAnswers([make_record(make_step("1/therapist", "Well.", 4))], make_answers())
    recorded = answers.answer(make_request("1/therapist"))
    assert (recorded.text, recorded.num_tokens, recorded.num_content) == ("Well.", 4, 3)
    assert answers.answer(make_request("2/therapist")) == make_answers().answer(make_request("2/therapist"))


def test_similarities_are_seeded_match_as_often_as_asked_and_take_virtual_time() -> None:
    pairs = [(f"one {number}", f"other {number}") for number in range(3000)]

    async def embed() -> tuple[tuple[float, ...], float]:
        clock = VirtualClock()
        embedder = SimulatedEmbedder(Similarities(5, 0.3), clock, batch_s=1.0, pair_s=0.001)
        return await embedder.similarities(pairs), clock.now()

    floats, now = run_virtual(embed())
    assert now == pytest.approx(4.0)
    assert floats == Similarities(5, 0.3).of(pairs) != Similarities(6, 0.3).of(pairs)
    assert sum(cosine >= 0.9 for cosine in floats) / 3000 == pytest.approx(0.3, abs=0.03)
    assert all(0 <= cosine < 0.1 or 0.9 <= cosine < 1 for cosine in floats)


def test_recorded_similarities_are_replayed() -> None:
    step = StepRecord(path="s", kind="similarity", hash="", pairs=(("a", "b"),), floats=(0.42,))
    assert Similarities(0, 1.0, [make_record(step)]).of([("a", "b")]) == (0.42,)
