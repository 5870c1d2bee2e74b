"""The arms of an ablation really have equal turns, and take away what they say."""

from typing import Any

import msgspec
import pytest

from engine.errors import InputError
from engine.protocols.mental_arena.arms import ARMS, arm_settings
from engine.protocols.mental_arena.rules import ArenaRules
from tests.engine.protocols.driving import asked, make_script, play, prompt

CONFIGURED = ArenaRules(exchanges=2, max_decoder_rounds=3, similarity="auto", max_tries=1)


def played(name: str, rules: ArenaRules = CONFIGURED, similarity: float = 0.99) -> Any:
    arm = msgspec.structs.replace(rules, **arm_settings(rules)[name])
    assert arm.problems() == []
    return play(arm, script=make_script(similarity=similarity))


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("rules", [CONFIGURED, ArenaRules(), ArenaRules(similarity=0.3, core_beliefs=False)])
def test_every_arm_has_as_many_exchanges_however_much_is_understood(name: str, rules: ArenaRules) -> None:
    whole = rules.exchanges + rules.max_decoder_rounds
    dialogue = played(name, rules)
    assert len(asked(dialogue, "therapist_turn")) == len(asked(dialogue, "patient_turn")) == whole
    last = dialogue.outcome.rounds[-1]
    assert last.number == (1 if name == "no_decoder" else rules.max_decoder_rounds + 1) and last.similarities


def test_arms_take_away_what_they_say() -> None:
    full, cognition, behaviour, decoder, kept = (played(name) for name in ARMS)
    assert sum(one.is_guided for one in full.outcome.rounds) == full.outcome.num_guided == 3
    assert sum("supervisor" in prompt(leaf) for leaf in asked(full, "therapist_turn")) == 3
    assert {*cognition.outcome.rounds[-1].similarities} == {"principles"}
    assert not cognition.outcome.switches["core_beliefs"]
    assert "principles" not in behaviour.outcome.rounds[-1].similarities and behaviour.outcome.principles is None
    assert len(decoder.outcome.rounds) == 1 and not asked(decoder, "feedback")
    assert len(asked(kept, "feedback")) == len(asked(full, "feedback")) == 6
    assert not any(one.is_guided for one in kept.outcome.rounds)
    for unguided in (decoder, kept):
        assert not any("supervisor" in prompt(leaf) for leaf in asked(unguided, "therapist_turn"))


def test_only_what_repeats_its_gold_ends_the_rounds() -> None:
    assert played("full", similarity=1.0).outcome.num_guided == 0


def test_full_comes_first_whether_it_was_named_or_not() -> None:
    assert list(arm_settings(CONFIGURED, ("undelivered", "no_decoder"))) == ["full", "undelivered", "no_decoder"]
    assert list(arm_settings(CONFIGURED)) == list(ARMS)
    assert arm_settings(CONFIGURED, ("no_decoder",))["no_decoder"] == {
        "similarity": 1.0,
        "exchanges": 5,
        "max_decoder_rounds": 0,
    }


def test_rules_that_have_no_such_arms_are_refused_with_every_reason() -> None:
    rules = ArenaRules(mode="reference", decoder=False, max_decoder_rounds=0, cognition=False, feedback="undelivered")
    with pytest.raises(InputError) as refused:
        arm_settings(rules, ("no_cognition", "no_behaviour", "undelivered", "nothing"))
    starts = ("an arm must be one of", "protocol.mode", "protocol.decoder", "protocol.max_decoder_rounds")
    problems = refused.value.problems
    assert [problem.startswith(start) for problem, start in zip(problems, starts, strict=False)] == [True] * 4
    assert [problem.split()[2] for problem in problems[4:]] == ["no_cognition", "undelivered"]
    assert all("got" in problem and ": " in problem for problem in problems)
    with pytest.raises(InputError, match="must have an arm beside full"):
        arm_settings(CONFIGURED, ("full",))
