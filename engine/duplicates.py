"""Telling rows apart from those that came before: equal ones by their hash, near ones by MinHash.

Memory grows by 16 bytes a row, and by about a kilobyte more where near ones are looked for: a sketch, or the text
while it is the only one of its scope.
"""

import hashlib
import zlib
from typing import Any, Final

NUM_PERMUTATIONS: Final = 64
WORDS_PER_SHINGLE: Final = 3
EXACT: Final = 1.0


class Seen:
    """What came before. `near` is the Jaccard similarity of word 3-grams from which on two texts are one, 1 for off."""

    def __init__(self, near: float = EXACT) -> None:
        self._near = near
        self._rows: set[bytes] = set()
        self._index: Any = None
        self._blank: Any = None
        self._first: dict[bytes, tuple[bytes, str] | None] = {}

    def reason_to_drop(self, scope: str, text: str) -> str | None:
        """Return `duplicate` or `near duplicate` for a text that came before in its scope, else None; remember it."""
        row = _digest(f"{scope}\0{text}")
        if row in self._rows:
            return "duplicate"
        self._rows.add(row)
        if self._near < EXACT and self._is_near(scope, text, row):
            return "near duplicate"
        return None

    def _is_near(self, scope: str, text: str, row: bytes) -> bool:
        """Whether a text is near one of its scope. A scope's first text is sketched when a second one comes."""
        salt = _digest(scope)
        if salt not in self._first:
            self._first[salt] = (row, text)
            return False
        if self._index is None:
            self._begin()
        if (first := self._first[salt]) is not None:
            self._first[salt] = None
            self._index.insert(first[0], self._sketch(salt, first[1]))
        sketch = self._sketch(salt, text)
        if self._index.query(sketch):
            return True
        self._index.insert(row, sketch)
        return False

    def _sketch(self, salt: bytes, text: str) -> Any:
        # Texts of different scopes share no shingle, so that one index serves all.
        sketch = self._blank.copy()
        sketch.update_batch([salt + _encoded(shingle) for shingle in shingles(text)])
        return sketch

    def _begin(self) -> None:
        from datasketch import MinHash, MinHashLSH

        # The permutations mix well enough: the library's own hash, SHA-1, would be most of a sketch's cost. To draw
        # them anew for each sketch would cost more than the sketch.
        self._blank = MinHash(num_perm=NUM_PERMUTATIONS, hashfunc=zlib.crc32)
        self._index = MinHashLSH(threshold=self._near, num_perm=NUM_PERMUTATIONS)


def shingles(text: str) -> set[str]:
    """Return the distinct word 3-grams of a text; the text itself when it has no more words than one of them."""
    words = text.casefold().split()
    last = max(len(words) - WORDS_PER_SHINGLE, 0)
    return {" ".join(words[n : n + WORDS_PER_SHINGLE]) for n in range(last + 1)}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(_encoded(text), digest_size=16).digest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
