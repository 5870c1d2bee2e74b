"""The stream: every sample once per epoch over all ranks, in an order that nothing but the seed decides, resumable."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.sample_log import Mark, SampleReader, SampleWriter
from training.stream import Batch, Position, Stream

BEGINNING = Position()


def write_log(path: Path, number: int, *, is_finished: bool = True) -> SampleWriter:
    writer = SampleWriter.open(path)
    writer.append([{"n": n} for n in range(number)], Mark())
    if is_finished:
        writer.close(is_finished=True)
    return writer


def numbers(batch: Batch) -> list[int]:
    return [row["n"] for row in batch.rows]


def play(path: Path, rank: int = 0, start: Position = BEGINNING, epochs: int = 2, **more: int) -> list[Batch]:
    reader = SampleReader(path)
    try:
        return list(Stream(reader, rank=rank, **more).batches(start, epochs))  # type: ignore[arg-type]
    finally:
        reader.close()


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 60),
    world=st.integers(1, 4),
    batch_size=st.integers(1, 5),
    block=st.integers(1, 30),
    seed=st.integers(0, 3),
)
def test_every_sample_comes_once_per_epoch_and_ranks_stay_in_step(
    tmp_path_factory: pytest.TempPathFactory, number: int, world: int, batch_size: int, block: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "samples.jsonl"
    write_log(path, number)
    more = {"world": world, "batch_size": batch_size, "block": block, "seed": seed}
    ranks = [play(path, rank, **more) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    for epoch in range(2):
        counts = Counter(n for batches in ranks for one in batches if one.after.epoch == epoch for n in _own(one))
        assert counts == Counter(range(number))
    for together in zip(*ranks, strict=True):
        assert len({one.after for one in together}) == 1
        assert all(1 <= len(one.rows) <= batch_size for one in together)


def _own(batch: Batch) -> Iterator[int]:
    yield from [] if batch.is_padding else numbers(batch)


def test_reading_goes_on_where_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_log(path, 50)
    whole = play(path, batch_size=3, block=12, seed=5)
    for left in range(len(whole)):
        assert play(path, start=whole[left].after, batch_size=3, block=12, seed=5) == whole[left + 1 :]


def test_epochs_and_seeds_have_orders_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_log(path, 64)
    batches = play(path, batch_size=64, block=64, seed=1)
    first, second = map(numbers, batches)
    assert sorted(first) == sorted(second) == list(range(64)) and first != second != list(range(64))
    assert numbers(play(path, batch_size=64, block=64, seed=2)[0]) != first


def test_a_log_that_grows_gives_the_order_of_one_that_was_whole(tmp_path: Path) -> None:
    grown, whole = tmp_path / "grown.jsonl", tmp_path / "whole.jsonl"
    write_log(whole, 21)
    expected = [numbers(one) for one in play(whole, batch_size=2, block=6, seed=3)]
    writer = write_log(grown, 6, is_finished=False)
    reader = SampleReader(grown)
    batches = Stream(reader, batch_size=2, block=6, seed=3).batches(Position(), 2)
    found = [numbers(next(batches)) for _ in range(3)]
    writer.append([{"n": n} for n in range(6, 21)], Mark())
    found += [numbers(next(batches)) for _ in range(6)]
    writer.close(is_finished=True)
    found += [numbers(one) for one in batches]
    assert found == expected
    reader.close()
