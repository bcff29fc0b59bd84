from pathlib import Path

import pytest

from hublock.runtime.strict import mounts
from hublock.runtime.strict.mounts import find_type, may_be_mapped

MOUNTS = """\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
36 24 0:31 / /mnt/my\\040home rw,noatime shared:7 master:2 - nfs4 server:/export rw,vers=4.2
37 24 0:32 /x /data rw - fuse.sshfs me@host:/x rw
"""


@pytest.mark.parametrize(
    ("device", "expected"), [("254:0", "ext4"), ("0:31", "nfs4"), ("0:32", "fuse.sshfs"), ("0:3", "")]
)
def test_the_type_of_a_file_system_is_found_by_its_device(device: str, expected: str) -> None:
    assert find_type(MOUNTS, device) == expected


def test_files_of_this_machine_may_be_mapped_and_those_of_a_server_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert may_be_mapped(tmp_path)
    monkeypatch.setattr(mounts, "_type_of", lambda device: "nfs4")
    assert not may_be_mapped(tmp_path)
