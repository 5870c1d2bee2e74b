import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocols.mental_arena import calibration as calib
from engine.protocols.mental_arena.calibration import (
    bundled_pairs,
    calibrate,
    calibration_lines,
    calibration_pairs,
    fit,
    fit_cut,
    load_or_fit,
    spread,
)
from engine.protocols.mental_arena.outcome import FIELDS
from engine.protocols.mental_arena.rules import ArenaRules
from tests.engine.protocols.driving import make_case, make_groups

COSINES = st.lists(st.integers(-100, 100).map(lambda number: number / 100), min_size=1, max_size=30)


class WordOverlap:
    """An embedder of bags of words: real cosines without a model."""

    def __init__(self) -> None:
        self.num_batches = 0

    @property
    def identity(self) -> str:
        return "bag-of-words 1"

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def similarities(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        self.num_batches += 1
        return tuple(self._cosine(set(one.lower().split()), set(two.lower().split())) for one, two in pairs)

    def _cosine(self, one: set[str], two: set[str]) -> float:
        return float(len(one & two) / (len(one) * len(two)) ** 0.5)


def test_the_cut_lies_in_the_middle_of_a_clean_gap() -> None:
    cut = fit_cut([0.5, 0.6, 0.9], [0.1, 0.2, 0.3])
    assert cut.value == pytest.approx(0.4)
    assert (cut.genuine_accepted, cut.foreign_accepted, cut.balanced_accuracy) == (1, 0, 1)


def test_overlapping_samples_give_their_error_rates() -> None:
    cut = fit_cut([0.2, 0.6, 0.7, 0.8], [0.1, 0.3, 0.4, 0.65])
    assert cut.value == pytest.approx(0.5)
    assert (cut.genuine_accepted, cut.foreign_accepted) == (0.75, 0.25)


def test_equals_are_decided_by_the_widest_gap_then_the_lowest() -> None:
    assert fit_cut([0.3, 0.9], [0.1, 0.7]).value == pytest.approx(0.2)
    assert fit_cut([0.3, 0.9], [0.2, 0.5]).value == pytest.approx(0.7)


def test_samples_that_do_not_differ_accept_everything() -> None:
    cut = fit_cut([0.4, 0.4], [0.4])
    assert (cut.value, cut.balanced_accuracy) == (0.4, 0.5)


@given(COSINES, COSINES, st.randoms(use_true_random=False))
def test_no_cut_is_better_and_order_does_not_matter(
    genuine: list[float], foreign: list[float], chance: random.Random
) -> None:
    cut = fit_cut(genuine, foreign)
    shuffled = (chance.sample(genuine, len(genuine)), chance.sample(foreign, len(foreign)))
    assert fit_cut(*shuffled) == cut
    for level in {*genuine, *foreign}:
        accepted = sum(x >= level for x in genuine) / len(genuine)
        refused = sum(x < level for x in foreign) / len(foreign)
        assert (accepted + refused) / 2 <= cut.balanced_accuracy + 1e-9


@pytest.mark.parametrize(("genuine", "foreign"), [([], [0.1]), ([0.1], [])])
def test_an_empty_sample_is_refused(genuine: list[float], foreign: list[float]) -> None:
    with pytest.raises(ValueError, match="both samples must hold a value"):
        fit_cut(genuine, foreign)


def test_spread_is_the_quantiles() -> None:
    assert spread([0.0, 1.0]).quantiles == (0.05, 0.25, 0.5, 0.75, 0.95)
    assert spread([0.5]).quantiles == (0.5,) * 5


def test_pairs_are_paraphrases_beside_their_own_gold_and_beside_that_of_others() -> None:
    cases = [make_case(id="a"), make_case(id="b", intermediate_belief="Rest is for the weak.", coping_strategies="")]
    groups = make_groups(2)
    texts = {
        "cases": {"a": {"intermediate_belief": ["p1", "p2"], "reaction": ["p3"]}, "b": {"coping_strategies": ["p4"]}},
        "principles": {"g1": ["p5"]},
    }
    pairs = calibration_pairs(cases, groups, texts)
    found = [(pair.field, pair.text, pair.is_genuine) for pair in pairs]
    assert found == [
        ("intermediate_belief", "p1", True),
        ("intermediate_belief", "p1", False),
        ("intermediate_belief", "p2", True),
        ("intermediate_belief", "p2", False),
        ("reaction", "p3", True),  # both cases reacted alike: no foreign pair; an empty gold gives none either
        ("principles", "p5", True),
        ("principles", "p5", False),
    ]
    assert pairs[0].gold == cases[0].intermediate_belief and pairs[1].gold == "Rest is for the weak."
    assert pairs[4].gold.splitlines()[1] == "Emotions: sad; ashamed"


def test_the_bundled_pairs_cover_every_field_both_ways() -> None:
    pairs = bundled_pairs()
    for field in FIELDS:
        kinds = {pair.is_genuine for pair in pairs if pair.field == field}
        assert kinds == {True, False}
    assert all(pair.text.strip() and pair.gold.strip() for pair in pairs)


async def test_a_calibration_keeps_both_distributions_and_who_embedded() -> None:
    found = await calibrate(WordOverlap())
    assert found.embedder == "bag-of-words 1"
    assert [one.field for one in found.fields] == list(FIELDS)
    assert found.genuine.quantiles[2] > found.foreign.quantiles[2]
    assert sum(one.genuine.count for one in found.fields) == found.genuine.count
    lines = calibration_lines(found)
    assert lines[-1].startswith(f"cut {found.cut.value:.3f}:") and max(map(len, lines)) < 120


def kept_files(path: Path) -> list[Path]:
    return list(path.iterdir())


async def test_a_kept_calibration_is_read_again_and_a_damaged_one_is_fitted_again(tmp_path: Path) -> None:
    embedder = WordOverlap()
    first = await load_or_fit(embedder, tmp_path / "cache")
    assert await load_or_fit(embedder, tmp_path / "cache") == first
    assert embedder.num_batches == 1
    (kept,) = kept_files(tmp_path / "cache")
    kept.write_bytes(kept.read_bytes()[:100])
    assert await load_or_fit(embedder, tmp_path / "cache") == first
    assert embedder.num_batches == 2
    assert kept_files(tmp_path / "cache") == [kept]


async def test_another_text_is_another_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = WordOverlap()
    await load_or_fit(embedder, tmp_path)
    fewer = bundled_pairs()[:-1]
    monkeypatch.setattr(calib, "bundled_pairs", lambda: fewer)
    await load_or_fit(embedder, tmp_path)
    assert len(kept_files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("rules", "is_fitted"),
    [
        (ArenaRules(), True),
        (ArenaRules(similarity=0.5), False),
        (ArenaRules(mode="reference"), False),
        (ArenaRules(decoder=False), False),
    ],
)
async def test_a_cut_is_fitted_only_where_the_rules_leave_it_open(
    rules: ArenaRules, is_fitted: bool, tmp_path: Path
) -> None:
    cut = await fit(rules, WordOverlap(), tmp_path)
    assert (cut is not None) == is_fitted


async def test_the_shipped_cut_is_that_of_the_bundled_texts() -> None:
    """A changed text must come with a new file: `sandplay calibrate` on an empty cache writes it."""
    shipped = [
        msgspec.json.decode(path.read_bytes(), type=calib.Calibration) for path in calib.SHIPPED.glob("cut-*.json")
    ]
    assert [calibration.texts for calibration in shipped] == [calib.pairs_digest(calib.bundled_pairs())]
