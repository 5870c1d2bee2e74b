"""Fits the similarity cut to an embedder: paraphrases of a gold field beside their own gold, and beside that of others.

A genuine pair is a careful paraphrase of a case's field beside that field; a foreign pair is the same paraphrase beside
the field of another case. The cut is where the two are told apart best. What fits here holds for one embedder only.
"""

import hashlib
import json
import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.backend import Embedder
from engine.cases.loaders import load_cases
from engine.cases.principles import PrincipleGroup, load_principles
from engine.cases.schema import Case
from engine.protocol import Rules
from engine.protocols.mental_arena.outcome import FIELDS
from engine.protocols.mental_arena.persona import gold_texts
from engine.protocols.mental_arena.rules import ArenaRules

PARAPHRASES: Final = "bundled/paraphrases.json"
LEVELS: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
VERSION: Final = 1
"""Part of the cache key: raised when the fit itself changes."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A cut (cosine), and the shares of genuine and of foreign pairs at or above it."""

    value: float
    genuine_accepted: float
    foreign_accepted: float

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the share of genuine pairs accepted and of foreign pairs refused."""
        return (self.genuine_accepted + 1 - self.foreign_accepted) / 2


class Pair(msgspec.Struct, frozen=True, gc=False):
    """A text and a gold text of one field; `is_genuine` when the text paraphrases this very gold."""

    field: str
    text: str
    gold: str
    is_genuine: bool


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of cosines: how many, and the quantiles at `LEVELS`."""

    count: int
    quantiles: tuple[float, ...]


