import pytest

from engine.config_decode import decode
from engine.protocols.mental_arena.rules import UNFITTED_CUT, ArenaRules, needed_context


def test_the_defaults_are_the_published_numbers_and_have_no_problems() -> None:
    rules = ArenaRules()
    assert (rules.exchanges, rules.max_decoder_rounds, rules.max_tries, rules.good_score) == (4, 5, 7, 9)
    assert (rules.max_tokens, rules.temperature) == (256, 0.8)
    assert rules.problems() == []


def test_all_problems_are_listed_at_once_each_with_rule_value_and_remedy() -> None:
    rules = ArenaRules(
        exchanges=0,
        max_decoder_rounds=-1,
        max_tries=0,
        good_score=11,
        similarity=1.5,
        reply_sentences=-2,
        max_tokens=0,
        cognition=False,
        behaviour=False,
        state_update=True,
        mode="reference",
    )
    problems = rules.problems()
    assert len(problems) == 9
    assert all("must" in problem and "got" in problem for problem in problems)
    for name in ("exchanges", "max_decoder_rounds", "max_tries", "good_score", "similarity", "reply_sentences"):
        assert any(problem.startswith(f"protocol.{name} ") for problem in problems)


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        (ArenaRules(feedback="undelivered", mode="reference"), "in reference mode"),
        (ArenaRules(feedback="undelivered", decoder=False), "without a decoder"),
    ],
)
def test_feedback_can_only_be_kept_back_where_it_would_be_delivered(rules: ArenaRules, where: str) -> None:
    (problem,) = rules.problems()
    assert problem.startswith(f'protocol.feedback must be "delivered" {where}') and 'got "undelivered": ' in problem
    assert ArenaRules(feedback="undelivered").problems() == []


@pytest.mark.parametrize(
    ("mode", "similarity", "fitted", "expected"),
    [
        ("corrected", "auto", 0.31, (0.31, "fitted")),
        ("corrected", "auto", None, (UNFITTED_CUT, "unfitted")),
        ("corrected", 0.4, 0.31, (0.4, "rules")),
        ("reference", "auto", 0.31, (0.9, "reference")),
        ("reference", 0.5, None, (0.5, "rules")),
    ],
)
def test_the_cut_comes_from_the_rules_the_mode_or_the_fit(
    mode: str, similarity: float | str, fitted: float | None, expected: tuple[float, str]
) -> None:
    assert ArenaRules(mode=mode, similarity=similarity).cut(fitted) == expected  # type: ignore[arg-type]


def test_a_table_decodes_and_unknown_keys_are_refused() -> None:
    rules, problems = decode(ArenaRules, {"similarity": 1, "behaviour": False, "mode": "reference"}, "protocol.")
    assert problems == []
    assert rules is not None and rules.similarity == 1 and not rules.behaviour
    _, problems = decode(ArenaRules, {"behavior": False, "similarity": "high"}, "protocol.")
    assert problems


def test_reference_mode_needs_about_32k_and_corrected_fits_8k() -> None:
    assert 28_000 <= needed_context(ArenaRules(mode="reference")) <= 34_000
    assert 4_000 <= needed_context(ArenaRules()) <= 8_192
    small = ArenaRules(exchanges=2, max_decoder_rounds=1, max_tries=1, max_tokens=40)
    assert needed_context(small) <= 3_072
