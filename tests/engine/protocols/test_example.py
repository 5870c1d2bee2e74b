"""The protocol of one's own that the documentation quotes."""

from pathlib import Path

from engine.protocol import Rules, Setting, find_protocol
from engine.steps import Generate, Reply
from tests.engine.protocols.driving import asked, make_case, run

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_it_is_found_by_file_and_function_and_plays() -> None:
    spec = find_protocol("my_protocol.py:listening", EXAMPLES)
    rules = spec.rules(name="my_protocol.py:listening", options={"turns": 2})
    dialogue = run(
        spec.play(make_case(), rules, seed=0, setting=Setting()),
        lambda leaf: Reply(f"words of {leaf.path}"),
    )
    assert dialogue.outcome == {"turns": 2, "closing": "words of closing"}
    assert [leaf.role for leaf in asked(dialogue)] == ["patient", "listener"] * 2 + ["patient"]
    last = dialogue.steps["closing"]
    assert isinstance(last, Generate) and last.view.message.role == "user"
    assert spec.roles == ("patient", "listener") and spec.rules is Rules
    assert spec.texts == (EXAMPLES / "my_protocol.py",)


def test_it_is_short() -> None:
    assert len((EXAMPLES / "my_protocol.py").read_text().splitlines()) < 30
