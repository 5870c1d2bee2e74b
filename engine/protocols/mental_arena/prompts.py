"""The texts of MentalArena: which files there are, and what each may fill in."""

from pathlib import Path
from typing import Final

from engine.protocols.texts import Catalog

_PATIENT: Final = (
    "name history cognition intermediate_belief intermediate_belief_depression coping_strategies core_beliefs "
    "situation auto_thought emotion behavior style principles sentences is_review"
)

_PLACEHOLDERS: Final = {
    "patient": _PATIENT,
    "opening": "",
    "therapist": "sentences",
    "therapist_turn": "",
    "guidance": "feedback",
    "judge": "",
    "principle_choice": "coping_strategies groups form",
    "probe_intermediate_belief": "",
    "probe_intermediate_belief_depression": "",
    "probe_coping_strategies": "",
    "probe_reaction": "situation",
    "probe_principles": "",
    "feedback_cognition": "items",
    "feedback_behaviour": "principles prediction",
    "feedback_again": "",
    "diagnosis": "earlier",
    "review": "first second",
    "verdict": "form review",
    "plan": "kind illness earlier is_repeat",
    "outcome": "kind plan state",
    "score": "profile kind plan outcome form",
    "extract": "treatment medicine form",
}

CATALOG: Final = Catalog(
    Path(__file__).parent / "prompts", {name: frozenset(words.split()) for name, words in _PLACEHOLDERS.items()}
)
