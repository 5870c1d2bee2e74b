"""File systems: tables of mounts as machines show them, what hides what, and this machine's own."""

from pathlib import Path

import pytest

from engine.file_systems import FileSystem, file_system_of, mount_of, parse_mounts

# A login node: home on NFS, scratch on Lustre, a bind mount of it, a share with a space, an image behind FUSE.
CLUSTER = r"""
22 1 8:2 / / rw,relatime shared:1 - xfs /dev/sda2 rw,attr2,inode64,noquota
23 22 0:5 / /proc rw,nosuid shared:12 - proc proc rw
40 22 0:44 / /home rw,relatime shared:20 - nfs4 filer:/export/home rw,vers=4.2,hard,local_lock=none,addr=10.0.0.9
41 22 0:45 / /apps ro,relatime shared:21 - nfs filer:/export/apps ro,vers=3,hard,nolock,local_lock=all,addr=10.0.0.9
42 22 0:46 / /scratch rw,relatime shared:22 - lustre 10.1.0.1@o2ib:10.1.0.2@o2ib:/fs rw,flock,lazystatfs
43 22 0:46 /users/ada /bulk/ada rw,relatime shared:22 - lustre 10.1.0.1@o2ib:/fs rw,localflock
44 22 0:47 / /mnt/lab\040share rw,relatime shared:23 - cifs //nas/lab\040share rw,vers=3.1.1,nobrl
45 22 259:1 / /local rw,noatime shared:24 - ext4 /dev/nvme0n1p1 rw,discard
46 45 0:50 / /local/s3 rw,nosuid shared:25 - fuse.s3fs s3fs rw,user_id=0
47 22 0:51 / /image ro,nosuid - fuse.squashfuse squashfuse ro
48 22 0:52 / /dvs rw,relatime - gpfs gpfs0 rw,mtime
"""
# A container: an overlay as root, a volume of the host by 9p, one by virtiofs, tmpfs.
CONTAINER = """
600 500 0:90 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d
601 600 0:91 / /dev/shm rw,nosuid - tmpfs shm rw,size=65536k
602 600 0:92 /vol /data rw,relatime master:3 - virtiofs kataShared rw
603 600 0:93 / /mnt/c rw - 9p drvfs rw,trans=fd
"""


@pytest.mark.parametrize(
    ("table", "path", "kind", "is_network"),
    [
        (CLUSTER, "/", "xfs", False),
        (CLUSTER, "/var/run-of-mine", "xfs", False),
        (CLUSTER, "/home", "nfs4", True),
        (CLUSTER, "/home/ada/runs/first", "nfs4", True),
        (CLUSTER, "/homes/ada", "xfs", False),
        (CLUSTER, "/scratch/x", "lustre", True),
        (CLUSTER, "/bulk/ada/x", "lustre", True),
        (CLUSTER, "/bulk/bob", "xfs", False),
        (CLUSTER, "/mnt/lab share/x", "cifs", True),
        (CLUSTER, "/local/x", "ext4", False),
        (CLUSTER, "/local/s3/x", "fuse.s3fs", True),
        (CLUSTER, "/image/x", "fuse.squashfuse", False),
        (CLUSTER, "/dvs/x", "gpfs", True),
        (CONTAINER, "/srv/x", "overlay", False),
        (CONTAINER, "/dev/shm/x", "tmpfs", False),
        (CONTAINER, "/data/x", "virtiofs", True),
        (CONTAINER, "/mnt/c/x", "9p", True),
    ],
)
def test_the_kind_of_a_path(table: str, path: str, kind: str, is_network: bool) -> None:
    mount = mount_of(path, parse_mounts(table))
    assert mount is not None
    assert mount.kind == kind
    assert FileSystem(mount.kind).is_network is is_network


@pytest.mark.parametrize("kind", ["fuse.sshfs", "fuse.juicefs", "fuse.glusterfs", "fuse", "fhgfs", "smb3", "wekafs"])
def test_more_kinds_of_networks(kind: str) -> None:
    assert FileSystem(kind).is_network


@pytest.mark.parametrize("kind", ["", "btrfs", "zfs", "fuseblk", "fuse.fuse-overlayfs", "ext4", "tmpfs"])
def test_kinds_that_are_local(kind: str) -> None:
    assert not FileSystem(kind).is_network


@pytest.mark.parametrize(
    ("path", "keeps"),
    [
        *(("/home/x", False), ("/scratch/x", False), ("/image/x", False)),
        *(("/apps/x", True), ("/bulk/ada/x", True), ("/mnt/lab share", True), ("/local/s3/x", True)),
    ],
)
def test_locks_that_hold_on_one_node_alone(tmp_path: Path, path: str, keeps: bool) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(CLUSTER)
    assert file_system_of(Path(path), table).keeps_locks is keeps


def test_a_mount_hides_what_lay_below_and_the_last_at_a_point_lies_on_top() -> None:
    table = """
1 0 0:1 / / rw - rootfs rootfs rw
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 0:30 / /a/b rw - nfs4 filer:/b rw
22 20 8:2 / /a rw - xfs /dev/sdb1 rw
23 22 0:31 / /a rw - tmpfs tmpfs rw
24 23 0:32 / /a/c rw - ceph mon:/c rw
"""
    mounts = parse_mounts(table)

    def kind(path: str) -> str:
        mount = mount_of(path, mounts)
        return mount.kind if mount is not None else ""

    assert [kind(path) for path in ("/", "/x", "/a", "/a/b/x", "/a/c/x")] == ["ext4", "ext4", "tmpfs", "tmpfs", "ceph"]


def test_a_root_that_is_no_mount_of_its_own() -> None:
    mounts = parse_mounts("50 7 0:40 / /data rw - nfs filer:/data rw\n51 50 0:41 / /data/x rw - tmpfs tmpfs rw\n")
    assert mount_of("/elsewhere", mounts) is None
    found = [mount_of(path, mounts) for path in ("/data/y", "/data/x/y")]
    assert [mount.kind for mount in found if mount is not None] == ["nfs", "tmpfs"]


def test_lines_of_another_form_are_left_out_and_bytes_survive() -> None:
    odd = "nonsense\n1 2 3\n31 30 0:1 / /q rw nfs\n"
    mounts = parse_mounts(odd + "30 1 0:1 / /mnt/\\134x\\303\\251 rw - nfs4 f:/e rw\n")
    assert [(mount.point, mount.options) for mount in mounts] == [("/mnt/\\xé", "rw,rw")]


def test_a_machine_without_a_table_is_unknown_and_counts_as_local(tmp_path: Path) -> None:
    found = file_system_of(tmp_path, tmp_path / "none")
    assert str(found) == "a file system of unknown kind"
    assert not found.is_network and not found.keeps_locks


def test_this_machine_knows_its_own_and_follows_links(tmp_path: Path) -> None:
    assert file_system_of(Path("/proc/self")).kind == "proc"
    (tmp_path / "link").symlink_to("/proc")
    assert file_system_of(tmp_path / "link" / "self").kind == "proc"
    assert file_system_of(tmp_path / "not" / "there" / "yet").kind == file_system_of(tmp_path).kind != ""
