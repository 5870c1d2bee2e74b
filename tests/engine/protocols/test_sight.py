"""What protocols say their roles see, against what the roles are shown in scripted episodes."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.cases.schema import Case
from engine.protocol import EMBEDDER, ProtocolSpec, Rules, Setting, find_protocol
from engine.protocols.counseling import CounselingRules
from engine.protocols.exam import ExamRules
from engine.protocols.mental_arena.rules import ArenaRules
from engine.steps import Generate, Leaf, Reply
from eval.exam import PROTOCOL as ITEMS
from eval.judging import PROTOCOL as JUDGING
from eval.judging import spec_for
from eval.judging.rules import JudgeRules
from tests.engine.protocols.driving import make_case, make_groups, make_script, prompt, run
from tests.eval.judging.judges import make_transcript

PLAYED: dict[str, Rules] = {
    "mental_arena": ArenaRules(similarity=0.9, max_decoder_rounds=2, max_tries=2),
    "mental_arena undelivered": ArenaRules(similarity=0.9, max_decoder_rounds=1, feedback="undelivered"),
    "mental_arena reference": ArenaRules(mode="reference", similarity=0.9, max_decoder_rounds=1, max_tries=1),
    "counseling": CounselingRules(name="counseling", max_turns=3),
    "exam": ExamRules(),
}
TURNS = frozenset({"opening", "therapist_turn", "patient_turn"})


def grams(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Return the runs of eight words of texts."""
    found = [re.findall(r"\w+", text.lower()) for text in texts]
    return {tuple(words[at : at + 8]) for words in found for at in range(len(words) - 7)}


def texts_of(leaf: Generate) -> str:
    if leaf.purpose in TURNS:
        place = re.sub(r"\W+", " ", leaf.path)
        return f"At {place} I speak of the long way home over {place} and of nothing else that day."
    return f"words of {leaf.path}"


def shown(spec: ProtocolSpec, case: Case, rules: Rules) -> tuple[dict[str, list[str]], Any]:
    """Play an episode; return what each role and the embedder was shown, and the dialogue."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    answer = make_script(similarity=0.0, texts=texts_of)

    def script(leaf: Leaf) -> Any:
        if isinstance(leaf, Generate):
            found[leaf.role].append(prompt(leaf))
            return Reply("nothing") if leaf.purpose == "answer" else answer(leaf)
        found[EMBEDDER] += [text for pair in leaf.pairs for text in pair]
        return answer(leaf)

    setting = Setting(principles=make_groups(), cut=0.9)
    dialogue = run(spec.play(case, rules, seed=1, setting=setting), script)
    assert dialogue.error is None
    return dict(found), dialogue


def suited(name: str, rules: Rules) -> ProtocolSpec:
    spec = find_protocol(name, Path())
    return spec.suited(rules) if spec.suited is not None else spec


def hidden_of(case: Case, dialogue: Any) -> set[tuple[str, ...]]:
    choice = getattr(dialogue.outcome, "principles", None)
    principles = [text for group in make_groups() if choice and group.id == choice.chosen for text in group.principles]
    return grams([*case.hidden_texts, *case.core_beliefs, *principles]) - grams([case.situation])


@pytest.mark.parametrize("name", PLAYED)
def test_declarations_are_the_truth(name: str) -> None:
    rules, case = PLAYED[name], make_case(condition="depression")
    spec = suited(name.split()[0], rules)
    seen, dialogue = shown(spec, case, rules)
    hidden = hidden_of(case, dialogue)
    steps = [leaf for leaf in dialogue.in_order() if isinstance(leaf, Generate)]
    spoken = grams(texts_of(leaf) for leaf in steps if leaf.purpose in TURNS)
    assert hidden and (spoken or name == "exam")
    assert set(seen) == {*spec.roles, *([EMBEDDER] if spec.needs_embedder else [])}
    for who, texts in seen.items():
        sight = spec.sight(who)
        assert bool(grams(texts) & hidden) is sight.hidden, who
        assert bool(grams(texts) & spoken) is sight.transcript, who


def test_every_shipped_protocol_says_what_each_role_sees() -> None:
    for name in ("mental_arena", "counseling", "exam"):
        spec = find_protocol(name, Path())
        assert set(spec.sees) == {*spec.roles, *([EMBEDDER] if spec.needs_embedder else [])}
    assert set(ITEMS.sees) == {*ITEMS.roles, EMBEDDER}


@pytest.mark.parametrize("rubric", ["counselling", "faithfulness", "safety", "human_or_ai"])
def test_a_judge_is_said_to_see_the_case_where_its_rubric_shows_it(rubric: str) -> None:
    case = make_case()
    rules = JudgeRules(rubric=rubric, pipeline="panel", num_judges=2)
    spec = spec_for(rules)
    assert set(spec.sees) == set(spec.roles) == {"judge_1", "judge_2"}
    found: list[str] = []
    choose: Callable[[Generate], str] = lambda leaf: leaf.value.options[0] if leaf.value else "words"  # noqa: E731

    def script(leaf: Any) -> Reply:
        found.append(prompt(leaf))
        return Reply(choose(leaf))

    said = "I walked along the river for an hour and told nobody where I was going that evening."
    transcript = make_transcript(("therapist", "Go on."), ("patient", said), ("therapist", "And?"), case=case)
    dialogue = run(JUDGING.play(transcript, rules, seed=0, setting=Setting()), script)
    assert dialogue.error is None
    sight = spec.sight("judge_1")
    assert bool(grams(found) & grams(case.hidden_texts)) is sight.hidden is (rubric == "faithfulness")
    assert grams(found) & grams([said]) and sight.transcript
