"""The protocol `items`: what is asked, what is shown, what a reply comes to."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dialogue import Dialogue
from engine.protocol import Setting, find_protocol
from engine.steps import Choice, Generate, Leaf, Reply, Similarity
from eval.exam import MAX_CANDIDATES, PROTOCOL, ItemOutcome, facts, majority
from eval.exam.rules import WAYS, ItemRules
from eval.items import Item
from tests.engine.protocols.driving import asked, run
from tests.eval.exam.making import make_item, make_materials

Script = Callable[[Leaf], Any]


def sit(item: Item, script: Script, *, seed: int = 0, materials: Any = None, **rules: Any) -> Dialogue[ItemOutcome]:
    setting = Setting(shared=materials or make_materials())
    return run(PROTOCOL.play(item, ItemRules(**rules), seed=seed, setting=setting), script)


def says(text: str, finish: str = "stop") -> Script:
    return lambda leaf: Reply(text, finish=finish) if isinstance(leaf, Generate) else (0.5,) * len(leaf.pairs)


def outcome_of(dialogue: Dialogue[ItemOutcome]) -> ItemOutcome:
    assert dialogue.outcome is not None
    return dialogue.outcome


def texts_of(dialogue: Dialogue[ItemOutcome]) -> list[list[str]]:
    return [
        [message.text for message in leaf.view.messages()] for leaf in asked(dialogue) if isinstance(leaf, Generate)
    ]


def test_an_item_is_one_greedy_call_without_examples() -> None:
    dialogue = sit(make_item(2), says("C"))
    (leaf,) = asked(dialogue)
    assert isinstance(leaf, Generate) and leaf.sampling.temperature == 0 and leaf.value is None
    (texts,) = texts_of(dialogue)
    assert len(texts) == 2 and "A. Rash\nB. Deafness\nC. Palpitations\nD. Jaundice" in texts[1]
    outcome = outcome_of(dialogue)
    assert (outcome.gold, outcome.answer, outcome.votes[0].text) == ("C", "C", "C")


@pytest.mark.parametrize(("text", "finish"), [("", "stop"), ("I cannot say.", "stop"), ("A or B", "stop")])
def test_what_cannot_be_read_is_invalid_and_not_asked_again(text: str, finish: str) -> None:
    dialogue = sit(make_item(), says(text, finish))
    outcome = outcome_of(dialogue)
    assert outcome.answer is None and len(asked(dialogue)) == 1
    assert facts({"answer": None, "gold": "A"}) == {"accuracy": 0.0, "invalid": 1.0}


def test_a_constrained_item_offers_its_labels() -> None:
    (leaf,) = asked(sit(make_item(), says("B"), constrained=True))
    assert isinstance(leaf, Generate) and leaf.value == Choice(("A", "B", "C", "D"))


def test_examples_are_never_the_item_itself_and_are_shared_by_the_others() -> None:
    repeated = make_item(0, id="forms/7", line=7)
    for item in (make_item(0), repeated):
        (texts,) = texts_of(sit(item, says("A"), prompting="few_shot", num_shots=3))
        assert len(texts) == 8 and not any(item.question in text for text in texts[:-1])
        assert [texts[2], texts[4], texts[6]] == ["B", "C", "D"]
    views = [asked(sit(make_item(n), says("A"), prompting="few_shot", num_shots=3))[0] for n in (4, 5)]
    heads = [leaf.view.parent for leaf in views if isinstance(leaf, Generate)]
    assert heads[0] is not None and heads[1] is not None and heads[0].log is heads[1].log


def test_a_reply_that_reasons_is_read_at_its_end() -> None:
    text = "Option A is a leg bone, so it is out. The first thought was B.\nThe answer is C"
    (leaf,) = asked(dialogue := sit(make_item(2), says(text), prompting="cot"))
    assert isinstance(leaf, Generate) and "step by step" in leaf.view.message.text
    assert outcome_of(dialogue).answer == "C"
    assert outcome_of(sit(make_item(2), says(text, "length"), prompting="cot")).answer is None


def test_votes_are_sampled_and_the_majority_counts() -> None:
    replies = iter(("The answer is B", "no idea", "The answer is A", "The answer is B"))
    dialogue = sit(make_item(), lambda _: Reply(next(replies)), prompting="self_consistency", num_samples=4)
    assert {leaf.sampling.temperature for leaf in asked(dialogue) if isinstance(leaf, Generate)} == {0.7}
    outcome = outcome_of(dialogue)
    assert sorted(str(vote.answer) for vote in outcome.votes) == ["A", "B", "B", "None"] and outcome.answer == "B"


@given(st.lists(st.sampled_from(["A", "B", None]), max_size=9))
def test_the_majority_is_the_first_of_the_most_frequent(answers: list[str | None]) -> None:
    found, given_answers = majority(answers), [answer for answer in answers if answer]
    if not given_answers:
        assert found is None
    else:
        most = max(given_answers.count(answer) for answer in given_answers)
        assert found == next(answer for answer in given_answers if given_answers.count(answer) == most)


@given(st.integers(0, 1000))
def test_shuffled_options_are_read_back_into_the_items_order(seed: int) -> None:
    """Whatever order the options come in, who knows the right text is right."""

    def answer(leaf: Leaf) -> Any:
        if isinstance(leaf, Similarity):
            return (0.5,) * len(leaf.pairs)
        (line,) = [line for line in leaf.view.message.text.splitlines() if line.endswith(". Palpitations")]
        return Reply(f"The answer is {line[0]}")

    dialogue = sit(make_item(2), answer, seed=seed, prompting="medprompt", num_samples=5, num_shots=2)
    assert [vote.answer for vote in outcome_of(dialogue).votes] == ["C"] * 5


def test_the_nearest_examples_are_shown_first_and_a_large_pool_is_drawn_from() -> None:
    others = [make_item(1, id=f"forms/{n}", line=n, question=f"Question number {n}?") for n in range(10, 110)]
    nearest: list[str] = []

    def answer(leaf: Leaf) -> Any:
        if isinstance(leaf, Generate):
            return Reply("The answer is A")
        floats = tuple(float(pair[1].split()[2].rstrip("?")) / 200 for pair in leaf.pairs)
        assert len(floats) == MAX_CANDIDATES and {pair[0] for pair in leaf.pairs} == {make_item().question}
        nearest.extend(sorted((pair[1] for pair in leaf.pairs), key=lambda text: -int(text.split()[2].rstrip("?"))))
        return floats

    dialogue = sit(
        make_item(), answer, materials=make_materials(*others), prompting="medprompt", num_samples=1, num_shots=2
    )
    shown = texts_of(dialogue)[0]
    assert nearest[0] in shown[1] and nearest[1] in shown[3] and shown[2] == "B"


def test_only_a_way_that_needs_the_nearest_needs_an_embedder() -> None:
    assert PROTOCOL.suited is not None
    needing = [name for name in WAYS if PROTOCOL.suited(ItemRules(prompting=name)).needs_embedder]
    assert needing == ["medprompt"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"num_shots": 0}, "num_shots"),
        ({"num_samples": 0}, "num_samples"),
        ({"vote_temperature": 0.0}, "vote_temperature"),
        ({"constrained": True, "prompting": "cot"}, "constrained"),
    ],
)
def test_rules_out_of_range_are_named(changes: dict[str, Any], rule: str) -> None:
    (problem,) = ItemRules(**changes).problems()
    assert problem.startswith(f"protocol.{rule} must")


def test_the_protocol_is_found_by_name(tmp_path: Any) -> None:
    found = find_protocol("items", tmp_path)
    assert (found.name, found.session, found.roles) == (PROTOCOL.name, PROTOCOL.session, PROTOCOL.roles)
