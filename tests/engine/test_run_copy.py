"""The copy of a run: wherever it is cut off, the target names only what stands there, and goes on without doubling."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from engine.config_sections import CorpusConfig
from engine.corpus_parts import decode_manifest, name_part, read_manifest
from engine.errors import InputError, JournalError
from engine.record import EpisodeKey
from engine.run_copy import IDENTITY, JournalCopy, claim, complete, place_of, refuse_taken
from engine.rundir import RunDirectory
from engine.targets import Target
from tests.engine.kept import make_record, put_part
from tests.s3_stub import KEYS, Store, serve_store

FOLDER = "bucket/runs/run"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with serve_store() as served:
        yield served


def make_sealed(path: Path, num_parts: Sequence[int] = (2, 1)) -> RunDirectory:
    """Make a run with so many parts by journal, an input, and files of its end."""
    files = {"config.toml": b"name = 'x'\n", "inputs/cases.jsonl": b"{}\n"}
    rundir = RunDirectory.create(path / "run", files)
    for index, number in enumerate(num_parts):
        grow(rundir, index, number)
    rundir.metrics.write_bytes(b"{}\n")
    rundir.report.write_bytes(b"<html>")
    rundir.processes.write_bytes(b"{}")
    return rundir


def grow(rundir: RunDirectory, index: int, number: int) -> None:
    extent = read_manifest(rundir, index).extent
    for seq in range(extent.last_seq + 1, extent.last_seq + 1 + number):
        record = msgspec.structs.replace(make_record(EpisodeKey(f"c{index}-{seq}")), seq=seq)
        extent = name_part(rundir, extent, put_part(rundir, extent, [record]))


def config_of(store: Store) -> CorpusConfig:
    return CorpusConfig(target=store.uri("bucket/runs"))


def named_at(store: Store) -> int:
    """Check that every manifest at the target names only parts that stand there whole; return how many it names."""
    manifests = [data for key, data in store.objects.items() if key.endswith(".manifest.jsonl")]
    parts = [part for data in manifests for part in decode_manifest(data, "target").parts]
    for part in parts:
        assert hashlib.sha256(store.objects[f"{FOLDER}/episodes/{part.file}"]).hexdigest() == part.sha256
    return len(parts)


def silent(_text: str) -> None:
    pass


def test_a_run_is_copied_whole_with_parts_before_their_names(tmp_path: Path, store: Store) -> None:
    rundir = make_sealed(tmp_path)
    state = complete(rundir, config_of(store), silent)
    assert (state.place, state.parts) == (f"s3://{FOLDER}", 3) and named_at(store) == 3
    episodes = [f"episodes/{path.name}" for path in rundir.episodes.iterdir()]
    others = ["config.toml", "inputs/cases.jsonl", "metrics.jsonl", "report.html", IDENTITY]
    assert set(store.objects) == {f"{FOLDER}/{name}" for name in (*episodes, *others)}
    assert all(data == (rundir.path / key[len(FOLDER) + 1 :]).read_bytes() for key, data in store.objects.items())
    puts = [key.rpartition("/")[2] for key in store.puts() if "/episodes/" in key]
    assert puts[:4] == ["000-00000.parquet", "000.manifest.jsonl", "000-00001.parquet", "000.manifest.jsonl"]


def test_a_second_copy_brings_what_is_new_and_nothing_twice(tmp_path: Path, store: Store) -> None:
    rundir = make_sealed(tmp_path)
    complete(rundir, config_of(store), silent)
    store.requests.clear()
    complete(rundir, config_of(store), silent)
    assert store.puts() == [f"{FOLDER}/metrics.jsonl", f"{FOLDER}/report.html"]
    grow(rundir, 0, 1)
    store.requests.clear()
    assert complete(rundir, config_of(store), silent).parts == 4 == named_at(store)
    names = [key.rpartition("/")[2] for key in store.puts()]
    assert names[:2] == ["000-00002.parquet", "000.manifest.jsonl"] and len(names) == 4


def test_wherever_it_is_cut_off_the_target_is_true_and_the_next_goes_on(tmp_path: Path, store: Store) -> None:
    rundir = make_sealed(tmp_path)
    for cut in range(1, 100):
        store.objects.clear()
        (rundir.path / IDENTITY).unlink(missing_ok=True)
        store.requests.clear()
        store.fault = lambda method, key, cut=cut: 403 if len(store.requests) >= cut else None  # type: ignore[misc]
        try:
            complete(rundir, config_of(store), silent)
            break
        except OSError:
            before, num_named = dict(store.objects), named_at(store)
            store.fault = lambda method, key: None
            store.requests.clear()
            assert complete(rundir, config_of(store), silent).parts == 3 == named_at(store)
            named = [part for part in before if part.endswith(".parquet")][:num_named]
            assert not set(named) & set(store.puts())
    assert cut > 15


def test_a_part_that_went_missing_at_the_target_is_brought_again(tmp_path: Path, store: Store) -> None:
    rundir = make_sealed(tmp_path)
    complete(rundir, config_of(store), silent)
    del store.objects[f"{FOLDER}/episodes/000-00000.parquet"]
    complete(rundir, config_of(store), silent)
    assert named_at(store) == 3


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path, store: Store) -> None:
    mine, other = make_sealed(tmp_path / "mine"), make_sealed(tmp_path / "other")
    complete(mine, config_of(store), silent)
    kept = dict(store.objects)
    with pytest.raises(InputError, match="must be empty or this run's, got another run's: choose another --out"):
        complete(other, config_of(store), silent)
    assert store.objects == kept and not (other.path / IDENTITY).exists()
    assert refuse_taken(mine, place_of(mine, config_of(store)))
    store.objects = {f"{FOLDER}/notes.txt": b"mine"}
    with pytest.raises(InputError, match=r"got one with notes.txt in it and no target.json"):
        claim(other, place_of(other, config_of(store)))
    assert set(store.objects) == {f"{FOLDER}/notes.txt"}


def test_a_run_keeps_its_folder_wherever_its_directory_goes(tmp_path: Path, store: Store) -> None:
    rundir = make_sealed(tmp_path)
    complete(rundir, config_of(store), silent)
    moved = RunDirectory.open(rundir.path.rename(tmp_path / "moved"))
    assert complete(moved, config_of(store), silent).place == f"s3://{FOLDER}"


def test_a_path_that_ends_in_dots_names_the_same_folder(tmp_path: Path, store: Store) -> None:
    rundir = RunDirectory.open(make_sealed(tmp_path).episodes / "..")
    assert complete(rundir, config_of(store), silent).place == f"s3://{FOLDER}"
    assert all(key.startswith(f"{FOLDER}/") for key in store.objects)


@pytest.mark.parametrize("folder", ["", "..", "../other", "a/b"])
def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path, store: Store, folder: str) -> None:
    rundir = make_sealed(tmp_path)
    (rundir.path / IDENTITY).write_bytes(msgspec.json.encode({"run": "x", "folder": folder}))
    with pytest.raises(InputError, match=r"the folder in .*target.json must be a name, got"):
        complete(rundir, config_of(store), silent)
    assert not store.objects


def test_a_damaged_part_is_not_copied(tmp_path: Path, store: Store) -> None:
    rundir = make_sealed(tmp_path)
    part = rundir.episodes / "000-00001.parquet"
    part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(JournalError, match="must be whole to be copied, got other bytes than were sealed"):
        complete(rundir, config_of(store), silent)
    assert named_at(store) == 1


def test_a_target_that_is_ahead_is_not_cut_short(tmp_path: Path) -> None:
    rundir = make_sealed(tmp_path, (1,))
    early = rundir.manifest(0).read_bytes()
    target = Target.open((tmp_path / "far").as_uri())
    grow(rundir, 0, 1)
    JournalCopy(rundir, target, 0).bring()
    rundir.manifest(0).write_bytes(early)
    with pytest.raises(JournalError, match="must have every part that its target names"):
        JournalCopy(rundir, target, 0).bring()
    assert len(decode_manifest(target.get("episodes/000.manifest.jsonl"), "target").parts) == 2


def test_one_is_told_how_far_a_long_copy_is(tmp_path: Path) -> None:
    rundir, said = make_sealed(tmp_path, (45,)), list[str]()
    complete(rundir, CorpusConfig(target=(tmp_path / "far").as_uri()), said.append)
    assert said == [f"copying parts: {number} of 45" for number in (20, 40)]


def test_the_manifest_of_a_long_run_is_not_sent_again_for_every_part(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.run_copy.NAMED_PER_NEW", 4)
    rundir = make_sealed(tmp_path, (30,))
    copy = JournalCopy(rundir, place_of(rundir, config_of(store)), 0)
    copy.bring()
    num_sent = store.puts().count(f"{FOLDER}/episodes/000.manifest.jsonl")
    assert num_sent < 15 and named_at(store) == copy.num_named >= 24
    copy.bring(is_last=True)
    assert named_at(store) == 30
    assert store.objects[f"{FOLDER}/episodes/000.manifest.jsonl"] == rundir.manifest(0).read_bytes()