class FieldFit(msgspec.Struct, frozen=True, kw_only=True):
    """Both distributions of one field, and the cut that would fit this field alone."""

    field: str
    genuine: Spread
    foreign: Spread
    cut: Cut


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The cut fitted to one embedder over all fields, and what it rests on. `texts` is the digest of the pairs."""

    embedder: str
    texts: str
    cut: Cut
    genuine: Spread
    foreign: Spread
    fields: tuple[FieldFit, ...]


def fit_cut(genuine: Sequence[float], foreign: Sequence[float]) -> Cut:
    """Return the cut of the highest balanced accuracy: the middle of its gap.

    Of equals the widest gap wins, then the lowest.
    Raises ValueError when one of the two is empty.
    """
    if not genuine or not foreign:
        raise ValueError(f"both samples must hold a value, got {len(genuine)} genuine and {len(foreign)} foreign")
    own, others = sorted(genuine), sorted(foreign)
    levels = sorted({*own, *others})
    # A cut at the lowest value accepts everything: what is left when no gap tells the two apart.
    best, best_key = _cut_at(levels[0], own, others), (0.5, 0.0)
    for low, high in zip(levels, levels[1:], strict=False):
        cut = _cut_at(low + (high - low) / 2, own, others)
        # Rounded, so that the noise of floating point decides nothing.
        key = (round(cut.balanced_accuracy, 9), round(high - low, 9))
        if key > best_key:
            best, best_key = cut, key
    return best


def _cut_at(value: float, genuine: Sequence[float], foreign: Sequence[float]) -> Cut:
    """Return the shares accepted at a cut; both samples are sorted."""
    return Cut(
        value=value,
        genuine_accepted=1 - bisect_left(genuine, value) / len(genuine),
        foreign_accepted=1 - bisect_left(foreign, value) / len(foreign),
    )


def calibration_pairs(
    cases: Sequence[Case], principles: Sequence[PrincipleGroup], paraphrases: Mapping[str, Any]
) -> list[Pair]:
    """Return every paraphrase beside its own gold and beside the gold of all others, field by field.

    `paraphrases` is `{"cases": {case: {field: [text]}}, "principles": {group: [text]}}`. Empty golds, and other cases
    with the very same gold, are left out.
    """
    golds: dict[str, dict[str, str]] = {field: {} for field in FIELDS}
    texts: dict[str, dict[str, Sequence[str]]] = {field: {} for field in FIELDS}
    for case in cases:
        for field, gold in gold_texts(case, ()).items():
            golds[field][case.id] = gold
            texts[field][case.id] = paraphrases["cases"].get(case.id, {}).get(field, ())
    golds["principles"] = {group.id: " ".join(group.principles) for group in principles}
    texts["principles"] = {group.id: paraphrases["principles"].get(group.id, ()) for group in principles}
    return [pair for field in FIELDS for pair in _field_pairs(field, golds[field], texts[field])]


def _field_pairs(field: str, golds: Mapping[str, str], texts: Mapping[str, Sequence[str]]) -> Iterator[Pair]:
    for owner, own in golds.items():
        for text in texts[owner] if own else ():
            yield Pair(field, text, own, True)
            yield from (Pair(field, text, gold, False) for gold in golds.values() if gold and gold != own)


def bundled_pairs() -> list[Pair]:
    """Return the pairs of the bundled cases and principles."""
    source = resources.files("engine.cases").joinpath(PARAPHRASES).read_text(encoding="utf-8")
    return calibration_pairs(load_cases("bundled", seed=0), load_principles("bundled"), json.loads(source))


async def calibrate(embedder: Embedder, pairs: Sequence[Pair] | None = None) -> Calibration:
    """Embed the pairs (the bundled ones unless given) with a started embedder and fit the cut.

    Raises EmbeddingFailed.
    """
    chosen = bundled_pairs() if pairs is None else pairs
    cosines = await embedder.similarities([(pair.text, pair.gold) for pair in chosen])
    return make_calibration(embedder.identity, chosen, cosines)


def make_calibration(identity: str, pairs: Sequence[Pair], cosines: Sequence[float]) -> Calibration:
    """Return the calibration that these cosines give."""
    measured = list(zip(pairs, cosines, strict=True))

    def of(field: str | None, is_genuine: bool) -> list[float]:
        return [x for pair, x in measured if pair.is_genuine == is_genuine and field in (None, pair.field)]

    fields = [field for field in FIELDS if of(field, True) and of(field, False)]
    return Calibration(
        embedder=identity,
        texts=pairs_digest(pairs),
        cut=fit_cut(of(None, True), of(None, False)),
        genuine=spread(of(None, True)),
        foreign=spread(of(None, False)),
        fields=tuple(
            FieldFit(
                field=field,
                genuine=spread(of(field, True)),
                foreign=spread(of(field, False)),
                cut=fit_cut(of(field, True), of(field, False)),
            )
            for field in fields
        ),
    )


def spread(values: Sequence[float]) -> Spread:
    """Return the quantiles, linear between neighbors."""
    ordered = sorted(values)
    places = [level * (len(ordered) - 1) for level in LEVELS]
    after = [ordered[min(int(place) + 1, len(ordered) - 1)] for place in places]
    found = [ordered[int(p)] + (p - int(p)) * (b - ordered[int(p)]) for p, b in zip(places, after, strict=True)]
    return Spread(count=len(ordered), quantiles=tuple(round(value, 6) for value in found))


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """Return the SHA-256 (hexadecimal) of the pairs."""
    return hashlib.sha256(msgspec.json.encode([VERSION, pairs])).hexdigest()


SHIPPED: Final = Path(__file__).parent / "cuts"
"""Calibrations that come with the package: that of the bundled embedder on the bundled texts."""


async def load_or_fit(embedder: Embedder, cache_dir: Path) -> Calibration:
    """Return the calibration kept for this embedder and these texts, or fit and keep one. Raises EmbeddingFailed."""
    pairs = bundled_pairs()
    key = hashlib.sha256(f"{embedder.identity}\0{pairs_digest(pairs)}".encode()).hexdigest()[:24]
    path = cache_dir / f"cut-{key}.json"
    kept = _read(SHIPPED / path.name) or _read(path)
    if kept is None or kept.embedder != embedder.identity:
        kept = await calibrate(embedder, pairs)
        _write(path, kept)
    return kept


def _read(path: Path) -> Calibration | None:
    """Return what is kept; a file that cannot be read is as good as none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, calibration: Calibration) -> None:
    """Keep a calibration; readers see all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False) as file:
        file.write(msgspec.json.format(msgspec.json.encode(calibration)))
    os.replace(file.name, path)


async def fit(rules: Rules, embedder: Embedder, cache_dir: Path) -> float | None:
    """Return the cut for rules that leave it to the embedder, None where they give one or nothing is decoded."""
    if not isinstance(rules, ArenaRules) or not rules.num_probes or rules.cut(None)[1] != "unfitted":
        return None
    return (await load_or_fit(embedder, cache_dir)).cut.value


def calibration_lines(calibration: Calibration) -> list[str]:
    """Return the calibration as lines of plain text for a terminal."""
    head = f"{'field':<32}{'pairs':>8}" + "".join(f"{f'p{level * 100:.0f}':>8}" for level in LEVELS)
    lines = [f"embedder {calibration.embedder}", "", head]
    for one in calibration.fields:
        lines.append(_spread_line(f"{one.field}, genuine", one.genuine))
        lines.append(_spread_line(f"{one.field}, foreign", one.foreign) + f"   own cut {one.cut.value:.3f}")
    lines.append(_spread_line("all fields, genuine", calibration.genuine))
    lines.append(_spread_line("all fields, foreign", calibration.foreign))
    cut = calibration.cut
    return [
        *lines,
        "",
        f"cut {cut.value:.3f}: {1 - cut.genuine_accepted:.1%} of genuine pairs refused, "
        f"{cut.foreign_accepted:.1%} of foreign pairs accepted, balanced accuracy {cut.balanced_accuracy:.1%}",
    ]


def _spread_line(name: str, values: Spread) -> str:
    short = name.replace("intermediate_belief_depression", "belief_depression")
    return f"{short:<32}{values.count:>8}" + "".join(f"{value:>8.3f}" for value in values.quantiles)
