from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.simulation.prefix_cache import BlockPool


class NaivePool:
    """vLLM's block pool as its text reads: one list as the free queue, one list of (hash, block) as the cache."""

    def __init__(self, num_blocks: int) -> None:
        self.queue = list(range(num_blocks - 1))
        self.references = [0] * num_blocks
        self.cached: list[tuple[int, int]] = []

    def match(self, hashes: Sequence[int]) -> list[int]:
        found = []
        for wanted in hashes:
            block = next((block for known, block in self.cached if known == wanted), None)
            if block is None:
                break
            found.append(block)
        return found

    def touch(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            if self.references[block] == 0:
                self.queue.remove(block)
            self.references[block] += 1

    def take(self, count: int) -> list[int]:
        taken = [self.queue.pop(0) for _ in range(count)]
        self.cached = [(known, block) for known, block in self.cached if block not in taken]
        for block in taken:
            self.references[block] = 1
        return taken

    def label(self, blocks: Sequence[int], hashes: Sequence[int]) -> None:
        for block, wanted in zip(blocks, hashes, strict=False):
            if block not in [known for _, known in self.cached]:
                self.cached.append((wanted, block))

    def release(self, blocks: Sequence[int]) -> None:
        freed = []
        for block in reversed(blocks):
            self.references[block] -= 1
            if self.references[block] == 0:
                freed.append(block)
        labelled = {block for _, block in self.cached}
        self.queue = (
            [block for block in freed if block not in labelled]
            + self.queue
            + [block for block in freed if block in labelled]
        )


class Holder:
    """A request in both pools."""

    def __init__(self, real: list[int], naive: list[int]) -> None:
        self.real = real
        self.naive = naive


PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(4, 16), st.lists(st.tuples(PROMPTS, st.integers(0, 2), st.booleans(), st.integers(0, 9)), max_size=40)
)
def test_hits_evictions_and_free_counts_equal_the_naive_pool(
    num_blocks: int, events: list[tuple[list[int], int, bool, int]]
) -> None:
    real, naive, holders = BlockPool(num_blocks), NaivePool(num_blocks), list[Holder]()
    for contents, num_unlabelled, is_arrival, which in events:
        if is_arrival:
            hashes = [hash(tuple(contents[: number + 1])) for number in range(len(contents))]
            hit, naive_hit = real.match(hashes, len(hashes)), naive.match(hashes)
            assert len(hit) == len(naive_hit)
            need = len(hashes) - len(hit) + num_unlabelled
            if need + real.num_idle(hit) > real.num_free:
                continue
            real.touch(hit)
            naive.touch(naive_hit)
            holder = Holder(hit + real.take(need), naive_hit + naive.take(need))
            real.label(holder.real, hashes)
            naive.label(holder.naive, hashes)
            holders.append(holder)
        elif holders:
            holder = holders.pop(which % len(holders))
            real.release(holder.real)
            naive.release(holder.naive)
        assert real.num_free == len(naive.queue)
        assert real.num_free + len({block for holder in holders for block in holder.real}) == real.size


def test_a_freed_request_loses_its_tail_first() -> None:
    pool = BlockPool(5)
    blocks = pool.take(4)
    pool.label(blocks, [1, 2, 3, 4])
    pool.release(blocks)
    pool.take(2)
    assert len(pool.match([1, 2, 3, 4], 4)) == 2


def test_blocks_without_a_prefix_go_first() -> None:
    pool = BlockPool(4)
    blocks = pool.take(3)
    pool.label(blocks, [1, 2])
    pool.release(blocks)
    pool.take(1)
    assert len(pool.match([1, 2], 2)) == 2


def test_cleared_prefixes_are_not_found_and_every_block_can_be_taken() -> None:
    pool = BlockPool(5)
    blocks = pool.take(4)
    pool.label(blocks, [1, 2, 3, 4])
    pool.release(blocks)
    pool.clear()
    assert pool.match([1, 2], 2) == []
    assert sorted(pool.take(4)) == sorted(blocks)


def test_no_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="only 3 of 3"):
        BlockPool(4).take(4)
    with pytest.raises(ValueError, match="at least 2 blocks"):
        BlockPool(1)
