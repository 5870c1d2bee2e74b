"""Overlap of exam items with a training corpus: which items were read before they were asked; pure.

An item overlaps where `long` of its words in a row (13) occur in a corpus text, or `short` (8) for an item that has
fewer than 13. Source: GPT-3 (Brown et al. 2020, appendix C), which takes between 8 and 13 words, ignoring case and
punctuation: fewer collide by chance, more miss copies that were edited. Invariant: the items' n-grams are the table
and the corpus streams through it, so that memory grows with the exam and never with the corpus. Knows nothing of what
an item's text holds: give the question with its options, without the prompt around it.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from engine.errors import InputError

LONG: Final = 13
SHORT: Final = 8
MAX_SOURCES: Final = 5

_APOSTROPHE: Final = str.maketrans("", "", "'\u2019\u02bc")
# Scripts written without spaces count each character as a word.
_WORD: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    r"|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)


class ItemOverlap(msgspec.Struct, frozen=True, kw_only=True):
    """What of one item occurs in the corpus.

    `longest` is the longest run of its words that one text holds, 0 where there is none of the n-gram's length.
    `covered` of its `num_words` lie in any such run. `num_sources` texts hold one, `sources` names the first few.
    """

    id: str
    num_words: int
    longest: int
    covered: int
    num_sources: int
    sources: tuple[str, ...]


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """What of an exam occurs in a corpus of `num_texts`; `num_too_short` items have too few words to be checked."""

    long: int
    short: int
    num_texts: int
    num_too_short: int
    items: tuple[ItemOverlap, ...]

    @property
    def overlapping(self) -> tuple[ItemOverlap, ...]:
        """The items that occur, in the exam's order."""
        return tuple(item for item in self.items if item.longest)

    @property
    def share(self) -> float | None:
        """Share of the checked items that occur, None where none could be checked."""
        return len(self.overlapping) / len(self.items) if self.items else None


class _Item:
    """One item while the corpus streams through."""

    def __init__(self, name: str, words: Sequence[str], size: int) -> None:
        self.id, self.num_words, self.size = name, len(words), size
        self.longest = self.num_sources = 0
        self.covered = bytearray(len(words))
        self.sources: list[str] = []

    def see(self, begin: int, run: int) -> None:
        """Note that the n-gram at `begin` occurs, the last of `run` of them in a row."""
        self.longest = max(self.longest, self.size + run - 1)
        self.covered[begin : begin + self.size] = b"\1" * self.size

    def name_source(self, source: str) -> None:
        self.num_sources += 1
        if len(self.sources) < MAX_SOURCES:
            self.sources.append(source)

    def result(self) -> ItemOverlap:
        return ItemOverlap(
            id=self.id,
            num_words=self.num_words,
            longest=self.longest,
            covered=sum(self.covered),
            num_sources=self.num_sources,
            sources=tuple(self.sources),
        )


class _Table:
    """The n-grams of one length: where each occurs, as (number of the item, position of the n-gram's first word), and
    every two words in a row."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self.pairs: set[tuple[str, str]] = set()

    def add(self, number: int, spoken: Sequence[str]) -> None:
        self.pairs.update(pairwise(spoken))
        for begin in range(len(spoken) - self.size + 1):
            self.places[" ".join(spoken[begin : begin + self.size])].append((number, begin))

    def find(self, spoken: Sequence[str]) -> Iterator[tuple[int, Sequence[tuple[int, int]]]]:
        """Yield the position in a text of each n-gram that occurs, and its places in the items."""
        begin, size = 0, self.size
        while begin + size <= len(spoken):
            end = begin + size
            if (spoken[end - 2], spoken[end - 1]) not in self.pairs:
                # No n-gram that holds these two words is an item's: the next that can be begins at the second.
                begin = end - 1
                continue
            if places := self.places.get(" ".join(spoken[begin:end])):
                yield begin, places
            begin += 1


class OverlapCheck:
    """The n-grams of an exam's items, (id, text) each, which texts are read against one by one.

    Raises InputError for lengths that are not 2 <= short <= long, or an id that comes twice.
    """

    def __init__(self, items: Iterable[tuple[str, str]], *, long: int = LONG, short: int = SHORT) -> None:
        if not 2 <= short <= long:
            raise InputError(f"n-grams must be 2 <= short <= long, got {short} and {long}: correct the lengths")
        self._long, self._short = long, short
        self._num_texts = self._num_too_short = 0
        self._items: list[_Item] = []
        self._tables: dict[int, _Table] = {}
        self._add_all(items)

    def read(self, source: str, text: str) -> None:
        """Look for the items in one text of the corpus; `source` names it."""
        self._num_texts += 1
        spoken = words(text)
        seen: set[int] = set()
        for table in self._tables.values():
            seen |= self._note(table.find(spoken))
        for number in seen:
            self._items[number].name_source(source)

    def result(self) -> Overlap:
        """Return what was found in the texts read so far."""
        return Overlap(
            long=self._long,
            short=self._short,
            num_texts=self._num_texts,
            num_too_short=self._num_too_short,
            items=tuple(item.result() for item in self._items),
        )

    def _note(self, found: Iterable[tuple[int, Sequence[tuple[int, int]]]]) -> set[int]:
        """Note each n-gram found in a text, and return the items they are of."""
        seen: set[int] = set()
        last, runs = -1, dict[tuple[int, int], int]()
        for position, places in found:
            before, runs = (runs if position == last + 1 else {}), {}
            for number, begin in places:
                # A run goes on where the text's n-gram before this one was the item's one before it, too.
                run = runs[number, begin] = before.get((number, begin - 1), 0) + 1
                self._items[number].see(begin, run)
                seen.add(number)
            last = position
        return seen

    def _add_all(self, items: Iterable[tuple[str, str]]) -> None:
        known: set[str] = set()
        for name, text in items:
            if name in known:
                raise InputError(f"an item's id must come once, got {name!r} twice: key the items by line")
            known.add(name)
            self._add(name, words(text))

    def _add(self, name: str, spoken: Sequence[str]) -> None:
        if len(spoken) < self._short:
            self._num_too_short += 1
            return
        size = self._long if len(spoken) >= self._long else self._short
        self._tables.setdefault(size, _Table(size)).add(len(self._items), spoken)
        self._items.append(_Item(name, spoken, size))


def find_overlap(
    items: Iterable[tuple[str, str]], corpus: Iterable[tuple[str, str]], *, long: int = LONG, short: int = SHORT
) -> Overlap:
    """Return what of the items, (id, text), occurs in the corpus, (source, text), which is read once. Raises
    InputError."""
    check = OverlapCheck(items, long=long, short=short)
    for source, text in corpus:
        check.read(source, text)
    return check.result()


def words(text: str) -> list[str]:
    """Return a text's words without case, punctuation or apostrophes; CJK characters are a word each."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHE))
