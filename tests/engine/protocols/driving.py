"""A driver for tests: plays a protocol over `engine.dialogue.Dialogue` with scripted answers; no models, no time."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.cases.principles import PrincipleGroup
from engine.cases.schema import Case
from engine.dialogue import Answer, Dialogue
from engine.protocol import Setting
from engine.protocols.mental_arena.outcome import Outcome
from engine.protocols.mental_arena.rules import ArenaRules
from engine.protocols.mental_arena.session import mental_arena
from engine.steps import Fields, Generate, Leaf, Protocol, Reply

Script = Callable[[Leaf], Answer]

BEHAVIOR = "Left the meeting before it ended, bought two bottles on the way home and switched the telephone off."


def make_case(**changes: Any) -> Case:
    """Return a valid case, every gold field present."""
    fields: dict[str, Any] = {
        "id": "c1",
        "name": "Robin",
        "styles": ("plain", "reserved"),
        "history": "Robin grew up above a bakery in a small harbor town and was always the one who kept the peace.",
        "helpless_belief": ("I am powerless against what others decide.",),
        "unlovable_belief": ("I am bound to be left alone.",),
        "intermediate_belief": "If I do not hold everything together, then everyone will leave me sooner or later.",
        "intermediate_belief_depression": "Nothing I try will keep anybody near me, so trying at all is foolish.",
        "coping_strategies": "Robin works late every evening, says yes to each request and drinks wine to fall asleep.",
        "situation": "A colleague was praised in the weekly meeting for the report that Robin had written.",
        "auto_thought": "They have seen that I am replaceable, and nobody would notice if I stayed away.",
        "emotion": ("sad", "ashamed"),
        "behavior": BEHAVIOR,
    }
    return Case(**{**fields, **changes})


def make_groups(count: int = 6) -> tuple[PrincipleGroup, ...]:
    """Return principle groups, two principles each."""
    tones = ("slowly", "hastily", "quietly", "sharply", "vaguely", "warmly", "dryly", "shyly")
    return tuple(
        PrincipleGroup(
            f"g{number}",
            (
                f"Answer {tones[number]} and wait for a second question before you say what really hurts.",
                f"When family comes up, speak {tones[number]} of something else and return to it only much later.",
            ),
        )
        for number in range(count)
    )


def make_script(
    *,
    similarity: float = 1.0,
    score: str = "9",
    texts: Callable[[Generate], str] | None = None,
    values: dict[str, str] | None = None,
) -> Script:
    """Return a script: one similarity for all pairs, one score, the first option for choices; `texts` for the rest."""
    chosen = {"score": score, "principle_choice": "1", "verdict": "1", **(values or {})}

    def answer(leaf: Leaf) -> Answer:
        if not isinstance(leaf, Generate):
            return (similarity,) * len(leaf.pairs)
        if leaf.purpose in chosen:
            return Reply(chosen[leaf.purpose])
        if leaf.purpose == "extract":
            names = leaf.value.names if isinstance(leaf.value, Fields) else FOUR
            return Reply(json.dumps({name: f"a {name}" for name in names}))
        return Reply(texts(leaf) if texts is not None else say(leaf))

    return answer


FOUR = ("treatment", "explain_t", "medicine", "explain_m")


def say(leaf: Generate) -> str:
    """Return a reply that names its step and repeats nothing of any case."""
    if leaf.purpose == "diagnosis":
        return f"Diagnosis: Illness {leaf.path[-1]}\nBecause of what was said."
    return f"words of {leaf.path}"


def run(protocol: Protocol[Any], script: Script, *, newest_first: bool = False, stored: Any = None) -> Any:
    """Play a protocol to its end, answering the oldest open step first, or the newest."""
    dialogue: Dialogue[Any] = Dialogue(protocol, stored)
    waiting = dialogue.start()
    while waiting:
        leaf = waiting.pop(-1 if newest_first else 0)
        waiting += dialogue.deliver(leaf.path, script(leaf))
    return dialogue


def start(
    rules: ArenaRules | None = None,
    case: Case | None = None,
    *,
    seed: int = 1,
    groups: Sequence[PrincipleGroup] | None = None,
    prompts: Path | None = None,
    cut: float | None = None,
) -> Protocol[Outcome]:
    """Return a fresh MentalArena episode."""
    principles = make_groups() if groups is None else tuple(groups)
    setting = Setting(principles=principles, prompts=prompts, cut=cut)
    return mental_arena(case or make_case(), rules or ArenaRules(similarity=0.9), seed=seed, setting=setting)


def play(
    rules: ArenaRules | None = None, case: Case | None = None, *, script: Script | None = None, **more: Any
) -> Any:
    """Play one episode and return the dialogue; a failed episode fails the test."""
    dialogue = run(start(rules, case, **more), script or make_script())
    if dialogue.error is not None:
        raise dialogue.error
    return dialogue


def asked(dialogue: Dialogue[Any], purpose: str = "") -> list[Generate]:
    """Return the generations in program order, all or those of one purpose."""
    steps = [leaf for leaf in dialogue.in_order() if isinstance(leaf, Generate)]
    return [leaf for leaf in steps if purpose in ("", leaf.purpose)]


def by_role(dialogue: Dialogue[Any]) -> Counter[str]:
    """Count generations per role."""
    return Counter(leaf.role for leaf in asked(dialogue))


def prompt(leaf: Generate) -> str:
    """Return all a role saw, as one text."""
    return "\n".join(message.text for message in leaf.view.messages())
