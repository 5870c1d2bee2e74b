"""The KV blocks of one replica with vLLM's prefix cache: chained full blocks, counted references, an LRU queue.

As vLLM V1 (`v1/core/block_pool.py`): a freed request gives its blocks back tail first; blocks that hold a prefix join
the end of the free queue and stay findable until they are taken, blocks without one are taken first. Two requests that
compute the same prefix side by side hold two blocks under one hash. Invariant: every block is either held (references
>= 1) or free, and only free blocks are taken. Knows nothing of tokens: a hash stands for a block and all before it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """`num_blocks` as the engine reports them; one of them is vLLM's null block and never used."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 2:
            raise ValueError(f"a pool must have at least 2 blocks, got {num_blocks}: raise the KV cache size")
        self.size = num_blocks - 1
        self.num_free = self.size
        # The free queue in three parts, first taken first: blocks without a prefix, blocks never used, the LRU.
        self._spare: list[int] = []
        self._num_used = 0
        self._lru: OrderedDict[int, None] = OrderedDict()
        self._references: list[int] = []
        self._hash: list[int | None] = []
        self._block: dict[int, int] = {}
        self._twins: dict[int, list[int]] = {}

    @property
    def usage(self) -> float:
        """Share of the blocks that are held by requests."""
        return 1.0 - self.num_free / self.size

    def match(self, hashes: Sequence[int], max_blocks: int) -> list[int]:
        """Return the blocks of the longest cached prefix of `hashes`, at most `max_blocks`."""
        found: list[int] = []
        get = self._block.get
        for wanted in hashes[:max_blocks]:
            block = get(wanted)
            if block is None:
                break
            found.append(block)
        return found

    def num_idle(self, blocks: Iterable[int]) -> int:
        """Return how many of the blocks no request holds: to touch them takes them out of the free ones."""
        references = self._references
        return sum([not references[block] for block in blocks])

    def touch(self, blocks: Iterable[int]) -> None:
        """Hold cached blocks once more."""
        references, lru = self._references, self._lru
        for block in blocks:
            if not references[block]:
                del lru[block]
                self.num_free -= 1
            references[block] += 1

    def take(self, count: int) -> list[int]:
        """Take free blocks, evicting the prefixes used least recently. Raises ValueError when there are too few."""
        if count > self.num_free:
            raise ValueError(f"cannot take {count} blocks: only {self.num_free} of {self.size} are free")
        self.num_free -= count
        spare = self._spare
        taken: list[int] = []
        while len(taken) < count and spare:
            taken.append(spare.pop())
        num_fresh = min(count - len(taken), self.size - self._num_used)
        if num_fresh:
            taken += range(self._num_used, self._num_used + num_fresh)
            self._num_used += num_fresh
            self._references += [0] * num_fresh
            self._hash += [None] * num_fresh
        while len(taken) < count:
            block, _ = self._lru.popitem(last=False)
            self._unlabel(block)
            taken.append(block)
        for block in taken:
            self._references[block] = 1
        return taken

    def label(self, blocks: Sequence[int], hashes: Sequence[int]) -> None:
        """Make full blocks findable under their hashes, in order; blocks that have one keep it."""
        for block, wanted in zip(blocks, hashes, strict=False):
            if self._hash[block] is None:
                self._hash[block] = wanted
                if self._block.setdefault(wanted, block) != block:
                    self._twins.setdefault(wanted, []).append(block)

    def release(self, blocks: Sequence[int]) -> None:
        """Let go of a request's blocks, given head first: the tail will be evicted first."""
        references, hashes, lru = self._references, self._hash, self._lru
        unlabelled: list[int] = []
        for block in reversed(blocks):
            references[block] -= 1
            if references[block]:
                continue
            self.num_free += 1
            if hashes[block] is None:
                unlabelled.append(block)
            else:
                lru[block] = None
        self._spare += reversed(unlabelled)

    def clear(self) -> None:
        """Forget every prefix: weights changed, and what they computed must not be found again."""
        self._block.clear()
        self._twins.clear()
        self._hash = [None] * len(self._hash)
        self._spare = [*reversed(self._lru), *self._spare]
        self._lru.clear()

    def _unlabel(self, block: int) -> None:
        known = self._hash[block]
        self._hash[block] = None
        if known is None:
            return
        twins = self._twins.get(known)
        if twins is None:
            del self._block[known]
            return
        if self._block[known] == block:
            self._block[known] = twins.pop(0)
        else:
            twins.remove(block)
        if not twins:
            del self._twins[known]
