"""Where journals are kept: by configuration and mounts, what is refused, and what people are told."""

from pathlib import Path

import pytest

from engine.config_sections import JournalConfig
from engine.errors import InputError
from engine.journal import Journal
from engine.journal_place import Place, place_of, take_up
from engine.rundir import RunDirectory
from tests.engine.kept import crash, make_run, play


@pytest.fixture
def shared(tmp_path: Path) -> RunDirectory:
    """A run in a directory that `mounts` calls NFS."""
    return make_run(tmp_path / "shared")


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir(exist_ok=True)
    (tmp_path / "local").mkdir()
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:40 / {tmp_path}/shared rw - nfs4 filer:/runs rw,local_lock=none\n"
        f"3 1 0:41 / {tmp_path}/other rw - nfs filer:/old rw,nolock\n"
    )
    return table


@pytest.mark.parametrize(
    ("locking", "is_exclusive", "said"),
    [
        ("auto", True, "lies on nfs4 (filer:/runs): its journal is open to this process alone"),
        ("exclusive", True, "open to this process alone"),
        ("shared", False, "shared memory on nfs4 (filer:/runs) is not to be trusted"),
    ],
)
def test_a_network_is_opened_exclusively_unless_it_is_said_otherwise(
    shared: RunDirectory, mounts: Path, locking: str, is_exclusive: bool, said: str
) -> None:
    place = place_of(JournalConfig(locking=locking), shared, mounts)  # type: ignore[arg-type]
    assert place.is_exclusive is is_exclusive
    (line,) = place.lines()
    assert said in line


def test_a_local_disk_is_opened_as_ever_and_needs_no_words(tmp_path: Path, mounts: Path) -> None:
    place = place_of(JournalConfig(), make_run(tmp_path), mounts)
    assert not place.is_exclusive and place.lines() == []
    assert place_of(JournalConfig(locking="exclusive"), make_run(tmp_path / "x"), mounts).is_exclusive


def test_the_loss_bound_is_told(tmp_path: Path, shared: RunDirectory, mounts: Path) -> None:
    config = JournalConfig(local_dir=str(tmp_path / "local"), copy_every_s=12)
    place = place_of(config, shared, mounts)
    assert (place.local_dir, place.is_exclusive) == (tmp_path / "local", False)
    (line,) = place.lines()
    assert f"journal in {tmp_path}/local, copied to the run directory every 12 s" in line
    assert "what was answered in the last 12 s, and while a copy was being made, is asked again" in line


def test_locks_that_stay_on_a_node_and_unknown_kinds_are_told(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "other").mkdir()
    lines = place_of(JournalConfig(), make_run(tmp_path / "other"), mounts).lines()
    assert any("locks on nfs (filer:/old) hold on one node alone" in line for line in lines)
    lines = place_of(JournalConfig(), make_run(tmp_path / "x"), tmp_path / "none").lines()
    assert lines == ["the run directory lies on a file system of unknown kind, which counts as local"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{tmp}/missing", "must be a directory that can be written, got {tmp}/missing: make it first"),
        ("{tmp}/mountinfo", "must be a directory that can be written"),
        ("$SANDPLAY_TEST_UNSET/x", "got $SANDPLAY_TEST_UNSET/x: set the variable in it"),
        ("$SANDPLAY_TEST_NAME", "must name a directory here"),
        ("{tmp}/shared", "must lie on a disk of this node, got {tmp}/shared on nfs4 (filer:/runs): choose another"),
    ],
)
def test_a_local_directory_that_will_not_do_is_refused(
    tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv("SANDPLAY_TEST_NAME", "relative")
    config = JournalConfig(local_dir=name.format(tmp=tmp_path))
    with pytest.raises(InputError) as refused:
        place_of(config, make_run(tmp_path), mounts)
    assert message.format(tmp=tmp_path) in str(refused.value)


def test_variables_are_filled_in_on_the_node(tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDPLAY_TEST_DIR", str(tmp_path))
    place = place_of(JournalConfig(local_dir="$SANDPLAY_TEST_DIR/local"), make_run(tmp_path), mounts)
    assert place.local_dir == tmp_path / "local"


async def test_a_run_that_is_gone_on_with_in_place_needs_no_local_directory(
    tmp_path: Path, shared: RunDirectory, mounts: Path
) -> None:
    """Where the local directory is no setting any more, what it holds is not left behind."""
    config = JournalConfig(local_dir=str(tmp_path / "local"), copy_every_s=1e6)
    local, news = take_up(place_of(config, shared, mounts), shared, 0)
    assert local is not None and news == []
    journal = Journal.open(shared, local=local)
    key = play(journal, "c")
    await crash(journal, tmp_path / "local")

    place: Place = place_of(JournalConfig(), shared, mounts)
    none, news = take_up(place, shared, 0)
    assert none is None and news == []
    after = Journal.open(shared, exclusive=place.is_exclusive)
    assert list(after.ended()) == [key]
    await after.close()
    assert list((tmp_path / "local").iterdir()) == []
