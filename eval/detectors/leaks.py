"""Leaks: hidden wording of a case in a text that must not know it; pure.

Wording leaks as a run of `RUN` words (`copy`; of everyday words it takes `LONG_RUN`), as a run with one word exchanged
(`near copy`), as a whole short sentence (`short`), or as a proper name (`name`). Words are compared without case,
punctuation and endings, pronouns and forms of "to be" as one: "I am the last to be told" said back as "you are the last
to be told" is still a copy. What the patient has said before is no leak. A free paraphrase is beyond it.
"""

import functools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from eval.detectors.finding import Finding, finding, straight

RUN: Final = 6
"""Shared words in a row that make a copy, as in the engine's own check of feedback."""
SHORTEST: Final = 4
"""Words from which on a whole sentence of fewer than `RUN` makes a leak."""
MIN_CONTENT: Final = 2
"""Content words that a run must hold: everyday phrases have none or one."""
LONG_RUN: Final = 8
"""Words from which on a run is a copy with a single content word."""
GAP: Final = "_"

Key: TypeAlias = tuple[str, ...]
"""What leaked: the kind, then the folded words, `GAP` for one that was exchanged."""

_WORD: Final = re.compile(r"\w+(?:'\w+)?")
_TITLE: Final = re.compile(r"\b(?:Mrs?|Ms|Dr|Prof|St)\.")
_SENTENCE_END: Final = re.compile(r"[.!?;\n]+")
_PERSON: Final = "*i"
_BE: Final = "*be"
_FOLDED: Final = {
    **dict.fromkeys(
        "i you he she we they it me him her us them my your his its our their mine yours hers ours theirs myself"
        " yourself himself herself themselves oneself one".split(),
        _PERSON,
    ),
    **dict.fromkeys("am is are was were be been being".split(), _BE),
    **dict.fromkeys("has had having".split(), "have"),
    **dict.fromkeys("does did doing".split(), "do"),
    "cannot": "can",
}
_ENDINGS: Final = {"m": _BE, "re": _BE, "ve": "have", "ll": "will", "d": "would", "t": "not"}
_STOP: Final = frozenset(
    f"{_PERSON} {_BE} a about after again all also always an and any as at back because before but by can come could"
    " day did do down even ever every feel felt for from get go going good had have here how if in into just"
    " know last less let like little lot made make many may maybe might more most much must never no"
    " nobody not nothing now of off on once only or other out over own people really right said say see"
    " should so some somebody something soon still such take tell than that the then there these thing"
    " think this those though time to told too try until up very want way week well what when where"
    " which while who whole why will with without would".split()
)
_COMMON_NAMES: Final = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august"
    " september october november december christmas easter ramadan eid passover god i i'm i'd i've i'll mr mrs ms dr"
    " doctor professor english internet tv ok mum mom dad mother father".split()
)


class Hidden:
    """The hidden texts of one case, indexed; `name` is the patient's own, which anybody may say."""

    def __init__(self, texts: Sequence[str], name: str = "") -> None:
        self.keys: frozenset[Key] = frozenset(key for text in texts for key in _keys_of(text))
        self.names = frozenset(_names(texts)) - {word.casefold() for word in _WORD.findall(straight(name))}
        self._trigrams = frozenset(trigram for text in texts for _, trigram in _trigrams(_folded(text)))

    def spans(self, text: str) -> dict[Key, tuple[int, int]]:
        """Return what of the hidden texts a text repeats, each with its first span, in order of place."""
        words = _folded(text)
        found = dict(self._runs(words))
        if self.names:
            found |= self._named(text)
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def leak(self, text: str, said: Collection[Key] = ()) -> Finding | None:
        """Return the first leak of a text: what it repeats that is not in `said`. None when there is none."""
        return first_leak(text, self.spans(text), said)

    def _runs(self, words: Sequence["Word"]) -> Iterator[tuple[Key, tuple[int, int]]]:
        # Whatever leaks holds three words in a row, one of them of content: only around those is looked closely.
        hits = (place for place, trigram in _trigrams(words) if trigram in self._trigrams)
        starts = dict.fromkeys(start for place in hits for start in range(max(0, place - LONG_RUN), place + 1))
        for start in starts:
            for key, last in _candidates(words, start):
                if key in self.keys:
                    yield key, (words[start].start, words[last].end)

    def _named(self, text: str) -> dict[Key, tuple[int, int]]:
        found: dict[Key, tuple[int, int]] = {}
        for match in _WORD.finditer(straight(text)):
            name = match[0].casefold().removesuffix("'s")
            if match[0][0].isupper() and name in self.names:
                found.setdefault(("name", name), match.span())
        return found


