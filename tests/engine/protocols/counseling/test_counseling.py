import ast
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engine.protocols.counseling as module
from engine.protocol import Setting, find_protocol
from engine.protocols.counseling import MARKER, PROTOCOL, CounselingRules
from engine.steps import Generate, Leaf, Reply
from tests.engine.protocols.driving import asked, make_case, prompt, run

ROOT = Path(__file__).parents[4]


def play(therapist: Callable[[int], str], **rules: Any) -> Any:
    """Play a session; `therapist` gives the text of its turn (1-based)."""

    def answer(leaf: Leaf) -> Reply:
        assert isinstance(leaf, Generate)
        number = int(leaf.path.split("/")[0])
        return Reply(therapist(number) if leaf.role == "therapist" else f"answer {number}")

    session = PROTOCOL.play(make_case(), CounselingRules(name="counseling", **rules), seed=0, setting=Setting())
    return run(session, answer)


def test_a_session_runs_to_max_turns() -> None:
    dialogue = play(lambda number: f"question {number}")
    assert (dialogue.outcome.turns, dialogue.outcome.ended_by) == (8, "max_turns")
    assert len(asked(dialogue)) == 16
    assert [leaf.role for leaf in asked(dialogue)] == ["therapist", "patient"] * 8


@pytest.mark.parametrize(
    "marker", [MARKER, "[End of the Session]", "Take care.\n[end of session]", "[ END OF SESSION ]"]
)
def test_the_therapist_ends_the_session(marker: str) -> None:
    dialogue = play(lambda number: f"Goodbye. {marker}" if number == 4 else "Go on.")
    assert (dialogue.outcome.turns, dialogue.outcome.ended_by) == (3, "therapist")
    assert len(asked(dialogue)) == 7


def test_a_marker_before_the_patient_has_spoken_is_cut_and_ends_nothing() -> None:
    dialogue = play(lambda number: f"Welcome! {MARKER}" if number == 1 else "Go on.", max_turns=2)
    assert dialogue.outcome.turns == 2
    heard = dialogue.steps["1/patient"]
    assert isinstance(heard, Generate) and heard.view.message.text == "Welcome!"


def test_a_first_turn_of_nothing_but_the_marker_ends_the_session() -> None:
    dialogue = play(lambda number: MARKER)
    assert (dialogue.outcome.turns, dialogue.outcome.ended_by) == (0, "therapist")


def test_views_are_separate_and_grow_at_their_end() -> None:
    steps = asked(play(lambda number: f"question {number}"))
    for leaf in steps:
        assert ("harbor town" in prompt(leaf)) == (leaf.role == "patient")
    for role in ("therapist", "patient"):
        for one, two in itertools.pairwise(leaf for leaf in steps if leaf.role == role):
            assert two.view.messages()[: len(one.view.messages())] == one.view.messages()


def test_rules_list_their_problems() -> None:
    problems = CounselingRules(max_turns=0, reply_sentences=99, temperature=3).problems()
    assert len(problems) == 3 and all("must be" in problem and "got" in problem for problem in problems)


def test_extremes_and_figures() -> None:
    counts = {}
    for extreme in PROTOCOL.extremes:
        session = PROTOCOL.play(make_case(), CounselingRules(), seed=0, setting=Setting())
        dialogue = run(session, lambda leaf, chosen=extreme: Reply(chosen.answer(leaf) or "word " * 50))  # type: ignore[misc]
        counts[extreme.name] = len(asked(dialogue))
    assert counts == {"shortest": 3, "longest": 16}
    assert PROTOCOL.facts is not None and PROTOCOL.warnings is not None
    assert PROTOCOL.facts({"turns": 3, "ended_by": "therapist"}) == {"exchanges": 3.0, "ended by therapist": 1.0}
    full = {"turns": 8, "ended_by": "max_turns"}
    assert "no session was ended by the therapist" in PROTOCOL.warnings([full] * 8)[0]
    assert PROTOCOL.warnings([full] * 7) == []
    assert PROTOCOL.warnings([full] * 8 + [{"turns": 1, "ended_by": "therapist"}]) == []


@pytest.mark.parametrize("path", [Path(module.__file__), ROOT / "examples" / "my_protocol.py"])
def test_neither_needs_anything_of_mental_arena(path: Path) -> None:
    imported = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert imported and not any("mental_arena" in name for name in imported)


def test_the_protocol_is_found_by_name(tmp_path: Path) -> None:
    assert find_protocol("counseling", tmp_path) is PROTOCOL
