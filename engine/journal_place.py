"""Where a run's journals are kept on this node, and how they are opened: chosen from the configuration and the mounts.

What it refuses is refused before anything is played.
"""

import os
from pathlib import Path

import msgspec

from engine.config_sections import JournalConfig
from engine.errors import InputError
from engine.file_systems import MOUNTS, FileSystem, file_system_of
from engine.journal_local import LocalJournal, bring_home, give_up
from engine.rundir import RunDirectory


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How the journals of a run are kept. `disk` is what the run directory lies on.

    `is_exclusive`: opened by one process alone, without shared memory. `local_dir` is where they live instead of the
    run directory, copied there every `copy_every_s`; None when they live in it.
    """

    disk: FileSystem
    is_exclusive: bool
    local_dir: Path | None = None
    copy_every_s: float = 30.0

    def lines(self) -> list[str]:
        """Return what a person must know before the run is played, loss bound included; nothing in the plain case."""
        found = []
        if not self.disk.kind:
            found.append(f"the run directory lies on {self.disk}, which counts as local")
        if self.disk.keeps_locks:
            found.append(
                f"locks on {self.disk} hold on one node alone, as it is mounted: never start this run on two nodes"
            )
        if self.local_dir is not None:
            found.append(
                f"journal in {self.local_dir}, copied to the run directory every {self.copy_every_s:g} s: if this node "
                f"is lost, what was answered in the last {self.copy_every_s:g} s, and while a copy was being made, is "
                "asked again, and what is in flight"
            )
        elif self.is_exclusive:
            found.append(f"the run directory lies on {self.disk}: its journal is open to this process alone")
        elif self.disk.is_network:
            found.append(
                f"shared memory on {self.disk} is not to be trusted, and journal.locking is shared: set it to auto"
            )
        return found


def place_of(config: JournalConfig, rundir: RunDirectory, mounts: Path = MOUNTS) -> Place:
    """Return how the journals of a run are kept on this node. Raises InputError for a `local_dir` that will not do."""
    disk = file_system_of(rundir.journals, mounts)
    if config.local_dir:
        local_dir = _local_dir(config.local_dir, mounts)
        return Place(disk=disk, is_exclusive=False, local_dir=local_dir, copy_every_s=config.copy_every_s)
    is_exclusive = config.locking == "exclusive" or (config.locking == "auto" and disk.is_network)
    return Place(disk=disk, is_exclusive=is_exclusive)


def take_up(place: Place, rundir: RunDirectory, index: int) -> tuple[LocalJournal | None, list[str]]:
    """Make the newest journal that is to be had here ready to be played; return its life on this node, and the news.

    From here on no other one counts. Blocking; the caller holds the directory's lock. Raises JournalError.
    """
    news = [] if bring_home(rundir, index) else [give_up(rundir, index)]
    if place.local_dir is None:
        return None, news
    return LocalJournal.begin(rundir, index, place.local_dir, place.copy_every_s), news


def _local_dir(text: str, mounts: Path) -> Path:
    """Return the directory that a setting names on this node. Raises InputError."""
    path = Path(os.path.expandvars(text)).expanduser()
    shown = text if str(path) == text else f"{text} ({path})"
    if not path.is_absolute() or "$" in str(path):
        raise InputError(f"journal.local_dir must name a directory here, got {text}: set the variable in it")
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"journal.local_dir must be a directory that can be written, got {shown}: make it first")
    if (disk := file_system_of(path, mounts)).is_network:
        raise InputError(f"journal.local_dir must lie on a disk of this node, got {shown} on {disk}: choose another")
    return path
