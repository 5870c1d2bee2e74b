"""The sample log: batches seen whole or not at all, while it grows and after a kill at any byte."""

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import JournalError
from training.sample_log import Mark, SampleReader, SampleWriter

ROWS = st.lists(st.lists(st.builds(lambda text: {"text": text}, st.text(max_size=20)), max_size=4), max_size=6)


def make_rows(*names: object) -> list[dict[str, object]]:
    return [{"text": str(name)} for name in names]


def texts(reader: SampleReader) -> list[object]:
    return [row["text"] for row in reader.rows()]


def test_a_reader_follows_a_log_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    reader = SampleReader(path)
    assert reader.refresh() == Mark()
    writer = SampleWriter.open(path)
    writer.append(make_rows("a", "b\nc"), Mark(seqs={"0": 4}, kept={"text": 2}))
    assert reader.refresh() == Mark(num_samples=2, seqs={"0": 4}, kept={"text": 2})
    writer.append(make_rows("d"), Mark(seqs={"0": 7}))
    assert len(reader) == 2 and texts(reader) == ["a", "b\nc"]
    writer.close(is_finished=True)
    assert reader.refresh().is_closed and texts(reader) == ["a", "b\nc", "d"]
    assert path.stat().st_mode & 0o777 == 0o600
    reader.close()


def test_what_follows_the_last_mark_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    writer = SampleWriter.open(path)
    writer.append(make_rows("a"), Mark(seqs={"0": 1}))
    writer.close(is_finished=False)
    with path.open("ab") as file:
        file.write(b'{"text": "torn"}\n{"mark": {"num_sam')
    reader = SampleReader(path)
    assert reader.refresh().num_samples == 1
    again = SampleWriter.open(path)
    assert again.mark == Mark(num_samples=1, seqs={"0": 1})
    again.append(make_rows("b"), Mark(seqs={"0": 2}))
    again.close(is_finished=True)
    fresh = SampleReader(path)
    assert fresh.refresh().is_closed and texts(fresh) == ["a", "b"]
    for one in (reader, fresh):
        one.close()


@settings(max_examples=50, deadline=None)
@given(batches=ROWS, cut=st.floats(0, 1))
def test_a_kill_at_any_byte_keeps_whole_batches(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, object]]], cut: float
) -> None:
    path = tmp_path_factory.mktemp("log") / "samples.jsonl"
    writer = SampleWriter.open(path)
    for number, batch in enumerate(batches):
        writer.append(batch, Mark(seqs={"0": number}))
    writer.close(is_finished=False)
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    again = SampleWriter.open(path)
    num_batches = again.mark.seqs.get("0", -1) + 1
    again.append(make_rows("next"), Mark())
    again.close(is_finished=False)
    reader = SampleReader(path)
    reader.refresh()
    assert list(reader.rows()) == [row for batch in batches[:num_batches] for row in batch] + make_rows("next")
    reader.close()


def test_a_reader_waits_until_there_is_enough_or_no_more_comes(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    writer = SampleWriter.open(path)
    reader, other = SampleReader(path), SampleReader(path)
    with pytest.raises(TimeoutError, match="must reach 2 samples, got 0"):
        reader.wait(2, timeout_s=0)
    found: list[Mark] = []
    thread = threading.Thread(target=lambda: found.append(reader.wait(2)))
    thread.start()
    writer.append(make_rows("a", "b"), Mark())
    thread.join()
    assert found[0].num_samples == 2
    thread = threading.Thread(target=lambda: found.append(other.wait(99)))
    thread.start()
    writer.close(is_finished=True)
    thread.join()
    assert found[1].is_closed and len(other) == 2
    reader.close()
    other.close()


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b'{"mark": 7}\n')
    with pytest.raises(JournalError, match="must be a sample log"):
        SampleWriter.open(path)


def test_an_ordinal_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        SampleReader(tmp_path / "none").row(0)