class Word(msgspec.Struct, frozen=True, gc=False):
    """A folded word and the span of the text that it stands for."""

    text: str
    start: int
    end: int


def first_leak(text: str, spans: Mapping[Key, tuple[int, int]], said: Collection[Key]) -> Finding | None:
    """Return the first of a text's `Hidden.spans` that is not in `said`."""
    for key, (start, end) in spans.items():
        if key not in said:
            return finding(key[0], text, start, end)
    return None


@functools.lru_cache(maxsize=64)
def hidden_of(texts: tuple[str, ...], name: str = "") -> Hidden:
    """Return the index of a case's hidden texts; cached, for a case is played many times."""
    return Hidden(texts, name)


def content_words(text: str) -> list[str]:
    """Return the words of content of a text in order, as they are compared here: no pronouns, no everyday words."""
    return [word.text for word in _folded(text) if word.text not in _STOP]


def _folded(text: str) -> list[Word]:
    """Split a text into words as they are compared; a contraction gives two."""
    matches = _WORD.finditer(straight(text))
    return [Word(part, *match.span()) for match in matches for part in _parts(match[0])]


@functools.lru_cache(maxsize=1 << 16)
def _parts(word: str) -> tuple[str, ...]:
    """Return what a word is compared as."""
    stem, _, ending = word.casefold().partition("'")
    if ending == "t" and stem.endswith("n") and stem != "can":
        stem = stem[:-1]
    return tuple(_stem(part) for part in (stem, _second(stem, ending)) if part)


def _second(stem: str, ending: str) -> str:
    """Return the word that an ending after an apostrophe stands for, "" for a possessive."""
    if ending == "s":
        return _BE if _FOLDED.get(stem) == _PERSON or stem in ("that", "there", "what", "here", "who") else ""
    return _ENDINGS.get(ending, "")


def _stem(word: str) -> str:
    word = word if word.isascii() else unicodedata.normalize("NFKC", word).casefold()
    folded = _FOLDED.get(word)
    if folded is not None:
        return folded
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _candidates(words: Sequence[Word], first: int) -> Iterator[tuple[Key, int]]:
    """Yield each key that a text could leak by from the word `first` on, with the place of its last word."""
    texts = [word.text for word in words[first : first + LONG_RUN]]
    for size in (*range(SHORTEST, RUN + 1), LONG_RUN):
        run = texts[:size]
        least = MIN_CONTENT if size < LONG_RUN else 1
        if len(run) == size and _num_content(run) >= least:
            yield ("copy" if size >= RUN else "short", *run), first + size - 1
    run = texts[: RUN + 1]
    for gap in range(1, RUN) if len(run) == RUN + 1 else ():
        gapped = [*run[:gap], GAP, *run[gap + 1 :]]
        # The gap itself counts as one word of content: a near copy needs one more than a copy.
        if _num_content(gapped) > MIN_CONTENT + 1:
            yield ("near copy", *gapped), first + RUN


def _keys_of(text: str) -> Iterator[Key]:
    """Yield the keys of a hidden text. Of the runs shorter than a copy only whole sentences count."""
    words = _folded(text)
    for first in range(len(words)):
        yield from (key for key, _ in _candidates(words, first) if key[0] != "short")
    for sentence in _SENTENCE_END.split(text):
        short = [word.text for word in _folded(sentence)]
        if SHORTEST <= len(short) < RUN:
            yield ("short", *short)


def _num_content(words: Iterable[str]) -> int:
    return sum(word not in _STOP for word in words)


def _trigrams(words: Sequence[Word]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield every three words in a row that hold one of content, with their place."""
    texts = [word.text for word in words]
    for place in range(len(texts) - 2):
        trigram = tuple(texts[place : place + 3])
        if not _STOP.issuperset(trigram):
            yield place, trigram


def _names(texts: Iterable[str]) -> Iterator[str]:
    """Yield words that are capital inside sentences and nowhere small, folded."""
    capital: dict[str, None] = {}
    small: set[str] = set()
    for text in texts:
        for sentence in _SENTENCE_END.split(_TITLE.sub(" ", straight(text))):
            for match in _WORD.finditer(sentence):
                word = match[0].removesuffix("'s")
                if word[0].islower():
                    small.add(word.casefold())
                elif match.start() > 0 and len(word) > 2 and word.isalpha() and sentence[: match.start()].strip():
                    capital[word.casefold()] = None
    yield from (name for name in capital if name not in small and name not in _COMMON_NAMES)
