"""The corpus: lossless rows, what readers see with and without a driver, left-overs, damage."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.corpus import Corpus, latest_tries
from engine.corpus_parts import Extent, Manifest, name_part, own_manifest, read_manifest, remove_leftovers
from engine.corpus_schema import FIELD_COLUMNS, SCHEMA, columns_of, from_table, to_table
from engine.errors import JournalError
from engine.journal import Journal
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, ErrorRecord, NodeRecord, StepRecord
from engine.steps import Reply, Sampling, Usage
from engine.token_ids import pack_ids
from tests.engine.kept import make_record, make_reply, make_run, play, put_part

TEXT = st.text(max_size=8)
SMALL = st.integers(-(2**31), 2**31 - 1)
BIG = st.integers(-(2**63), 2**63 - 1)
COUNT = st.integers(0, 2**40)
FLOAT = st.floats(allow_nan=False)
REPLIES = st.builds(
    Reply,
    text=TEXT,
    finish=TEXT,
    token_ids=st.lists(st.integers(0, 2**31 - 1), max_size=3).map(pack_ids),
    tokenizer=TEXT,
    probabilities=st.none() | st.dictionaries(TEXT, FLOAT, max_size=2),
    usage=st.builds(Usage, COUNT, COUNT, COUNT),
    model=TEXT,
    replica=TEXT,
    weights=TEXT,
    attempt=SMALL,
    started_at=FLOAT,
    queue_s=FLOAT,
    latency_s=FLOAT,
    num_rendered=SMALL,
)
STEPS = st.builds(
    StepRecord,
    path=TEXT,
    kind=st.sampled_from(["generate", "similarity"]),
    hash=TEXT,
    role=TEXT,
    purpose=TEXT,
    view=SMALL,
    sampling=st.none() | st.builds(Sampling, SMALL, FLOAT, FLOAT),
    schema=TEXT,
    reply=st.none() | REPLIES,
    pairs=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    floats=st.lists(FLOAT, max_size=2).map(tuple),
    attempts=st.lists(st.builds(AttemptRecord, SMALL, TEXT, TEXT, TEXT), max_size=2).map(tuple),
)
RECORDS = st.builds(
    EpisodeRecord,
    key=st.builds(EpisodeKey, TEXT, SMALL, SMALL),
    seed=BIG,
    protocol=TEXT,
    status=st.sampled_from(["completed", "failed", "cancelled"]),
    case=TEXT,
    outcome=TEXT,
    error=st.none() | st.builds(ErrorRecord, TEXT, TEXT, TEXT),
    models=st.dictionaries(TEXT, TEXT, max_size=2),
    weights=st.lists(TEXT, max_size=2).map(tuple),
    started_at=FLOAT,
    ended_at=FLOAT,
    nodes=st.lists(st.builds(NodeRecord, SMALL, TEXT, TEXT), max_size=3).map(tuple),
    steps=st.lists(STEPS, max_size=3).map(tuple),
    seq=BIG,
)


@given(st.lists(RECORDS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_records_survive_rows_unchanged(records: list[EpisodeRecord]) -> None:
    assert list(from_table(to_table(records))) == records


def test_every_field_of_a_record_has_its_columns() -> None:
    assert {*FIELD_COLUMNS, "key", "seed", "protocol", "status", "seq"} == set(EpisodeRecord.__struct_fields__)
    assert set(columns_of(None)) < set(SCHEMA.names)


def test_text_that_is_no_unicode_is_replaced() -> None:
    hostile = make_record(EpisodeKey("c"), 1, reply=make_reply("a \ud800 b"))
    (got,) = from_table(to_table([hostile]))
    assert got.steps[0].reply == make_reply("a \ufffd b")


async def test_a_reader_sees_sealed_parts_only_while_a_driver_lives(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with run.lock():
        journal = Journal.open(run, seal_every=2)
        for name in "ab":
            play(journal, name)
        await journal.flush()
        play(journal, "c", status="failed")
        await journal.flush()
        corpus = Corpus.open(run)
        assert [r.key.case for r in corpus.iterate()] == ["a", "b"]
        image = _copied(tmp_path / "image", run.path)
        await journal.close()
    corpus = Corpus.open(type(run)(image))
    assert [r.key.case for r in corpus.iterate()] == ["a", "b", "c"]
    assert [r.key.case for r in corpus.iterate(after_seq=0, status="completed")] == ["b"]
    assert len(corpus) == 3
    assert corpus.totals == journal.totals()
    assert list(corpus.iterate(journal=1)) == []
    assert corpus.journals == [0]


def _copied(target: Path, source: Path) -> Path:
    """A crash image: what the disk holds at this moment."""
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


async def test_columns_leave_the_rest_at_its_defaults(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run)
    play(journal, "a")
    await journal.close()
    (slim,) = Corpus.open(run).iterate(columns=["case"])
    assert slim == EpisodeRecord(
        key=EpisodeKey("a"), seed=7, protocol="counseling", status="completed", case='{"a": 1}', seq=0
    )
    with pytest.raises(ValueError, match=r"columns must be among .* got \['nope'\]"):
        list(Corpus.open(run).iterate(columns=["nope"]))


def test_a_part_counts_only_once_its_manifest_names_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    empty = read_manifest(run, 0)
    put_part(run, empty.extent, [make_record(EpisodeKey("a"))])
    (run.episodes / "000-00007.parquet.x.tmp").write_bytes(b"")
    (run.episodes / "000.manifest.jsonl.x.tmp").write_bytes(b"")
    (run.episodes / "001-00000.parquet").write_bytes(b"another journal's")
    assert len(Corpus.open(run)) == 0
    assert remove_leftovers(run, empty) == [
        "000-00000.parquet",
        "000-00007.parquet.x.tmp",
        "000.manifest.jsonl.x.tmp",
    ]
    part = put_part(run, empty.extent, [make_record(EpisodeKey("a"))])
    extent = name_part(run, empty.extent, part)
    named = read_manifest(run, 0)
    assert named == Manifest(parts=(part,)) and named.extent == extent
    assert remove_leftovers(run, named) == []
    assert sorted(os.listdir(run.episodes)) == ["000-00000.parquet", "000.manifest.jsonl", "001-00000.parquet"]


def test_a_manifest_torn_anywhere_names_the_parts_before_and_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    extent, ends = Extent(), list[int]()
    for seq in range(3):
        record = msgspec.structs.replace(make_record(EpisodeKey(f"c{seq}")), seq=seq)
        extent = name_part(run, extent, put_part(run, extent, [record]))
        ends.append(run.manifest(0).stat().st_size)
    whole, data = read_manifest(run, 0), run.manifest(0).read_bytes()
    # The first line and the first part are written as one file: what is appended may be torn.
    for size in range(ends[0], len(data) + 1):
        run.manifest(0).write_bytes(data[:size])
        num_whole = sum(end <= size for end in ends)
        assert read_manifest(run, 0).parts == whole.parts[:num_whole], size
    run.manifest(0).write_bytes(data[: ends[1] + 40])
    owned = own_manifest(run, 0)
    assert owned.parts == whole.parts[:2] and not (run.episodes / whole.parts[2].file).exists()
    last = msgspec.structs.replace(make_record(EpisodeKey("last")), seq=2)
    name_part(run, owned.extent, put_part(run, owned.extent, [last]))
    assert [record.key.case for record in Corpus.open(run)] == ["c0", "c1", "last"]


def test_a_manifest_of_the_first_version_is_read_and_its_owner_writes_it_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    part = put_part(run, Extent(), [msgspec.structs.replace(make_record(EpisodeKey("a")), seq=0)])
    old = run.episodes / "000.manifest.json"
    old.write_bytes(msgspec.json.encode({"version": 1, "journal": 0, "parts": [part]}))
    assert read_manifest(run, 0).parts == (part,) and len(Corpus.open(run)) == 1
    owned = own_manifest(run, 0)
    assert owned == read_manifest(run, 0) == Manifest(parts=(part,)) and not old.exists()
    second = put_part(run, owned.extent, [msgspec.structs.replace(make_record(EpisodeKey("b")), seq=1)])
    name_part(run, owned.extent, second)
    assert [record.key.case for record in Corpus.open(run)] == ["a", "b"]


def test_damage_is_found(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    extent = Extent()
    record = msgspec.structs.replace(make_record(EpisodeKey("a")), seq=0)
    name_part(run, extent, put_part(run, extent, [record]))
    path = run.episodes / "000-00000.parquet"
    data = path.read_bytes()
    assert Corpus.open(run).damaged() == []
    path.write_bytes(data[:4] + b"\xa5" * 1500 + data[1504:])
    assert Corpus.open(run).damaged() == [path.name]
    with pytest.raises(JournalError, match="must be readable"):
        list(Corpus.open(run).iterate())
    path.write_bytes(data[:-1])
    with pytest.raises(JournalError, match=rf"must have {len(data)} bytes, got {len(data) - 1}"):
        Corpus.open(run)
    path.unlink()
    with pytest.raises(JournalError, match="every sealed part must be there"):
        Corpus.open(run)
    run.manifest(0).write_bytes(b'{"version": 3, "journal": 0}\n{"parts": "otherwise"}\n')
    with pytest.raises(JournalError, match="version must be at most 2, got 3"):
        Corpus.open(run)


@pytest.mark.filterwarnings("ignore")
def test_datasets_loads_the_parts(tmp_path: Path) -> None:
    datasets: Any = pytest.importorskip("datasets")
    run = make_run(tmp_path)
    extent = Extent()
    for name in "ab":
        record = make_record(EpisodeKey(name), reply=Reply("hi", probabilities={"x": 0.5}))
        extent = name_part(run, extent, put_part(run, extent, [record]))
    files = [str(run.episodes / p.file) for p in read_manifest(run, 0).parts]
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded["case_id"][:] == ["a", "b"]
    assert loaded[0]["steps"][0]["reply"]["text"] == "hi"


def test_the_latest_try_of_each_repeat_counts() -> None:
    keys = [EpisodeKey("b", 0), EpisodeKey("a", 0, 1), EpisodeKey("a", 0), EpisodeKey("a", 1), EpisodeKey("a", 0, 2)]
    records = [EpisodeRecord(key=key, seed=0, protocol="counseling", status="completed") for key in keys]
    found = [record.key for record in latest_tries(records)]
    assert found == [EpisodeKey("a", 0, 2), EpisodeKey("a", 1), EpisodeKey("b", 0)]


def test_a_sample_is_seeded_bounded_and_from_all_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    extent = Extent()
    for place in range(40):
        records = [make_record(EpisodeKey(f"c{place * 20 + at:03d}"), 1) for at in range(20)]
        records = [msgspec.structs.replace(one, seq=place * 20 + at) for at, one in enumerate(records)]
        extent = name_part(run, extent, put_part(run, extent, records))
    corpus = Corpus.open(run)
    drawn = [record.seq for record in corpus.sample(200, seed=1)]
    assert drawn == sorted(set(drawn)) and len(drawn) <= 200
    assert len({seq // 20 for seq in drawn}) == 4
    assert min(drawn) < 200 and max(drawn) >= 600
    assert drawn == [record.seq for record in corpus.sample(200, seed=1)]
    assert drawn != [record.seq for record in corpus.sample(200, seed=2)]
    assert len(list(corpus.sample(800))) == 800 and len(list(corpus.sample(10))) == 10


def test_a_sample_takes_every_episode_as_often_sealed_or_not(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sealed = tuple(msgspec.structs.replace(make_record(EpisodeKey(f"s{at}"), 0), seq=at) for at in range(6))
    loose = tuple(msgspec.structs.replace(make_record(EpisodeKey(f"u{at}"), 0), seq=at + 6) for at in range(3))
    name_part(run, Extent(), put_part(run, Extent(), sealed))
    corpus = Corpus(run, {0: (read_manifest(run, 0), loose)})
    counts = [0] * 9
    for seed in range(300):
        for record in corpus.sample(2, seed):
            counts[record.seq] += 1
    # 600 draws of 9 episodes: 67 each, with a standard deviation of about 8.
    assert sum(counts) == 600 and all(30 < number < 105 for number in counts)


def test_parts_without_the_status_asked_for_are_not_read(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    extent = Extent()
    for status, seq in (("completed", 0), ("failed", 1)):
        record = msgspec.structs.replace(make_record(EpisodeKey(status), 1, status), seq=seq)  # type: ignore[arg-type]
        extent = name_part(run, extent, put_part(run, extent, [record]))
    damaged = run.episodes / read_manifest(run, 0).parts[0].file
    damaged.write_bytes(bytes(damaged.stat().st_size))
    assert [record.key.case for record in Corpus.open(run).iterate(status="failed")] == ["failed"]
    with pytest.raises(JournalError):
        list(Corpus.open(run).iterate(status="completed"))
