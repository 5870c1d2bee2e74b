"""Which file system a path lies on, and what can be relied on there: shared memory, and locks between nodes.

Told from the kernel's table of mounts, which also knows of bind mounts and of mounts that hide others. Where there is
no such table the kind is unknown, which counts as local. Knows nothing of SQLite.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

MOUNTS: Final = Path("/proc/self/mountinfo")

NETWORK: Final = frozenset(
    "9p acfs afs beegfs beegfs_nodev ceph cifs coda cvfs cvmfs daosfs dvs exafs fhgfs gfs gfs2 glusterfs gpfs lustre "
    "mmfs ncpfs nfs nfs4 ocfs2 orangefs panfs prl_fs pvfs2 quobyte scoutfs smb2 smb3 smbfs vastnfs vboxsf virtiofs "
    "vmhgfs wekafs".split()
)
"""Kinds whose files are also written elsewhere: shared memory in a file is not the same memory there."""
LOCAL_FUSE: Final = frozenset("bindfs exfat fuse-overlayfs lxcfs mergerfs ntfs-3g portal squashfuse".split())
"""What of FUSE is known to be local; all else of it counts as a network, for nobody can tell what is behind it."""
UNLOCKED_FUSE: Final = frozenset("blobfuse blobfuse2 curlftpfs gcsfuse goofys rclone s3fs sshfs".split())
"""What of FUSE passes no locks on: the kernel then keeps them itself."""
LOCKS_KEPT: Final = re.compile(r"(^|,)(local_lock=(all|flock|posix)|nolock|localflock|nobrl)(,|$)")
"""Options under which locks hold on one node alone, however many have the same files."""


class Mount(msgspec.Struct, frozen=True):
    """One line of the table. `point` is absolute; `parent` is the id of the mount that `point` lies on."""

    id: int
    parent: int
    point: str
    kind: str
    source: str = ""
    options: str = ""


class FileSystem(msgspec.Struct, frozen=True):
    """What a path lies on. `kind` is the kernel's word, "" where it is unknown; `source` is a device or a server."""

    kind: str = ""
    source: str = ""
    options: str = ""

    @property
    def is_network(self) -> bool:
        """Whether other nodes may write to it; an unknown one counts as local."""
        base, _, program = self.kind.partition(".")
        if base == "fuse":
            return program not in LOCAL_FUSE
        return self.kind in NETWORK

    @property
    def keeps_locks(self) -> bool:
        """Whether locks that are taken here do not hold on other nodes, by its kind or the options of its mount."""
        base, _, program = self.kind.partition(".")
        is_unlocked = base == "fuse" and program in UNLOCKED_FUSE
        return self.is_network and (is_unlocked or LOCKS_KEPT.search(self.options) is not None)

    def __str__(self) -> str:
        if not self.kind:
            return "a file system of unknown kind"
        return f"{self.kind} ({self.source})" if self.source not in ("", "none", self.kind) else self.kind


def parse_mounts(text: str) -> list[Mount]:
    """Return the mounts of a `mountinfo` text in order; lines of another form are left out."""
    found = []
    for line in text.splitlines():
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 2 or not (fields[0].isdigit() and fields[1].isdigit()):
            continue
        options = ",".join([fields[5], *rest[2:]])
        kind, source = _unescaped(rest[0]), _unescaped(rest[1])
        found.append(Mount(int(fields[0]), int(fields[1]), _unescaped(fields[4]), kind, source, options))
    return found


def _unescaped(text: str) -> str:
    r"""Undo the kernel's octal escapes (`\040` is a space), which stand for bytes."""
    raw = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), os.fsencode(text))
    return os.fsdecode(raw)


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount that an absolute path without links lies on, None when none is above it.

    Goes down from the root as the kernel does: of the mounts upon one mount, the highest on the way is entered, and
    what lies upon the old one below is hidden by it.
    """
    left = list(mounts)
    known = {mount.id for mount in left if mount.id != mount.parent}
    here = [mount for mount in left if mount.parent not in known or mount.parent == mount.id]
    entered: Mount | None = None
    while above := [mount for mount in here if _is_above(mount.point, path)]:
        # Of several at one point the last one lies on top.
        entered = min(reversed(above), key=lambda mount: len(mount.point))
        left = [mount for mount in left if mount is not entered]
        here = [mount for mount in left if mount.parent == entered.id]
    return entered


def _is_above(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def file_system_of(path: Path, table: Path = MOUNTS) -> FileSystem:
    """Return what a path lies on, which need not exist yet. Never fails: what cannot be told is unknown."""
    real = os.path.realpath(path)
    # What is mounted when it is first looked at shows in the table only then.
    os.path.exists(real)
    try:
        mount = mount_of(real, parse_mounts(os.fsdecode(table.read_bytes())))
    except OSError:
        return FileSystem()
    return FileSystem() if mount is None else FileSystem(mount.kind, mount.source, mount.options)
