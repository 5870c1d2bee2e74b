import subprocess
import sys
from typing import Any

import pytest

from engine.protocol import Extreme, Setting, find_protocol
from engine.protocols.mental_arena import PROTOCOL
from engine.protocols.mental_arena.rules import ArenaRules
from engine.steps import Generate, Leaf, Reply
from tests.engine.protocols.driving import by_role, make_case, make_groups, run


def play_extreme(extreme: Extreme, rules: ArenaRules) -> Any:
    def answer(leaf: Leaf) -> Any:
        if not isinstance(leaf, Generate):
            return (extreme.similarity,) * len(leaf.pairs)
        text = extreme.answer(leaf)
        return Reply("word " * 100 if text is None else text)

    setting = Setting(principles=make_groups())
    return run(PROTOCOL.play(make_case(), rules, seed=0, setting=setting), answer)


@pytest.mark.parametrize(
    ("mode", "calls"),
    [("corrected", {"shortest": 26, "longest": 107}), ("reference", {"shortest": 26, "longest": 109})],
)
def test_extremes_bound_an_episode(mode: str, calls: dict[str, int]) -> None:
    found = {}
    for extreme in PROTOCOL.extremes:
        dialogue = play_extreme(extreme, ArenaRules(mode=mode))  # type: ignore[arg-type]
        assert dialogue.error is None
        found[extreme.name] = by_role(dialogue).total()
    assert found == calls


@pytest.mark.parametrize("rules", [ArenaRules(behaviour=False), ArenaRules(cognition=False), ArenaRules(decoder=False)])
def test_extremes_play_with_switches_off(rules: ArenaRules) -> None:
    short, long = (by_role(play_extreme(extreme, rules)).total() for extreme in PROTOCOL.extremes)
    assert short < long


def test_the_protocol_is_found_by_name_and_declares_its_files(tmp_path: Any) -> None:
    assert find_protocol("mental_arena", tmp_path) is PROTOCOL
    assert PROTOCOL.texts and all(path.is_file() for path in PROTOCOL.texts)
    assert len({path.name for path in PROTOCOL.texts}) == len(PROTOCOL.texts)


def test_finding_the_protocol_loads_nothing_heavy() -> None:
    heavy = ("jinja2", "ray", "vllm", "torch", "transformers", "pyarrow")
    show = f"print(m.PROTOCOL.name, *(name for name in {heavy} if name in sys.modules))"
    code = f"import sys, engine.protocols.mental_arena as m; {show}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["mental_arena"]
