"""How two commits of a repository stand to each other."""

from datetime import UTC, datetime

import pytest

from hublock.core.reference import Reference
from hublock.errors import TransferError
from hublock.net.git.history import History
from hublock.net.git.remote import open_remote
from hublock.net.transport import HttpTransport
from tests.forge import EPOCH, Forge, ForgeRepo


def history(repo: ForgeRepo, commit: str, since: str) -> History:
    transport = HttpTransport(repo.forge.settings())
    return open_remote(Reference.parse(repo.name), transport, base=repo.path).history(commit, since)


def made(repo: ForgeRepo, commit: str) -> datetime:
    return datetime.fromtimestamp(int(repo.git("log", "-1", "--format=%ct", commit)), UTC)


@pytest.fixture
def repo(forge: Forge) -> ForgeRepo:
    return forge.repo("someone/model", {"hubconf.py": "dependencies = []\n"})


def test_counts_what_lies_between_and_dates_both(repo: ForgeRepo) -> None:
    old = repo.git("rev-parse", "main")
    side = repo.commit({"b": "b"}, branch="side", parent=old)
    repo.commit({"a": "a"})
    tree = repo.git("rev-parse", "main^{tree}")
    new = repo.git("commit-tree", tree, "-p", "main", "-p", side, "-m", "merged")
    repo.ref("refs/heads/main", new)

    found = history(repo, new, old)

    assert (found.descends, found.commits) == (True, 3)
    assert history(repo, old, new).descends is False
    assert (found.before, found.committed) == (made(repo, old), made(repo, new))
    assert found.before is not None
    assert found.before.timestamp() > EPOCH - 1


def test_another_past_is_no_descent(repo: ForgeRepo) -> None:
    old = repo.git("rev-parse", "main")
    new = repo.commit({"a": "a"}, orphan=True)

    found = history(repo, new, old)

    assert (found.descends, found.commits) == (False, None)
    assert found.committed == made(repo, new)


@pytest.mark.parametrize("lost", ["c" * 40, "0" * 40])
def test_a_commit_that_the_host_has_lost_has_no_date(repo: ForgeRepo, lost: str) -> None:
    new = repo.commit({"a": "a"})

    found = history(repo, new, lost)

    assert (found.descends, found.commits, found.before) == (False, None, None)
    assert found.committed == made(repo, new)


def test_a_host_that_cannot_show_commits_alone_tells_nothing(repo: ForgeRepo) -> None:
    old = repo.git("rev-parse", "main")
    new = repo.commit({"a": "a"})
    repo.config["uploadpack.allowFilter"] = "false"

    assert history(repo, new, old) == History()
    assert history(repo, new, new) == History(descends=True)


def test_a_host_that_breaks_off_is_told_of(repo: ForgeRepo) -> None:
    old = repo.git("rev-parse", "main")
    new = repo.commit({"a": "a"})
    repo.tamper = lambda _, body: body[: len(body) // 2]

    with pytest.raises(TransferError):
        history(repo, new, old)
