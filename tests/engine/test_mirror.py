"""A run brought back from a target: whole and true to its manifest, or not at all."""

from pathlib import Path

import pytest

from engine.config_sections import CorpusConfig
from engine.corpus import Corpus
from engine.errors import InputError
from engine.files import write_atomic
from engine.mirror import bring_run
from engine.run_copy import complete
from engine.run_places import run_to_read, run_to_write
from engine.rundir import RunDirectory
from tests.engine.test_run_copy import make_sealed


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """The folder of a run at its target."""
    complete(make_sealed(tmp_path), CorpusConfig(target=(tmp_path / "far").as_uri()), print)
    return tmp_path / "far" / "run"


def test_what_comes_back_is_the_run(far: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (far / "processes.json").write_text("{}")
    (far / "episodes" / "000-00009.parquet").write_bytes(b"not named")
    back = bring_run(far.as_uri(), tmp_path / "deep" / "back")
    first = RunDirectory.open(tmp_path / "run")
    assert list(Corpus.open(back)) == list(Corpus.open(first)) and len(Corpus.open(back)) == 3
    brought = {str(path.relative_to(back.path)) for path in back.path.rglob("*") if path.is_file()}
    kept = {str(path.relative_to(far)) for path in far.rglob("*") if path.is_file()}
    assert brought - {"driver.lock", "gate.lock"} == kept - {"processes.json", "episodes/000-00009.parquet"}
    assert back.path.stat().st_mode & 0o777 == 0o700
    assert "bringing 3 parts" in capsys.readouterr().err


def refuse(uri: str, directory: Path) -> str:
    with pytest.raises(InputError) as refused:
        bring_run(uri, directory)
    assert not directory.exists() and not list(directory.parent.glob(f".{directory.name}.*"))
    return str(refused.value)


def test_a_part_with_other_bytes_is_refused(far: Path, tmp_path: Path) -> None:
    part = far / "episodes" / "000-00001.parquet"
    part.write_bytes(bytes(part.stat().st_size))
    assert "must be what was sealed, got other bytes" in refuse(far.as_uri(), tmp_path / "back")


def test_a_part_that_is_not_there_is_refused(far: Path, tmp_path: Path) -> None:
    (far / "episodes" / "000-00001.parquet").unlink()
    assert "must be readable, got" in refuse(far.as_uri(), tmp_path / "back")


def test_names_that_lead_elsewhere_are_refused(far: Path, tmp_path: Path) -> None:
    manifest = far / "episodes" / "000.manifest.jsonl"
    write_atomic(manifest, manifest.read_bytes().replace(b"000-00001.parquet", b"../../escaped.txt"))
    assert "must have a part's name, got '../../escaped.txt'" in refuse(far.as_uri(), tmp_path / "back")
    assert not (tmp_path / "escaped.txt").exists()


def test_what_is_no_run_and_what_is_in_use(far: Path, tmp_path: Path) -> None:
    assert "must have its config.toml, got none in file:" in refuse((tmp_path / "far").as_uri(), tmp_path / "back")
    assert "must be a URI of s3" in refuse("ftp://host/run", tmp_path / "back")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").touch()
    with pytest.raises(InputError, match="must be brought into a new directory, got .*used, which is in use"):
        bring_run(far.as_uri(), tmp_path / "used")


def test_a_place_that_cannot_be_written_is_not_blamed_on_the_target(
    far: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.mirror.write_atomic", full)
    said = refuse(far.as_uri(), tmp_path / "back")
    assert said == (
        "a run must be brought where it can be written, got [Errno 28] No space left on device: name another directory"
    )


def test_a_link_is_in_use(far: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(InputError, match="must be brought into a new directory, got .*link, which is in use"):
        bring_run(far.as_uri(), tmp_path / "link")


def test_commands_read_a_uri_and_write_to_a_directory_alone(far: Path, tmp_path: Path) -> None:
    place = run_to_read(far.as_uri())
    assert place.name == "run" and len(Corpus.open(RunDirectory.open(place))) == 3
    assert run_to_read("runs/first") == Path("runs/first") == run_to_write("runs/first")
    with pytest.raises(InputError, match="bring it with sandplay fetch-run s3://b/run DIR first"):
        run_to_write("s3://b/run?region=x")
