"""The decoder loop against the bundled embedding model: how soon fields are understood decides how long it runs."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import pytest

from actors.embedder import embed_texts, identify_embedder
from engine.cases import load_cases, load_principles
from engine.cases.schema import Case
from engine.protocols.mental_arena.calibration import PARAPHRASES, Calibration, calibration_pairs, make_calibration
from engine.protocols.mental_arena.outcome import FIELDS
from engine.protocols.mental_arena.persona import gold_texts
from engine.protocols.mental_arena.rules import ArenaRules
from engine.steps import Generate, Leaf, Reply, Similarity
from tests.engine.protocols.driving import make_script, run, start

MODEL = "minilm"
NUM_CASES = 8
"""Cases in the fit: few, to keep the test short."""

OFF_TOPIC = "The parking lot was full this morning, and the elevator to the third floor is being repaired."
CASES = load_cases("bundled", seed=0)
GROUPS = tuple(load_principles("bundled"))
TEXTS: dict[str, Any] = json.loads(resources.files("engine.cases").joinpath(PARAPHRASES).read_text("utf-8"))


class Embedding:
    """The bundled model in this process; every text is embedded once."""

    def __init__(self) -> None:
        self._vectors: dict[str, Any] = {}

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        new = [text for text in dict.fromkeys(text for pair in pairs for text in pair) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, embed_texts(MODEL, new), strict=True))
        return tuple(float(self._vectors[one] @ self._vectors[two]) for one, two in pairs)


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    return Embedding()


@pytest.fixture(scope="module")
def fitted(embedding: Embedding) -> Calibration:
    pairs = calibration_pairs(CASES[:NUM_CASES], GROUPS, TEXTS)
    return make_calibration(identify_embedder(MODEL), pairs, embedding.cosines([(p.text, p.gold) for p in pairs]))


def best_group(case: Case, embedding: Embedding) -> str:
    """Return the group that ranks first for the case."""
    pairs = [(principle, case.coping_strategies) for group in GROUPS for principle in group.principles]
    cosines = embedding.cosines(pairs)
    return [group.id for group in GROUPS for _ in group.principles][cosines.index(max(cosines))]


def understood(case: Case, embedding: Embedding, cut: float) -> dict[str, str]:
    """Return per field a bundled paraphrase that reaches the cut; fields without one are left out."""
    group = best_group(case, embedding)
    gold = gold_texts(case, next(one.principles for one in GROUPS if one.id == group))
    options = {**TEXTS["cases"][case.id], "principles": TEXTS["principles"][group]}
    scored = {
        field: [(embedding.cosines([(text, gold[field])])[0], text) for text in options[field]] for field in FIELDS
    }
    return {field: max(found)[1] for field, found in scored.items() if max(found)[0] >= cut}


def play_understanding(case: Case, num_first: int, embedding: Embedding, cut: float) -> Any:
    """Play a therapist who understands `num_first` fields at first and one more after every exchange."""
    script = make_script()
    paraphrases = understood(case, embedding, cut)

    def answer(leaf: Leaf) -> Any:
        if isinstance(leaf, Similarity):
            return embedding.cosines(leaf.pairs)
        if isinstance(leaf, Generate) and leaf.purpose == "probe":
            _, number, _, probe = leaf.path.split("/")
            is_understood = int(probe) <= num_first + int(number) - 1
            return Reply(paraphrases[FIELDS[int(probe) - 1]] if is_understood else OFF_TOPIC)
        return script(leaf)

    return run(start(ArenaRules(), case, groups=GROUPS, cut=cut), answer)


def test_paraphrases_and_foreign_texts_are_told_apart(fitted: Calibration) -> None:
    assert fitted.cut.balanced_accuracy > 0.7
    assert fitted.genuine.quantiles[2] > fitted.cut.value > fitted.foreign.quantiles[2]


@pytest.mark.parametrize(("num_first", "rounds"), [(0, 5), (3, 2), (5, 0)])
def test_the_loop_ends_when_every_field_is_understood(
    num_first: int, rounds: int, fitted: Calibration, embedding: Embedding
) -> None:
    cut = fitted.cut.value
    case = next(case for case in CASES[:NUM_CASES] if len(understood(case, embedding, cut)) == len(FIELDS))
    outcome = play_understanding(case, num_first, embedding, cut).outcome
    assert outcome.cut_source == "fitted"
    assert outcome.num_guided == rounds
    assert [len(one.deviating) for one in outcome.rounds] == list(range(5 - num_first, -1, -1))
