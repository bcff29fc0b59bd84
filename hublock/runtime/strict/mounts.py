"""On what kind of file system a file lies."""

import os
from functools import cache
from pathlib import Path

NETWORKED = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
     "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs", "vboxsf", "wekafs")
)  # fmt: skip
"""File systems whose files may go away, or change, under a map of them."""


def may_be_mapped(path: Path) -> bool:
    """Tell whether ``path`` lies on a disk of this machine, so that a map of it stays readable.

    Where the system does not say (only Linux does), it is taken to.
    """
    return _type_of(path.stat().st_dev) not in NETWORKED


@cache
def _type_of(device: int) -> str:
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return find_type(mounts, f"{os.major(device)}:{os.minor(device)}")


def find_type(mounts: str, device: str) -> str:
    """Return the type of the file system of ``device`` (``major:minor``) in the text of proc_pid_mountinfo(5)."""
    for line in mounts.splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[2:3] == [device]:
            return rest.split(" ")[0]
    return ""
