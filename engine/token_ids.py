"""Sampled token ids as they are kept: four bytes each instead of an integer object of 28 and a pointer to it.

Invariant: packing and unpacking give back the same ids. Journals written before ids were packed hold them as a tuple,
which every reader takes as well. Knows no tokenizer.
"""

import array
import sys
from collections.abc import Iterable, Sequence
from typing import TypeAlias

TokenIds: TypeAlias = bytes | tuple[int, ...]
"""Little-endian 32-bit numbers, or the numbers themselves."""

_IS_BIG = sys.byteorder == "big"


def pack_ids(ids: Iterable[int]) -> bytes:
    """Return ids, each 0 to 2**32 - 1, as bytes. Raises OverflowError for any other."""
    packed = array.array("I", ids)
    if _IS_BIG:
        packed.byteswap()
    return packed.tobytes()


def unpack_ids(ids: TokenIds) -> Sequence[int]:
    """Return the ids as numbers. Raises ValueError for bytes that are no whole number of ids."""
    if not isinstance(ids, bytes):
        return ids
    unpacked = array.array("I", ids)
    if _IS_BIG:
        unpacked.byteswap()
    return unpacked
